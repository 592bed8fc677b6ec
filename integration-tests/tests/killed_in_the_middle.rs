//! Each service is taken away in the middle of a workflow and comes back: the workflow ends once, with the result of an undisturbed one.

use rekindle_integration_tests::{
    Clients, Cluster, Service, Wiring,
    story::{self, MODEL, has_ended},
    table::{self, csv},
};
use rekindle_proto::{
    monitor::GetCaptureStatusRequest,
    orchestrator::{RollbackRequest, StartWorkflowRequest, Workflow, WorkflowState, GetWorkflowRequest},
    registry::{DownloadRequest, GetModelVersionRequest, GetVersionRequest, get_model_version_request::Which},
};
use rekindle_testkit::eventually;
use serde_json::Value;

const CHANGE: u64 = 72;

/// What a workflow made, without what differs from one to the next by its nature (ids, numbers and times).
#[derive(Debug, PartialEq)]
struct Made {
    state: WorkflowState,
    dataset: String,
    weights: Value,
    pipeline: Value,
    improvement: Value,
    states: Vec<WorkflowState>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_may_die_and_the_result_is_the_same() {
    let mut cluster = Cluster::start(Wiring::Embedded, 2).await;
    let clients = cluster.clients.clone();
    a_world_that_has_changed(&clients).await;

    let undisturbed = finish(&clients, start(&clients, "undisturbed").await).await;
    let expected = made(&clients, &undisturbed).await;
    assert_eq!(expected.state, WorkflowState::Succeeded, "{}", undisturbed.reason);
    back_to_the_first(&clients, "undisturbed").await;

    let moments = [
        (Service::Monitor, WorkflowState::Assembling),
        (Service::Registry, WorkflowState::Training),
        (Service::Trainer, WorkflowState::Training),
        (Service::Orchestrator, WorkflowState::Training),
        (Service::Orchestrator, WorkflowState::RollingOut),
        (Service::Inference(0), WorkflowState::RollingOut),
    ];
    for (service, state) in moments {
        let name = format!("{service:?}-{state:?}");
        let workflow = start(&clients, &name).await;
        reaches(&clients, &workflow, state).await;
        cluster.kill(service);
        cluster.restart(service).await;
        let ended = finish(&clients, workflow).await;
        assert_eq!(made(&clients, &ended).await, expected, "{name}");
        back_to_the_first(&clients, &name).await;
    }
    let all = story::workflows(&clients).await;
    assert_eq!(all.len(), moments.len() + 1, "no workflow was made twice");
}

async fn a_world_that_has_changed(clients: &Clients) {
    story::register(clients, csv(&table::rows(0..CHANGE, CHANGE)), "learn").await;
    let (_, version) = story::train(clients, "01890000-0000-7000-8000-000000000001").await;
    story::promote_and_deploy(clients, version.version).await;
    story::set_policy(clients, |policy| {
        policy.on_drift = false;
        policy.on_degradation = false;
    })
    .await;
    let lived = table::rows(CHANGE..CHANGE + 48, CHANGE);
    story::live_through(clients, &lived).await;
    eventually("everything is captured", async || {
        let request = GetCaptureStatusRequest { model: MODEL.into() };
        let status = clients.monitor().get_capture_status(request).await.map_err(|s| s.to_string())?.into_inner();
        let rows = lived.len() as u64;
        if status.predictions == rows && status.outcomes == rows { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

async fn start(clients: &Clients, name: &str) -> Workflow {
    let request =
        StartWorkflowRequest { idempotency_key: name.into(), model: MODEL.into(), why: format!("kill test: {name}") };
    clients.orchestrator().start_workflow(request).await.expect("started").into_inner()
}

async fn get(clients: &Clients, id: &str) -> Result<Workflow, String> {
    let request = GetWorkflowRequest { id: id.into() };
    Ok(clients.orchestrator().get_workflow(request).await.map_err(|status| status.to_string())?.into_inner())
}

async fn reaches(clients: &Clients, workflow: &Workflow, state: WorkflowState) {
    eventually(&format!("the workflow reaches {state:?}"), async || {
        let workflow = get(clients, &workflow.id).await?;
        let reached = workflow.steps.iter().any(|step| step.state() == state);
        if reached { Ok(()) } else { Err(format!("{:?}", workflow.state())) }
    })
    .await;
}

async fn finish(clients: &Clients, workflow: Workflow) -> Workflow {
    eventually("the workflow ends", async || {
        let workflow = get(clients, &workflow.id).await?;
        if has_ended(&workflow) { Ok(workflow) } else { Err(format!("{:?}: {}", workflow.state(), workflow.reason)) }
    })
    .await
}

async fn made(clients: &Clients, workflow: &Workflow) -> Made {
    let which = Some(Which::Version(workflow.to_version));
    let request = GetModelVersionRequest { model: MODEL.into(), which };
    let version = clients.models().get_model_version(request).await.expect("registered").into_inner();
    let manifest = json_blob(clients, &version.bundle_digest).await;
    let evaluation = json_blob(clients, &workflow.evaluation_digest).await;
    let dataset: u32 = workflow.dataset_version.rsplit(['/', ':', '@', ' ']).next().unwrap_or_default().parse().unwrap_or(0);
    let request = GetVersionRequest { name: story::DATASET.into(), version: dataset };
    let dataset = clients.datasets().get_version(request).await.expect("registered").into_inner();
    Made {
        state: workflow.state(),
        dataset: dataset.content_digest,
        weights: manifest["blobs"]["weights"]["digest"].clone(),
        pipeline: manifest["blobs"]["pipeline"]["digest"].clone(),
        improvement: evaluation["improvement"].clone(),
        states: workflow.steps.iter().map(rekindle_proto::orchestrator::WorkflowStep::state).collect(),
    }
}

async fn json_blob(clients: &Clients, digest: &str) -> Value {
    let request = DownloadRequest { digest: digest.into() };
    let mut chunks = clients.artifacts().download(request).await.expect("stored").into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = chunks.message().await.expect("whole") {
        bytes.extend_from_slice(&message.chunk);
    }
    serde_json::from_slice(&bytes).expect("JSON")
}

async fn back_to_the_first(clients: &Clients, name: &str) {
    let request = RollbackRequest {
        idempotency_key: format!("back-{name}"),
        model: MODEL.into(),
        by: "story".into(),
        why: "the next one begins where this one did".into(),
    };
    clients.orchestrator().rollback(request).await.expect("accepted");
    story::deployed(clients, 1).await;
}
