//! An orchestrator in the process of the test: with a real bus and a real database, peers that are fakes, and replicas that load what the
//! routes assign.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_client::{
    Audit, Error, Orchestrator, PageRequest,
    audit::Service,
    orchestrator::{DeployRequest, WorkflowChange},
};
use rekindle_domain::{
    AliasName, ModelName, Policy, Recipe, ReplicaState, Routes, ServedVersion, Trigger, VersionRef, WatchSettings,
    WorkflowId, WorkflowState,
    deployment_status::{DeploymentPhase, DeploymentStatus, RolloutOutcome},
    rollout::Strategy,
    workflow::WorkflowStatus,
};
use rekindle_orchestrator::{Config, DEFAULTS};
use rekindle_runtime::config::Layers;
use rekindle_testkit::{NatsServer, eventually};
use serde::Deserialize;

use crate::{
    instance::{Instance, Setup, Suspended},
    peers::Peers,
};

pub(crate) const MODEL: &str = "flights";

/// An orchestrator and what it depends on; they end with it.
pub(crate) struct World {
    pub peers: Peers,
    pub bus: Bus,
    /// Versions that replicas fail to load.
    pub refused: Arc<Mutex<BTreeSet<u32>>>,
    /// Whether the first request to a newly loaded version fails.
    pub failing: Arc<AtomicBool>,
    /// The 99th percentile of the latency of every loaded version, in microseconds.
    pub latency: Arc<AtomicU64>,
    config: Config,
    objects: rekindle_artifacts::Config,
    peers_address: String,
    running: Option<Instance>,
    /// A second instance on the same database.
    other: Option<Instance>,
    pub nats: NatsServer,
    _folder: tempfile::TempDir,
}

#[derive(Deserialize)]
struct Sections {
    orchestrator: Config,
}

