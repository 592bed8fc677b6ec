//! A job of a workflow: submitted under an id derived from that of the workflow, tracked by its run, and retried a bounded number of times.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ExperimentName, RunId,
    job::{self, Priority, Work},
    run::{Run, RunStatus},
};

use super::{
    Workflow,
    progress::{DatasetRef, Job},
};
use crate::{Config, Error, clients::Calls};

/// The status of a job.
pub(super) enum JobStatus {
    /// Unchanged.
    Running,
    /// The record of the job changed.
    Changed(Job),
    /// Its run has finished.
    Finished(Box<Run>),
}

/// The work of a step.
pub(super) struct Assignment<'a> {
    /// `train`, `evaluate`, `refit` or `check-refit`.
    pub step: &'static str,
    pub job: &'a Job,
    pub dataset: &'a DatasetRef,
    pub work: Work,
}

/// Advances a job by one step.
pub(super) async fn advance(
    config: &Config,
    calls: &Calls,
    workflow: &Workflow,
    assignment: Assignment<'_>,
    now: DateTime<Utc>,
) -> Result<JobStatus, Error> {
    let (step, job) = (assignment.step, assignment.job);
    let Some(run) = job.run else { return Ok(JobStatus::Changed(attempt(workflow, step, job))) };
    if !job.submitted {
        // The lost attempt is cancelled before the next one is submitted, so that only one of them can register a version. Its id was
        // recorded before, so that a crash in between loses nothing.
        if let Some(lost) = job.replaces {
            calls.cancel_job(lost, &format!("it was lost and is replaced by run {run}")).await?;
        }
        calls.submit(&order(workflow, run, assignment)?).await?;
        return Ok(JobStatus::Changed(Job { submitted: true, ..job.clone() }));
    }
    let missing = || Error::unrecoverable(format!("run {run} does not exist any more"));
    let found = calls.run(run).await?.ok_or_else(missing)?;
    let again = |why: String| match job.attempts < config.attempts {
        true => {
            tracing::warn!(workflow = %workflow.id, step, %run, why, "attempt failed, retrying");
            Ok(JobStatus::Changed(attempt(workflow, step, job)))
        }
        false => Err(Error::unrecoverable(format!("{step}: {why} (attempt {} of {})", job.attempts, config.attempts))),
    };
    match found.status {
        RunStatus::Finished => Ok(JobStatus::Finished(Box::new(found))),
        RunStatus::Killed => Err(Error::unrecoverable(format!("{step}: run {run} was cancelled"))),
        RunStatus::Failed => again(format!("run {run} failed: {}", found.error)),
        RunStatus::Lost => match job.lost_since {
            None => Ok(JobStatus::Changed(Job { lost_since: Some(now), ..job.clone() })),
            Some(since) if since + config.lost_grace <= now => again(format!("run {run} was lost")),
            Some(_) => Ok(JobStatus::Running),
        },
        RunStatus::Scheduled | RunStatus::Running if job.lost_since.is_some() => {
            Ok(JobStatus::Changed(Job { lost_since: None, ..job.clone() }))
        }
        RunStatus::Scheduled | RunStatus::Running => Ok(JobStatus::Running),
    }
}

/// Cancels jobs, also the attempts before that may be resumed.
pub(super) async fn cancel(calls: &Calls, jobs: &[&Job], why: &str) -> Result<(), Error> {
    for job in jobs {
        for run in [job.replaces, job.run].into_iter().flatten() {
            calls.cancel_job(run, why).await?;
        }
    }
    Ok(())
}

fn attempt(workflow: &Workflow, step: &str, job: &Job) -> Job {
    let attempts = job.attempts + 1;
    let run = RunId::new(workflow.job_id(&format!("{step}/{attempts}")));
    let replaces = job.lost_since.and(job.run);
    Job { run: Some(run), attempts, replaces, lost_since: None, submitted: false }
}

fn order(workflow: &Workflow, run: RunId, assignment: Assignment<'_>) -> Result<job::Job, Error> {
    let step = assignment.step.to_owned();
    let tags = [("workflow", workflow.id.to_string()), ("model", workflow.model.to_string()), ("step", step)];
    // Experiments and models have one grammar of names.
    let experiment: ExperimentName =
        workflow.model.as_str().parse().map_err(|error| Error::unrecoverable(format!("{error}")))?;
    let DatasetRef { name, version } = assignment.dataset.clone();
    Ok(job::Job {
        id: run,
        experiment,
        correlation_id: workflow.context().correlation_id,
        tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        priority: Priority::High,
        dataset: job::DatasetRef { name, version: Some(version) },
        work: assignment.work,
    })
}
