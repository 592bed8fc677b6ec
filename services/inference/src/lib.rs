//! Serving: the Open Inference Protocol over the models whose routes this replica carries out.
//!
//! A replica reads routes from `rekindle-deployments`, loads the assigned versions beside those that answer, and swaps atomically. It
//! reports its state to `rekindle-replicas`, and every answered row goes to the prediction log. It decides nothing about rollouts,
//! trains nothing, and has no database.
//!
//! A protocol ([`grpc`], [`rest`]) decodes a message into tensors and rows ([`tensor`]), which the engine ([`infer`]) answers with a version
//! that the routes select ([`routes`]) among those that are loaded ([`serving`]). Models are executed at once or in batches ([`execution`]),
//! and copies of requests by shadow versions ([`shadow`]). Only the protocol names wire messages.
//!
//! Invariants:
//! - answering depends on this process's memory alone: never on the log, the bus, the registry or the disk;
//! - what is served is what was registered: every blob is hashed on every load, from the cache too;
//! - a swap loses no request: a request that began on a version ends on it;
//! - a version that cannot be loaded leaves the earlier one in place, and is reported; so are routes that this build cannot carry out;
//! - the failure of one model affects no other: it revokes the replica's readiness only if no other model is served;
//! - logged rows + declared lost rows = answered rows, if the process shuts down in order and the bus is reachable;
//! - listed + declared lost = failed requests of served models, under the same conditions;
//! - invalid input is refused with the name of the field, and changes nothing else.

mod budget;
mod bus;
mod cache;
mod config;
mod disk;
mod error;
mod execution;
mod exposition;
mod failures;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grpc;
mod guardrails;
mod infer;
mod loader;
mod log;
mod metrics;
mod parameters;
mod readiness;
mod reconcile;
mod report;
mod repository;
mod rest;
mod routes;
mod serving;
mod shadow;
mod statistics;
mod tensor;

use std::{sync::Arc, time::Duration};

use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_runtime::{grpc::RoutesBuilder, http, shutdown::Shutdown, supervise::Tasks};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use self::{
    budget::Budget,
    cache::BlobCache,
    execution::Executor,
    failures::FailureLog,
    infer::{Engine, Logs},
    loader::Loader,
    log::Log,
    readiness::Readiness,
    reconcile::Reconciler,
    report::Reporter,
    routes::{RoutesWatch, SavedRoutes},
    serving::Catalog,
    shadow::Shadows,
};
pub use self::{
    config::{
        Action, Config, DEFAULTS, EventTimes, Guardrails, Limits, LogConfig, ModelEventTimes, ModelGuardrails,
        ModelLog, Policy, Range, UnknownInputs,
    },
    error::Error,
};

/// How long the log is flushed at shutdown; shorter than the time that closing tasks have.
const FLUSH: Duration = Duration::from_secs(4);

/// One replica.
pub struct App {
    config: Config,
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
    watch: Arc<RoutesWatch>,
    reconciler: Arc<Reconciler>,
    reporter: Arc<Reporter>,
    log: Arc<Log>,
    failures: Arc<FailureLog>,
    shadows: Arc<Shadows>,
    bus: watch::Sender<Option<Bus>>,
    artifacts: watch::Sender<Option<Artifacts>>,
}

