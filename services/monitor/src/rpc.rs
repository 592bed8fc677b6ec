//! The gRPC service: decode, call, encode. The only place that knows the wire.

mod wire;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rekindle_domain::{Digest, ModelName, PredictionId};
use rekindle_proto::{
    error::invalid_argument,
    monitor::{
        CaptureStatus, ExportLabelledRequest, ExportLabelledResponse, GetCaptureStatusRequest, GetPredictionRequest,
        GetWatchRequest, ListPredictionsRequest, ListPredictionsResponse, ListReportsRequest, ListReportsResponse,
        LoggedPrediction, ReportOutcomesRequest, ReportOutcomesResponse, SetWatchRequest, Watch,
        monitor_server::Monitor,
    },
};
use rekindle_store::{in_transaction, page};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    App, Error,
    alert::wire_time,
    capture::outcomes::OWN_IDS,
    export, lookup, outcome,
    store::{logs, reports, segments, watches},
};

/// Outcomes of one call at most.
const MAX_OUTCOMES: usize = 10_000;
/// Bytes of one message of outcomes at most.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Messages of outcomes on their way to the bus at once.
const PUBLISHES: usize = 8;
/// Bytes of an idempotency key at most.
const MAX_KEY: usize = 200;

fn model(field: &'static str, name: &str) -> Result<ModelName, Status> {
    name.parse().map_err(|error| invalid_argument(field, format!("{error}")))
}

fn time(field: &'static str, time: Option<prost_types::Timestamp>) -> Result<Option<i64>, Status> {
    let out_of_range = || invalid_argument(field, "is outside of the times that can be told");
    time.map(|time| rekindle_proto::time::from_wire(time).ok_or_else(out_of_range))
        .transpose()
        .map(|time| time.map(|time| time.timestamp_millis()))
}

fn column(field: &'static str, name: &str) -> Result<String, Status> {
    if name.trim().is_empty() {
        return Err(invalid_argument(field, "must not be empty: name the column, e.g. as in the dataset trained on"));
    }
    Ok(name.to_owned())
}

#[tonic::async_trait]
impl Monitor for App {
    async fn set_watch(&self, request: Request<SetWatchRequest>) -> Result<Response<Watch>, Status> {
        let request = request.into_inner();
        let given = request.watch.ok_or_else(|| invalid_argument("watch", "is missing: say how to watch the model"))?;
        let model = model("watch.model", &given.model)?;
        let settings = wire::settings(&given)?;
        let expected = request.expected_revision;
        let set = in_transaction(&self.0.db, async move |txn| {
            if watches::set(txn, &model, &settings, expected).await? {
                return watches::get(txn, &model).await.map_err(Error::from);
            }
            let is = watches::get(txn, &model).await?.revision;
            Err(Error::StaleRevision { model: model.clone(), expected, is })
        })
        .await?;
        self.0.captured.notify_one();
        tracing::info!(model = %set.model, revision = set.revision, "watch set");
        Ok(Response::new(wire::watch(&set)))
    }

    async fn get_watch(&self, request: Request<GetWatchRequest>) -> Result<Response<Watch>, Status> {
        let model = model("model", &request.get_ref().model)?;
        let watch = watches::get(&self.0.db, &model).await.map_err(Error::from)?;
        Ok(Response::new(wire::watch(&watch)))
    }

    async fn report_outcomes(
        &self,
        request: Request<ReportOutcomesRequest>,
    ) -> Result<Response<ReportOutcomesResponse>, Status> {
        let request = request.into_inner();
        let model = model("model", &request.model)?;
        let given = request.outcomes.len();
        if given == 0 || given > MAX_OUTCOMES {
            let problem = format!("holds {given} outcomes: expected 1 to {MAX_OUTCOMES} in one call");
            return Err(invalid_argument("outcomes", problem));
        }
        if request.idempotency_key.len() > MAX_KEY {
            let problem = format!("is {} bytes long: at most {MAX_KEY} are taken", request.idempotency_key.len());
            return Err(invalid_argument("idempotency_key", problem));
        }
        let outcomes = request.outcomes.into_iter().enumerate();
        let outcomes = outcomes.map(|(place, outcome)| wire::outcome(place, outcome)).collect::<Result<Vec<_>, _>>()?;
        let key = match request.idempotency_key.as_str() {
            "" => Uuid::now_v7().to_string(),
            // Any text may be a key, and a header takes only some.
            key => Digest::of(key.as_bytes()).hex(),
        };
        let subject = format!("rekindle.outcomes.{model}");
        let messages = outcome::encode(&outcomes, MESSAGE_BYTES).into_iter().enumerate().map(|(part, message)| {
            let (subject, id) = (subject.clone(), format!("{OWN_IDS}{model}/{key}/{part}"));
            async move { self.0.bus.publish(subject, &id, async_nats::HeaderMap::new(), message.into()).await }
        });
        let publishes: Vec<_> = messages.collect();
        let published = stream::iter(publishes).buffer_unordered(PUBLISHES).try_collect::<Vec<_>>().await;
        published.map_err(Error::from)?;
        Ok(Response::new(ReportOutcomesResponse { accepted: given as u64 }))
    }

