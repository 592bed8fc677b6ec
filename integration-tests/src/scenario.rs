//! The steps of scenarios: the calls that the services of a user make.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use rekindle_client::{
    Error, PageRequest,
    inference::{Elements, InferRequest, Parameter, Tensor},
    orchestrator::DeployRequest,
    registry::UploadPurpose,
};
use rekindle_domain::{
    AliasName, DatasetName, Digest, Gate, ModelName, Policy, Recipe, RunId, Trigger, WatchSettings, WorkflowId,
    WorkflowState,
    alias::AliasMove,
    dataset::{DatasetRegistration, DatasetVersion, FileFormat, Source},
    deployment_status::{DeploymentPhase, DeploymentStatus},
    job::{DatasetRef, Job, Priority, Train, Work},
    model_version::{ModelVersion, VersionSelector},
    outcome::{Label, Outcome},
    recipe::{MlpRecipe, ModelRecipe, Optimizer},
    rollout::Strategy,
    run::{NewRun, Run, RunStatus},
    workflow::WorkflowStatus,
};
use rekindle_testkit::eventually;

use crate::{
    Clients,
    table::{DAY_MS, HOUR_MS, Row},
};

/// The model of every scenario.
pub const MODEL: &str = "shop";
/// Its dataset.
pub const DATASET: &str = "shop-visits";

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The name of the model.
pub fn model() -> ModelName {
    MODEL.parse().expect("a name")
}

/// The name of the dataset.
pub fn dataset() -> DatasetName {
    DATASET.parse().expect("a name")
}

/// An error with its status, for the messages of [`eventually`].
pub fn described(error: Error) -> String {
    format!("{error:?}")
}

/// A recipe that trains in less than a second.
pub fn recipe(seed: u64) -> Recipe {
    recipe_of(seed, 6)
}

/// A recipe with that many epochs.
pub fn recipe_of(seed: u64, epochs: u32) -> Recipe {
    let (max_epochs, patience) = (epochs, epochs);
    let optimizer = Optimizer { max_epochs, patience, batch_size: 64, learning_rate: 0.01, ..Optimizer::default() };
    let network = MlpRecipe { hidden: vec![16], dropout: 0.0, optimizer };
    Recipe { seed, model: ModelRecipe::Mlp(network), ..Recipe::for_target("bought") }
}

/// A registration of a CSV file under a name, without a time column.
pub fn registration(name: DatasetName, digest: Digest) -> DatasetRegistration {
    DatasetRegistration {
        name,
        sources: vec![Source { digest, format: FileFormat::Csv }],
        time_column: None,
        kinds: Default::default(),
        parents: Vec::new(),
        description: String::new(),
        from: None,
        until: None,
        reading: Default::default(),
        columns: Default::default(),
        schema: None,
        accept_violations: false,
    }
}

/// A run without params.
pub fn new_run() -> NewRun {
    NewRun { seed: 1, ..NewRun::new(MODEL.parse().expect("a name")) }
}

/// Uploads a CSV file and registers it as a version of [`DATASET`].
pub async fn register(clients: &Clients, csv: String, key: &str) -> DatasetVersion {
    let registry = clients.registry();
    let uploaded = registry.upload_bytes(UploadPurpose::DatasetSource, Bytes::from(csv)).await;
    let (digest, _) = uploaded.expect("uploaded");
    let registration = DatasetRegistration { time_column: Some("time".into()), ..registration(dataset(), digest) };
    registry.register_dataset(&registration, key).await.expect("registered")
}

/// A blob of the registry.
pub async fn download(clients: &Clients, digest: Digest) -> Bytes {
    let chunks = clients.registry().download(digest).await.expect("stored");
    let chunks: Vec<Bytes> = chunks.try_collect().await.expect("complete");
    chunks.concat().into()
}

/// Trains on the latest version of [`DATASET`] and waits until the run has finished.
pub async fn train(clients: &Clients, job_id: &str) -> (Run, ModelVersion) {
    train_with_seed(clients, job_id, 7).await
}

/// As [`train`], with other initial weights.
pub async fn train_with_seed(clients: &Clients, job_id: &str, seed: u64) -> (Run, ModelVersion) {
    train_with(clients, job_id, recipe(seed)).await
}

