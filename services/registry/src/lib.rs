//! The registry: what exists. Datasets, runs, models, and the blobs they are made of, with their lineage.
//!
//! It refuses to interpret: it trains nothing, serves nothing and decides nothing. It parses what it is given, keeps it,
//! tells what happened, and answers.
//!
//! Invariants:
//! - a call that creates has one effect however often it comes, by its idempotency key;
//! - an alias and a review move only from the revision that the caller has read, and every move is kept;
//! - a model version is READY only when every byte of its bundle was read and matched its digest;
//! - an event is told if and only if the change it tells of was committed;
//! - a run whose worker falls silent ends as LOST.

mod alias;
mod call;
mod config;
mod dataset;
mod error;
mod lineage;
mod model_version;
mod rpc;
mod run;
mod store;

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_proto::{client::Context, registry as wire};
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use sea_orm::DatabaseConnection;

pub use config::{Config, DEFAULTS, Limits};
pub use error::Error;

/// A registry, ready to be served. Clones share everything.
#[derive(Clone)]
pub struct App(Arc<State>);

struct State {
    config: Config,
    db: DatabaseConnection,
    bus: Bus,
    artifacts: Artifacts,
    reader: dataset::Reader,
    pulse: rekindle_store::Pulse,
}

impl App {
    /// Opens the database and brings its schema up to date.
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts) -> Result<Self, Error> {
        config.check()?;
        let db = rekindle_store::connect(&config.database).await?;
        rekindle_store::migrate::<store::migration::Migrator>(&db).await?;
        let reader = dataset::Reader::new(config.readers, config.limits.table());
        let pulse = rekindle_store::Pulse::new();
        Ok(Self(Arc::new(State { config, db, bus, artifacts, reader, pulse })))
    }

    /// Adds the services `Artifacts`, `Datasets`, `Runs` and `Models`.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        routes
            .add_service(wire::artifacts_server::ArtifactsServer::new(self.clone()))
            .add_service(wire::datasets_server::DatasetsServer::new(self.clone()))
            .add_service(wire::runs_server::RunsServer::new(self.clone()))
            .add_service(wire::models_server::ModelsServer::new(self.clone()));
    }

    /// Starts the relay of events, which ends last, and the reaper of runs.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        let source = format!("/rekindle/registry/{}", self.0.config.instance);
        let relay = rekindle_bus::relay::run(self.0.db.clone(), self.0.bus.clone(), source, shutdown.work().clone());
        tasks.spawn_until_close("registry relay", relay);
        let pulse = self.0.pulse.clone().follow(self.0.db.clone(), shutdown.intake().clone().cancelled_owned());
        tasks.spawn("registry database", pulse);
        tasks.spawn("registry sweeper", sweep(self.0.artifacts.clone(), shutdown.clone()));
        tasks.spawn("registry reaper", self.clone().reap(shutdown));
    }

    /// Whether calls can be answered: the database answers. Events wait in the outbox while the bus is away.
    pub fn ready(&self) -> bool {
        self.0.pulse.is_beating()
    }

    async fn reap(self, shutdown: Shutdown) -> Result<(), Error> {
        let mut timer = tokio::time::interval(self.0.config.reap_every);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.intake().cancelled() => return Ok(()),
                _ = timer.tick() => {}
            }
            let now = call::Call::arriving(Context::default()).now;
            // A database that is away for a while is no reason to end: the next tick finds the same runs.
            if let Err(error) = run::reap(&self.0.db, now, || call::Call::arriving(Context::default())).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "leases could not be looked at");
            }
        }
    }
}

/// How often uploads that were broken off are looked for, and how long one may take before it counts as such.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
const UPLOAD_AT_MOST: TimeDelta = TimeDelta::hours(24);

/// Removes what uploads that were broken off have left in the object store.
async fn sweep(artifacts: Artifacts, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
    let mut timer = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = shutdown.intake().cancelled() => return Ok(()),
            _ = timer.tick() => {}
        }
        match artifacts.sweep_staging(Utc::now() - UPLOAD_AT_MOST).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "broken uploads removed"),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "broken uploads could not be swept"),
        }
    }
}
