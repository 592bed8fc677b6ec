//! Runs on the wire.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, ExperimentName, RunId, run::RunStatus};
use rekindle_proto::{
    registry::{
        self as wire, CreateRunRequest, GetMetricHistoryRequest, GetMetricHistoryResponse, GetRunRequest,
        ListRunsRequest, ListRunsResponse, LogMetricsRequest, LogMetricsResponse, ReportRunRequest, RunReport,
        runs_server::Runs,
    },
    time::to_wire,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{at_most, cursor, digests, moment, open, page, parse, short_name, text, texts};
use crate::{
    App, Error,
    call::{Call, Intent},
    config::Limits,
    run::{self, Metric, NewRun, Report, Run},
};

#[tonic::async_trait]
impl Runs for App {
    async fn create_run(&self, request: Request<CreateRunRequest>) -> Result<Response<wire::Run>, Status> {
        let (call, request) = open(request);
        let intent = Intent::of("CreateRun", &request.idempotency_key, &request)?;
        let new = new_run(request, Uuid::now_v7(), &self.0.config.limits)?;
        let run = run::create(&self.0.db, call, intent, new, self.0.config.leases()).await?;
        Ok(Response::new(run_to_wire(run)))
    }

    async fn report_run(&self, request: Request<ReportRunRequest>) -> Result<Response<wire::Run>, Status> {
        let (call, request) = open(request);
        let id = parse("id", &request.id)?;
        let report = report(request, &self.0.config.limits)?;
        let run = run::report(&self.0.db, call, id, report, self.0.config.leases()).await?;
        Ok(Response::new(run_to_wire(run)))
    }

    async fn log_metrics(&self, request: Request<LogMetricsRequest>) -> Result<Response<LogMetricsResponse>, Status> {
        let (call, request) = open(request);
        let limits = &self.0.config.limits;
        let id = parse("run_id", &request.run_id)?;
        at_most("metrics", request.metrics.len(), ("metrics", limits.metrics))?;
        let numbered = request.metrics.into_iter().enumerate();
        let metrics: Vec<Metric> =
            numbered.map(|(index, point)| metric(index, point, &call, limits)).collect::<Result<_, _>>()?;
        run::log_metrics(&self.0.db, id, metrics).await?;
        Ok(Response::new(LogMetricsResponse {}))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<wire::Run>, Status> {
        let (_, request) = open(request);
        let run = run::get(&self.0.db, parse("id", &request.id)?).await?;
        Ok(Response::new(run_to_wire(run)))
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let (_, request) = open(request);
        let experiment: Option<ExperimentName> = match request.experiment.as_str() {
            "" => None,
            name => Some(parse("experiment", name)?),
        };
        let page = page(request.page_size, &request.page_token)?;
        let after = cursor::<Place>(&page)?.map(|place| (place.created_at, place.id));
        let found = run::list(&self.0.db, experiment.as_ref(), after, page.size).await?;
        let (found, next_page_token) = page.cut(found, Place::of);
        let runs = found.into_iter().map(run_to_wire).collect();
        Ok(Response::new(ListRunsResponse { runs, next_page_token }))
    }

    async fn get_metric_history(
        &self,
        request: Request<GetMetricHistoryRequest>,
    ) -> Result<Response<GetMetricHistoryResponse>, Status> {
        let (_, request) = open(request);
        let id = parse("run_id", &request.run_id)?;
        let history = run::metric_history(&self.0.db, id, &request.name, self.0.config.limits.history).await?;
        Ok(Response::new(GetMetricHistoryResponse { metrics: history.into_iter().map(metric_to_wire).collect() }))
    }
}

/// A run's place in the list: ids alone do not sort by time, since callers may choose them.
struct Place {
    created_at: DateTime<Utc>,
    id: RunId,
}

impl Place {
    fn of(run: &Run) -> String {
        format!("{} {}", run.created_at.timestamp_micros(), run.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (micros, id) = text.split_once(' ').ok_or(())?;
        let micros = micros.parse().map_err(|_| ())?;
        let created_at = DateTime::from_timestamp_micros(micros).ok_or(())?;
        Ok(Self { created_at, id: id.parse().map_err(|_| ())? })
    }
}

fn new_run(request: CreateRunRequest, fresh: Uuid, limits: &Limits) -> Result<NewRun, Error> {
    Ok(NewRun {
        id: match request.id.as_str() {
            "" => RunId::new(fresh),
            id => parse("id", id)?,
        },
        experiment: parse("experiment", &request.experiment)?,
        params: texts("params", request.params, limits)?,
        tags: texts("tags", request.tags, limits)?,
        code_revision: text("code_revision", request.code_revision, limits)?,
        dataset_digests: digests("dataset_digests", &request.dataset_digests, ("parents", limits.parents))?,
        seed: request.seed,
    })
}

fn report(request: ReportRunRequest, limits: &Limits) -> Result<Report, Error> {
    let outputs = texts("outputs", request.outputs, limits)?;
    let error = text("error", request.error, limits)?;
    match RunReport::try_from(request.report) {
        Ok(RunReport::Running) => Ok(Report::Running),
        Ok(RunReport::Finished) => Ok(Report::Finished { outputs }),
        Ok(RunReport::Failed) => Ok(Report::Failed { error }),
        Ok(RunReport::Killed) => Ok(Report::Killed { error }),
        Ok(RunReport::Unspecified) | Err(_) => {
            let problem = format!("is {}: use RUN_REPORT_RUNNING, _FINISHED, _FAILED or _KILLED", request.report);
            Err(Error::invalid("report", problem))
        }
    }
}

fn metric(index: usize, point: wire::Metric, call: &Call, limits: &Limits) -> Result<Metric, Error> {
    let field = |name| format!("metrics[{index}].{name}");
    short_name(&field("name"), &point.name, limits)?;
    if !point.value.is_finite() {
        return Err(Error::invalid(field("value"), format!("is {}: only finite numbers are kept", point.value)));
    }
    let time = moment(&field("time"), point.time)?.unwrap_or(call.now);
    Ok(Metric { name: point.name, value: point.value, step: point.step, time })
}

/// A run as it travels.
pub(super) fn run_to_wire(run: Run) -> wire::Run {
    wire::Run {
        id: run.id.to_string(),
        experiment: run.experiment.into(),
        status: status_to_wire(run.status).into(),
        params: run.params.into_iter().collect(),
        tags: run.tags.into_iter().collect(),
        code_revision: run.code_revision,
        dataset_digests: run.dataset_digests.iter().map(Digest::to_string).collect(),
        seed: run.seed,
        metrics: run.metrics.into_iter().map(metric_to_wire).collect(),
        outputs: run.outputs.into_iter().collect(),
        error: run.error,
        created_at: Some(to_wire(run.created_at)),
        started_at: run.started_at.map(to_wire),
        ended_at: run.ended_at.map(to_wire),
        revision: run.revision,
    }
}

fn status_to_wire(status: RunStatus) -> wire::RunStatus {
    match status {
        RunStatus::Scheduled => wire::RunStatus::Scheduled,
        RunStatus::Running => wire::RunStatus::Running,
        RunStatus::Finished => wire::RunStatus::Finished,
        RunStatus::Failed => wire::RunStatus::Failed,
        RunStatus::Killed => wire::RunStatus::Killed,
        RunStatus::Lost => wire::RunStatus::Lost,
    }
}

fn metric_to_wire(metric: Metric) -> wire::Metric {
    wire::Metric { name: metric.name, value: metric.value, step: metric.step, time: Some(to_wire(metric.time)) }
}
