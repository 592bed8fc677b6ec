//! The gRPC service: decode, call, encode. The only module that names wire messages.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rekindle_bus::subject;
use rekindle_client::wire::{self, outcome::from_wire};
use rekindle_domain::{
    Digest, ModelName, PredictionId, Watch, event_time,
    outcome::Outcome,
    prediction_log::{CaptureStatus, OutcomeCounts},
    validation::{Checks, Violations},
};
use rekindle_proto::monitor::{
    self as proto,
    monitor_server::{Monitor, MonitorServer},
};
use rekindle_service::{Call, RequestError, chain};
use rekindle_store::{
    in_transaction,
    page::{self, Page},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    App, Error,
    capture::outcomes::OWN_IDS,
    export, known,
    lookup::{self, LogPosition},
    matching::{self, Finding},
    outcome,
    store::{chunks, deletions, logs, outcome_checks, reports, watches},
    window::Timing,
};

/// Outcomes of one call at most.
const MAX_OUTCOMES: usize = 10_000;
/// Reads at most, of chunks and of pages of their index, to check the outcomes of one call.
const CHECK_READS: usize = 16;
/// Bytes of one message of outcomes at most.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Concurrent publications of outcome messages.
const PUBLISHES: usize = 8;
/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 200;

/// The service on an app, for requests of at most `max_request_bytes`.
pub(crate) fn server(app: App, max_request_bytes: usize) -> MonitorServer<App> {
    MonitorServer::new(app).max_decoding_message_size(max_request_bytes)
}

fn model(call: &Call, name: &str) -> Result<ModelName, RequestError> {
    Ok(call.name("model", name)?)
}

/// The page of a list, and the position after which it begins.
fn paged<T>(size: u32, token: &str, parse: impl Fn(&str) -> Option<T>) -> Result<(Page, Option<T>), RequestError> {
    let page = page::parse(size, token).map_err(|error| RequestError::invalid("page_token", error))?;
    let unknown =
        || RequestError::invalid("page_token", page::InvalidToken { given: token.chars().take(80).collect() });
    let after = page.after.as_deref().map(|after| parse(after).ok_or_else(unknown)).transpose()?;
    Ok((page, after))
}

fn outcomes(request: &proto::ReportOutcomesRequest) -> Result<Vec<Outcome>, Violations> {
    let mut checks = Checks::new();
    let given = request.outcomes.len();
    if !(1..=MAX_OUTCOMES).contains(&given) {
        checks.violation("outcomes", format!("has {given} outcomes: expected 1 to {MAX_OUTCOMES}"));
    }
    let length = request.idempotency_key.len();
    if length > MAX_KEY {
        checks.violation("idempotency_key", format!("has {length} bytes: expected at most {MAX_KEY}"));
    }
    checks.finish()?;
    let mut checks = Checks::new();
    let parsed = request.outcomes.iter().enumerate();
    let parsed =
        parsed.filter_map(|(index, given)| checks.taken(&format!("outcomes[{index}]"), from_wire(given.clone())));
    let parsed = parsed.collect();
    checks.finish().map(|()| parsed)
}

impl App {
    async fn set(&self, watch: Watch, expected: u64) -> Result<Watch, Error> {
        let set = in_transaction(&self.0.db, async move |txn| {
            if watches::set(txn, &watch.model, &watch.settings, expected).await? {
                return Ok::<_, Error>(watches::get(txn, &watch.model).await?);
            }
            let actual = watches::get(txn, &watch.model).await?.revision;
            let resource = format!("watch of {}", watch.model);
            Err(RequestError::StaleRevision { resource, expected, actual }.into())
        })
        .await?;
        self.0.captured.notify_one();
        tracing::info!(model = %set.model, revision = set.revision, "watch set");
        Ok(set)
    }

