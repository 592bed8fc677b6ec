//! The trainer: takes jobs from the work queue, trains models and evaluates challengers.
//!
//! It has no state of its own: a job stays in the work queue until it is done, its run in the registry is its record, and its results are
//! in the object store. It does not decide what is trained, or what follows from an evaluation.
//!
//! Invariants:
//! - a job is validated in full before it is enqueued;
//! - a job has one effect, however often it is submitted or delivered: run, bundle and model version are keyed by its id and content;
//! - a job is acknowledged only after its run has ended;
//! - a job of high priority, as those of workflows, waits for no other job: workers of their own take them;
//! - a run has heartbeats while it is worked on, and stops at the next step of its training once a caller has ended it;
//! - a training whose worker is lost continues from its latest checkpoint in another one, with the same result;
//! - training runs on threads of the lowest scheduling priority;
//! - a training that a worker outside of the platform has claimed is in the work queue as any other, and the worker has no access to it but by
//!   calls.

mod build_id;
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
mod workers;

use std::{path::PathBuf, sync::Arc};

use rekindle_artifacts::Artifacts;
use rekindle_bus::{
    Bus,
    consumer::{self, Consumer},
    streams, subject,
};
use rekindle_client::Connection;
use rekindle_dataset::scratch_folder;
use rekindle_domain::job::Priority;
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};

pub use config::{Config, DEFAULTS};
pub use error::Error;

/// The revision of the source that this program was built from; `unknown` outside of a checkout.
pub const CODE_REVISION: &str = env!("REKINDLE_REVISION");

/// A trainer, ready to be served. Clones share everything.
#[derive(Clone)]
pub struct App(Arc<State>);

struct State {
    config: Config,
    scratch: PathBuf,
    bus: Bus,
    artifacts: Artifacts,
    registry: Connection,
}

impl App {
    /// Validates the configuration. The registry is connected to on first use.
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts, registry: Connection) -> Result<Self, Error> {
        config.validate().map_err(|violations| Error::Configuration(violations.within("trainer")))?;
        let scratch = scratch_folder(&config.scratch)?;
        Ok(Self(Arc::new(State { config, scratch, bus, artifacts, registry })))
    }

    /// Adds the services `Trainer` and `Workers`.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let limit = routes.max_request_bytes();
        routes.add_service(rpc::server(self.clone(), limit)).add_service(rpc::workers::server(self.clone(), limit));
    }

    /// Starts taking jobs from the work queue.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        for (name, priority) in [("trainer jobs", Priority::Normal), ("trainer high-priority jobs", Priority::High)] {
            let (app, shutdown) = (self.clone(), shutdown.clone());
            tasks.spawn(name, async move { app.take_jobs(priority, shutdown).await });
        }
    }

    /// Whether jobs can be submitted and worked on.
    pub fn ready(&self) -> bool {
        self.0.bus.is_connected()
    }

    async fn take_jobs(&self, priority: Priority, shutdown: Shutdown) -> Result<(), rekindle_bus::Error> {
        let config = &self.0.config;
        let workers = match priority {
            Priority::Normal => config.workers,
            Priority::High => config.high_priority_workers,
        };
        let pool = submit::pool_of(priority);
        tracing::info!(instance = config.instance, pool, workers, "taking jobs");
        let spec = Consumer {
            ack_wait: config.ack_wait,
            max_deliveries: config.max_deliveries,
            // A bound over all trainers would leave those that join later without work.
            concurrency: workers,
            // All trainers share it.
            ..Consumer::new(format!("trainer-{pool}"), streams::JOBS, [subject::jobs(pool)])
        };
        let worker = Arc::new(work::Worker {
            artifacts: self.0.artifacts.clone(),
            scratch: self.0.scratch.clone(),
            registry: self.0.registry.clone(),
            report_every: config.report_every,
            checkpoint_every: config.checkpoint_every,
            stopping: shutdown.intake().clone(),
        });
        let handler = async move |message: rekindle_bus::Message| worker.handle(&message.payload).await;
        consumer::run(self.0.bus.clone(), spec, handler, shutdown.intake().clone()).await
    }
}
