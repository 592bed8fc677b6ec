//! Runs and their metrics.

use rekindle_domain::{
    Digest,
    run::{Metric, NewRun, Run, RunProgress, RunReport, RunStatus},
    validation::Violations,
};
use rekindle_proto::{json, registry as wire};
use serde_json::Value;

use super::{
    field::{
        enumeration, nested_optional, optional_span, optional_time, parse, parse_all, parse_optional, required_time,
    },
    time,
};

/// A run as a message.
pub fn to_wire(run: &Run) -> wire::Run {
    wire::Run {
        id: run.id.to_string(),
        experiment: run.experiment.to_string(),
        status: status_to_wire(run.status).into(),
        params: run.params.clone().into_iter().collect(),
        tags: run.tags.clone().into_iter().collect(),
        code_revision: run.code_revision.clone(),
        dataset_digests: run.dataset_digests.iter().map(Digest::to_string).collect(),
        seed: run.seed,
        metrics: run.metrics.iter().map(metric_to_wire).collect(),
        outputs: run.outputs.clone().into_iter().collect(),
        error: run.error.clone(),
        created_at: Some(time::to_wire(run.created_at)),
        started_at: run.started_at.map(time::to_wire),
        ended_at: run.ended_at.map(time::to_wire),
        revision: run.revision,
        parent_id: run.parent_id.map(|id| id.to_string()).unwrap_or_default(),
        deleted_at: run.deleted_at.map(time::to_wire),
        progress: run.progress.as_ref().map(progress_to_wire),
    }
}

/// The run in proto3 JSON.
pub fn to_json(run: &Run) -> Value {
    json::to_value(&to_wire(run))
}

/// The run that a message holds.
pub fn from_wire(given: wire::Run) -> Result<Run, Violations> {
    Ok(Run {
        id: parse("id", &given.id)?,
        parent_id: parse_optional("parent_id", &given.parent_id)?,
        experiment: parse("experiment", &given.experiment)?,
        status: status_from_wire("status", given.status)?,
        params: given.params.into_iter().collect(),
        tags: given.tags.into_iter().collect(),
        code_revision: given.code_revision,
        dataset_digests: parse_all("dataset_digests", &given.dataset_digests)?,
        seed: given.seed,
        metrics: metrics_from_wire(given.metrics)?,
        outputs: given.outputs.into_iter().collect(),
        error: given.error,
        created_at: required_time("created_at", given.created_at)?,
        started_at: optional_time("started_at", given.started_at)?,
        ended_at: optional_time("ended_at", given.ended_at)?,
        deleted_at: optional_time("deleted_at", given.deleted_at)?,
        progress: nested_optional("progress", given.progress, progress_from_wire)?,
        revision: given.revision,
    })
}

/// A run to be created, as a request.
pub fn new_to_wire(run: &NewRun, idempotency_key: String) -> wire::CreateRunRequest {
    wire::CreateRunRequest {
        idempotency_key,
        id: run.id.map(|id| id.to_string()).unwrap_or_default(),
        experiment: run.experiment.to_string(),
        params: run.params.clone().into_iter().collect(),
        tags: run.tags.clone().into_iter().collect(),
        code_revision: run.code_revision.clone(),
        dataset_digests: run.dataset_digests.iter().map(Digest::to_string).collect(),
        seed: run.seed,
        parent_id: run.parent_id.map(|id| id.to_string()).unwrap_or_default(),
        lease: run.lease.map(time::span_to_wire),
    }
}

/// The run that a request creates.
pub fn new_from_wire(given: wire::CreateRunRequest) -> Result<NewRun, Violations> {
    Ok(NewRun {
        id: parse_optional("id", &given.id)?,
        parent_id: parse_optional("parent_id", &given.parent_id)?,
        lease: optional_span("lease", given.lease)?,
        experiment: parse("experiment", &given.experiment)?,
        params: given.params.into_iter().collect(),
        tags: given.tags.into_iter().collect(),
        code_revision: given.code_revision,
        dataset_digests: parse_all("dataset_digests", &given.dataset_digests)?,
        seed: given.seed,
    })
}

/// A report, as its request.
pub fn report_to_wire(id: String, report: RunReport) -> wire::ReportRunRequest {
    let none = wire::ReportRunRequest { id, ..Default::default() };
    match report {
        RunReport::Running => wire::ReportRunRequest { report: wire::RunReport::Running.into(), ..none },
        RunReport::Progressed(progress) => wire::ReportRunRequest {
            report: wire::RunReport::Running.into(),
            progress: Some(progress_to_wire(&progress)),
            ..none
        },
        RunReport::Finished { outputs } => wire::ReportRunRequest {
            report: wire::RunReport::Finished.into(),
            outputs: outputs.into_iter().collect(),
            ..none
        },
        RunReport::Failed { error } => wire::ReportRunRequest { report: wire::RunReport::Failed.into(), error, ..none },
        RunReport::Killed { error } => wire::ReportRunRequest { report: wire::RunReport::Killed.into(), error, ..none },
    }
}

/// The report that a request holds.
pub fn report_from_wire(given: wire::ReportRunRequest) -> Result<RunReport, Violations> {
    let (outputs, error) = (given.outputs.into_iter().collect(), given.error);
    let progress = nested_optional("progress", given.progress, progress_from_wire)?;
    let expected = "RUN_REPORT_RUNNING, RUN_REPORT_FINISHED, RUN_REPORT_FAILED, RUN_REPORT_KILLED";
    enumeration("report", given.report, expected, |report| match report {
        wire::RunReport::Unspecified => None,
        wire::RunReport::Running => Some(progress.map_or(RunReport::Running, RunReport::Progressed)),
        wire::RunReport::Finished => Some(RunReport::Finished { outputs }),
        wire::RunReport::Failed => Some(RunReport::Failed { error }),
        wire::RunReport::Killed => Some(RunReport::Killed { error }),
    })
}

