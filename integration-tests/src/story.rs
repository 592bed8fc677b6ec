//! The steps that stories are made of: the calls that a user's own service would make.

use rekindle_proto::{
    inference::{
        ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
    },
    monitor::{GetCaptureStatusRequest, Outcome, ReportOutcomesRequest, Watch, outcome::Truth},
    orchestrator::{
        DeployRequest, Deployment, DeploymentPhase, GetDeploymentRequest, ListWorkflowsRequest, Policy,
        RolloutStrategy, SetPolicyRequest, Workflow, WorkflowState,
    },
    registry::{
        DatasetVersion, FileFormat, GetModelVersionRequest, GetRunRequest, ModelVersion, RegisterVersionRequest, Run,
        RunStatus, SetAliasRequest, Source, UploadRequest, get_model_version_request::Which,
    },
    trainer::{DatasetRef, Job, SubmitJobRequest, TrainWork, job::Work},
};
use rekindle_testkit::eventually;
use tonic::transport::Channel;

use crate::{
    Clients,
    table::{DAY_MS, HOUR_MS, Row},
};

/// The model of every story.
pub const MODEL: &str = "shop";
/// Its dataset.
pub const DATASET: &str = "shop-visits";

/// A recipe that trains in less than a second.
pub fn recipe(seed: u64) -> String {
    recipe_of(seed, 6)
}

/// A recipe that goes over the rows that often.
pub fn recipe_of(seed: u64, epochs: u32) -> String {
    serde_json::json!({
        "target": "bought",
        "architecture": { "kind": "mlp", "hidden": [16], "dropout": 0.0 },
        "max_epochs": epochs,
        "patience": epochs,
        "batch_size": 64,
        "learning_rate": 0.01,
        "seed": seed,
    })
    .to_string()
}

/// Stores a CSV file and registers it as a version of [`DATASET`].
pub async fn register(clients: &Clients, csv: String, key: &str) -> DatasetVersion {
    let chunks = csv.into_bytes().chunks(512 * 1024).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let stream = tokio_stream::iter(chunks.into_iter().map(|chunk| UploadRequest { chunk: chunk.into() }));
    let blob = clients.artifacts().upload(stream).await.expect("stored").into_inner();
    let request = RegisterVersionRequest {
        idempotency_key: key.into(),
        name: DATASET.into(),
        sources: vec![Source { digest: blob.digest, format: FileFormat::Csv.into() }],
        time_column: "time".into(),
        ..Default::default()
    };
    clients.datasets().register_version(request).await.expect("registered").into_inner()
}

/// Trains on the latest version of [`DATASET`] and waits for the run to finish.
pub async fn train(clients: &Clients, job_id: &str) -> (Run, ModelVersion) {
    train_with_seed(clients, job_id, 7).await
}

