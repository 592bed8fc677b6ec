//! EVALUATING: the gate compares the challenger with the champion on rows that neither was trained on.

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, WorkflowEvent};
use rekindle_proto::{
    json,
    registry::{Approval, Run},
    time::to_wire,
    trainer::{EvaluateWork, Evaluation, job::Work},
};

use super::{
    Workflow,
    progress::Progress,
    run_job::{self, Assignment, Standing},
    steps::Done,
    train::{assembled, wire},
};
use crate::{
    Error,
    clients::{Calls, digest},
    core::Core,
    wire::gate_to_wire,
};

const READ: &str = "read the evaluation";

pub(super) async fn step(core: &Core, calls: &Calls, workflow: &Workflow, now: DateTime<Utc>) -> Result<Done, Error> {
    let (dataset, capture) = assembled(workflow)?;
    let progress = &workflow.progress;
    let (champion, challenger) = progress
        .champion
        .zip(progress.challenger)
        .ok_or_else(|| Error::Hopeless("there are no two to compare".into()))?;
    let work = Work::Evaluate(EvaluateWork {
        dataset: Some(wire(dataset)),
        champion_bundle: champion.bundle.to_string(),
        challenger_bundle: challenger.bundle.to_string(),
        from: Some(to_wire(capture.holdout_from)),
        gate: Some(gate_to_wire(&workflow.policy.gate)),
    });
    let assignment = Assignment { step: "evaluate", job: &progress.evaluation, work };
    match run_job::follow(&core.config, calls, workflow, assignment, now).await? {
        Standing::Running => Ok(Done::Waiting),
        Standing::Changed(evaluation) => Ok(Done::kept(Progress { evaluation, ..progress.clone() })),
        Standing::Finished(run) => judge(core, calls, workflow, &run).await,
    }
}

async fn judge(core: &Core, calls: &Calls, workflow: &Workflow, run: &Run) -> Result<Done, Error> {
    let output = |name: &str| run.outputs.get(name).map_or("", String::as_str);
    let verdict = digest(READ, output("evaluation"))?;
    let passed = match output("verdict") {
        "pass" => true,
        "reject" => false,
        other => return Err(Error::answer(READ, format!("has the verdict {other:?}, neither pass nor reject"))),
    };
    let reason = reason(core, &verdict).await?;
    let progress = Progress { verdict: Some(verdict), ..workflow.progress.clone() };
    let (event, approval) = match (passed, workflow.policy.require_approval) {
        (true, true) => return Ok(Done::left(WorkflowEvent::PassAndAsk, reason, progress)),
        (true, false) => (WorkflowEvent::Pass, Approval::Approved),
        (false, _) => (WorkflowEvent::Decline, Approval::Rejected),
    };
    calls.review(&workflow.model, progress.to_version(), approval, "gate", &reason).await?;
    Ok(Done::left(event, reason, progress))
}

/// The evaluation's own words, from where it is stored.
async fn reason(core: &Core, verdict: &Digest) -> Result<String, Error> {
    let bytes = core.artifacts.get(verdict).await?;
    let evaluation: Evaluation = json::from_slice(&bytes).map_err(|error| Error::answer(READ, error))?;
    Ok(evaluation.reason)
}
