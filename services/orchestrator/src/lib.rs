//! The orchestrator: when a model is retrained, whether the challenger replaces the champion, and which version each replica serves.
//!
//! It owns policies, workflows and deployments in its own database. It trains nothing, compares no rows, and is not on the path of a
//! prediction request. It calls the registry, the trainer and the monitor by gRPC, and writes routes for the replicas to a bucket on the bus.
//!
//! Invariants:
//! - a record changes by compare-and-set, in one transaction with the event of the change;
//! - a step may be repeated any number of times and has one effect: its ids are derived from that of the workflow;
//! - a model has one active workflow at most, and every workflow ends, by its deadline if nothing else ends it;
//! - what [`rekindle_domain::rollout`] plans is what happens: one replica at a time, and back to the stable version upon any failure;
//! - the routes in the bucket are those of the record: what another writer puts there is replaced, whatever its generation;
//! - of several instances on one database one runs the reconcilers; what one that has lost its lease still writes is refused by
//!   the lease's epoch.

mod clients;
mod config;
mod core;
mod delivery;
mod deploy;
mod deployment;
mod error;
mod events;
mod fleet;
mod leader;
mod manage;
mod policy;
mod reconcile;
mod routes;
mod rpc;
mod store;
mod trigger;
mod watch;
mod workflow;

use std::sync::Arc;

use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, history, relay};
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use rekindle_service::audit_sealed;

pub use self::{
    clients::Peers,
    config::{Config, DEFAULTS},
    error::Error,
};
use self::{core::Core, fleet::Fleet, leader::Leadership, routes::PublishedRoutes};

/// The orchestrator, ready to be served.
#[derive(Debug, Clone)]
pub struct App {
    core: Arc<Core>,
    health: rekindle_store::DatabaseHealth,
}

impl App {
    /// Validates the configuration, opens and migrates the database; `peers` are the registry, the trainer and the monitor. Nothing runs until [`background`](Self::background).
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts, peers: Peers) -> Result<Self, Error> {
        config.validate().map_err(|violations| Error::Configuration(violations.within("orchestrator")))?;
        let db = rekindle_store::connect(&config.database).await?;
        rekindle_store::migrate::<store::Migrator>(&db).await?;
        history::verify(&bus, &db, "orchestrator", &config.database).await?;
        let core = Core {
            fleet: Fleet::new(config.replica_lease),
            routes: PublishedRoutes::default(),
            leadership: Leadership::new(db.clone(), &config),
            happened: tokio::sync::watch::Sender::new(0),
            peers,
            config,
            db,
            bus,
            artifacts,
        };
        Ok(Self { core: Arc::new(core), health: rekindle_store::DatabaseHealth::new() })
    }

    /// Adds the gRPC services.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        rpc::register(self.core.clone(), routes);
    }

    /// Starts the consumers, the reconcilers and the relay.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        let core = || self.core.clone();
        let intake = || shutdown.intake().clone();
        tasks.spawn("orchestrator replicas", fleet::run(core(), intake()));
        tasks.spawn("orchestrator routes", routes::run(core(), intake()));
        tasks.spawn("orchestrator triggers", trigger::run(core(), intake()));
        tasks.spawn("orchestrator schedules", trigger::run_schedules(core(), intake()));
        tasks.spawn("orchestrator delivery metrics", delivery::export(core(), intake()));
        tasks.spawn("orchestrator wake", events::run(core(), intake()));
        tasks.spawn("orchestrator workflows", reconcile::workflows(core(), intake()));
        tasks.spawn("orchestrator deployments", reconcile::deployments(core(), intake()));
        let health = self.health.clone().run(self.core.db.clone(), shutdown.intake().clone().cancelled_owned());
        tasks.spawn("orchestrator database", health);
        let source = format!("/rekindle/orchestrator/{}", self.core.config.instance);
        let relay =
            relay::run(self.core.db.clone(), self.core.bus.clone(), source, relay::RETENTION, shutdown.work().clone());
        tasks.spawn_until_close("orchestrator relay", relay);
        let audit =
            rekindle_store::audit::run(self.core.db.clone(), audit_sealed("orchestrator"), shutdown.work().clone());
        tasks.spawn_until_close("orchestrator audit trail", audit);
        // Released last: the reconcilers finish their steps under the lease.
        tasks.spawn_until_close("orchestrator lease", leader::run(core(), shutdown.work().clone()));
    }

    /// Whether bus and database are available.
    pub fn ready(&self) -> bool {
        self.core.bus.is_connected() && self.health.is_healthy()
    }
}
