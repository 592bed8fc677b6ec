//! Each service is killed in the middle of a workflow and restarted: the workflow ends once, with the result of an undisturbed one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_client::PageRequest;
use rekindle_domain::{
    Digest, RunId, Search, WorkflowState, model_version::VersionSelector, rollout::Strategy, run::Run,
    workflow::WorkflowStatus,
};
use rekindle_integration_tests::{
    Clients, Cluster, Service, Wiring,
    scenario::{self, described},
    table::{self, csv},
};
use rekindle_testkit::eventually;
use serde_json::{Value, json};

const SHIFT: u64 = 72;
/// Enough for a training of a second or more, so that it can be interrupted.
const EPOCHS: u32 = 150;

/// The result of a workflow, without ids, numbers and times.
#[derive(Debug, PartialEq)]
struct Made {
    state: WorkflowState,
    dataset: Digest,
    weights: Value,
    pipeline: Value,
    improvement: Value,
    states: Vec<WorkflowState>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_service_does_not_change_the_result_of_a_workflow() {
    let mut cluster = Cluster::start(Wiring::Embedded, 2).await;
    let clients = cluster.clients.clone();
    capture_shifted_rows(&clients).await;

    let undisturbed = scenario::ended(&clients, start(&clients, "undisturbed").await.id).await;
    let expected = made(&clients, &undisturbed).await;
    assert_eq!(expected.state, WorkflowState::Succeeded, "{}", undisturbed.reason);
    return_to_the_first(&clients, "undisturbed").await;

    let moments = [
        (Service::Monitor(0), WorkflowState::Assembling),
        (Service::Registry, WorkflowState::Training),
        (Service::Trainer, WorkflowState::Training),
        (Service::Orchestrator(0), WorkflowState::Training),
        (Service::Orchestrator(0), WorkflowState::Refitting),
        (Service::Orchestrator(0), WorkflowState::RollingOut),
        (Service::Inference(0), WorkflowState::RollingOut),
    ];
    for (service, state) in moments {
        let name = format!("{service:?}-{state:?}");
        if state == WorkflowState::Assembling {
            // It takes moments only: while the service is suspended, the call to it is in progress when it is killed.
            cluster.suspend(service);
        }
        let workflow = start(&clients, &name).await;
        is_in_the_middle_of(&clients, &workflow, state).await;
        cluster.kill(service);
        let killed_at = Utc::now();
        cluster.restart(service).await;
        let ended = scenario::ended(&clients, workflow.id).await;
        assert!(left(&ended, state) > killed_at, "{name}: {state:?} was over when the service was killed");
        assert_eq!(made(&clients, &ended).await, expected, "{name}: {}", ended.reason);
        return_to_the_first(&clients, &name).await;
    }
    each_workflow_has_one_effect(&clients, moments.len() + 1).await;
}

/// The same training with another id: the trainer is killed at random points of its time, and continues from its checkpoints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trainer_that_is_killed_at_twenty_random_points_makes_the_same_model() {
    const KILLS: usize = 20;
    const LONG: u32 = 4 * EPOCHS;
    // A job of a killed trainer is delivered again at once.
    let settings = json!({
        "trainer": { "ack_wait": "300ms", "report_every": "100ms", "max_deliveries": 100, "checkpoint_every": "0s" }
    });
    let mut cluster = Cluster::start_with(Wiring::Embedded, 1, settings).await;
    let clients = cluster.clients.clone();
    scenario::register(&clients, csv(&table::rows(0..SHIFT, SHIFT)), "training rows").await;
    let recipe = scenario::recipe_of(7, LONG);
    let (undisturbed, _) = scenario::train_with(&clients, &job_id(1), recipe.clone()).await;
    let expected = trained(&clients, &undisturbed).await;

    let id = job_id(2);
    let run: RunId = id.parse().expect("an id");
    let epochs = expected.1.iter().map(|(_, step, _)| *step).max().expect("a history");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut moments: Vec<i64> = (0..KILLS).map(|_| random.random_range(1..epochs)).collect();
    moments.sort_unstable();
    let kills = async {
        let mut killed_at = Utc::now();
        for epoch in moments {
            eventually("the epoch in which the trainer is killed", async || {
                let run = clients.registry().run(run).await.map_err(described)?;
                match run.metrics.iter().map(|metric| metric.step).max() {
                    Some(step) if step >= epoch => Ok(()),
                    step => Err(format!("{step:?} of {epoch}")),
                }
            })
            .await;
            killed_at = Utc::now();
            cluster.kill(Service::Trainer);
            cluster.restart(Service::Trainer).await;
        }
        killed_at
    };
    let ((disturbed, _), last_killed) = tokio::join!(scenario::train_with(&clients, &id, recipe), kills);
    let found = trained(&clients, &disturbed).await;
    assert_eq!(found, expected);
    let first = clients.registry().metric_history(disturbed.id, "log_loss", PageRequest::first(1)).await;
    let first = first.expect("a history").items.swap_remove(0).time;
    assert!(first.is_some_and(|first| first < last_killed), "the first epoch was repeated after the last kill");
    let versions = clients.registry().model_versions(&scenario::model(), PageRequest::first(10)).await;
    assert_eq!(versions.expect("listed").items.len(), 2, "each training registered one version");
}

fn job_id(number: u8) -> String {
    format!("01890000-0000-7000-8000-0000000000{number:02}")
}

