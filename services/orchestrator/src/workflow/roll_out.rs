//! ROLLING_OUT and OBSERVING: the deployment does the work, step by step and by itself; the workflow asks for it and follows.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    WorkflowEvent, WorkflowState,
    rollout::{Movement, Outcome},
};

use super::{Workflow, progress::Progress, steps::Done};
use crate::{
    Error,
    core::Core,
    deployment::{Champion, Origin, Record, Request},
};

pub(super) async fn step(core: &Core, workflow: &Workflow, now: DateTime<Utc>) -> Result<Done, Error> {
    let record = deployed(core, workflow).await?;
    if is_mine(&record, workflow) {
        return Ok(follow(&record, workflow));
    }
    if workflow.state == WorkflowState::Observing {
        return Err(Error::Hopeless("the deployment was taken over before the challenger had proven itself".into()));
    }
    match record.deployment.outcome {
        Outcome::UnderWay => {}
        Outcome::Completed | Outcome::Returned => begin(core, workflow, &record, now).await?,
        Outcome::Failed => {
            let message =
                format!("there is nothing to go back to: {}: deploy a version first", record.deployment.reason);
            return Err(Error::Hopeless(message));
        }
    }
    Ok(Done::Waiting)
}

/// A paused workflow starts nothing, but a rollout that failed is over, paused or not.
pub(super) async fn while_paused(core: &Core, workflow: &Workflow) -> Result<Done, Error> {
    if !workflow.state.is_serving_challenger() {
        return Ok(Done::Waiting);
    }
    let record = deployed(core, workflow).await?;
    let returned = is_mine(&record, workflow) && is_returned(&record);
    Ok(if returned { follow(&record, workflow) } else { Done::Waiting })
}

/// Sends replicas back before an end. `None` once none serves the challenger because of this workflow; a challenger that has
/// become the stable version is there to stay, and the workflow with it.
pub(super) async fn withdraw(
    core: &Core,
    workflow: &Workflow,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Option<Done>, Error> {
    let record = deployed(core, workflow).await?;
    if !is_mine(&record, workflow) || is_returned(&record) {
        return Ok(None);
    }
    match record.deployment.movement {
        Movement::Forward(_) => {
            core.turn_back(&record, reason, now).await?;
            Ok(Some(Done::Waiting))
        }
        Movement::Returning { .. } => Ok(Some(Done::Waiting)),
        Movement::Settled => Ok(Some(kept(&record, workflow))),
        Movement::First { .. } => Ok(None),
    }
}

async fn deployed(core: &Core, workflow: &Workflow) -> Result<Record, Error> {
    let record = core.deployment(&workflow.model).await?;
    record.ok_or_else(|| Error::Hopeless("the deployment is gone".into()))
}

fn is_mine(record: &Record, workflow: &Workflow) -> bool {
    record.workflow() == Some(workflow.id)
}

fn is_returned(record: &Record) -> bool {
    record.deployment.movement == Movement::Settled && record.deployment.outcome == Outcome::Returned
}

async fn begin(core: &Core, workflow: &Workflow, record: &Record, now: DateTime<Utc>) -> Result<(), Error> {
    let progress = &workflow.progress;
    let (champion, target) =
        progress.champion.zip(progress.challenger).ok_or_else(|| Error::Hopeless("there is no challenger".into()))?;
    let stable = record.deployment.stable;
    if stable != champion {
        return Err(Error::Hopeless(format!(
            "the gate compared with version {}, but version {} was deployed meanwhile",
            champion.version, stable.version
        )));
    }
    let request = Request {
        target,
        origin: Origin::Workflow(workflow.id),
        by: format!("workflow {}", workflow.id),
        why: workflow.reason.clone(),
        strategy: workflow.policy.rollout.clone(),
        deadline_at: workflow.deadline_at,
    };
    core.begin_deployment(&workflow.model, Some(record), request, now).await?;
    Ok(())
}

/// What the deployment's own progress means for the workflow.
fn follow(record: &Record, workflow: &Workflow) -> Done {
    let deployment = &record.deployment;
    let everywhere = deployment.everywhere_at;
    let progress = || Progress { serving_everywhere_at: everywhere, ..workflow.progress.clone() };
    let completed = deployment.movement == Movement::Settled && deployment.outcome == Outcome::Completed;
    let version = workflow.progress.to_version();
    match workflow.state {
        _ if is_returned(record) => Done::left(WorkflowEvent::Returned, deployment.reason.clone(), progress()),
        WorkflowState::RollingOut
            if everywhere.is_some() && !matches!(deployment.movement, Movement::Returning { .. }) =>
        {
            Done::left(WorkflowEvent::AllMoved, format!("every replica serves version {version}"), progress())
        }
        WorkflowState::Observing if completed => match &record.champion {
            Champion::Set => {
                Done::left(WorkflowEvent::Proven, format!("version {version} is the champion"), progress())
            }
            Champion::Refused { why } => {
                let reason = format!("every replica serves version {version}, but it cannot be the champion: {why}");
                Done::left(WorkflowEvent::Fail, reason, progress())
            }
            Champion::Owed => Done::Waiting,
        },
        _ => Done::Waiting,
    }
}

/// How a workflow that is to end does so once its challenger is the stable version. The deployment sees to the alias, however
/// long that takes, and nobody has to wait for it.
fn kept(record: &Record, workflow: &Workflow) -> Done {
    match follow(record, workflow) {
        Done::Waiting => {
            let version = workflow.progress.to_version();
            let reason = format!("version {version} has become the stable version; champion has yet to follow");
            Done::left(WorkflowEvent::Proven, reason, workflow.progress.clone())
        }
        done => done,
    }
}
