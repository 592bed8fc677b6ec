//! The service `Runs`.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use rekindle_client::wire;
use rekindle_domain::{
    RunId,
    run::{Metric, NewRun, Run, RunReport},
    validation::Violations,
};
use rekindle_proto::registry::{
    self as proto, CreateRunRequest, GetMetricHistoryRequest, GetMetricHistoryResponse, GetRunRequest, ListRunsRequest,
    ListRunsResponse, LogMetricsRequest, LogMetricsResponse, ReportRunRequest, runs_server::Runs,
};
use rekindle_service::{Call, Intent};
use tonic::{Request, Response, Status};

use super::{Bounds, cursor, page, parse, truncated};
use crate::{App, Error, config::Limits, run};

fn answer(run: &Run) -> Response<proto::Run> {
    Response::new(wire::run::to_wire(run))
}

#[tonic::async_trait]
impl Runs for App {
    async fn create_run(&self, request: Request<CreateRunRequest>) -> Result<Response<proto::Run>, Status> {
        let (call, request) = Call::open(request)?;
        let intent = Intent::of("CreateRun", &call.namespace, &request.idempotency_key, &request)?;
        let mut new = wire::run::new_from_wire(request).map_err(Error::from)?;
        new.experiment = call.qualify(new.experiment);
        check_new(&new, &self.0.config.limits).map_err(Error::from)?;
        Ok(answer(&run::create(&self.0.db, call, intent, new, self.0.config.leases()).await?))
    }

    async fn report_run(&self, request: Request<ReportRunRequest>) -> Result<Response<proto::Run>, Status> {
        let (call, request) = Call::open(request)?;
        let id = parse("id", &request.id)?;
        let report = wire::run::report_from_wire(request).map_err(Error::from)?;
        check_report(&report, &self.0.config.limits).map_err(Error::from)?;
        Ok(answer(&run::report(&self.0.db, call, id, report, self.0.config.leases()).await?))
    }

    async fn log_metrics(&self, request: Request<LogMetricsRequest>) -> Result<Response<LogMetricsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let limits = &self.0.config.limits;
        let id = parse("run_id", &request.run_id)?;
        let mut bounds = Bounds::new(limits);
        bounds.at_most("metrics", request.metrics.len(), ("metrics", limits.metrics));
        bounds.finish().map_err(Error::from)?;
        let metrics = wire::run::metrics_from_wire(request.metrics).map_err(Error::from)?;
        check_metrics(&metrics, limits).map_err(Error::from)?;
        let kept = |metric: Metric| Metric { time: metric.time.map(truncated), ..metric };
        let metrics = metrics.into_iter().map(kept).collect();
        run::log_metrics(&self.0.db, id, metrics, limits.entries, call.now).await?;
        Ok(Response::new(LogMetricsResponse {}))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<proto::Run>, Status> {
        let (_, request) = Call::open(request)?;
        Ok(answer(&run::find(&self.0.db, &parse("id", &request.id)?).await?))
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let experiment = call.optional_name("experiment", &request.experiment).map_err(Error::from)?;
        let page = page(request.page_size, &request.page_token)?;
        let fetch = |after: Option<Position>, limit| {
            let after = after.map(|position| (position.created_at, position.id));
            run::list(&self.0.db, &call.namespace, experiment.as_ref(), after, limit)
        };
        let (runs, next_page_token) = page.fill(cursor(&page)?, fetch, Position::of, wire::run::to_wire).await?;
        Ok(Response::new(ListRunsResponse { runs, next_page_token }))
    }

    async fn get_metric_history(
        &self,
        request: Request<GetMetricHistoryRequest>,
    ) -> Result<Response<GetMetricHistoryResponse>, Status> {
        let (_, request) = Call::open(request)?;
        let id = parse("run_id", &request.run_id)?;
        let page = page(request.page_size, &request.page_token)?;
        let found = run::metric_history(&self.0.db, id, &request.name, cursor(&page)?, page.fetch()).await?;
        let (metrics, next_page_token) = page.cut(found, |metric| metric.step.to_string(), wire::run::metric_to_wire);
        Ok(Response::new(GetMetricHistoryResponse { metrics, next_page_token }))
    }
}

/// The position of a run in the list: ids alone do not sort by time, since callers may choose them.
struct Position {
    created_at: DateTime<Utc>,
    id: RunId,
}

impl Position {
    fn of(run: &Run) -> Self {
        Self { created_at: run.created_at, id: run.id }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.created_at.timestamp_micros(), self.id)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (micros, id) = text.split_once(' ').ok_or(())?;
        let micros = micros.parse().map_err(|_| ())?;
        let created_at = DateTime::from_timestamp_micros(micros).ok_or(())?;
        Ok(Self { created_at, id: id.parse().map_err(|_| ())? })
    }
}

fn check_new(new: &NewRun, limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    bounds.texts("params", &new.params);
    bounds.texts("tags", &new.tags);
    bounds.text("code_revision", &new.code_revision);
    bounds.at_most("dataset_digests", new.dataset_digests.len(), ("parents", limits.parents));
    bounds.finish()
}

fn check_report(report: &RunReport, limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    match report {
        RunReport::Running => {}
        RunReport::Finished { outputs } => bounds.texts("outputs", outputs),
        RunReport::Failed { error } | RunReport::Killed { error } => bounds.text("error", error),
    }
    bounds.finish()
}

fn check_metrics(metrics: &[Metric], limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    for (index, metric) in metrics.iter().enumerate() {
        bounds.name(&format!("metrics[{index}].name"), &metric.name);
    }
    bounds.finish()
}
