//! What a workflow does in each state. A step may be carried out any number of times: what it asks of others carries ids made
//! from the workflow's own, and what it learns is written before it is used. Nothing is decided from memory.

use chrono::{DateTime, Utc};
use rekindle_domain::{WorkflowEvent, WorkflowState};
use rekindle_proto::registry::Approval;

use super::{Ending, EndingKind, Progress, Workflow, assemble, evaluate, roll_out, train};
use crate::{Error, clients::Calls, core::Core};

/// What a step came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Done {
    /// Nothing new: something has to happen first.
    Waiting,
    /// Results to be kept; the state stays.
    Kept(Box<Progress>),
    /// The state is left.
    Left(WorkflowEvent, String, Box<Progress>),
}

impl Done {
    pub(super) fn kept(progress: Progress) -> Self {
        Self::Kept(Box::new(progress))
    }

    pub(super) fn left(event: WorkflowEvent, reason: impl Into<String>, progress: Progress) -> Self {
        Self::Left(event, reason.into(), Box::new(progress))
    }
}

/// Carries out one step and writes down what came of it. Returns whether anything changed.
pub(crate) async fn advance(core: &Core, workflow: &Workflow, now: DateTime<Utc>) -> Result<bool, Error> {
    let next = match next_step(core, workflow, now).await {
        Ok(Done::Waiting) => return Ok(false),
        Ok(Done::Kept(progress)) => Workflow { progress: *progress, ..workflow.clone() },
        Ok(Done::Left(event, reason, progress)) => {
            Workflow { progress: *progress, ..workflow.clone() }.after(event, reason, now)?
        }
        Err(error) if error.is_passing() || workflow.ending.is_some() => return Err(error),
        Err(error) => {
            tracing::warn!(workflow = %workflow.id, model = %workflow.model, error = crate::error::chain(&error), "workflow cannot go on");
            let ending = Ending { kind: EndingKind::Fail, reason: crate::error::chain(&error) };
            Workflow { ending: Some(ending), ..workflow.clone() }
        }
    };
    core.change_workflow(workflow, next, now).await?;
    Ok(true)
}

async fn next_step(core: &Core, workflow: &Workflow, now: DateTime<Utc>) -> Result<Done, Error> {
    let calls = core.peers.on_behalf_of(workflow.context());
    if let Some(ending) = &workflow.ending {
        return end(core, &calls, workflow, ending, now).await;
    }
    if now >= workflow.deadline_at {
        return Err(Error::Hopeless(format!("it was not through within {:?}", workflow.policy.deadline)));
    }
    if workflow.paused {
        return roll_out::while_paused(core, workflow).await;
    }
    match workflow.state {
        WorkflowState::Queued => begin(core, workflow).await,
        WorkflowState::Assembling => assemble::step(&calls, workflow).await,
        WorkflowState::Training => train::step(core, &calls, workflow, now).await,
        WorkflowState::Evaluating => evaluate::step(core, &calls, workflow, now).await,
        WorkflowState::AwaitingApproval => decided(&calls, workflow).await,
        WorkflowState::RollingOut | WorkflowState::Observing => roll_out::step(core, workflow, now).await,
        WorkflowState::Succeeded
        | WorkflowState::Rejected
        | WorkflowState::RolledBack
        | WorkflowState::Failed
        | WorkflowState::Cancelled => Ok(Done::Waiting),
    }
}

/// The champion is what is deployed when the workflow begins.
async fn begin(core: &Core, workflow: &Workflow) -> Result<Done, Error> {
    let record = core.deployment(&workflow.model).await?;
    let champion = record.ok_or_else(|| Error::Hopeless("the model is not deployed: deploy a version first".into()))?;
    let progress = Progress { champion: Some(champion.deployment.stable), ..workflow.progress.clone() };
    Ok(Done::left(WorkflowEvent::Start, workflow.cause.clone(), progress))
}

/// Waits for a person, then records what was said with the version.
async fn decided(calls: &Calls, workflow: &Workflow) -> Result<Done, Error> {
    let progress = workflow.progress.clone();
    let Some(decision) = &progress.decision else { return Ok(Done::Waiting) };
    let (approval, event) = if decision.approve {
        (Approval::Approved, WorkflowEvent::Approve)
    } else {
        (Approval::Rejected, WorkflowEvent::Decline)
    };
    calls.review(&workflow.model, progress.to_version(), approval, &decision.by, &decision.why).await?;
    let word = if decision.approve { "approved" } else { "declined" };
    let reason = format!("{word} by {}: {}", decision.by, decision.why);
    Ok(Done::left(event, reason, progress))
}

/// Ends what is under way, and then the workflow.
async fn end(
    core: &Core,
    calls: &Calls,
    workflow: &Workflow,
    ending: &Ending,
    now: DateTime<Utc>,
) -> Result<Done, Error> {
    let job = match workflow.state {
        WorkflowState::Training => Some(&workflow.progress.training),
        WorkflowState::Evaluating => Some(&workflow.progress.evaluation),
        _ => None,
    };
    let runs = job.map_or([None; 2], |job| [job.replaces, job.run]);
    for run in runs.into_iter().flatten() {
        calls.cancel_job(&run.to_string(), &ending.reason).await?;
    }
    if workflow.state.is_serving_challenger()
        && let Some(done) = roll_out::withdraw(core, workflow, &ending.reason, now).await?
    {
        return Ok(done);
    }
    let event = match ending.kind {
        EndingKind::Cancel => WorkflowEvent::Cancel,
        EndingKind::Fail => WorkflowEvent::Fail,
    };
    Ok(Done::left(event, ending.reason.clone(), workflow.progress.clone()))
}