impl World {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/orchestrator.db", folder.path().display());
        Self::start_on(folder, &url).await
    }

    pub(crate) async fn start_on(folder: tempfile::TempDir, database: &str) -> Self {
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
        let objects = rekindle_artifacts::Config::local(&folder.path().join("objects"));
        let artifacts = Artifacts::open(&objects).await.expect("opens");
        let (peers, peers_address) = Peers::start(artifacts).await;
        let overrides = [
            ("orchestrator.database.url", database),
            ("orchestrator.tick", "20ms"),
            ("orchestrator.poll", "50ms"),
            ("orchestrator.lease", "1s"),
            ("orchestrator.lost_grace", "50ms"),
        ];
        let sections: Sections = Layers::new(DEFAULTS).overrides(overrides).parse().expect("complete defaults");
        let (refused, failing, latency) = (Arc::default(), Arc::default(), Arc::default());
        let behaviour = (Arc::clone(&refused), Arc::clone(&failing), Arc::clone(&latency));
        tokio::spawn(run_replicas(bus.clone(), behaviour));
        let mut world = Self {
            peers,
            bus,
            refused,
            failing,
            latency,
            config: sections.orchestrator,
            objects,
            peers_address,
            running: None,
            other: None,
            nats,
            _folder: folder,
        };
        world.start().await;
        world
    }

    pub(crate) async fn start(&mut self) {
        self.running = Some(Instance::start(self.setup(self.config.clone())).await);
    }

    /// Starts a second instance.
    pub(crate) async fn start_other(&mut self) {
        let config = Config { instance: "2".to_owned(), ..self.config.clone() };
        self.other = Some(Instance::start(self.setup(config)).await);
    }

    fn setup(&self, config: Config) -> Setup {
        Setup {
            config,
            nats: self.nats.url().to_owned(),
            objects: self.objects.clone(),
            peers: self.peers_address.clone(),
        }
    }

    /// Kills the instance that the client calls.
    pub(crate) async fn kill(&mut self) {
        self.running.take().expect("running").kill().await;
    }

    /// Kills the second instance.
    pub(crate) async fn kill_other(&mut self) {
        self.other.take().expect("running").kill().await;
    }

    /// Suspends the instance that the client calls.
    pub(crate) async fn suspend(&self) -> Suspended {
        self.running.as_ref().expect("running").suspend().await
    }

    /// Suspends the second instance.
    pub(crate) async fn suspend_other(&self) -> Suspended {
        self.other.as_ref().expect("running").suspend().await
    }

    /// The audit trail.
    pub(crate) fn audit(&self) -> Audit {
        let connection = self.running.as_ref().expect("running").connection.clone();
        Audit::new(Service::Orchestrator, connection)
    }

    pub(crate) fn client(&self) -> Orchestrator {
        self.client_of("tester")
    }

    /// A client of the second instance.
    pub(crate) fn client_of_other(&self) -> Orchestrator {
        Orchestrator::new(self.other.as_ref().expect("running").connection.clone())
    }

    /// A client that calls as a principal.
    pub(crate) fn client_of(&self, principal: &str) -> Orchestrator {
        let connection = self.running.as_ref().expect("running").connection.clone();
        Orchestrator::new(connection.with_principal(principal.parse().expect("a principal")))
    }

    pub(crate) async fn deploy(&self, key: &str, version: u32) -> Result<DeploymentStatus, Error> {
        self.client().deploy(&deployment(key, Some(version))).await
    }

    pub(crate) async fn rollback(&self, key: &str) -> Result<DeploymentStatus, Error> {
        self.client().rollback(&model(), "", key).await
    }

    /// Deploys version 1 and sets a policy.
    pub(crate) async fn prepare(&self, policy: Policy) {
        self.deploy("first", 1).await.expect("deployed");
        self.settled(1, RolloutOutcome::Completed).await;
        self.client().set_policy(&policy, 0).await.expect("set");
    }

    pub(crate) async fn start_workflow(&self) -> WorkflowId {
        self.client().start_workflow(&model(), "test", "go").await.expect("started").id
    }

    pub(crate) async fn change(&self, id: WorkflowId, change: WorkflowChange) -> Result<WorkflowStatus, Error> {
        self.client().change_workflow(id, change, "a reason").await
    }

    pub(crate) async fn workflow(&self, id: WorkflowId) -> WorkflowStatus {
        self.client().workflow(id).await.expect("it exists")
    }

    pub(crate) async fn reaches(&self, id: WorkflowId, state: WorkflowState) -> WorkflowStatus {
        eventually(&format!("the workflow to be {}", state.name()), async || {
            let workflow = self.workflow(id).await;
            if workflow.state == state { Ok(workflow) } else { Err(format!("{workflow:?}")) }
        })
        .await
    }

    /// A job of this step was submitted.
    pub(crate) async fn submitted(&self, step: &str) {
        let is_submitted = |job: &rekindle_domain::job::Job| job.tags["step"] == step;
        eventually("a submitted job", async || {
            if self.peers.state().jobs.iter().any(is_submitted) { Ok(()) } else { Err(format!("no job of {step}")) }
        })
        .await;
    }

    /// The deployment, once its rollout has ended like that with a version that is stable.
    pub(crate) async fn settled(&self, version: u32, outcome: RolloutOutcome) -> DeploymentStatus {
        eventually("the deployment to settle", async || {
            let deployment = self.client().deployment(&model()).await.map_err(|error| format!("{error:?}"))?;
            let is = (deployment.phase, deployment.stable.version, deployment.outcome);
            let is_settled = is == (DeploymentPhase::Stable, version, Some(outcome));
            if is_settled { Ok(deployment) } else { Err(format!("{deployment:?}")) }
        })
        .await
    }

    /// The version that each live replica serves.
    pub(crate) async fn serving(&self) -> Vec<u32> {
        let replicas = self.client().replicas(PageRequest::default()).await.expect("a list").items;
        let primary = |replica: &ReplicaState| replica.models.get(&model()).and_then(|served| served.primary);
        replicas.iter().filter_map(primary).collect()
    }

    pub(crate) async fn every_replica_serves(&self, version: u32) {
        eventually("every replica to serve the version", async || match self.serving().await {
            serving if serving == [version; 3] => Ok(()),
            serving => Err(format!("{serving:?}")),
        })
        .await;
    }

    /// Waits until every replica reports that it has carried out routes of a generation, by the bucket alone.
    pub(crate) async fn every_replica_has_generation(&self, generation: u64) {
        let bucket = self.bus.replica_states().await.expect("a bucket");
        eventually("every replica to reach the generation", async || {
            for number in 0..3 {
                let entry = bucket.get(&format!("replica-{number}")).await.map_err(|error| error.to_string())?;
                let state = entry.ok_or("no report")?.value;
                let reached = state.models.get(&model()).map(|served| served.generation);
                if reached != Some(generation) {
                    return Err(format!("{reached:?}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Changes the database by hand.
    pub(crate) async fn execute(&self, statement: &str) {
        let db = rekindle_store::connect(&self.config.database).await.expect("connects");
        sea_orm::ConnectionTrait::execute_unprepared(&db, statement).await.expect(statement);
    }

    /// The version that an alias points at.
    pub(crate) fn alias(&self, name: &AliasName) -> Option<u32> {
        self.peers.state().aliases.get(name).map(|alias| alias.version)
    }

    pub(crate) async fn champion_is(&self, version: u32) {
        eventually("the champion", async || match self.alias(&AliasName::champion()) {
            Some(found) if found == version => Ok(()),
            found => Err(format!("version {found:?}")),
        })
        .await;
    }
}

pub(crate) fn model() -> ModelName {
    MODEL.parse().expect("a name")
}

pub(crate) fn deployment(key: &str, version: Option<u32>) -> DeployRequest {
    DeployRequest { idempotency_key: key.into(), model: model(), version, expected_revision: None, why: String::new() }
}

/// Retrains on drift, and observes for a millisecond.
pub(crate) fn policy() -> Policy {
    let moment = Duration::from_millis(1);
    Policy {
        triggers: BTreeSet::from([Trigger::Drift]),
        rollout: Strategy { bake: moment, observe: moment, ..Strategy::default() },
        watch: Some(WatchSettings::default()),
        refit: false,
        ..Policy::new(model(), "flights".parse().expect("a name"), Recipe::for_target("late"))
    }
}

/// The same policy with an hour of observation.
pub(crate) fn policy_with_long_observation() -> Policy {
    let policy = policy();
    Policy { rollout: Strategy { observe: Duration::from_secs(3600), ..policy.rollout }, ..policy }
}

async fn run_replicas(
    bus: Bus,
    (refused, failing, latency): (Arc<Mutex<BTreeSet<u32>>>, Arc<AtomicBool>, Arc<AtomicU64>),
) {
    let routes = bus.routes().await.expect("a bucket");
    let reports = bus.replica_states().await.expect("a bucket");
    let mut states: Vec<ReplicaState> = (0..3).map(replica).collect();
    let mut heartbeat = tokio::time::interval(Duration::from_millis(20));
    loop {
        heartbeat.tick().await;
        let Ok(Some(entry)) = routes.get(MODEL).await else { continue };
        for state in &mut states {
            apply(state, &entry.value, &refused.lock().expect("not poisoned"));
            for loaded in state.models.values_mut().flat_map(|model| model.versions.values_mut()) {
                loaded.failed = u64::from(failing.load(Ordering::Relaxed));
                (loaded.answered, loaded.p99_micros) = (1_000, latency.load(Ordering::Relaxed));
            }
            reports.put(state.replica.as_str(), state).await.ok();
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

fn apply(state: &mut ReplicaState, routes: &Routes, refused: &BTreeSet<u32>) {
    let assigned = routes.assignment(&state.replica);
    let model = state.models.entry(routes.model.clone()).or_default();
    model.generation = assigned.generation;
    model.failure = refused.contains(&assigned.version.version).then(|| "warm-up failed".to_owned());
    if model.failure.is_none() {
        model.primary = Some(assigned.version.version);
        let others = routes.weighted.iter().map(|route| route.version).chain(routes.shadow);
        let loaded = |VersionRef { version, bundle }| {
            (version, ServedVersion { bundle, answered: 0, failed: 0, in_flight: 0, p99_micros: 0, guarded: 0 })
        };
        model.versions = others.chain([assigned.version]).map(loaded).collect();
    }
}
