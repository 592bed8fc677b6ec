//! A job of a workflow: submitted under an id made from the workflow's, followed by its run, tried anew a bounded number of times.

use chrono::{DateTime, Utc};
use rekindle_domain::RunId;
use rekindle_proto::{
    registry::{Run, RunStatus},
    trainer::{self, job::Work},
};

use super::{Workflow, progress::Job};
use crate::{Config, Error, clients::Calls};

/// Where a job stands.
pub(super) enum Standing {
    /// Nothing new.
    Running,
    /// The job's record changed.
    Changed(Job),
    /// Its run has finished.
    Finished(Box<Run>),
}

/// What to have done.
pub(super) struct Assignment<'a> {
    /// `train` or `evaluate`.
    pub step: &'static str,
    pub job: &'a Job,
    pub work: Work,
}

/// Brings a job one step further.
pub(super) async fn follow(
    config: &Config,
    calls: &Calls,
    workflow: &Workflow,
    assignment: Assignment<'_>,
    now: DateTime<Utc>,
) -> Result<Standing, Error> {
    let Assignment { step, job, work } = assignment;
    let Some(run) = job.run else { return Ok(Standing::Changed(attempt(workflow, step, job))) };
    if !job.submitted {
        // Before, so that of two attempts only one can register a version; written down first, so that a crash forgets nothing.
        if let Some(lost) = job.replaces {
            calls.cancel_job(&lost.to_string(), &format!("it was lost, and run {run} takes its place")).await?;
        }
        calls.submit(order(workflow, step, run, work)).await?;
        return Ok(Standing::Changed(Job { submitted: true, ..job.clone() }));
    }
    let found = calls.run(&run.to_string()).await?.ok_or_else(|| Error::Hopeless(format!("run {run} is gone")))?;
    let again = |why: String| match job.attempts < config.attempts {
        true => {
            tracing::warn!(workflow = %workflow.id, step, %run, why, "trying anew");
            Ok(Standing::Changed(attempt(workflow, step, job)))
        }
        false => Err(Error::Hopeless(format!("{step}: {why}, in {} attempts", job.attempts))),
    };
    match found.status() {
        RunStatus::Finished => Ok(Standing::Finished(Box::new(found))),
        RunStatus::Killed => Err(Error::Hopeless(format!("{step}: run {run} was killed"))),
        RunStatus::Failed => again(format!("run {run} failed: {}", found.error)),
        RunStatus::Lost => match job.lost_since {
            None => Ok(Standing::Changed(Job { lost_since: Some(now), ..job.clone() })),
            Some(since) if since + config.lost_grace <= now => again(format!("run {run} was lost")),
            Some(_) => Ok(Standing::Running),
        },
        RunStatus::Unspecified | RunStatus::Scheduled | RunStatus::Running if job.lost_since.is_some() => {
            Ok(Standing::Changed(Job { lost_since: None, ..job.clone() }))
        }
        RunStatus::Unspecified | RunStatus::Scheduled | RunStatus::Running => Ok(Standing::Running),
    }
}

fn attempt(workflow: &Workflow, step: &str, job: &Job) -> Job {
    let attempts = job.attempts + 1;
    let run = RunId::new(workflow.job_id(&format!("{step}/{attempts}")));
    let replaces = job.lost_since.and(job.run);
    Job { run: Some(run), attempts, replaces, lost_since: None, submitted: false }
}

fn order(workflow: &Workflow, step: &str, run: RunId, work: Work) -> trainer::Job {
    let tags =
        [("workflow", workflow.id.to_string()), ("model", workflow.model.to_string()), ("step", step.to_owned())];
    trainer::Job {
        id: run.to_string(),
        experiment: workflow.model.to_string(),
        correlation_id: workflow.context().correlation_id,
        work: Some(work),
        tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}
