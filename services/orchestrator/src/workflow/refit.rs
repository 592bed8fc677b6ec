//! REFITTING: the recipe of the challenger that passed the gate is trained again on all rows, those of the gate included, which are the
//! latest ones. The result takes its place if it agrees with it on the rows of the gate, or is better there. Any other refit, and one that
//! fails, leaves the challenger as it was evaluated.

use chrono::{DateTime, Utc};
use rekindle_client::wire;
use rekindle_domain::{
    AliasName, Digest, Principal, VersionRef, WorkflowEvent,
    job::{Evaluate, Requirement, Train, Work},
    model_version::{Approval, VersionSelector},
    run::Run,
};
use rekindle_service::{Fault as _, chain};

use super::{
    Workflow,
    evaluate::evidence,
    progress::{Progress, Refit},
    run_job::{self, Assignment, JobStatus},
    steps::Done,
    train::{assembled, recipe, registered_version},
};
use crate::{
    Error,
    clients::{Author, Calls, Lease, principal},
    core::Core,
};

pub(super) async fn step(
    core: &Core,
    lease: Lease<'_>,
    calls: &Calls,
    workflow: &Workflow,
    now: DateTime<Utc>,
) -> Result<Done, Error> {
    let evaluated = workflow.progress.challenger.ok_or_else(|| Error::unrecoverable("no challenger to refit"))?;
    if now >= latest(workflow) {
        return abandon(calls, workflow, evaluated, "the rest of the deadline is kept for the rollout").await;
    }
    let done = match workflow.progress.refit.version {
        None => train(core, calls, workflow, evaluated, now).await,
        Some(refit) => check(core, lease, calls, workflow, (evaluated, refit), now).await,
    };
    match done {
        Err(error) if !error.is_transient() => {
            tracing::warn!(workflow = %workflow.id, model = %workflow.model, error = chain(&error), "the refit failed");
            abandon(calls, workflow, evaluated, &format!("the refit failed: {}", chain(&error))).await
        }
        done => done,
    }
}

/// When a refit is abandoned: a quarter of the time that the policy gives a workflow is kept for what follows.
fn latest(workflow: &Workflow) -> DateTime<Utc> {
    workflow.deadline_at - workflow.policy.deadline / 4
}

/// Leaves the challenger as it was evaluated. A job in progress, or a lost one that may be resumed, would register a version that nothing
/// waits for.
async fn abandon(calls: &Calls, workflow: &Workflow, evaluated: VersionRef, why: &str) -> Result<Done, Error> {
    let refit = &workflow.progress.refit;
    run_job::cancel(calls, &[&refit.training, &refit.check], why).await?;
    let why = format!("version {} stays: {why}", evaluated.version);
    Ok(Done::left(left(workflow), why, workflow.progress.clone()))
}

/// What follows.
fn left(workflow: &Workflow) -> WorkflowEvent {
    if workflow.policy.require_approval { WorkflowEvent::RefittedAndAsk } else { WorkflowEvent::Refitted }
}

async fn train(
    core: &Core,
    calls: &Calls,
    workflow: &Workflow,
    evaluated: VersionRef,
    now: DateTime<Utc>,
) -> Result<Done, Error> {
    let progress = &workflow.progress;
    let (dataset, _) = assembled(workflow)?;
    let work = Work::Train(Train {
        recipe: progress.recipe.clone().unwrap_or_else(|| recipe(workflow)),
        search: Default::default(),
        until: None,
        register_as: Some(workflow.model.clone()),
        description: format!("refit of version {} on all rows, for workflow {}", evaluated.version, workflow.id),
        time_limit: None,
        external: None,
    });
    let assignment = Assignment { step: "refit", job: &progress.refit.training, dataset, work };
    let refit = match run_job::advance(&core.config, calls, workflow, assignment, now).await? {
        JobStatus::Running => return Ok(Done::Waiting),
        JobStatus::Changed(training) => Refit { training, ..progress.refit.clone() },
        JobStatus::Finished(run) => {
            let version =
                calls.model_version(&workflow.model, VersionSelector::Number(registered_version(&run)?)).await?;
            Refit { version: Some(version.reference()), ..progress.refit.clone() }
        }
    };
    Ok(Done::kept(Progress { refit, ..progress.clone() }))
}

async fn check(
    core: &Core,
    lease: Lease<'_>,
    calls: &Calls,
    workflow: &Workflow,
    (evaluated, refit): (VersionRef, VersionRef),
    now: DateTime<Utc>,
) -> Result<Done, Error> {
    let progress = &workflow.progress;
    let (dataset, capture) = assembled(workflow)?;
    let work = Work::Evaluate(Evaluate {
        champion: evaluated.bundle,
        challenger: refit.bundle,
        from: Some(capture.holdout_from),
        gate: workflow.policy.gate.clone(),
        requirement: Requirement::Consistent,
    });
    let assignment = Assignment { step: "check-refit", job: &progress.refit.check, dataset, work };
    match run_job::advance(&core.config, calls, workflow, assignment, now).await? {
        JobStatus::Running => Ok(Done::Waiting),
        JobStatus::Changed(check) => {
            let refit = Refit { check, ..progress.refit.clone() };
            Ok(Done::kept(Progress { refit, ..progress.clone() }))
        }
        JobStatus::Finished(run) => checked(core, lease, calls, workflow, (evaluated, refit), &run).await,
    }
}

async fn checked(
    core: &Core,
    lease: Lease<'_>,
    calls: &Calls,
    workflow: &Workflow,
    (evaluated, refit): (VersionRef, VersionRef),
    run: &Run,
) -> Result<Done, Error> {
    let digest = run.outputs.get("evaluation").and_then(|text| text.parse::<Digest>().ok());
    let digest = digest.ok_or_else(|| Error::unrecoverable("the run of the check has no output evaluation"))?;
    let evaluation = wire::evaluation::from_json(&core.artifacts.get(&digest).await?)?;
    let (number, before) = (refit.version, evaluated.version);
    let refitted = Refit { verdict: Some(digest), ..workflow.progress.refit.clone() };
    let progress = Progress { refit: refitted, ..workflow.progress.clone() };
    let gate = Principal::service("gate");
    if !evaluation.pass {
        let why = format!("version {before} stays, because its refit differs: {}", evaluation.reason);
        let author = Author { principal: &gate, why: &why };
        let evidence = evidence(workflow.id, &progress);
        calls.review(&workflow.model, number, Approval::Rejected, author, evidence).await?;
        let refit = Refit { verdict: None, ..progress.refit.clone() };
        return Ok(Done::left(left(workflow), why, Progress { refit, ..progress }));
    }
    let why = format!("version {number} is version {before}, trained on all rows: {}", evaluation.reason);
    if !workflow.policy.require_approval {
        let author = Author { principal: &gate, why: &why };
        let evidence = evidence(workflow.id, &progress);
        calls.review(&workflow.model, number, Approval::Approved, author, evidence).await?;
    }
    let (author, moved) = (principal(), format!("refitted by workflow {}", workflow.id));
    let author = Author { principal: &author, why: &moved };
    calls.point_alias(lease, &workflow.model, AliasName::challenger(), number, author).await?;
    Ok(Done::left(left(workflow), why, Progress { challenger: Some(refit), ..progress }))
}