    /// Publishes outcomes. The same key gives the same message ids, which capture recognises.
    async fn publish(&self, call: &Call, model: &ModelName, outcomes: &[Outcome], key: &str) -> Result<(), Error> {
        let key = match key {
            "" => call.id.to_string(),
            // A key is any text, and a header accepts only some.
            key => Digest::of(key.as_bytes()).hex(),
        };
        let subject = subject::outcomes(model);
        let messages = outcome::encode(outcomes, MESSAGE_BYTES).into_iter().enumerate().map(|(part, message)| {
            let (subject, id) = (subject.clone(), format!("{OWN_IDS}{model}/{key}/{part}"));
            async move { self.0.bus.publish(subject, &id, async_nats::HeaderMap::new(), message.into()).await }
        });
        let publishes: Vec<_> = messages.collect();
        stream::iter(publishes).buffer_unordered(PUBLISHES).try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// Refuses a model that is not known.
    async fn require(&self, model: &ModelName) -> Result<(), Error> {
        match known::is_known(&self.0.db, &self.0.bus, model).await? {
            true => Ok(()),
            false => Err(RequestError::not_found("deployed model", model).into()),
        }
    }

    /// Refuses outcomes that are known to be wrong, and returns how many are known to be right. The others are checked once their
    /// predictions are captured.
    async fn check(&self, model: &ModelName, outcomes: &[Outcome]) -> Result<u64, Error> {
        let inner = &self.0;
        let log = matching::Log { db: &inner.db, artifacts: &inner.artifacts, references: &inner.export_references };
        let findings = match matching::find(log, model, outcomes, CHECK_READS).await {
            Ok(findings) => findings,
            Err(error) => {
                tracing::warn!(%model, error = chain(&error), "outcomes accepted without a check");
                return Ok(0);
            }
        };
        let mut checks = Checks::new();
        for (index, (outcome, finding)) in outcomes.iter().zip(&findings).enumerate() {
            let row = outcome.row;
            match finding {
                Finding::Matched | Finding::Pending => {}
                Finding::RowOutOfRange(rows) => {
                    let problem = format!("is {row}: the request has {rows} rows, from 0");
                    checks.violation(format!("outcomes[{index}].row"), problem);
                }
                Finding::WrongModel(other) => {
                    let problem = format!("is a prediction of {other}: report its outcome for that model");
                    checks.violation(format!("outcomes[{index}].prediction_id"), problem);
                }
                Finding::InvalidLabel(problem) => checks.violation(format!("outcomes[{index}].label"), problem),
            }
        }
        checks.finish()?;
        Ok(findings.iter().filter(|finding| **finding == Finding::Matched).count() as u64)
    }

    async fn reset(&self, model: &ModelName) -> Result<(), Error> {
        self.require(model).await?;
        let reset = model.clone();
        in_transaction(&self.0.db, async move |txn| {
            let position = chunks::latest_position(txn).await?;
            Ok::<_, Error>(logs::reset(txn, &reset, position).await?)
        })
        .await?;
        tracing::info!(%model, "windows restarted");
        Ok(())
    }

    async fn status(&self, model: ModelName) -> Result<CaptureStatus, Error> {
        let db = &self.0.db;
        let log = logs::get(db, &model).await?;
        let mut counts = OutcomeCounts { malformed: log.bad_lines, ..outcome_checks::counts(db, &model).await? };
        counts.examples.extend(log.bad_line.map(|example| ("malformed".to_owned(), example)));
        let timing = Timing::of(&watches::get(db, &model).await?.settings);
        let begin = chunks::next_event(db, &model, log.reset_at, log.reported_until).await?;
        Ok(CaptureStatus {
            predictions: log.predictions,
            lost: log.lost,
            lost_messages: log.lost_messages,
            outcomes: log.outcomes,
            tests: log.tests,
            outcome_counts: counts,
            watermark: log.clock.latest().map(|latest| event_time::clamped(timing.watermark(latest))),
            late: log.late,
            ahead: log.clock.rows_ahead(),
            chunks: chunks::count(db, &model).await?,
            deleted: deletions::get(db, &model).await?.map(|deleted| deleted.report()),
            open_windows: begin.zip(log.clock.latest()).map_or(0, |(begin, latest)| timing.open(begin, latest)),
            model,
        })
    }
}

#[tonic::async_trait]
impl Monitor for App {
    async fn set_watch(&self, request: Request<proto::SetWatchRequest>) -> Result<Response<proto::Watch>, Status> {
        let (call, request) = Call::open(request)?;
        let given = request.watch.ok_or_else(|| RequestError::invalid("watch", "is missing: specify the settings"))?;
        let mut watch = wire::watch::from_wire(given).map_err(|violations| Error::from(violations.within("watch")))?;
        watch.model = call.qualify(watch.model);
        let set = self.set(watch, request.expected_revision).await?;
        Ok(Response::new(wire::watch::to_wire(&set)))
    }

