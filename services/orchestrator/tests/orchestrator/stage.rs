//! A stage for stories: a real bus, peers that play along, replicas that follow the desired state, and the orchestrator.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_domain::{DesiredState, ReplicaState, ServedModel};
use rekindle_orchestrator::{App, Config, DEFAULTS};
use rekindle_proto::{
    client::channel,
    orchestrator::{self as o, orchestrator_client::OrchestratorClient},
};
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use rekindle_testkit::{NatsServer, eventually};
use serde::Deserialize;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::transport::Channel;

use crate::peers::Peers;

/// Everything a story needs; gone with it.
pub(crate) struct Stage {
    pub peers: Peers,
    pub bus: Bus,
    /// Versions that replicas refuse to load.
    pub refused: Arc<Mutex<BTreeSet<u32>>>,
    /// Whether a version that takes over fails its first request.
    pub failing: Arc<AtomicBool>,
    config: Config,
    artifacts: Artifacts,
    address: String,
    running: Option<Running>,
    _nats: NatsServer,
    _folder: tempfile::TempDir,
}

struct Running {
    client: OrchestratorClient<Channel>,
    task: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Defaults {
    orchestrator: Config,
}

impl Stage {
    /// On SQLite.
    pub(crate) async fn set() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/orchestrator.db", folder.path().display());
        Self::on(folder, url).await
    }

