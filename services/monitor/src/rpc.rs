//! The gRPC service: decode, call, encode. The only module that names wire messages.

mod alerts;
mod audit;
mod outcomes;

use rekindle_client::wire;
use rekindle_domain::{
    ModelName, PredictionId, Watch,
    alert::Note,
    audit::Entry,
    event_time,
    prediction_log::{CaptureStatus, OutcomeCounts},
};
use rekindle_proto::monitor::{
    self as proto,
    alerts_server::AlertsServer,
    audit_server::AuditServer,
    monitor_server::{Monitor, MonitorServer},
};
use rekindle_runtime::grpc::RoutesBuilder;
use rekindle_service::{Call, RequestError};
use rekindle_store::{
    audit::append,
    in_transaction,
    page::{self, Page},
};
use tonic::{Request, Response, Status};

use crate::{
    App, Error, alert, estimate, export,
    failures::{self, FailurePosition},
    known,
    lookup::{self, LogPosition},
    report::Report,
    store::{chunks, deletions, logs, outcome_checks, pending_outcomes, reports, watches},
    window::Timing,
};

/// Adds the services of an app.
pub(crate) fn register(app: &App, routes: &mut RoutesBuilder) {
    let limit = routes.max_request_bytes();
    routes
        .add_service(MonitorServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(AlertsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(AuditServer::new(app.clone()).max_decoding_message_size(limit));
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

impl App {
    async fn set(&self, call: Call, watch: Watch, expected: u64) -> Result<Watch, Error> {
        let set = in_transaction(&self.0.db, async move |txn| {
            let before = watches::get(txn, &watch.model).await?;
            if watches::set(txn, &watch.model, &watch.settings, expected).await? {
                let text = |watch: &Watch| wire::watch::to_json(watch).to_string();
                let before = if before.revision == 0 { String::new() } else { text(&before) };
                let entry = call.entry("watch.set", format!("watch/{}", watch.model));
                append(txn, Entry { before, after: text(&watch), ..entry }).await?;
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

    /// Refuses a model that is not known.
    async fn require(&self, model: &ModelName) -> Result<(), Error> {
        match known::is_known(&self.0.db, &self.0.bus, model).await? {
            true => Ok(()),
            false => Err(RequestError::not_found("deployed model", model).into()),
        }
    }

    async fn reset(&self, call: Call, model: &ModelName) -> Result<(), Error> {
        self.require(model).await?;
        let reset = model.clone();
        in_transaction(&self.0.db, async move |txn| {
            let position = chunks::latest_position(txn).await?;
            append(txn, call.entry("watch.reset", format!("watch/{reset}"))).await?;
            let why = "the windows were restarted".to_owned();
            alert::restart(txn, &reset, &Note { by: call.principal.to_string(), why, at: call.now }).await?;
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
        counts.pending += pending_outcomes::count(db, &model).await?;
        counts.examples.extend(log.bad_line.map(|example| ("malformed".to_owned(), example)));
        let timing = Timing::of(&watches::get(db, &model).await?.settings);
        let begin = chunks::next_event(db, &model, log.reset_at, log.reported_until).await?;
        Ok(CaptureStatus {
            predictions: log.predictions,
            lost: log.lost,
            unsampled: log.unsampled,
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
        let set = self.set(call, watch, request.expected_revision).await?;
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
        self.reset(call, &model).await?;
        let status = self.status(model).await?;
        Ok(Response::new(wire::prediction_log::status_to_wire(&status)))
    }

    async fn report_outcomes(
        &self,
        request: Request<proto::ReportOutcomesRequest>,
    ) -> Result<Response<proto::ReportOutcomesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let (model, outcomes) = (model(&call, &request.model)?, outcomes::parse(&request).map_err(Error::from)?);
        self.require(&model).await?;
        let matched = outcomes::check(self, &model, &outcomes).await?;
        outcomes::publish(self, &call, &model, &outcomes, &request.idempotency_key).await?;
        Ok(Response::new(proto::ReportOutcomesResponse { accepted: outcomes.len() as u64, matched }))
    }

    async fn list_reports(
        &self,
        request: Request<proto::ListReportsRequest>,
    ) -> Result<Response<proto::ListReportsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        let position = |after: &str| after.parse::<reports::Cursor>().ok();
        let (page, after) = paged(request.page_size, &request.page_token, position)?;
        let (db, model) = (&self.0.db, &model);
        let fetch = async |after, limit| estimate::judged_reports(db, model, after, limit).await.map_err(Error::from);
        let to_wire = |report: &Report| wire::report::to_wire(&report.content);
        let (reports, next_page_token) = page.fill(after, fetch, reports::cursor, to_wire).await?;
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
        let key = |(position, _): &(LogPosition, _)| position.to_string();
        let (predictions, next_page_token) = page.cut(found, key, |(_, row)| wire::prediction_log::to_wire(row));
        Ok(Response::new(proto::ListPredictionsResponse { predictions, next_page_token }))
    }

    async fn list_failures(
        &self,
        request: Request<proto::ListFailuresRequest>,
    ) -> Result<Response<proto::ListFailuresResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        let since = wire::field::optional_time("since", request.since).map_err(Error::from)?;
        let position = |after: &str| after.parse::<FailurePosition>().ok();
        let (page, after) = paged(request.page_size, &request.page_token, position)?;
        let limit = usize::try_from(page.fetch()).unwrap_or(usize::MAX);
        let found = failures::list(&self.0.bus, &model, since, after, limit).await?;
        let key = |(position, _): &(FailurePosition, _)| position.to_string();
        let (failures, next_page_token) = page.cut(found, key, |(_, failed)| wire::failure::to_wire(failed));
        Ok(Response::new(proto::ListFailuresResponse { failures, next_page_token }))
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
