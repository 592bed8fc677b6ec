//! ROLLING_OUT and OBSERVING: the workflow requests the rollout and tracks it; the deployment reconciler carries it out.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    WorkflowEvent, WorkflowState,
    rollout::{Movement, Outcome},
};
use rekindle_store::Fence;
use tokio::time::Instant;

use super::{Workflow, progress::Progress, steps::Done};
use crate::{
    Error,
    clients::principal,
    core::Core,
    deployment::{Champion, Origin, Record, Request},
};

pub(super) async fn step(core: &Core, fence: &Fence, workflow: &Workflow, now: DateTime<Utc>) -> Result<Done, Error> {
    let record = deployed(core, workflow).await?;
    if is_mine(&record, workflow) {
        return Ok(tracked(&record, workflow));
    }
    if workflow.state == WorkflowState::Observing {
        return Err(Error::unrecoverable("another rollout replaced that of the challenger before it was stable"));
    }
    match record.deployment.outcome {
        Outcome::UnderWay => {}
        Outcome::Completed | Outcome::Returned => begin(core, fence, workflow, &record, now).await?,
        Outcome::Failed => {
            let message =
                format!("the deployment has no stable version ({}): deploy a version first", record.deployment.reason);
            return Err(Error::unrecoverable(message));
        }
    }
    Ok(Done::Waiting)
}

/// The deadline of a workflow once its rollout may have begun: the steps and observations that the policy asks for come on top.
pub(super) fn deadline(core: &Core, workflow: &Workflow) -> DateTime<Utc> {
    let replicas = core.fleet.live(Instant::now()).len();
    workflow.deadline_at + workflow.policy.rollout.planned(replicas)
}

/// A paused workflow starts nothing; a rollout that was rolled back ends it all the same.
pub(super) async fn while_paused(core: &Core, workflow: &Workflow) -> Result<Done, Error> {
    if !workflow.state.is_serving_challenger() {
        return Ok(Done::Waiting);
    }
    let record = deployed(core, workflow).await?;
    let returned = is_mine(&record, workflow) && is_returned(&record);
    Ok(if returned { tracked(&record, workflow) } else { Done::Waiting })
}

/// Returns replicas to the stable version before an end. `None` once no replica serves the challenger because of this workflow. A
/// challenger that has become the stable version stays, and the workflow succeeds.
pub(super) async fn withdraw(
    core: &Core,
    fence: &Fence,
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
            core.turn_back(fence.clone(), &record, reason, now).await?;
            Ok(Some(Done::Waiting))
        }
        Movement::Returning { .. } => Ok(Some(Done::Waiting)),
        Movement::Settled => Ok(Some(kept(&record, workflow))),
        Movement::First { .. } => Ok(None),
    }
}

async fn deployed(core: &Core, workflow: &Workflow) -> Result<Record, Error> {
    let record = core.deployment(&workflow.model).await?;
    record.ok_or_else(|| Error::unrecoverable("the deployment does not exist any more"))
}

fn is_mine(record: &Record, workflow: &Workflow) -> bool {
    record.workflow() == Some(workflow.id)
}

fn is_returned(record: &Record) -> bool {
    record.deployment.movement == Movement::Settled && record.deployment.outcome == Outcome::Returned
}

async fn begin(
    core: &Core,
    fence: &Fence,
    workflow: &Workflow,
    record: &Record,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let progress = &workflow.progress;
    let (champion, target) =
        progress.champion.zip(progress.challenger).ok_or_else(|| Error::unrecoverable("no challenger to roll out"))?;
    let stable = record.deployment.stable;
    if stable != champion {
        return Err(Error::unrecoverable(format!(
            "the gate compared the challenger with version {}, but version {} was deployed since",
            champion.version, stable.version
        )));
    }
    let request = Request {
        target,
        origin: Origin::Workflow(workflow.id),
        by: principal().to_string(),
        why: workflow.reason.clone(),
        strategy: workflow.policy.rollout.clone(),
        deadline_at: deadline(core, workflow),
    };
    core.begin_deployment(fence.clone(), &workflow.model, Some(record), request, now).await?;
    Ok(())
}

/// The progress of the workflow, derived from that of the deployment.
fn tracked(record: &Record, workflow: &Workflow) -> Done {
    let deployment = &record.deployment;
    let everywhere = deployment.everywhere_at;
    let progress = || Progress { serving_everywhere_at: everywhere, ..workflow.progress.clone() };
    let completed = deployment.movement == Movement::Settled && deployment.outcome == Outcome::Completed;
    let version = workflow.progress.challenger_version().unwrap_or_default();
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

/// How a workflow ends whose challenger is the stable version already. The deployment reconciler points the alias, independently of the
/// workflow.
fn kept(record: &Record, workflow: &Workflow) -> Done {
    match tracked(record, workflow) {
        Done::Waiting => {
            let version = workflow.progress.challenger_version().unwrap_or_default();
            let reason = format!("version {version} has become the stable version; the alias champion is moved next");
            Done::left(WorkflowEvent::Proven, reason, workflow.progress.clone())
        }
        done => done,
    }
}