/// As [`train`], with another recipe.
pub async fn train_with(clients: &Clients, job_id: &str, recipe: Recipe) -> (Run, ModelVersion) {
    let id: RunId = job_id.parse().expect("an id");
    let job = Job {
        id,
        experiment: MODEL.parse().expect("a name"),
        correlation_id: String::new(),
        tags: Default::default(),
        priority: Priority::Normal,
        dataset: DatasetRef { name: dataset(), version: None },
        work: Work::Train(Train {
            recipe,
            search: Default::default(),
            until: None,
            register_as: Some(model()),
            description: String::new(),
            time_limit: None,
            external: None,
        }),
    };
    clients.trainer().submit(&job).await.expect("queued");
    let registry = clients.registry();
    let run = eventually("the run to finish", async || {
        let run = registry.run(id).await.map_err(described)?;
        assert_ne!(run.status, RunStatus::Failed, "{}", run.error);
        if run.status == RunStatus::Finished { Ok(run) } else { Err(run.status.name().to_owned()) }
    })
    .await;
    let number: u32 = run.outputs["model_version"].parse().expect("a number");
    let version = registry.model_version(&model(), &VersionSelector::Number(number)).await.expect("registered");
    (run, version)
}

/// Points `champion` at a version, and deploys it on every replica.
pub async fn promote_and_deploy(clients: &Clients, version: u32) {
    let target = AliasMove {
        model: model(),
        alias: AliasName::champion(),
        version,
        expected_revision: 0,
        why: "the first version".into(),
    };
    clients.registry().set_alias(&target).await.expect("moved");
    deploy(clients, version, "first").await;
    deployed(clients, version).await;
}

/// A deployment of a version.
pub fn deployment(model: ModelName, version: u32, key: &str) -> DeployRequest {
    DeployRequest {
        idempotency_key: key.into(),
        model,
        version: Some(version),
        expected_revision: None,
        why: "a step of the scenario".into(),
    }
}

/// Starts the rollout of a version.
pub async fn deploy(clients: &Clients, version: u32, key: &str) -> DeploymentStatus {
    clients.orchestrator().deploy(&deployment(model(), version, key)).await.expect("accepted")
}

/// The deployment, once no rollout is in progress.
pub async fn settled(clients: &Clients) -> DeploymentStatus {
    let orchestrator = clients.orchestrator();
    eventually("the deployment to settle", async || {
        let deployment = orchestrator.deployment(&model()).await.map_err(described)?;
        if deployment.phase == DeploymentPhase::Stable { Ok(deployment) } else { Err(format!("{deployment:?}")) }
    })
    .await
}

/// Waits until the deployment has settled on a version and every replica answers with it.
pub async fn deployed(clients: &Clients, version: u32) {
    let deployment = settled(clients).await;
    assert_eq!(deployment.stable.version, version, "{}", deployment.reason);
    eventually("every replica to serve the version", async || {
        for index in 0..clients.inference.len() {
            let ready = clients.replica(index).model_ready(MODEL, Some(version)).await.map_err(described)?;
            if !ready {
                return Err(format!("replica {index} is not ready"));
            }
        }
        Ok(())
    })
    .await;
}

/// Windows of a day, and retraining upon drift or degradation.
pub async fn set_policy(clients: &Clients, change: impl FnOnce(&mut Policy)) {
    let mut policy = Policy {
        triggers: [Trigger::Drift, Trigger::Degradation].into(),
        min_new_rows: 600,
        gate: Gate { min_rows: 100, ..Gate::default() },
        rollout: Strategy {
            bake: Duration::from_millis(100),
            observe: Duration::from_millis(300),
            ..Strategy::default()
        },
        cooldown: DAY,
        watch: Some(WatchSettings {
            window: DAY,
            lateness: Duration::from_secs(60),
            label_wait: HOUR,
            ..WatchSettings::default()
        }),
        ..Policy::new(model(), dataset(), recipe(7))
    };
    change(&mut policy);
    clients.orchestrator().set_policy(&policy, 0).await.expect("set");
}

/// One request with the features of `rows`.
pub fn request(rows: &[Row]) -> InferRequest {
    let fp64 = |values: Vec<f64>| Elements::Fp64(values);
    InferRequest {
        model: MODEL.into(),
        parameters: [("traffic".to_owned(), Parameter::Text("replay".to_owned()))].into(),
        inputs: vec![
            Tensor::column("time", Elements::Int64(rows.iter().map(|row| row.time_ms).collect())),
            Tensor::column("temperature", fp64(rows.iter().map(|row| row.temperature).collect())),
            Tensor::column("basket", fp64(rows.iter().map(|row| row.basket.unwrap_or(f64::NAN)).collect())),
            Tensor::column("region", Elements::Text(rows.iter().map(|row| row.region.to_owned()).collect())),
        ],
        ..InferRequest::default()
    }
}