    async fn get_watch(&self, request: Request<proto::GetWatchRequest>) -> Result<Response<proto::Watch>, Status> {
        let (call, request) = Call::open(request)?;
        let watch = watches::get(&self.0.db, &model(&call, &request.model)?).await.map_err(Error::from)?;
        Ok(Response::new(wire::watch::to_wire(&watch)))
    }

    async fn reset_watch(
        &self,
        request: Request<proto::ResetWatchRequest>,
    ) -> Result<Response<proto::CaptureStatus>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        self.reset(&model).await?;
        let status = self.status(model).await?;
        Ok(Response::new(wire::prediction_log::status_to_wire(&status)))
    }

    async fn report_outcomes(
        &self,
        request: Request<proto::ReportOutcomesRequest>,
    ) -> Result<Response<proto::ReportOutcomesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let (model, outcomes) = (model(&call, &request.model)?, outcomes(&request).map_err(Error::from)?);
        self.require(&model).await?;
        let matched = self.check(&model, &outcomes).await?;
        self.publish(&call, &model, &outcomes, &request.idempotency_key).await?;
        Ok(Response::new(proto::ReportOutcomesResponse { accepted: outcomes.len() as u64, matched }))
    }

    async fn list_reports(
        &self,
        request: Request<proto::ListReportsRequest>,
    ) -> Result<Response<proto::ListReportsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        let cursor = |after: &str| {
            let (until, id) = after.split_once('/')?;
            Some((until.parse::<i64>().ok()?, id.parse::<Uuid>().ok()?))
        };
        let (page, after) = paged(request.page_size, &request.page_token, cursor)?;
        let found = reports::list(&self.0.db, &model, after, page.fetch()).await.map_err(Error::from)?;
        let (found, next_page_token) = page.cut(found, |report| {
            let (until, id) = reports::cursor(report);
            format!("{until}/{id}")
        });
        let reports = found.iter().map(|report| wire::report::to_wire(&report.content)).collect();
        Ok(Response::new(proto::ListReportsResponse { reports, next_page_token }))
    }

    async fn get_prediction(
        &self,
        request: Request<proto::GetPredictionRequest>,
    ) -> Result<Response<proto::LoggedPrediction>, Status> {
        let (_, request) = Call::open(request)?;
        let id: PredictionId =
            request.prediction_id.parse().map_err(|error| RequestError::invalid("prediction_id", error))?;
        let found = lookup::get(&self.0.db, &self.0.artifacts, id, request.row).await?;
        Ok(Response::new(wire::prediction_log::to_wire(&found)))
    }

    async fn list_predictions(
        &self,
        request: Request<proto::ListPredictionsRequest>,
    ) -> Result<Response<proto::ListPredictionsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        let position = |after: &str| after.parse::<LogPosition>().ok();
        let (page, before) = paged(request.page_size, &request.page_token, position)?;
        let limit = usize::try_from(page.fetch()).unwrap_or(usize::MAX);
        let found = lookup::latest(&self.0.db, &self.0.artifacts, &model, before, limit).await?;
        let (found, next_page_token) = page.cut(found, |(position, _)| position.to_string());
        let predictions = found.iter().map(|(_, row)| wire::prediction_log::to_wire(row)).collect();
        Ok(Response::new(proto::ListPredictionsResponse { predictions, next_page_token }))
    }

    async fn export_labelled(
        &self,
        request: Request<proto::ExportLabelledRequest>,
    ) -> Result<Response<proto::ExportLabelledResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut request = wire::prediction_log::export_from_wire(request).map_err(Error::from)?;
        request.model = call.qualify(request.model);
        if request.target == request.time_column {
            return Err(RequestError::invalid("time_column", "is the target: expected another name").into());
        }
        let inner = &self.0;
        let (references, rows) = (&inner.export_references, inner.config.export_rows);
        let exported = export::run(&inner.db, &inner.artifacts, references, rows, &request).await?;
        Ok(Response::new(wire::prediction_log::exported_to_wire(&exported)))
    }

    async fn get_capture_status(
        &self,
        request: Request<proto::GetCaptureStatusRequest>,
    ) -> Result<Response<proto::CaptureStatus>, Status> {
        let (call, request) = Call::open(request)?;
        let status = self.status(model(&call, &request.model)?).await?;
        Ok(Response::new(wire::prediction_log::status_to_wire(&status)))
    }
}