/// How far a run is, as a message.
pub fn progress_to_wire(progress: &RunProgress) -> wire::RunProgress {
    let RunProgress { stage, completed, total, unit, remaining } = progress.clone();
    wire::RunProgress { stage, completed, total, unit, remaining: remaining.map(time::span_to_wire) }
}

fn progress_from_wire(given: wire::RunProgress) -> Result<RunProgress, Violations> {
    let wire::RunProgress { stage, completed, total, unit, remaining } = given;
    Ok(RunProgress { stage, completed, total, unit, remaining: optional_span("remaining", remaining)? })
}

/// A status as its enumeration.
pub fn status_to_wire(status: RunStatus) -> wire::RunStatus {
    match status {
        RunStatus::Scheduled => wire::RunStatus::Scheduled,
        RunStatus::Running => wire::RunStatus::Running,
        RunStatus::Finished => wire::RunStatus::Finished,
        RunStatus::Failed => wire::RunStatus::Failed,
        RunStatus::Killed => wire::RunStatus::Killed,
        RunStatus::Lost => wire::RunStatus::Lost,
    }
}

/// The status that a field holds.
pub fn status_from_wire(field: &str, given: i32) -> Result<RunStatus, Violations> {
    let of = |status: wire::RunStatus| RunStatus::ALL.into_iter().find(|&own| status_to_wire(own) == status);
    enumeration(field, given, "RUN_STATUS_SCHEDULED to RUN_STATUS_LOST", of)
}

/// A point of a metric as a message.
pub fn metric_to_wire(metric: &Metric) -> wire::Metric {
    wire::Metric {
        name: metric.name.clone(),
        value: metric.value,
        step: metric.step,
        time: metric.time.map(time::to_wire),
    }
}

/// The point in proto3 JSON.
pub fn metric_to_json(metric: &Metric) -> Value {
    json::to_value(&metric_to_wire(metric))
}

/// The point that a message holds.
pub fn metric_from_wire(given: wire::Metric) -> Result<Metric, Violations> {
    if !given.value.is_finite() {
        return Err(Violations::of("value", format!("is {}: expected a finite number", given.value)));
    }
    Ok(Metric { time: optional_time("time", given.time)?, name: given.name, value: given.value, step: given.step })
}

/// The points of a repeated field `metrics`.
pub fn metrics_from_wire(given: Vec<wire::Metric>) -> Result<Vec<Metric>, Violations> {
    super::field::each("metrics", given, metric_from_wire)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use chrono::DateTime;

    use super::*;

    #[test]
    fn runs_survive_in_every_status() {
        for status in RunStatus::ALL {
            let metric = Metric { name: "auc".into(), value: 0.7, step: 3, time: Some(DateTime::UNIX_EPOCH) };
            let run = Run {
                id: "0193b3a0-0000-7000-8000-000000000000".parse().expect("an id"),
                parent_id: Some("0193b3a0-0000-7000-8000-000000000001".parse().expect("an id")),
                experiment: "nightly".parse().expect("a name"),
                status,
                params: BTreeMap::from([("seed".into(), "7".into())]),
                tags: BTreeMap::new(),
                code_revision: "abc".into(),
                dataset_digests: vec![Digest::of(b"rows")],
                seed: 7,
                metrics: vec![metric],
                outputs: BTreeMap::from([("bundle".into(), "x".into())]),
                error: String::new(),
                created_at: DateTime::UNIX_EPOCH,
                started_at: Some(DateTime::UNIX_EPOCH),
                ended_at: None,
                deleted_at: None,
                progress: Some(RunProgress {
                    stage: String::new(),
                    completed: 1,
                    total: 50,
                    unit: "epochs".into(),
                    remaining: None,
                }),
                revision: 2,
            };
            let json = to_json(&run);
            assert_eq!(json["status"], format!("RUN_STATUS_{}", status.name()));
            assert_eq!(json["metrics"][0], metric_to_json(&run.metrics[0]));
            assert_eq!(from_wire(to_wire(&run)), Ok(run));
        }
    }

    #[test]
    fn reports_survive_and_bad_points_are_named() {
        for report in [
            RunReport::Running,
            RunReport::Progressed(RunProgress {
                stage: "refit on all rows".into(),
                completed: 3,
                total: 12,
                unit: "epochs".into(),
                remaining: Some(Duration::from_secs(40)),
            }),
            RunReport::Finished { outputs: BTreeMap::from([("bundle".into(), "x".into())]) },
            RunReport::Failed { error: "out of memory".into() },
            RunReport::Killed { error: "superseded".into() },
        ] {
            assert_eq!(report_from_wire(report_to_wire("id".into(), report.clone())), Ok(report));
        }
        assert!(report_from_wire(wire::ReportRunRequest::default()).is_err());
        let bad = wire::Metric { value: f64::NAN, ..Default::default() };
        let violations = metrics_from_wire(vec![wire::Metric::default(), bad]).expect_err("not finite");
        assert!(violations.to_string().starts_with("metrics[1].value"), "{violations}");
    }
}
