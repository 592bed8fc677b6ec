//! The monitor: what was predicted, what turned out, and whether the one still follows from the other.
//!
//! It captures the prediction log and the outcomes from the bus into Parquet segments, cuts the log into windows of event time,
//! compares each window with what the model saw when it was made and, once the truth is known, measures how good the answers
//! were. Drift and degradation are told as events. It hands out labelled rows for retraining. It decides nothing about what is to
//! be done, trains nothing, and never stands in the way of an answer.
//!
//! Invariants:
//! - a message is acknowledged only when its rows are in a durable segment and the segment is in the index; a message that comes
//!   again has no second effect;
//! - there is no state outside of segments, index and reports: killed at any point, the monitor goes on and reports
//!   the same;
//! - a report is a function of the log: which rows count follows from the order of segments, not from when somebody looked;
//! - each window of each version is reported once, with at most one drift alert and one degradation alert, which share a
//!   correlation id, in the transaction that enters the report;
//! - a window whose outcomes are waited for no longer is judged by all of them that the bus held when that became so;
//! - memory follows the rows of one window or one export, both bounded, and not the length of the log.
//!
//! One instance is active at a time.

mod alert;
mod capture;
mod config;
mod drift;
mod error;
mod evaluate;
pub mod export;
mod followed;
mod frame;
pub mod join;
pub mod lookup;
pub mod outcome;
mod quality;
mod reference;
pub mod report;
mod retention;
mod rpc;
pub mod segment;
pub mod store;
pub mod watch;
pub mod window;

use std::{collections::HashMap, sync::Arc};

use chrono::TimeDelta;
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_proto::monitor::monitor_server::MonitorServer;
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use sea_orm::DatabaseConnection;
use tokio::sync::Notify;

pub use config::{Config, DEFAULTS};
pub use error::Error;

use crate::{
    capture::{Capture, outcomes::Truths, predictions::Logged},
    evaluate::Evaluation,
    reference::References,
};

/// The monitor; clones are the same one.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    db: DatabaseConnection,
    bus: Bus,
    artifacts: Artifacts,
    /// Of exports, which may need many; evaluation has its own.
    export_references: References,
    /// Rung when windows may have to be looked at.
    captured: Arc<Notify>,
    pulse: rekindle_store::Pulse,
}

impl App {
    /// Opens the database and brings it up to date.
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts) -> Result<Self, Error> {
        let db = rekindle_store::connect(&config.database).await?;
        rekindle_store::migrate::<store::Migrator>(&db).await?;
        let export_references = References::new(artifacts.clone(), config.references);
        let (captured, pulse) = (Arc::default(), rekindle_store::Pulse::new());
        Ok(Self(Arc::new(Inner { config, db, bus, artifacts, export_references, captured, pulse })))
    }

    /// Adds the gRPC service.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        routes.add_service(MonitorServer::new(self.clone()));
    }

    /// Starts capture of both streams, evaluation, and the relay of events.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        let inner = &self.0;
        let capture = self.capture();
        tasks.spawn("monitor predictions", capture.clone().run::<Logged>(shutdown.intake().clone()));
        tasks.spawn("monitor outcomes", capture.run::<Truths>(shutdown.intake().clone()));
        tasks.spawn("monitor evaluation", self.evaluation().run(shutdown.intake().clone()));
        let pulse = inner.pulse.clone().follow(inner.db.clone(), shutdown.intake().clone().cancelled_owned());
        tasks.spawn("monitor database", pulse);
        let forgetting = retention::run(inner.db.clone(), inner.config.remember, shutdown.intake().clone());
        tasks.spawn("monitor retention", forgetting);
        let source = format!("/rekindle/monitor/{}", inner.config.instance);
        let relay = rekindle_bus::relay::run(inner.db.clone(), inner.bus.clone(), source, shutdown.work().clone());
        tasks.spawn_until_close("monitor relay", relay);
    }

    /// Whether calls and captures can be served now.
    pub fn ready(&self) -> bool {
        self.0.bus.is_connected() && self.0.pulse.is_beating()
    }

    fn capture(&self) -> Capture {
        let inner = &self.0;
        Capture {
            db: inner.db.clone(),
            artifacts: inner.artifacts.clone(),
            bus: inner.bus.clone(),
            flush_after: inner.config.flush_after,
            flush_rows: inner.config.flush_rows,
            fetch_messages: inner.config.fetch_messages,
            event_horizon: TimeDelta::from_std(inner.config.event_horizon).unwrap_or(TimeDelta::MAX),
            captured: inner.captured.clone(),
        }
    }

    fn evaluation(&self) -> Evaluation {
        let inner = &self.0;
        Evaluation {
            db: inner.db.clone(),
            bus: inner.bus.clone(),
            artifacts: inner.artifacts.clone(),
            references: References::new(inner.artifacts.clone(), inner.config.references),
            captured: inner.captured.clone(),
            every: inner.config.evaluate_every,
            window_rows: inner.config.window_rows,
            labelled_share: inner.config.labelled_share,
            followed: HashMap::new(),
        }
    }
}