    /// On a database.
    pub(crate) async fn on(folder: tempfile::TempDir, database: String) -> Self {
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("a bus");
        let store = rekindle_artifacts::Config {
            url: format!("file://{}/artifacts", folder.path().display()),
            ..artifacts_config()
        };
        let artifacts = Artifacts::open(&store).await.expect("a store");
        let (peers, address) = Peers::start(artifacts.clone()).await;
        let overrides = [
            ("orchestrator.database.url", database.as_str()),
            ("orchestrator.tick", "20ms"),
            ("orchestrator.poll", "50ms"),
            ("orchestrator.lease", "1s"),
            ("orchestrator.lost_grace", "50ms"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let defaults: Defaults = rekindle_runtime::config::load(DEFAULTS, None, &overrides).expect("valid");
        let (refused, failing) = (Arc::default(), Arc::default());
        tokio::spawn(play_replicas(bus.clone(), Arc::clone(&refused), Arc::clone(&failing)));
        let config = defaults.orchestrator;
        let mut stage = Self {
            peers,
            bus,
            refused,
            failing,
            config,
            artifacts,
            address,
            running: None,
            _nats: nats,
            _folder: folder,
        };
        stage.start().await;
        stage
    }

    pub(crate) async fn start(&mut self) {
        let peer = || channel(&self.address, Duration::from_secs(5)).expect("an address");
        let app = App::build(self.config.clone(), self.bus.clone(), self.artifacts.clone(), [peer(), peer(), peer()]);
        let app = app.await.expect("builds");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let mut routes = RoutesBuilder::new();
        app.register(&mut routes);
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        app.background(&mut tasks, shutdown.clone());
        let health = rekindle_runtime::health::Health::new();
        let limits: rekindle_runtime::grpc::Config = serde_json::from_str("{}").expect("all defaults");
        tasks.spawn("gRPC", rekindle_runtime::grpc::serve(listener, routes, health, limits, shutdown.clone()));
        let task = tokio::spawn(async move {
            tasks.join(shutdown, Duration::from_secs(5)).await.expect("nothing fails");
        });
        let client = OrchestratorClient::new(channel(&address, Duration::from_secs(10)).expect("an address"));
        self.running = Some(Running { client, task });
    }

    /// As SIGKILL would: every task is dropped where it stands.
    pub(crate) async fn kill(&mut self) {
        let running = self.running.take().expect("running");
        running.task.abort();
        running.task.await.expect_err("aborted");
    }

    pub(crate) fn client(&self) -> OrchestratorClient<Channel> {
        self.running.as_ref().expect("running").client.clone()
    }

    pub(crate) async fn deploy(&self, key: &str, version: u32) -> Result<o::Deployment, tonic::Status> {
        let request = o::DeployRequest {
            idempotency_key: key.into(),
            model: "flights".into(),
            version,
            by: "a test".into(),
            ..Default::default()
        };
        self.client().deploy(request).await.map(tonic::Response::into_inner)
    }

    /// Version 1 deployed, and a policy set.
    pub(crate) async fn ready(&self, policy: o::Policy) {
        self.deploy("first", 1).await.expect("deployed");
        self.settled(1, "completed").await;
        let request = o::SetPolicyRequest { policy: Some(policy), expected_revision: 0 };
        self.client().set_policy(request).await.expect("set");
    }

    pub(crate) async fn begin(&self) -> String {
        let request =
            o::StartWorkflowRequest { idempotency_key: "go".into(), model: "flights".into(), why: "test".into() };
        self.client().start_workflow(request).await.expect("started").into_inner().id
    }

    pub(crate) async fn workflow(&self, id: &str) -> o::Workflow {
        self.client().get_workflow(o::GetWorkflowRequest { id: id.into() }).await.expect("there").into_inner()
    }

    pub(crate) async fn reaches(&self, id: &str, state: o::WorkflowState) -> o::Workflow {
        eventually("the workflow's state", async || {
            let workflow = self.workflow(id).await;
            if workflow.state() == state { Ok(workflow) } else { Err(format!("{workflow:?}")) }
        })
        .await
    }

    pub(crate) async fn settled(&self, version: u32, outcome: &str) -> o::Deployment {
        eventually("the deployment to settle", async || {
            let request = o::GetDeploymentRequest { model: "flights".into() };
            let deployment = self.client().get_deployment(request).await.map_err(|e| e.to_string())?.into_inner();
            let stable = deployment.stable.as_ref().map_or(0, |stable| stable.version);
            let settled = deployment.phase() == o::DeploymentPhase::Stable;
            if settled && stable == version && deployment.last_outcome == outcome {
                Ok(deployment)
            } else {
                Err(format!("{deployment:?}"))
            }
        })
        .await
    }

    /// What each live replica serves.
    pub(crate) async fn serving(&self) -> Vec<u32> {
        let replicas = self.client().list_replicas(o::ListReplicasRequest {}).await.expect("a list").into_inner();
        let serving = |replica: o::Replica| replica.models.first().and_then(|model| model.serving.clone());
        replicas.replicas.into_iter().filter_map(serving).map(|version| version.version).collect()
    }

    pub(crate) fn alias(&self, name: &str) -> u32 {
        self.peers.world().aliases.get(name).map_or(0, |alias| alias.version)
    }
}

pub(crate) fn policy() -> o::Policy {
    let span = |nanos| Some(prost_types::Duration { seconds: 0, nanos });
    o::Policy {
        model: "flights".into(),
        dataset: "flights".into(),
        recipe_json: r#"{"target": "late"}"#.into(),
        on_drift: true,
        rollout: Some(o::RolloutStrategy { bake: span(1_000_000), observe: span(1_000_000), ..Default::default() }),
        watch: Some(Default::default()),
        ..Default::default()
    }
}

fn artifacts_config() -> rekindle_artifacts::Config {
    serde_json::from_str(r#"{"url": "file:///unused"}"#).expect("all defaults")
}

async fn play_replicas(bus: Bus, refused: Arc<Mutex<BTreeSet<u32>>>, failing: Arc<AtomicBool>) {
    let desired = bus.deployments().await.expect("a bucket");
    let reports = bus.replicas().await.expect("a bucket");
    let mut states: Vec<ReplicaState> = (0..3).map(replica).collect();
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    loop {
        beat.tick().await;
        let Ok(Some(value)) = desired.get("flights").await else { continue };
        let desired: DesiredState = serde_json::from_slice(&value).expect("a desired state");
        for state in &mut states {
            follow(state, &desired, &refused.lock().expect("not poisoned"));
            for model in state.models.values_mut() {
                model.failed = u64::from(failing.load(Ordering::Relaxed));
            }
            let json = serde_json::to_vec(state).expect("json");
            reports.put(state.replica.as_str(), json.into()).await.ok();
        }
    }
}

fn replica(number: u32) -> ReplicaState {
    ReplicaState {
        replica: format!("replica-{number}").parse().expect("a name"),
        incarnation: uuid::Uuid::nil(),
        address: "127.0.0.1:1".into(),
        reported_at: chrono::DateTime::UNIX_EPOCH,
        models: BTreeMap::new(),
    }
}

fn follow(state: &mut ReplicaState, desired: &DesiredState, refused: &BTreeSet<u32>) {
    let assigned = desired.assignment(&state.replica);
    let unused = ServedModel { serving: None, generation: 0, failure: None, answered: 0, failed: 0, in_flight: 0 };
    let model = state.models.entry(desired.model.clone()).or_insert(unused);
    model.generation = assigned.generation;
    model.failure = refused.contains(&assigned.version.version).then(|| "it does not warm up".to_owned());
    if model.failure.is_none() {
        model.serving = Some(assigned.version);
    }
}
