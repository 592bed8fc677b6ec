//! The registry: the system of record of datasets, experiments, runs, models and their blobs, with lineage. Its interfaces are gRPC, and the
//! tracking API of MLflow over HTTP.
//!
//! It trains nothing, serves nothing and decides nothing. It validates what it is given, stores it, and publishes events.
//!
//! Invariants:
//! - a creating call has one effect however often it is repeated, by its idempotency key;
//! - an alias and a review change only from the revision that the caller has read, and the history of aliases is kept;
//! - a model version is READY only if every byte of its bundle was read, matches its digest, and was parsed as serving parses it; a model
//!   in the ONNX format only if a process of its own has run it;
//! - an event is published if and only if its change is committed, and every change has an entry in the audit trail;
//! - a blob that a record names is not deleted;
//! - what is logged to a run in one call is stored whole or not at all, and its params are written once;
//! - a run whose lease expires is LOST; a run of MLflow's clients has no lease.

mod alias;
mod bounds;
mod config;
mod dataset;
mod error;
mod experiment;
mod filter;
mod garbage;
mod isolation;
mod lineage;
mod logged_model;
mod mlflow;
mod model;
mod model_version;
mod open_lineage;
mod rpc;
mod run;
mod store;
mod title;

use std::{sync::Arc, time::Duration};

use chrono::{SubsecRound as _, TimeDelta, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, history, relay, scrub};
use rekindle_domain::{Namespace, Principal, event::EventContext};
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use rekindle_service::{Call, audit_sealed};
use sea_orm::DatabaseConnection;
use uuid::Uuid;

pub use config::{Config, DEFAULTS, Limits, OnnxConfig};
pub use error::Error;
use isolation::Isolation;
pub use isolation::check_model;

/// A registry, ready to be served. Clones share everything.
#[derive(Clone)]
pub struct App(Arc<State>);

struct State {
    config: Config,
    db: DatabaseConnection,
    bus: Bus,
    artifacts: Artifacts,
    importer: dataset::Importer,
    bundles: model_version::Bundles,
    health: rekindle_store::DatabaseHealth,
}

impl App {
    /// Validates the configuration, opens the database and migrates its schema.
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts) -> Result<Self, Error> {
        config.validate().map_err(|violations| Error::Configuration(violations.within("registry")))?;
        let db = rekindle_store::connect(&config.database).await?;
        rekindle_store::migrate::<store::migration::Migrator>(&db).await?;
        history::verify(&bus, &db, "registry", &config.database).await?;
        let scratch = config.scratch_folder()?;
        let importer = dataset::Importer::new(config.readers, config.limits.table(), scratch.clone());
        let isolation = Isolation::new(config.onnx.clone(), scratch);
        let bundles = model_version::Bundles::new(artifacts.clone(), config.bundles, isolation);
        let health = rekindle_store::DatabaseHealth::new();
        Ok(Self(Arc::new(State { config, db, bus, artifacts, importer, bundles, health })))
    }

    /// Adds the services `Artifacts`, `Datasets`, `Runs` and `Models`.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        rpc::register(self, routes);
    }

    /// The routes of MLflow's tracking API.
    pub fn mlflow(&self) -> axum::Router {
        mlflow::router(self.clone())
    }

    /// Starts the relay of events, which ends last, the reaper of runs, and the check of the streams for lost messages.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        let source = format!("/rekindle/registry/{}", self.0.config.instance);
        let relay =
            relay::run(self.0.db.clone(), self.0.bus.clone(), source, relay::RETENTION, shutdown.work().clone());
        tasks.spawn_until_close("registry relay", relay);
        let audit = rekindle_store::audit::run(self.0.db.clone(), audit_sealed("registry"), shutdown.work().clone());
        tasks.spawn_until_close("registry audit trail", audit);
        let health = self.0.health.clone().run(self.0.db.clone(), shutdown.intake().clone().cancelled_owned());
        tasks.spawn("registry database", health);
        tasks.spawn("registry sweeper", sweep(self.0.artifacts.clone(), shutdown.clone()));
        tasks.spawn("bus scrub", scrub::run(self.0.bus.clone(), shutdown.intake().clone()));
        tasks.spawn("registry reaper", self.clone().reap(shutdown));
    }

    /// Whether the database is available. Events wait in the outbox while the bus is unreachable.
    pub fn ready(&self) -> bool {
        self.0.health.is_healthy()
    }

    async fn reap(self, shutdown: Shutdown) -> Result<(), Error> {
        let mut timer = tokio::time::interval(self.0.config.reap_every);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.intake().cancelled() => return Ok(()),
                _ = timer.tick() => {}
            }
            // A database that is unavailable for a while is no reason to end: the next tick finds the same runs.
            if let Err(error) = run::reap(&self.0.db, own_call().now, own_call).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to check leases");
            }
        }
    }
}

/// The context of what the registry does by itself.
fn own_call() -> Call {
    Call {
        principal: Principal::service("registry"),
        namespace: Namespace::default(),
        context: EventContext::default(),
        now: Utc::now().trunc_subsecs(6),
        id: Uuid::now_v7(),
    }
}

/// The interval at which abandoned uploads are removed, and the age at which an upload counts as abandoned.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
const UPLOAD_AT_MOST: TimeDelta = TimeDelta::hours(24);

/// Removes incomplete uploads, and dataset sources that no registration has used, from the object store: at start, and then every
/// hour.
async fn sweep(artifacts: Artifacts, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
    let mut timer = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = shutdown.intake().cancelled() => return Ok(()),
            _ = timer.tick() => {}
        }
        match artifacts.sweep_staging(Utc::now() - UPLOAD_AT_MOST).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "abandoned uploads removed"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to remove abandoned uploads")
            }
        }
    }
}