/// Sends the rows hour by hour, one request an hour, to the replicas in turn, and reports the outcomes after each request. It is the first
/// traffic of its model. Before a new day begins, the rows of the days before are captured with their outcomes, so the window that it closes
/// has its labels on a busy machine too. Returns the ids of the predictions.
pub async fn send_day_by_day(clients: &Clients, rows: &[Row]) -> Vec<String> {
    let (mut ids, mut sent) = (Vec::new(), 0);
    for day in rows.chunk_by(|a, b| a.time_ms / DAY_MS == b.time_ms / DAY_MS) {
        if sent > 0 {
            captured(clients, sent).await;
        }
        ids.extend(send_hour_by_hour(clients, day).await);
        sent += day.len() as u64;
    }
    ids
}

/// Sends the rows as [`send_day_by_day`] does, without waiting for the capture. Returns the ids of the predictions.
pub async fn send_hour_by_hour(clients: &Clients, rows: &[Row]) -> Vec<String> {
    let replicas: Vec<_> = (0..clients.inference.len()).map(|index| clients.replica(index)).collect();
    let monitor = clients.monitor();
    let mut ids = Vec::new();
    for (hour, replica) in rows.chunk_by(|a, b| a.time_ms / HOUR_MS == b.time_ms / HOUR_MS).zip(replicas.iter().cycle())
    {
        let answer = replica.infer(request(hour)).await.expect("answered");
        let prediction = answer.prediction().expect("an id");
        let outcome = |(row, index): (&Row, u32)| Outcome::new(prediction, index, Label::Class(row.bought.into()));
        let outcomes: Vec<Outcome> = hour.iter().zip(0..).map(outcome).collect();
        monitor.report_outcomes(&model(), &outcomes, prediction.to_string()).await.expect("accepted");
        ids.push(prediction.to_string());
    }
    ids
}

/// Waits until the monitor has captured that many rows, or knows them lost, and as many outcomes.
pub async fn captured(clients: &Clients, rows: u64) {
    let monitor = clients.monitor();
    eventually("every answered row and outcome to be captured", async || {
        let status = monitor.capture_status(&model()).await.map_err(described)?;
        assert!(status.predictions <= rows && status.outcomes <= rows, "counted twice: {status:?}");
        let complete = status.predictions + status.lost == rows && status.outcomes == rows;
        if complete { Ok(()) } else { Err(format!("{status:?} of {rows}")) }
    })
    .await;
}

/// Waits until the predictions of so many outcomes are found.
pub async fn matched(clients: &Clients, outcomes: u64) {
    let monitor = clients.monitor();
    eventually("every outcome to be matched", async || {
        let counts = monitor.capture_status(&model()).await.map_err(described)?.outcome_counts;
        if counts.matched == outcomes { Ok(()) } else { Err(format!("{counts:?} of {outcomes}")) }
    })
    .await;
}

/// Every workflow of the model, oldest first.
pub async fn workflows(clients: &Clients) -> Vec<WorkflowStatus> {
    let found = clients.orchestrator().workflows(Some(&model()), PageRequest::first(500)).await;
    let mut found = found.expect("listed").items;
    found.reverse();
    found
}

/// The workflow, once it has ended.
pub async fn ended(clients: &Clients, id: WorkflowId) -> WorkflowStatus {
    let orchestrator = clients.orchestrator();
    eventually("the workflow to end", async || {
        let workflow = orchestrator.workflow(id).await.map_err(described)?;
        let state = workflow.state;
        if state.is_terminal() { Ok(workflow) } else { Err(format!("{}: {}", state.name(), workflow.reason)) }
    })
    .await
}

/// Waits until a workflow has entered a state. Fails the test if one ends without it.
pub async fn workflow_in(clients: &Clients, state: WorkflowState) -> WorkflowStatus {
    eventually(&format!("a workflow to be {}", state.name()), async || {
        let all = workflows(clients).await;
        let has_entered = |workflow: &&WorkflowStatus| workflow.steps.iter().any(|step| step.state == state);
        if let Some(ended) = all.iter().find(|workflow| workflow.state.is_terminal() && !has_entered(workflow)) {
            panic!("it ended as {}: {}", ended.state.name(), ended.reason);
        }
        let states = || all.iter().map(|workflow| workflow.state.name()).collect::<Vec<_>>().join(", ");
        all.iter().find(has_entered).cloned().ok_or_else(states)
    })
    .await
}
