//! The monitor: captures the prediction log and the outcomes, and reports drift and quality of every model, window by window.
//!
//! It captures both streams from the bus into Parquet chunks, divides the log into windows of event time, compares each window with the
//! reference data of the model version and, once the labels are known, measures the quality of the predictions. Drift and degradation
//! are events; a condition that requires attention is an alert, which webhooks and Alertmanagers receive. It exports labelled rows for retraining. It decides nothing about retraining, trains nothing, and is never on the path of a
//! prediction request.
//!
//! Invariants:
//! - a message is acknowledged only after its rows are in a durable chunk and the chunk is in the index; a redelivered message has no
//!   second effect;
//! - there is no state outside of chunks, index and reports: after a crash at any point, the monitor continues and reports the same;
//! - a report is a function of the log: which rows count follows from the order of chunks, not from the time of evaluation;
//! - each window of each version and slice is reported once, with at most one event of drift and one of degradation, which share a
//!   correlation id, in the transaction that inserts the report;
//! - at most one alert of each kind is open per model; it opens, goes on and is resolved in the transaction of the report that decides it;
//! - a webhook receives a message about each opening and each resolution until it accepts it, under one id;
//! - a window whose label wait is over is measured with every outcome that the bus held by then;
//! - captured data is deleted by age only if a retention is set, and only once no window needs it;
//! - of every outcome it is known whether it is matched, pending, or refused and why;
//! - memory grows with the rows of one window or one export, both bounded, and not with the length of the log;
//! - one instance captures, and one evaluates a model, at a time: each is the holder of a lease, whose epoch is checked in every
//!   transaction that writes under it. A former holder writes and acknowledges nothing.
//!
//! Every instance serves every call.

mod alert;
mod capture;
pub mod chunk;
mod config;
mod drift;
mod error;
mod estimate;
mod evaluate;
mod event_clock;
pub mod export;
mod failures;
mod frame;
pub mod join;
mod join_key;
mod known;
mod load;
pub mod lookup;
mod matching;
mod metrics;
pub mod outcome;
mod outcome_watermark;
mod ownership;
mod quality;
mod reference;
pub mod report;
mod report_events;
mod retention;
mod rpc;
pub mod store;
mod volume;
pub mod window;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::TimeDelta;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, history, relay};
use rekindle_runtime::{grpc::RoutesBuilder, shutdown::Shutdown, supervise::Tasks};
use rekindle_service::audit_sealed;
use rekindle_store::{DatabaseHealth, Leases};
use sea_orm::DatabaseConnection;
use tokio::sync::Notify;

pub use config::{Config, DEFAULTS};
pub use error::Error;

use crate::{
    alert::{Receivers, task::Alerting},
    capture::{Capture, outcomes::OutcomeMessage, predictions::PredictionMessage},
    evaluate::{Evaluation, due::Due},
    reference::References,
    retention::{Ages, captured::Retention},
};

/// The monitor; clones share it.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    db: DatabaseConnection,
    bus: Bus,
    artifacts: Artifacts,
    leases: Leases,
    /// For exports, which may need many; evaluation has its own.
    export_references: References,
    receivers: Arc<Receivers>,
    /// Notified when windows may have become due.
    captured: Arc<Notify>,
    health: DatabaseHealth,
}

impl App {
    /// Validates the settings, opens the database and migrates it.
    pub async fn build(config: Config, bus: Bus, artifacts: Artifacts) -> Result<Self, Error> {
        config.validate().map_err(|violations| Error::Configuration(violations.within("monitor")))?;
        metrics::describe();
        let db = rekindle_store::connect(&config.database).await?;
        rekindle_store::migrate::<store::Migrator>(&db).await?;
        history::verify(&bus, &db, "monitor", &config.database).await?;
        let leases = Leases::new(db.clone(), config.instance.clone(), config.lease);
        leases.claim(ownership::CAPTURE);
        let export_references = References::new(artifacts.clone(), config.references);
        let receivers = Arc::new(Receivers::new(&config.alerts.receivers)?);
        let (captured, health) = (Arc::default(), DatabaseHealth::new());
        let inner = Inner { config, db, bus, artifacts, leases, export_references, receivers, captured, health };
        Ok(Self(Arc::new(inner)))
    }

