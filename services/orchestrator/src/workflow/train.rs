//! TRAINING: a challenger is trained on all rows before those held out for the gate.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    AliasName, Policy, Recipe, Search, Task, WorkflowEvent,
    job::{Train, Work},
    model_version::VersionSelector,
    run::Run,
};

use super::{
    Workflow,
    progress::{Capture, DatasetRef, Progress},
    run_job::{self, Assignment, JobStatus},
    steps::Done,
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
    let (dataset, capture) = assembled(workflow)?;
    let (recipe, Policy { search, deadline, external, .. }) = (recipe(workflow), &workflow.policy);
    let work = Work::Train(Train {
        recipe,
        // The refit and the rollout need the rest of the time.
        search: match external {
            None => Search { budget: search.budget.min(*deadline / 4), ..search.clone() },
            Some(_) => Search::default(),
        },
        until: Some(capture.holdout_from),
        register_as: Some(workflow.model.clone()),
        description: format!("challenger of workflow {}: {}", workflow.id, workflow.cause),
        time_limit: None,
        external: external.clone().map(Box::new),
    });
    let assignment = Assignment { step: "train", job: &workflow.progress.training, dataset, work };
    match run_job::advance(&core.config, calls, workflow, assignment, now).await? {
        JobStatus::Running => Ok(Done::Waiting),
        JobStatus::Changed(training) => Ok(Done::kept(Progress { training, ..workflow.progress.clone() })),
        JobStatus::Finished(run) => trained(lease, calls, workflow, &run).await,
    }
}

/// The number of the version that a training registered.
pub(super) fn registered_version(run: &Run) -> Result<u32, Error> {
    let number = run.outputs.get(Run::MODEL_VERSION).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::unrecoverable("the training run has no output model_version"))
}

/// The recipe of the policy for the assembled rows.
pub(super) fn recipe(workflow: &Workflow) -> Recipe {
    let mut recipe = workflow.policy.recipe.clone();
    // The log has features and outcomes, and no weights.
    recipe.weights.column = None;
    // Outcomes may have brought further classes since the recipe was written.
    recipe.task = recipe.task.filter(|task| *task != Task::Binary);
    recipe
}

async fn trained(lease: Lease<'_>, calls: &Calls, workflow: &Workflow, run: &Run) -> Result<Done, Error> {
    let number = registered_version(run)?;
    let recipe = run.outputs.get("recipe").and_then(|json| serde_json::from_str(json).ok());
    let version = calls.model_version(&workflow.model, VersionSelector::Number(number)).await?;
    let (author, why) = (principal(), format!("trained by workflow {}", workflow.id));
    let author = Author { principal: &author, why: &why };
    calls.point_alias(lease, &workflow.model, AliasName::challenger(), number, author).await?;
    let progress = Progress { challenger: Some(version.reference()), recipe, ..workflow.progress.clone() };
    Ok(Done::left(WorkflowEvent::Trained, format!("version {number} is trained"), progress))
}

/// The results of ASSEMBLING.
pub(super) fn assembled(workflow: &Workflow) -> Result<(&DatasetRef, &Capture), Error> {
    let progress = &workflow.progress;
    let assembled = progress.dataset.as_ref().zip(progress.capture.as_ref());
    assembled.ok_or_else(|| Error::unrecoverable("no dataset was assembled"))
}