/// As [`train`], from other initial weights.
pub async fn train_with_seed(clients: &Clients, job_id: &str, seed: u64) -> (Run, ModelVersion) {
    let job = Job {
        id: job_id.into(),
        experiment: MODEL.into(),
        work: Some(Work::Train(TrainWork {
            dataset: Some(DatasetRef { name: DATASET.into(), version: 0 }),
            recipe_json: recipe(seed),
            register_as: MODEL.into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    clients.trainer().submit_job(SubmitJobRequest { job: Some(job) }).await.expect("queued");
    let mut runs = clients.runs();
    let run = eventually("the run finishes", async || {
        let run = runs.get_run(GetRunRequest { id: job_id.into() }).await.map_err(|s| s.to_string())?.into_inner();
        assert_ne!(run.status(), RunStatus::Failed, "{}", run.error);
        if run.status() == RunStatus::Finished { Ok(run) } else { Err(format!("{:?}", run.status())) }
    })
    .await;
    let version: u32 = run.outputs["model_version"].parse().expect("a number");
    let request = GetModelVersionRequest { model: MODEL.into(), which: Some(Which::Version(version)) };
    let version = clients.models().get_model_version(request).await.expect("registered").into_inner();
    (run, version)
}

/// Points `champion` at a version and has it served everywhere.
pub async fn promote_and_deploy(clients: &Clients, version: u32) {
    let alias = SetAliasRequest {
        model: MODEL.into(),
        alias: "champion".into(),
        version,
        by: "story".into(),
        why: "first".into(),
        ..Default::default()
    };
    clients.models().set_alias(alias).await.expect("moved");
    deploy(clients, version, "first").await;
    deployed(clients, version).await;
}

/// Asks for a version to be rolled out.
pub async fn deploy(clients: &Clients, version: u32, key: &str) -> Deployment {
    let request = DeployRequest {
        idempotency_key: key.into(),
        model: MODEL.into(),
        version,
        by: "story".into(),
        why: "a step of the story".into(),
        ..Default::default()
    };
    clients.orchestrator().deploy(request).await.expect("accepted").into_inner()
}

/// Waits until the deployment rests; returns it.
pub async fn at_rest(clients: &Clients) -> Deployment {
    let mut orchestrator = clients.orchestrator();
    eventually("the deployment rests", async || {
        let request = GetDeploymentRequest { model: MODEL.into() };
        let deployment = orchestrator.get_deployment(request).await.map_err(|s| s.to_string())?.into_inner();
        if deployment.phase() == DeploymentPhase::Stable { Ok(deployment) } else { Err(format!("{deployment:?}")) }
    })
    .await
}

/// Waits until the deployment rests on a version that every replica answers with.
pub async fn deployed(clients: &Clients, version: u32) {
    let deployment = at_rest(clients).await;
    assert_eq!(deployment.stable.map(|stable| stable.version), Some(version), "{}", deployment.reason);
    eventually("every replica serves the version", async || {
        for index in 0..clients.inference.len() {
            let request =
                rekindle_proto::inference::ModelReadyRequest { name: MODEL.into(), version: version.to_string() };
            let ready =
                clients.replica(index).model_ready(request).await.map_err(|s| s.to_string())?.into_inner().ready;
            if !ready {
                return Err(format!("replica {index} is not ready"));
            }
        }
        Ok(())
    })
    .await;
}

/// Watches windows of a day, and retrains upon drift or degradation.
pub async fn set_policy(clients: &Clients, change: impl FnOnce(&mut Policy)) {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let millis = |millis: i32| Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 });
    let mut policy = Policy {
        model: MODEL.into(),
        on_drift: true,
        on_degradation: true,
        dataset: DATASET.into(),
        recipe_json: recipe(7),
        min_new_rows: 600,
        gate: Some(rekindle_proto::trainer::Gate { confidence: 0.95, min_rows: 100, ..Default::default() }),
        rollout: Some(RolloutStrategy { bake: millis(100), observe: millis(300), ..Default::default() }),
        cooldown: seconds(24 * 3600),
        watch: Some(Watch {
            window: seconds(24 * 3600),
            lateness: seconds(60),
            label_wait: seconds(3600),
            ..Default::default()
        }),
        ..Default::default()
    };
    change(&mut policy);
    let request = SetPolicyRequest { policy: Some(policy), expected_revision: 0 };
    clients.orchestrator().set_policy(request).await.expect("set");
}

/// One request with the features of `rows`.
pub fn request(rows: &[Row]) -> ModelInferRequest {
    let n = i64::try_from(rows.len()).expect("few rows");
    let input = |name: &str, datatype: &str| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![n, 1],
        ..Default::default()
    };
    let fp64 = |values: Vec<f64>| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into();
    let texts = rows.iter().flat_map(|row| {
        let length = u32::try_from(row.region.len()).expect("short").to_le_bytes();
        length.into_iter().chain(row.region.bytes())
    });
    ModelInferRequest {
        model_name: MODEL.into(),
        inputs: vec![
            input("time", "INT64"),
            input("temperature", "FP64"),
            input("basket", "FP64"),
            input("region", "BYTES"),
        ],
        raw_input_contents: vec![
            rows.iter().flat_map(|row| row.time_ms.to_le_bytes()).collect::<Vec<u8>>().into(),
            fp64(rows.iter().map(|row| row.temperature).collect()),
            fp64(rows.iter().map(|row| row.basket.unwrap_or(f64::NAN)).collect()),
            texts.collect::<Vec<u8>>().into(),
        ],
        ..Default::default()
    }
}

/// A text parameter of an answer.
pub fn parameter(response: &ModelInferResponse, name: &str) -> String {
    match response.parameters.get(name).and_then(|p| p.parameter_choice.clone()) {
        Some(ParameterChoice::StringParam(text)) => text,
        other => panic!("parameter {name} is {other:?}"),
    }
}

/// Sends the rows hour by hour, one request an hour, over all replicas in turn, each followed by its outcomes; the first traffic of its
/// model. Before a new day begins, the days before lie captured with their outcomes: the window that it closes has its labels, however
/// busy the machine is. Returns the ids of the predictions.
pub async fn live_through(clients: &Clients, rows: &[Row]) -> Vec<String> {
    let mut replicas: Vec<_> = (0..clients.inference.len()).map(|index| clients.replica(index)).collect();
    let mut monitor = clients.monitor();
    let (mut ids, mut sent) = (Vec::new(), 0);
    for day in rows.chunk_by(|a, b| a.time_ms / DAY_MS == b.time_ms / DAY_MS) {
        if sent > 0 {
            captured(clients, sent).await;
        }
        for hour in day.chunk_by(|a, b| a.time_ms / HOUR_MS == b.time_ms / HOUR_MS) {
            let place = ids.len() % replicas.len();
            let answer = replicas[place].model_infer(request(hour)).await.expect("answered").into_inner();
            let id = parameter(&answer, "prediction_id");
            report(&mut monitor, &id, hour).await;
            ids.push(id);
        }
        sent += day.len() as u64;
    }
    ids
}

/// Waits until the monitor has that many rows, or knows them lost, and as many outcomes.
pub async fn captured(clients: &Clients, rows: u64) {
    let mut monitor = clients.monitor();
    eventually("every answered row and outcome is captured", async || {
        let request = GetCaptureStatusRequest { model: MODEL.into() };
        let status = monitor.get_capture_status(request).await.map_err(|s| s.to_string())?.into_inner();
        assert!(status.predictions <= rows && status.outcomes <= rows, "counted twice: {status:?}");
        let complete = status.predictions + status.lost == rows && status.outcomes == rows;
        if complete { Ok(()) } else { Err(format!("{status:?} of {rows}")) }
    })
    .await;
}

async fn report(monitor: &mut rekindle_proto::monitor::monitor_client::MonitorClient<Channel>, id: &str, rows: &[Row]) {
    let outcomes = rows.iter().zip(0..).map(|(row, index)| Outcome {
        prediction_id: id.into(),
        row: index,
        truth: Some(Truth::Label(row.bought.into())),
    });
    let request =
        ReportOutcomesRequest { model: MODEL.into(), outcomes: outcomes.collect(), idempotency_key: id.into() };
    monitor.report_outcomes(request).await.expect("accepted");
}

/// Every workflow of the model, oldest first.
pub async fn workflows(clients: &Clients) -> Vec<Workflow> {
    let request = ListWorkflowsRequest { model: MODEL.into(), page_size: 500, ..Default::default() };
    let mut found = clients.orchestrator().list_workflows(request).await.expect("listed").into_inner().workflows;
    found.reverse();
    found
}

/// Whether nothing more will happen to a workflow.
pub fn has_ended(workflow: &Workflow) -> bool {
    matches!(
        workflow.state(),
        WorkflowState::Succeeded
            | WorkflowState::Rejected
            | WorkflowState::RolledBack
            | WorkflowState::Failed
            | WorkflowState::Cancelled
    )
}

/// Waits for a workflow to reach a state, or a later one.
pub async fn workflow_in(clients: &Clients, wanted: WorkflowState) -> Workflow {
    eventually(&format!("a workflow is {wanted:?}"), async || {
        let all = workflows(clients).await;
        let reached = |workflow: &&Workflow| workflow.steps.iter().any(|step| step.state() == wanted);
        if let Some(ended) = all.iter().find(|w| has_ended(w) && !reached(w)) {
            panic!("it ended {:?} instead: {}", ended.state(), ended.reason);
        }
        all.iter()
            .find(reached)
            .cloned()
            .ok_or_else(|| format!("{:?}", all.iter().map(Workflow::state).collect::<Vec<_>>()))
    })
    .await
}
