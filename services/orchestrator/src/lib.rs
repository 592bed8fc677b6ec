//! The orchestrator decides: when a model is retrained, whether the challenger is better, and which version each replica serves.
//!
//! It keeps policies, workflows and deployments in a database of its own; it trains nothing, judges no rows, and carries no
//! request for a prediction. Commands to the registry, the trainer and the monitor go by gRPC, desired state to the replicas by
//! a bucket on the bus.
//!
//! Invariants:
//! - a record changes by compare-and-set, in the transaction that also tells of the change;
//! - a step may be carried out any number of times and has one effect: its ids are made from the workflow's;
//! - a model has one active workflow at most, and every workflow ends, by its deadline if nothing else ends it;
//! - what [`rekindle_domain::rollout`] plans is what happens: one replica at a time, and back to the stable version upon any failure;
//! - of several instances on one database one acts, and one that has lost its lease without noticing can do no harm.

mod clients;
mod config;
mod core;
mod deploy;
mod deployment;
mod error;
mod events;
mod fleet;
mod intent;
mod leader;
mod manage;
mod policy;
mod reconcile;
mod rpc;
mod store;
mod trigger;
mod watch;
mod wire;
mod workflow;

use std::sync::Arc;

use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, relay};
use rekindle_proto::orchestrator::orchestrator_server::OrchestratorServer;
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use tonic::transport::Channel;

use self::{clients::Peers, core::Core, fleet::Fleet, leader::Leadership, rpc::Rpc};
pub use self::{
    config::{Config, DEFAULTS},
    error::Error,
};

/// The orchestrator, ready to be served.
#[derive(Debug, Clone)]
pub struct App {
    core: Arc<Core>,
    pulse: rekindle_store::Pulse,
}

impl App {
    /// Opens and migrates the database; `peers` are the registry, the trainer and the monitor. Nothing runs until [`background`](Self::background).
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts, peers: [Channel; 3]) -> Result<Self, Error> {
        let db = rekindle_store::connect(&config.database).await?;
        rekindle_store::migrate::<store::Migrator>(&db).await?;
        let [registry, trainer, monitor] = peers;
        let core = Core {
            fleet: Fleet::new(config.replica_lease),
            leadership: Leadership::new(),
            happened: tokio::sync::watch::Sender::new(0),
            peers: Peers { registry, trainer, monitor },
            config,
            db,
            bus,
            artifacts,
        };
        Ok(Self { core: Arc::new(core), pulse: rekindle_store::Pulse::new() })
    }

    /// Adds the gRPC service.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        routes.add_service(OrchestratorServer::new(Rpc::new(self.core.clone())));
    }

    /// Starts the consumers, the reconcilers and the relay.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        let core = || self.core.clone();
        let intake = || shutdown.intake().clone();
        tasks.spawn("orchestrator lease", leader::run(core(), intake()));
        tasks.spawn("orchestrator replicas", fleet::run(core(), intake()));
        tasks.spawn("orchestrator triggers", trigger::run(core(), intake()));
        tasks.spawn("orchestrator wake", events::run(core(), intake()));
        tasks.spawn("orchestrator workflows", reconcile::workflows(core(), intake()));
        tasks.spawn("orchestrator deployments", reconcile::deployments(core(), intake()));
        let pulse = self.pulse.clone().follow(self.core.db.clone(), shutdown.intake().clone().cancelled_owned());
        tasks.spawn("orchestrator database", pulse);
        let source = format!("/rekindle/orchestrator/{}", self.core.config.instance);
        let relay = relay::run(self.core.db.clone(), self.core.bus.clone(), source, shutdown.work().clone());
        tasks.spawn_until_close("orchestrator relay", relay);
    }

    /// Whether it can do its work at this moment.
    pub fn ready(&self) -> bool {
        self.core.bus.is_connected() && self.pulse.is_beating()
    }
}
