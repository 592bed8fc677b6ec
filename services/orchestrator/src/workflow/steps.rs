//! The step of each state. A step may be repeated any number of times: its calls carry ids derived from that of the workflow, and results
//! are written before they are used. No decision depends on memory.

use chrono::{DateTime, Utc};
use rekindle_domain::{Principal, WorkflowEvent, WorkflowState, model_version::Approval};
use rekindle_service::{Fault as _, chain};
use rekindle_store::Fence;

use super::{Ending, EndingKind, Progress, Workflow, assemble, evaluate, refit, roll_out, run_job, train};
use crate::{
    Error,
    clients::{Author, Calls, Lease, principal},
    core::Core,
    leader::Writer,
};

/// The result of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Done {
    /// Unchanged: it waits for an event.
    Waiting,
    /// Results to record; the state is unchanged.
    Kept(Box<Progress>),
    /// A transition.
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

/// Runs one step and records its result. Returns whether anything changed.
pub(crate) async fn advance(core: &Core, fence: Fence, workflow: &Workflow, now: DateTime<Utc>) -> Result<bool, Error> {
    let next = match next_step(core, &fence, workflow, now).await {
        Ok(Done::Waiting) => return Ok(false),
        Ok(Done::Kept(progress)) => Workflow { progress: *progress, ..workflow.clone() },
        Ok(Done::Left(event, reason, progress)) => {
            Workflow { progress: *progress, ..workflow.clone() }.after(event, reason, now)?
        }
        Err(error) if error.is_transient() || workflow.ending.is_some() => return Err(error),
        Err(error) => {
            tracing::warn!(workflow = %workflow.id, model = %workflow.model, error = chain(&error), "workflow failed");
            let ending = Ending { kind: EndingKind::Fail, reason: chain(&error) };
            Workflow { ending: Some(ending), ..workflow.clone() }
        }
    };
    Box::pin(core.change_workflow(Writer::Leader(fence), workflow, next, now, None)).await?;
    Ok(true)
}

async fn next_step(core: &Core, fence: &Fence, workflow: &Workflow, now: DateTime<Utc>) -> Result<Done, Error> {
    let calls = core.peers.on_behalf_of(workflow.context());
    if let Some(ending) = &workflow.ending {
        return end(core, fence, &calls, workflow, ending, now).await;
    }
    let deadline_at = match workflow.state {
        WorkflowState::RollingOut | WorkflowState::Observing => roll_out::deadline(core, workflow),
        _ => workflow.deadline_at,
    };
    if now >= deadline_at {
        return Err(Error::unrecoverable(format!("it did not complete within {:?}", workflow.policy.deadline)));
    }
    if workflow.paused {
        return roll_out::while_paused(core, workflow).await;
    }
    match workflow.state {
        WorkflowState::Queued if workflow.quiet_until.is_some_and(|end| now < end) => Ok(Done::Waiting),
        WorkflowState::Queued => begin(core, workflow).await,
        WorkflowState::Assembling => assemble::step(&calls, workflow).await,
        WorkflowState::Training => train::step(core, Lease { db: &core.db, fence }, &calls, workflow, now).await,
        WorkflowState::Evaluating => evaluate::step(core, &calls, workflow, now).await,
        WorkflowState::Refitting => refit::step(core, Lease { db: &core.db, fence }, &calls, workflow, now).await,
        WorkflowState::AwaitingApproval => decided(&calls, workflow).await,
        WorkflowState::RollingOut | WorkflowState::Observing => roll_out::step(core, fence, workflow, now).await,
        WorkflowState::Succeeded
        | WorkflowState::Rejected
        | WorkflowState::RolledBack
        | WorkflowState::Failed
        | WorkflowState::Cancelled => Ok(Done::Waiting),
    }
}

/// The champion is the version that is deployed when the workflow starts.
async fn begin(core: &Core, workflow: &Workflow) -> Result<Done, Error> {
    let record = core.deployment(&workflow.model).await?;
    let champion = record.ok_or_else(|| Error::unrecoverable("the model is not deployed: deploy a version first"))?;
    let progress = Progress { champion: Some(champion.deployment.stable), ..workflow.progress.clone() };
    Ok(Done::left(WorkflowEvent::Start, workflow.cause.clone(), progress))
}

/// Waits for the decision of a person, then records it as a review of the version.
async fn decided(calls: &Calls, workflow: &Workflow) -> Result<Done, Error> {
    let progress = workflow.progress.clone();
    let Some(decision) = &progress.decision else { return Ok(Done::Waiting) };
    let (approval, event) = if decision.approve {
        (Approval::Approved, WorkflowEvent::Approve)
    } else {
        (Approval::Rejected, WorkflowEvent::Decline)
    };
    let number = progress.challenger_version().ok_or_else(|| Error::unrecoverable("no challenger to review"))?;
    // What is recorded may stem from a build that did not restrict authors.
    let by = decision.by.parse::<Principal>().unwrap_or_else(|_| principal());
    let author = Author { principal: &by, why: &decision.why };
    calls.review(&workflow.model, number, approval, author, evaluate::evidence(workflow.id, &progress)).await?;
    let word = if decision.approve { "approved" } else { "declined" };
    let reason = format!("{word} by {}: {}", decision.by, decision.why);
    Ok(Done::left(event, reason, progress))
}

/// Ends the job or rollout in progress, and then the workflow.
async fn end(
    core: &Core,
    fence: &Fence,
    calls: &Calls,
    workflow: &Workflow,
    ending: &Ending,
    now: DateTime<Utc>,
) -> Result<Done, Error> {
    let progress = &workflow.progress;
    let jobs = match workflow.state {
        WorkflowState::Training => vec![&progress.training],
        WorkflowState::Evaluating => vec![&progress.evaluation],
        WorkflowState::Refitting => vec![&progress.refit.training, &progress.refit.check],
        _ => Vec::new(),
    };
    run_job::cancel(calls, &jobs, &ending.reason).await?;
    if workflow.state.is_serving_challenger()
        && let Some(done) = roll_out::withdraw(core, fence, workflow, &ending.reason, now).await?
    {
        return Ok(done);
    }
    let event = match ending.kind {
        EndingKind::Cancel => WorkflowEvent::Cancel,
        EndingKind::Fail => WorkflowEvent::Fail,
    };
    Ok(Done::left(event, ending.reason.clone(), workflow.progress.clone()))
}
