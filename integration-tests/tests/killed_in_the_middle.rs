//! Each service is taken away in the middle of a workflow and comes back: the workflow ends once, with the result of an undisturbed one.

use chrono::{DateTime, Utc};
use rekindle_integration_tests::{
    Clients, Cluster, Service, Wiring,
    story::{self, MODEL, has_ended},
    table::{self, csv},
};
use rekindle_proto::{
    orchestrator::{
        GetWorkflowRequest, RollbackRequest, RolloutStrategy, StartWorkflowRequest, Workflow, WorkflowState,
        WorkflowStep,
    },
    registry::{
        DownloadRequest, GetModelVersionRequest, GetRunRequest, GetVersionRequest, ListModelVersionsRequest,
        ListVersionsRequest, get_model_version_request::Which,
    },
    time::from_wire,
};
use rekindle_testkit::eventually;
use serde_json::Value;

const CHANGE: u64 = 72;
/// Enough passes for a training of a second or more, so that it can be interrupted.
const EPOCHS: u32 = 150;

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
        if state == WorkflowState::Assembling {
            // It takes moments only: with the service frozen, the kill falls into the middle of its call.
            cluster.freeze(service);
        }
        let workflow = start(&clients, &name).await;
        is_in_the_middle_of(&clients, &workflow, state).await;
        cluster.kill(service);
        let killed_at = Utc::now();
        cluster.restart(service).await;
        let ended = finish(&clients, workflow).await;
        assert!(left(&ended, state) > killed_at, "{name}: {state:?} was over when the service was killed");
        assert_eq!(made(&clients, &ended).await, expected, "{name}: {}", ended.reason);
        back_to_the_first(&clients, &name).await;
    }
    nothing_was_made_twice(&clients, moments.len() + 1).await;
}

/// Each workflow left one workflow, one dataset version and one model version behind, besides the first dataset and the first model.
async fn nothing_was_made_twice(clients: &Clients, workflows: usize) {
    assert_eq!(story::workflows(clients).await.len(), workflows);
    let request = ListVersionsRequest { name: story::DATASET.into(), page_size: 100, ..Default::default() };
    let datasets = clients.datasets().list_versions(request).await.expect("listed").into_inner().versions;
    assert_eq!(datasets.len(), workflows + 1);
    let request = ListModelVersionsRequest { model: MODEL.into(), page_size: 100, ..Default::default() };
    let models = clients.models().list_model_versions(request).await.expect("listed").into_inner().versions;
    assert_eq!(models.len(), workflows + 1);
}

async fn a_world_that_has_changed(clients: &Clients) {
    story::register(clients, csv(&table::rows(0..CHANGE, CHANGE)), "learn").await;
    let (_, version) = story::train(clients, "01890000-0000-7000-8000-000000000001").await;
    story::promote_and_deploy(clients, version.version).await;
    story::set_policy(clients, |policy| {
        policy.on_drift = false;
        policy.on_degradation = false;
        policy.recipe_json = story::recipe_of(7, EPOCHS);
        let half_a_second = Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 });
        policy.rollout = Some(RolloutStrategy { bake: half_a_second, observe: half_a_second, ..Default::default() });
    })
    .await;
    let lived = table::rows(CHANGE..CHANGE + 48, CHANGE);
    story::live_through(clients, &lived).await;
    story::captured(clients, lived.len() as u64).await;
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

/// Waits until the workflow is in `state`, and where that is the training, until its first passes are over.
async fn is_in_the_middle_of(clients: &Clients, workflow: &Workflow, state: WorkflowState) {
    eventually(&format!("the workflow is in {state:?}"), async || {
        let workflow = get(clients, &workflow.id).await?;
        if !workflow.steps.iter().any(|step| step.state() == state) {
            return Err(format!("{:?}: {}", workflow.state(), workflow.reason));
        }
        if state == WorkflowState::Training { under_way(clients, &workflow.train_run_id).await } else { Ok(()) }
    })
    .await;
}

async fn under_way(clients: &Clients, run: &str) -> Result<(), String> {
    let request = GetRunRequest { id: run.into() };
    let run = clients.runs().get_run(request).await.map_err(|status| status.to_string())?.into_inner();
    if run.metrics.is_empty() { Err(format!("{:?}", run.status())) } else { Ok(()) }
}

/// When the workflow went on from `state`.
fn left(workflow: &Workflow, state: WorkflowState) -> DateTime<Utc> {
    let place = workflow.steps.iter().rposition(|step| step.state() == state).expect("it was in that state");
    let next = workflow.steps.get(place + 1).expect("it went on");
    next.entered_at.and_then(from_wire).expect("a time")
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
    let (name, number) = workflow.dataset_version.split_once('/').expect("name/version");
    let request = GetVersionRequest { name: name.into(), version: number.parse().expect("a number") };
    let dataset = clients.datasets().get_version(request).await.expect("registered").into_inner();
    Made {
        state: workflow.state(),
        dataset: dataset.content_digest,
        weights: manifest["blobs"]["weights"]["digest"].clone(),
        pipeline: manifest["blobs"]["pipeline"]["digest"].clone(),
        improvement: evaluation["improvement"].clone(),
        states: workflow.steps.iter().map(WorkflowStep::state).collect(),
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
