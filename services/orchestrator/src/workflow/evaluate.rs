//! EVALUATING: the gate compares the challenger with the champion on rows that neither was trained on.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_client::wire;
use rekindle_domain::{
    Digest, Principal, Trigger, WorkflowEvent, WorkflowId,
    job::{Evaluate, Requirement, Work},
    model_version::Approval,
    run::Run,
};

use super::{
    Workflow,
    progress::Progress,
    run_job::{self, Assignment, JobStatus},
    steps::Done,
    train::assembled,
};
use crate::{
    Error,
    clients::{Author, Calls},
    core::Core,
};

pub(super) async fn step(core: &Core, calls: &Calls, workflow: &Workflow, now: DateTime<Utc>) -> Result<Done, Error> {
    let (dataset, capture) = assembled(workflow)?;
    let progress = &workflow.progress;
    let (champion, challenger) = progress
        .champion
        .zip(progress.challenger)
        .ok_or_else(|| Error::unrecoverable("no champion and challenger to compare"))?;
    let work = Work::Evaluate(Evaluate {
        champion: champion.bundle,
        challenger: challenger.bundle,
        from: Some(capture.holdout_from),
        gate: workflow.policy.gate.clone(),
        // The loss of the champion has risen already: keeping it is not the safe choice that it is otherwise.
        requirement: match workflow.trigger {
            Trigger::Degradation => Requirement::NotWorse,
            Trigger::Drift | Trigger::Manual | Trigger::Schedule | Trigger::DatasetVersion | Trigger::Window => {
                Requirement::Better
            }
        },
    });
    let assignment = Assignment { step: "evaluate", job: &progress.evaluation, dataset, work };
    match run_job::advance(&core.config, calls, workflow, assignment, now).await? {
        JobStatus::Running => Ok(Done::Waiting),
        JobStatus::Changed(evaluation) => Ok(Done::kept(Progress { evaluation, ..progress.clone() })),
        JobStatus::Finished(run) => evaluated(core, calls, workflow, &run).await,
    }
}

async fn evaluated(core: &Core, calls: &Calls, workflow: &Workflow, run: &Run) -> Result<Done, Error> {
    let digest = run.outputs.get("evaluation").and_then(|text| text.parse::<Digest>().ok());
    let digest = digest.ok_or_else(|| Error::unrecoverable("the evaluation run has no output evaluation"))?;
    let evaluation = wire::evaluation::from_json(&core.artifacts.get(&digest).await?)?;
    let is_compared = evaluation.rows >= evaluation.gate.min_rows;
    let progress = Progress { verdict: Some(digest), is_compared, ..workflow.progress.clone() };
    let number = progress.challenger_version().ok_or_else(|| Error::unrecoverable("no challenger to review"))?;
    let policy = &workflow.policy;
    // Workers outside of the platform leave the latest rows out, so that loss and metrics of what they train are not of rows that it has seen.
    let refits = policy.refit && policy.external.is_none();
    let (event, approval) = match (evaluation.pass, refits, policy.require_approval) {
        (true, true, true) => return Ok(Done::left(WorkflowEvent::PassAndRefit, evaluation.reason, progress)),
        (true, false, true) => return Ok(Done::left(WorkflowEvent::PassAndAsk, evaluation.reason, progress)),
        (true, true, false) => (WorkflowEvent::PassAndRefit, Approval::Approved),
        (true, false, false) => (WorkflowEvent::Pass, Approval::Approved),
        (false, ..) => (WorkflowEvent::Decline, Approval::Rejected),
    };
    let gate = Principal::service("gate");
    let author = Author { principal: &gate, why: &evaluation.reason };
    calls.review(&workflow.model, number, approval, author, evidence(workflow.id, &progress)).await?;
    Ok(Done::left(event, evaluation.reason, progress))
}

/// What a review of a challenger is based on.
pub(super) fn evidence(workflow: WorkflowId, progress: &Progress) -> BTreeMap<String, String> {
    let digests = [("verdict", progress.verdict), ("refit", progress.refit.verdict)];
    let digests = digests.into_iter().filter_map(|(name, digest)| Some((name.to_owned(), digest?.to_string())));
    [("workflow".to_owned(), workflow.to_string())].into_iter().chain(digests).collect()
}
