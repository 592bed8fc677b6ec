//! Serving: the Open Inference Protocol over the models that the desired state assigns to this replica.
//!
//! A replica follows `rekindle-deployments`, loads what it is assigned beside what answers, and swaps atomically; it writes
//! what it does to `rekindle-replicas`; every answered row goes to the prediction log. It decides nothing about rollouts,
//! trains nothing, and has no database.
//!
//! Invariants:
//! - answering depends on this process's memory alone: never on the log, the bus, the registry or the disk;
//! - what is served is what was registered: every blob is hashed on every load, from the cache too;
//! - a swap loses no request: what began on a version ends on it;
//! - a version that cannot be served leaves the one that answers in place, and is reported;
//! - one model's trouble is no other's: it takes the replica's readiness only where nothing else is served;
//! - logged rows + declared lost rows = answered rows, as long as the process ends in order and with the bus in reach;
//! - bad input is refused with the field's name, and changes nothing.

mod assign;
mod cache;
mod config;
mod desired;
mod elements;
mod error;
mod infer;
mod loader;
mod log;
mod meters;
mod output;
mod refusals;
mod report;
mod rpc;
mod serving;
mod tensor;

use std::{sync::Arc, time::Duration};

use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use self::{
    assign::Assigner, cache::BlobCache, desired::Desired, infer::Engine, loader::Loader, log::Log, report::Reporter,
    rpc::Rpc, serving::Catalog,
};
pub use self::{
    config::{Config, DEFAULTS, Limits, LogConfig},
    error::Error,
};

/// How long the log is flushed at the end; below the time that closing tasks are given.
const FLUSH: Duration = Duration::from_secs(4);

/// One replica.
pub struct App {
    max_message_bytes: usize,
    engine: Arc<Engine>,
    assigner: Arc<Assigner>,
    log: Arc<Log>,
    reporter: Arc<Reporter>,
    bus: watch::Sender<Option<Bus>>,
    artifacts: watch::Sender<Option<Artifacts>>,
}

impl App {
    /// A replica that begins with the desired state and the bundles that its cache holds. Neither bus nor object store
    /// need be there: [`App::attach_bus`] and [`App::attach_artifacts`] bring them later.
    pub async fn build(
        config: Config,
        bus: impl Into<Option<Bus>>,
        artifacts: impl Into<Option<Artifacts>>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let (bus, artifacts) = (watch::Sender::new(bus.into()), watch::Sender::new(artifacts.into()));
        let incarnation = Uuid::now_v7();
        let (catalog, changed) = (Arc::new(Catalog::default()), Arc::new(Notify::new()));
        let log = Arc::new(Log::new(config.log.clone(), config.replica.clone(), incarnation));
        let loader = Loader {
            replica: config.replica.clone(),
            cache: BlobCache::open(config.cache_dir.join("blobs"), config.cache_max_bytes)?,
            artifacts: artifacts.subscribe(),
            attempts: config.fetch_attempts,
        };
        let desired = Desired::open(config.cache_dir.join("desired"))?;
        let assigner = Assigner::new(
            config.replica.clone(),
            Arc::clone(&catalog),
            loader,
            desired,
            config.resync_interval,
            Arc::clone(&changed),
        );
        let reporter = Reporter {
            replica: config.replica.clone(),
            incarnation,
            address: config.address.clone(),
            catalog: Arc::clone(&catalog),
            changed,
            interval: config.report_interval,
        };
        Ok(Self {
            max_message_bytes: config.limits.max_message_bytes,
            engine: Arc::new(Engine::new(catalog, Arc::clone(&log), config.limits)),
            assigner: Arc::new(assigner),
            log,
            reporter: Arc::new(reporter),
            bus,
            artifacts,
        })
    }

    /// The bus is there: from now on the desired state is followed, and log and reports are published.
    pub fn attach_bus(&self, bus: Bus) {
        self.bus.send_replace(Some(bus));
    }

    /// The object store is there: from now on bundles that are not in the cache can be loaded.
    pub fn attach_artifacts(&self, artifacts: Artifacts) {
        self.artifacts.send_replace(Some(artifacts));
    }

    /// Adds the gRPC service.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let rpc = Rpc { engine: Arc::clone(&self.engine), assigner: Arc::clone(&self.assigner) };
        routes.add_service(
            GrpcInferenceServiceServer::new(rpc)
                .max_decoding_message_size(self.max_message_bytes)
                .max_encoding_message_size(usize::MAX),
        );
    }

    /// Starts following the desired state, reporting and logging. Reports and log go on until closing, so that the
    /// last answers are told of.
    pub fn background(&self, tasks: &mut Tasks, shutdown: &Shutdown) {
        let (intake, closing) = (shutdown.intake(), shutdown.work());
        let (assigner, bus, token) = (Arc::clone(&self.assigner), self.bus.subscribe(), intake.clone());
        tasks.spawn("inference desired state", async move { assigner.learn(bus, token).await });
        let (assigner, token) = (Arc::clone(&self.assigner), intake.clone());
        tasks.spawn("inference reconciler", async move { assigner.reconcile(token).await });
        let (reporter, bus, token) = (Arc::clone(&self.reporter), self.bus.subscribe(), closing.clone());
        tasks.spawn_until_close("inference reporter", async move { reporter.run(bus, token).await });
        let (log, bus, token) = (Arc::clone(&self.log), self.bus.subscribe(), closing.clone());
        tasks.spawn_until_close("inference prediction log", async move { log.run(bus, token, FLUSH).await });
    }

    /// Whether this replica should get requests: the desired state is known, and the models that it began with are served. One of
    /// them that cannot be served, and any that is deployed later, is a matter of `ModelReady` and the reports.
    pub fn ready(&self) -> bool {
        self.assigner.ready()
    }
}
