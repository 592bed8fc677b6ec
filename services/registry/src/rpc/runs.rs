//! The service `Runs`.

use std::time::Duration;

use rekindle_client::wire;
use rekindle_domain::{
    RunId,
    run::{Metric, NewRun, Run, RunProgress, RunReport},
    validation::Violations,
};
use rekindle_proto::registry::{
    self as proto, CreateRunRequest, DeleteRunRequest, GetMetricHistoryRequest, GetMetricHistoryResponse,
    GetRunRequest, ListRunsRequest, ListRunsResponse, LogMetricsRequest, LogMetricsResponse, LogParamsRequest,
    ReportRunRequest, RestoreRunRequest, SetRunTagsRequest, runs_server::Runs,
};
use rekindle_service::{Call, Intent};
use tonic::{Request, Response, Status};

use super::{cursor, page, parse, truncated};
use crate::{
    App, Error,
    bounds::Bounds,
    config::Limits,
    experiment::View,
    filter::{parse_filter, parse_orders},
    run::{self, Batch, Cursor, Cursors, Deletion, Token},
    store::runs::Search,
};

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
        let id = parse("run_id", &request.run_id)?;
        let limits = self.0.config.limits;
        let mut bounds = Bounds::new(&limits);
        bounds.at_most("metrics", request.metrics.len(), ("metrics", limits.metrics));
        bounds.finish().map_err(Error::from)?;
        let metrics = wire::run::metrics_from_wire(request.metrics).map_err(Error::from)?;
        let kept = |metric: Metric| Metric { time: metric.time.map(truncated), ..metric };
        let metrics = metrics.into_iter().map(kept).collect();
        run::log(&self.0.db, id, Batch { metrics, ..Batch::default() }, limits, self.0.config.leases(), call).await?;
        Ok(Response::new(LogMetricsResponse {}))
    }

    async fn log_params(&self, request: Request<LogParamsRequest>) -> Result<Response<proto::Run>, Status> {
        let (call, request) = Call::open(request)?;
        let id = parse("run_id", &request.run_id)?;
        let batch = Batch { params: request.params.into_iter().collect(), ..Batch::default() };
        run::log(&self.0.db, id, batch, self.0.config.limits, self.0.config.leases(), call).await?;
        Ok(answer(&run::get(&self.0.db, id).await?))
    }

    async fn set_run_tags(&self, request: Request<SetRunTagsRequest>) -> Result<Response<proto::Run>, Status> {
        let (call, request) = Call::open(request)?;
        let id = parse("run_id", &request.run_id)?;
        let tags = request.tags.into_iter().collect();
        let batch = Batch { tags, delete_tags: request.delete, ..Batch::default() };
        run::log(&self.0.db, id, batch, self.0.config.limits, self.0.config.leases(), call).await?;
        Ok(answer(&run::get(&self.0.db, id).await?))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<proto::Run>, Status> {
        let (_, request) = Call::open(request)?;
        Ok(answer(&run::find(&self.0.db, &parse("id", &request.id)?).await?))
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let search = Search {
            experiments: call
                .optional_name("experiment", &request.experiment)
                .map_err(Error::from)?
                .map(|experiment| vec![experiment]),
            view: View::Active,
            filter: parse_filter(&request.filter)?,
            orders: parse_orders(&request.order_by)?,
            namespace: call.namespace,
        };
        let page = page(request.page_size, &request.page_token)?;
        let (db, search) = (&self.0.db, &search);
        let cursors = Cursors::of(search);
        let after = cursors.resume(db, cursor::<Token>(&page)?).await?;
        let fetch = move |after: Option<Cursor>, limit| async move {
            run::search(db, search, after.as_ref().map(|cursor| &cursor.position), limit).await
        };
        let (runs, next_page_token) = page.fill(after, fetch, |run| cursors.after(run), wire::run::to_wire).await?;
        Ok(Response::new(ListRunsResponse { runs, next_page_token }))
    }

    async fn delete_run(&self, request: Request<DeleteRunRequest>) -> Result<Response<proto::Run>, Status> {
        let (call, DeleteRunRequest { id, why }) = Call::open(request)?;
        let deletion = Deletion { why: super::why(why)?, is_deleted: true, in_progress: false };
        self.set_deleted(call, parse("id", &id)?, deletion).await
    }

    async fn restore_run(&self, request: Request<RestoreRunRequest>) -> Result<Response<proto::Run>, Status> {
        let (call, RestoreRunRequest { id, why }) = Call::open(request)?;
        self.set_deleted(call, parse("id", &id)?, Deletion { why: super::why(why)?, ..Deletion::default() }).await
    }

    async fn get_metric_history(
        &self,
        request: Request<GetMetricHistoryRequest>,
    ) -> Result<Response<GetMetricHistoryResponse>, Status> {
        let (_, request) = Call::open(request)?;
        let id = parse("run_id", &request.run_id)?;
        if request.max_points > 0 {
            let max_points = sample_size(&request)?;
            let sample = run::metric_sample(&self.0.db, id, &request.name, run::ALL_STEPS, max_points).await?;
            let metrics = sample.iter().map(wire::run::metric_to_wire).collect();
            return Ok(Response::new(GetMetricHistoryResponse { metrics, next_page_token: String::new() }));
        }
        let page = page(request.page_size, &request.page_token)?;
        let found = run::metric_history(&self.0.db, id, &request.name, cursor(&page)?, page.fetch()).await?;
        let (metrics, next_page_token) = page.cut(found, |metric| metric.step.to_string(), wire::run::metric_to_wire);
        Ok(Response::new(GetMetricHistoryResponse { metrics, next_page_token }))
    }
}

impl App {
    async fn set_deleted(&self, call: Call, id: RunId, deletion: Deletion) -> Result<Response<proto::Run>, Status> {
        run::set_deleted(&self.0.db, call, id, deletion).await?;
        Ok(answer(&run::get(&self.0.db, id).await?))
    }
}

/// Validates `max_points`.
fn sample_size(request: &GetMetricHistoryRequest) -> Result<usize, Error> {
    const MOST: u32 = 10_000;
    let points = request.max_points;
    if !(4..=MOST).contains(&points) {
        return Err(Error::invalid("max_points", format!("is {points}: expected 4 to {MOST}, or unset for pages")));
    }
    if !request.page_token.is_empty() {
        return Err(Error::invalid("page_token", "is set with max_points: a sample has no pages"));
    }
    Ok(points as usize)
}

/// The bounds of a lease that a client chooses.
const LEASES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 60 * 60);

fn check_new(new: &NewRun, limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    bounds.texts("params", &new.params);
    bounds.texts("tags", &new.tags);
    bounds.text("code_revision", &new.code_revision);
    bounds.at_most("dataset_digests", new.dataset_digests.len(), ("parents", limits.parents));
    if let Some(lease) = new.lease.filter(|lease| !LEASES.contains(lease)) {
        bounds.checks.violation("lease", format!("is {} s: expected 1 s to 30 days", lease.as_secs_f64()));
    }
    bounds.finish()
}

fn check_report(report: &RunReport, limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    match report {
        RunReport::Running => {}
        RunReport::Progressed(RunProgress { stage, unit, .. }) => {
            bounds.text("progress.stage", stage);
            bounds.text("progress.unit", unit);
        }
        RunReport::Finished { outputs } => bounds.texts("outputs", outputs),
        RunReport::Failed { error } | RunReport::Killed { error } => bounds.text("error", error),
    }
    bounds.finish()
}