    async fn list_reports(
        &self,
        request: Request<ListReportsRequest>,
    ) -> Result<Response<ListReportsResponse>, Status> {
        let request = request.get_ref();
        let model = model("model", &request.model)?;
        let bad_token = |problem: String| invalid_argument("page_token", problem);
        let page = page::parse(request.page_size, &request.page_token).map_err(|error| bad_token(error.to_string()))?;
        let after = page.after.as_deref().map(|after| {
            let (until, id) = after.split_once('/')?;
            Some((until.parse::<i64>().ok()?, id.parse::<Uuid>().ok()?))
        });
        let after = match after {
            Some(None) => return Err(bad_token("is not a page token of ListReports: leave it empty".to_owned())),
            after => after.flatten(),
        };
        let found = reports::list(&self.0.db, &model, after, page.fetch()).await.map_err(Error::from)?;
        let (found, next_page_token) = page.cut(found, |report| format!("{}/{}", report.window.until, report.id));
        Ok(Response::new(ListReportsResponse { reports: found.iter().map(wire::report).collect(), next_page_token }))
    }

    async fn get_prediction(
        &self,
        request: Request<GetPredictionRequest>,
    ) -> Result<Response<LoggedPrediction>, Status> {
        let request = request.get_ref();
        let id: PredictionId =
            request.prediction_id.parse().map_err(|error| invalid_argument("prediction_id", format!("{error}")))?;
        let found = lookup::get(&self.0.db, &self.0.artifacts, id, request.row).await?;
        Ok(Response::new(wire::logged(found)))
    }

    async fn list_predictions(
        &self,
        request: Request<ListPredictionsRequest>,
    ) -> Result<Response<ListPredictionsResponse>, Status> {
        let request = request.get_ref();
        let model = model("model", &request.model)?;
        let limit = match request.page_size {
            0 => page::DEFAULT_SIZE,
            size => size.min(page::MAX_SIZE),
        };
        let found = lookup::latest(&self.0.db, &self.0.artifacts, &model, limit as usize).await?;
        Ok(Response::new(ListPredictionsResponse { predictions: found.into_iter().map(wire::logged).collect() }))
    }

    async fn export_labelled(
        &self,
        request: Request<ExportLabelledRequest>,
    ) -> Result<Response<ExportLabelledResponse>, Status> {
        let request = request.into_inner();
        let span = export::Span {
            model: model("model", &request.model)?,
            from: time("from", request.from)?,
            until: time("until", request.until)?,
            target: column("target", &request.target)?,
            time_column: column("time_column", &request.time_column)?,
            holdout_share: request.holdout_share,
        };
        if !(0.0..1.0).contains(&span.holdout_share) {
            let problem = format!("is {}: expected zero or more and less than 1", span.holdout_share);
            return Err(invalid_argument("holdout_share", problem));
        }
        if span.target == span.time_column {
            return Err(invalid_argument("time_column", "is the target too: two columns need two names"));
        }
        if let (Some(from), Some(until)) = (span.from, span.until)
            && from >= until
        {
            return Err(invalid_argument("until", "must lie after from"));
        }
        let inner = &self.0;
        let done =
            export::run(&inner.db, &inner.artifacts, &inner.export_references, inner.config.export_rows, &span).await?;
        let (rows, segments, left_out) = (done.rows, done.segments, done.rows_left_out);
        tracing::info!(model = %span.model, rows, segments, left_out, "labelled rows exported");
        Ok(Response::new(ExportLabelledResponse {
            blob_digest: done.blob.map(|digest| digest.to_string()).unwrap_or_default(),
            rows: done.rows,
            time_min: done.times.and_then(|(min, _)| wire_time(min)),
            time_max: done.times.and_then(|(_, max)| wire_time(max)),
            holdout_from: done.holdout_from.and_then(wire_time),
            manifest_digest: done.manifest.map(|digest| digest.to_string()).unwrap_or_default(),
            rows_left_out: done.rows_left_out,
        }))
    }

    async fn get_capture_status(
        &self,
        request: Request<GetCaptureStatusRequest>,
    ) -> Result<Response<CaptureStatus>, Status> {
        let model = model("model", &request.get_ref().model)?;
        let db = &self.0.db;
        let status = async {
            let log = logs::get(db, &model).await?;
            let timing = watches::get(db, &model).await?.settings.timing();
            let begin = segments::next_event(db, &model, log.reported_until).await?;
            Ok::<_, Error>(CaptureStatus {
                model: model.to_string(),
                predictions: log.predictions,
                lost: log.lost,
                lost_messages: log.lost_messages,
                outcomes: log.outcomes,
                watermark: log.latest_event.and_then(|latest| wire_time(timing.watermark(latest))),
                segments: segments::count(db, &model).await?,
                open_windows: begin.zip(log.latest_event).map_or(0, |(begin, latest)| timing.open(begin, latest)),
            })
        };
        Ok(Response::new(status.await?))
    }
}