impl App {
    /// A replica that starts with the routes and the bundles of its cache. Bus and object store are optional:
    /// [`App::attach_bus`] and [`App::attach_artifacts`] add them later.
    pub async fn build(
        config: Config,
        bus: impl Into<Option<Bus>>,
        artifacts: impl Into<Option<Artifacts>>,
    ) -> Result<Self, Error> {
        config.validate().map_err(|violations| Error::Configuration(violations.within("inference")))?;
        metrics::describe();
        let (bus, artifacts) = (watch::Sender::new(bus.into()), watch::Sender::new(artifacts.into()));
        let incarnation = Uuid::now_v7();
        let (catalog, changed) = (Arc::new(Catalog::default()), Arc::new(Notify::new()));
        // The folder has had this name since the first schema of routes.
        let saved = Arc::new(SavedRoutes::open(config.cache_dir.join("desired"))?);
        let initial = saved.current();
        initial.keys().for_each(|model| drop(catalog.slot(model)));
        let readiness = Arc::new(Readiness::new(Arc::clone(&catalog), &initial));
        let loader = Loader {
            replica: config.replica.clone(),
            cache: BlobCache::open(config.cache_dir.join("blobs"), config.cache_max_bytes)?,
            artifacts: artifacts.subscribe(),
            attempts: config.fetch_attempts,
            budget: Arc::new(Budget::new(config.max_loaded_bytes)),
            guardrails: config.guardrails.clone(),
            log: config.log.clone(),
        };
        let watch = RoutesWatch {
            saved: Arc::clone(&saved),
            catalog: Arc::clone(&catalog),
            readiness: Arc::clone(&readiness),
            resync: config.resync_interval,
            changed: Arc::clone(&changed),
        };
        let reconciler = Reconciler {
            replica: config.replica.clone(),
            catalog: Arc::clone(&catalog),
            loader,
            saved,
            retry_interval: config.resync_interval,
            changed: Arc::clone(&changed),
        };
        let reporter = Reporter {
            replica: config.replica.clone(),
            incarnation,
            address: config.address.clone(),
            catalog: Arc::clone(&catalog),
            changed,
            interval: config.report_interval,
        };
        let log = Arc::new(Log::new(config.log.clone(), config.replica.clone(), incarnation));
        let failures = Arc::new(FailureLog::new(&config.log, config.replica.clone(), incarnation));
        let executor = Arc::new(Executor::new(config.limits.clone()));
        let shadows = Arc::new(Shadows::new(Arc::clone(&executor)));
        let engine = Engine::new(
            catalog,
            Logs { answers: Arc::clone(&log), failures: Arc::clone(&failures) },
            Arc::clone(&shadows),
            executor,
            config.limits.clone(),
            config.event_times.clone(),
        );
        Ok(Self {
            engine: Arc::new(engine),
            shadows,
            readiness,
            watch: Arc::new(watch),
            reconciler: Arc::new(reconciler),
            reporter: Arc::new(reporter),
            log,
            failures,
            bus,
            artifacts,
            config,
        })
    }

    /// Attaches the bus: from now on routes are watched, and log and state are published.
    pub fn attach_bus(&self, bus: Bus) {
        self.bus.send_replace(Some(bus));
    }

    /// Attaches the object store: from now on bundles that are not in the cache can be loaded.
    pub fn attach_artifacts(&self, artifacts: Artifacts) {
        self.artifacts.send_replace(Some(artifacts));
    }

    /// Adds the gRPC services.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let (engine, readiness) = (Arc::clone(&self.engine), Arc::clone(&self.readiness));
        routes.add_service(grpc::extension(Arc::clone(&engine), &self.config.limits));
        routes.add_service(grpc::service(engine, readiness, &self.config.limits));
    }

    /// The routes of the REST interface.
    pub fn rest(&self, limits: http::Limits) -> axum::Router {
        rest::router(Arc::clone(&self.engine), Arc::clone(&self.readiness), &self.config.limits, limits)
    }

    /// Counts and durations per model and version, in the Prometheus text format: under the names of Triton's metrics, and by phase.
    pub fn metrics(&self) -> String {
        exposition::render(&self.engine.slots())
    }

    /// Starts the background tasks. Reports and log continue until closing, so that they include the last answers.
    pub fn background(&self, tasks: &mut Tasks, shutdown: &Shutdown) {
        let (intake, closing) = (shutdown.intake(), shutdown.work());
        let (watch, bus, token) = (Arc::clone(&self.watch), self.bus.subscribe(), intake.clone());
        tasks.spawn("inference routes watch", async move { watch.run(bus, token).await });
        let (reconciler, token) = (Arc::clone(&self.reconciler), intake.clone());
        tasks.spawn("inference reconciler", async move { reconciler.run(token).await });
        let (reporter, bus, token) = (Arc::clone(&self.reporter), self.bus.subscribe(), closing.clone());
        tasks.spawn_until_close("inference reporter", async move { reporter.run(bus, token).await });
        let (shadows, token) = (Arc::clone(&self.shadows), intake.clone());
        tasks.spawn("inference shadows", async move { shadows.run(token).await });
        let (failures, bus, token) = (Arc::clone(&self.failures), self.bus.subscribe(), closing.clone());
        tasks.spawn_until_close("inference failure log", async move { failures.run(bus, token, FLUSH).await });
        let (log, bus, token) = (Arc::clone(&self.log), self.bus.subscribe(), closing.clone());
        tasks.spawn_until_close("inference prediction log", async move { log.run(bus, token, FLUSH).await });
    }

    /// Whether this replica should receive requests: its routes are known, and each model that they named at the start is served or
    /// has failed to load, with at least one served. Models that are deployed later do not affect it.
    pub fn ready(&self) -> bool {
        self.readiness.is_ready()
    }
}
