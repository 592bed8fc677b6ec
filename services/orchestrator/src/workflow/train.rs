//! TRAINING: a challenger is trained on everything before the rows kept for the gate.

use chrono::{DateTime, Utc};
use rekindle_domain::{AliasName, WorkflowEvent};
use rekindle_proto::{
    registry::get_model_version_request::Which,
    time::to_wire,
    trainer::{self, TrainWork, job::Work},
};

use super::{
    Workflow,
    progress::{Capture, DatasetRef, Progress},
    run_job::{self, Assignment, Standing},
    steps::Done,
};
use crate::{
    Error,
    clients::{Calls, version_ref},
    core::Core,
};

pub(super) async fn step(core: &Core, calls: &Calls, workflow: &Workflow, now: DateTime<Utc>) -> Result<Done, Error> {
    let (dataset, capture) = assembled(workflow)?;
    let recipe = serde_json::to_string(&workflow.policy.recipe).map_err(|error| Error::Hopeless(error.to_string()))?;
    let work = Work::Train(TrainWork {
        dataset: Some(wire(dataset)),
        recipe_json: recipe,
        train_until: Some(to_wire(capture.holdout_from)),
        register_as: workflow.model.to_string(),
        description: format!("challenger of workflow {}: {}", workflow.id, workflow.cause),
    });
    let assignment = Assignment { step: "train", job: &workflow.progress.training, work };
    match run_job::follow(&core.config, calls, workflow, assignment, now).await? {
        Standing::Running => Ok(Done::Waiting),
        Standing::Changed(training) => Ok(Done::kept(Progress { training, ..workflow.progress.clone() })),
        Standing::Finished(run) => {
            let number = run.outputs.get("model_version").and_then(|text| text.parse().ok());
            let number = number.ok_or_else(|| Error::answer("read the training's run", "names no model version"))?;
            trained(calls, workflow, number).await
        }
    }
}

async fn trained(calls: &Calls, workflow: &Workflow, number: u32) -> Result<Done, Error> {
    let version = calls.model_version(&workflow.model, Which::Version(number)).await?;
    let challenger = version_ref(&version)?;
    let alias = AliasName::challenger();
    let why = format!("trained by workflow {}", workflow.id);
    calls.point_alias(&workflow.model, alias.as_str(), number, "orchestrator", &why).await?;
    let progress = Progress { challenger: Some(challenger), ..workflow.progress.clone() };
    Ok(Done::left(WorkflowEvent::Trained, format!("version {number} is trained"), progress))
}

/// What ASSEMBLING has left behind.
pub(super) fn assembled(workflow: &Workflow) -> Result<(&DatasetRef, &Capture), Error> {
    let progress = &workflow.progress;
    progress
        .dataset
        .as_ref()
        .zip(progress.capture.as_ref())
        .ok_or_else(|| Error::Hopeless("no dataset was assembled".into()))
}

pub(super) fn wire(dataset: &DatasetRef) -> trainer::DatasetRef {
    trainer::DatasetRef { name: dataset.name.to_string(), version: dataset.version }
}