/// What a training has made, without its id: the manifest, and the history of each metric.
async fn trained(clients: &Clients, run: &Run) -> (Value, Vec<(String, i64, f64)>) {
    let mut manifest = json_blob(clients, run.outputs["bundle"].parse().expect("a digest")).await;
    manifest["provenance"]["run_id"] = Value::Null;
    // The card names the run, too.
    let card = manifest["blobs"]["card"]["digest"].as_str().and_then(|digest| digest.parse().ok()).expect("a card");
    let card = scenario::download(clients, card).await;
    let card = String::from_utf8_lossy(&card).replace(&run.id.to_string(), "its run");
    manifest["blobs"]["card"] = Value::String(card);
    let mut history = Vec::new();
    for metric in &run.metrics {
        let points = clients.registry().metric_history(run.id, &metric.name, PageRequest::first(1_000)).await;
        let points = points.expect("a history").items.into_iter();
        history.extend(points.map(|point| (metric.name.clone(), point.step, point.value)));
    }
    assert!(history.len() > 100, "the history of {} epochs: {}", EPOCHS, history.len());
    (manifest, history)
}

/// Each workflow has one dataset version, and a model version that passed the gate and its refit, beside the first of both.
async fn each_workflow_has_one_effect(clients: &Clients, workflows: usize) {
    assert_eq!(scenario::workflows(clients).await.len(), workflows);
    let (registry, page) = (clients.registry(), PageRequest::first(100));
    let datasets = registry.dataset_versions(&scenario::dataset(), page.clone()).await.expect("listed").items;
    assert_eq!(datasets.len(), workflows + 1);
    let models = registry.model_versions(&scenario::model(), page).await.expect("listed").items;
    assert_eq!(models.len(), 2 * workflows + 1);
}

async fn capture_shifted_rows(clients: &Clients) {
    scenario::register(clients, csv(&table::rows(0..SHIFT, SHIFT)), "training rows").await;
    let (_, version) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(clients, version.version).await;
    scenario::set_policy(clients, |policy| {
        policy.triggers.clear();
        policy.search = Search::default();
        policy.recipe = scenario::recipe_of(7, EPOCHS);
        let half_a_second = Duration::from_millis(500);
        policy.rollout = Strategy { bake: half_a_second, observe: half_a_second, ..Strategy::default() };
    })
    .await;
    let traffic = table::rows(SHIFT..SHIFT + 48, SHIFT);
    scenario::send_day_by_day(clients, &traffic).await;
    scenario::captured(clients, traffic.len() as u64).await;
}

async fn start(clients: &Clients, name: &str) -> WorkflowStatus {
    let started = clients.orchestrator().start_workflow(&scenario::model(), format!("kill test: {name}"), name).await;
    started.expect("started")
}

/// Waits until the workflow is in `state`; if that is a training, until its first epochs are logged.
async fn is_in_the_middle_of(clients: &Clients, workflow: &WorkflowStatus, state: WorkflowState) {
    let orchestrator = clients.orchestrator();
    eventually(&format!("the workflow to be {}", state.name()), async || {
        let workflow = orchestrator.workflow(workflow.id).await.map_err(described)?;
        if !workflow.steps.iter().any(|step| step.state == state) {
            return Err(format!("{}: {}", workflow.state.name(), workflow.reason));
        }
        let run = match state {
            WorkflowState::Training => workflow.train_run,
            WorkflowState::Refitting => workflow.refit_run,
            _ => return Ok(()),
        };
        has_metrics(clients, run.ok_or_else(|| "no run".to_owned())?).await
    })
    .await;
}

async fn has_metrics(clients: &Clients, run: RunId) -> Result<(), String> {
    let run = clients.registry().run(run).await.map_err(described)?;
    if run.metrics.is_empty() { Err(run.status.name().to_owned()) } else { Ok(()) }
}

/// When the workflow left `state`.
fn left(workflow: &WorkflowStatus, state: WorkflowState) -> DateTime<Utc> {
    let index = workflow.steps.iter().rposition(|step| step.state == state).expect("it was in that state");
    workflow.steps.get(index + 1).expect("it went on").entered_at
}

async fn made(clients: &Clients, workflow: &WorkflowStatus) -> Made {
    let registry = clients.registry();
    let number = workflow.to_version.expect("a challenger");
    let version = registry.model_version(&scenario::model(), &VersionSelector::Number(number)).await;
    let manifest = json_blob(clients, version.expect("registered").bundle).await;
    let evaluation = json_blob(clients, workflow.evaluation.expect("evaluated")).await;
    let (name, number) = workflow.dataset_version.split_once('/').expect("name/version");
    let dataset = registry.dataset(&name.parse().expect("a name"), Some(number.parse().expect("a number"))).await;
    Made {
        state: workflow.state,
        dataset: dataset.expect("registered").content,
        weights: manifest["blobs"]["weights"]["digest"].clone(),
        pipeline: manifest["blobs"]["pipeline"]["digest"].clone(),
        improvement: evaluation["improvement"].clone(),
        states: workflow.steps.iter().map(|step| step.state).collect(),
    }
}

async fn json_blob(clients: &Clients, digest: Digest) -> Value {
    serde_json::from_slice(&scenario::download(clients, digest).await).expect("JSON")
}

async fn return_to_the_first(clients: &Clients, name: &str) {
    let rolled_back =
        clients.orchestrator().rollback(&scenario::model(), "for the next one", format!("back-{name}")).await;
    rolled_back.expect("accepted");
    scenario::deployed(clients, 1).await;
}
