//! The trainer: takes jobs from the work queue, trains models and compares them.
//!
//! It keeps nothing of its own: a job lies in the work queue until it is done, its run in the registry is its record, and what
//! it makes lies in object storage. It refuses to decide what is trained, or what becomes of a verdict.
//!
//! Invariants:
//! - what can be found wrong with a job is found before it is queued;
//! - a job has one effect, however often it is submitted or delivered: the run, the bundle and the model version go by its id
//!   and content;
//! - a job is acknowledged only after its run has ended;
//! - a run is reported on while it is carried out, and stops at the next epoch once a caller has ended it;
//! - learning happens on threads of the lowest priority.

mod config;
mod error;
mod evaluation;
mod job;
mod registry;
mod rpc;
mod submit;
mod thread;
mod watch;
mod work;

use std::sync::Arc;

use rekindle_artifacts::Artifacts;
use rekindle_bus::{
    Bus,
    consumer::{self, Consumer},
    streams,
};
use rekindle_proto::trainer::trainer_server::TrainerServer;
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use tonic::transport::Channel;

pub use config::{Config, DEFAULTS};
pub use error::Error;

/// The revision of the source that this program was built from; `unknown` where that could not be told.
pub const CODE_REVISION: &str = env!("REKINDLE_REVISION");

/// Durable name of the consumer that all trainers share.
const CONSUMER: &str = "trainer-cpu";

/// A trainer, ready to be served. Clones share everything.
#[derive(Clone)]
pub struct App(Arc<State>);

struct State {
    config: Config,
    bus: Bus,
    artifacts: Artifacts,
    registry: Channel,
}

impl App {
    /// Checks the configuration. Nothing is connected to: the registry is reached when it is first needed.
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts, registry: Channel) -> Result<Self, Error> {
        config.check()?;
        Ok(Self(Arc::new(State { config, bus, artifacts, registry })))
    }

    /// Adds the service `Trainer`.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        routes.add_service(TrainerServer::new(self.clone()));
    }

    /// Starts taking jobs from the work queue.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        let app = self.clone();
        tasks.spawn("trainer jobs", async move { app.take_jobs(shutdown).await });
    }

    /// Whether jobs can be taken and submitted.
    pub fn ready(&self) -> bool {
        self.0.bus.is_connected()
    }

    async fn take_jobs(&self, shutdown: Shutdown) -> Result<(), rekindle_bus::Error> {
        let config = &self.0.config;
        tracing::info!(instance = config.instance, workers = config.workers, "taking jobs");
        let spec = Consumer {
            ack_wait: config.ack_wait,
            max_deliveries: config.max_deliveries,
            // Each trainer takes what it can carry out; a bound over all would leave those that join without work.
            concurrency: config.workers,
            ..Consumer::new(CONSUMER, streams::JOBS, [submit::SUBJECT.to_owned()])
        };
        let worker = Arc::new(work::Worker {
            artifacts: self.0.artifacts.clone(),
            registry: self.0.registry.clone(),
            report_every: config.report_every,
            stopping: shutdown.intake().clone(),
        });
        let handler = async move |message: rekindle_bus::Message| worker.handle(&message.payload).await;
        consumer::run(self.0.bus.clone(), spec, handler, shutdown.intake().clone()).await
    }
}