    /// Adds the gRPC services.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        rpc::register(self, routes);
    }

    /// Starts capture of both streams, evaluation, and the relay of events.
    pub fn background(&self, tasks: &mut Tasks, shutdown: Shutdown) {
        let inner = &self.0;
        // Until the last phase: what is in flight is committed under the leases before they are released.
        tasks.spawn_until_close("monitor leases", inner.leases.clone().run(shutdown.work().clone()));
        let capture = self.capture();
        tasks.spawn("monitor predictions", capture.clone().run::<PredictionMessage>(shutdown.intake().clone()));
        tasks.spawn("monitor outcomes", capture.run::<OutcomeMessage>(shutdown.intake().clone()));
        tasks.spawn("monitor evaluation", self.evaluation().run(shutdown.intake().clone()));
        let health = inner.health.clone().run(inner.db.clone(), shutdown.intake().clone().cancelled_owned());
        tasks.spawn("monitor database", health);
        let ages = Ages { remember: inner.config.remember, join_keys: inner.config.join_key_retention };
        let retention = retention::run(inner.db.clone(), ages, shutdown.intake().clone());
        tasks.spawn("monitor retention", retention);
        tasks.spawn("monitor alerts", self.alerting().run(shutdown.intake().clone()));
        tasks.spawn("monitor captured data", self.captured_data().run(shutdown.intake().clone()));
        let source = format!("/rekindle/monitor/{}", inner.config.instance);
        let relay =
            relay::run(inner.db.clone(), inner.bus.clone(), source, inner.config.remember, shutdown.work().clone());
        tasks.spawn_until_close("monitor relay", relay);
        let audit = rekindle_store::audit::run(inner.db.clone(), audit_sealed("monitor"), shutdown.work().clone());
        tasks.spawn_until_close("monitor audit trail", audit);
    }

    /// Whether calls can be served now.
    pub fn ready(&self) -> bool {
        self.0.bus.is_connected() && self.0.health.is_healthy()
    }

    fn capture(&self) -> Capture {
        let inner = &self.0;
        Capture {
            db: inner.db.clone(),
            artifacts: inner.artifacts.clone(),
            bus: inner.bus.clone(),
            leases: inner.leases.clone(),
            flush_after: inner.config.flush_after,
            flush_rows: inner.config.flush_rows,
            fetch_messages: inner.config.fetch_messages,
            event_horizon: TimeDelta::from_std(inner.config.event_horizon).unwrap_or(TimeDelta::MAX),
            captured: inner.captured.clone(),
        }
    }

    fn alerting(&self) -> Alerting {
        let inner = &self.0;
        Alerting {
            db: inner.db.clone(),
            leases: inner.leases.clone(),
            receivers: inner.receivers.clone(),
            every: inner.config.alerts.every,
            retry_for: inner.config.alerts.retry_for,
        }
    }

    fn captured_data(&self) -> Retention {
        let inner = &self.0;
        Retention {
            db: inner.db.clone(),
            artifacts: inner.artifacts.clone(),
            leases: inner.leases.clone(),
            keep: inner.config.retention,
            left_behind: HashSet::new(),
        }
    }

    fn evaluation(&self) -> Evaluation {
        let inner = &self.0;
        Evaluation {
            db: inner.db.clone(),
            bus: inner.bus.clone(),
            artifacts: inner.artifacts.clone(),
            references: References::new(inner.artifacts.clone(), inner.config.references),
            leases: inner.leases.clone(),
            captured: inner.captured.clone(),
            every: inner.config.evaluate_every,
            window_rows: inner.config.window_rows,
            labelled_share: inner.config.labelled_share,
            outcome_wait: TimeDelta::from_std(inner.config.outcome_wait).unwrap_or(TimeDelta::MAX),
            revise_after: evaluate::revising::delay(inner.config.revise_after),
            memory: HashMap::new(),
            due: Due::default(),
        }
    }
}
