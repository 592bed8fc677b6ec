//! The replicas, as they report themselves in their bucket.

use std::{collections::BTreeMap, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use async_nats::jetstream::kv::{Entry, Operation};
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use rekindle_domain::{ReplicaId, ReplicaState};
use tokio_util::sync::CancellationToken;

use crate::{Error, core::Core, error::chain};

/// The last report of each replica. A report is held as long as the lease it renews.
#[derive(Debug)]
pub(crate) struct Fleet {
    lease: TimeDelta,
    replicas: Mutex<BTreeMap<ReplicaId, Report>>,
}

#[derive(Debug, Clone)]
struct Report {
    /// When the bus stored it, by the bus's clock.
    stored_at: DateTime<Utc>,
    state: ReplicaState,
}

impl Fleet {
    pub(crate) fn new(lease: Duration) -> Self {
        let lease = TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX);
        Self { lease, replicas: Mutex::default() }
    }

    /// Replicas whose lease has not run out, by id.
    pub(crate) fn live(&self, now: DateTime<Utc>) -> Vec<ReplicaState> {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        replicas.retain(|_, report| now - report.stored_at < self.lease);
        replicas.values().map(|report| report.state.clone()).collect()
    }

    /// Takes in what the bucket says. Returns whether anything but the time of the report is new.
    fn take(&self, key: &str, report: Option<Report>) -> bool {
        let Ok(id) = key.parse::<ReplicaId>() else { return false };
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = report else { return replicas.remove(&id).is_some() };
        let known = replicas.insert(id, report.clone());
        known.is_none_or(|known| known.state.models != report.state.models)
    }
}

/// Follows the bucket until `shutdown`. A bus that is away is waited for.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => break,
            result = follow(&core) => if let Err(error) = result {
                tracing::warn!(error = chain(&error), "lost sight of the replicas");
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(core.config.retry_first) => {}
        }
    }
    Ok(())
}

async fn follow(core: &Core) -> Result<(), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Bucket {
        operation: "follow the replicas".to_owned(),
        source,
    };
    let bucket = core.bus.replicas().await?;
    let mut entries = bucket.watch_with_history(">").await.map_err(|error| failed(error.into()))?;
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let report = match entry.operation {
            Operation::Put => report(&entry),
            Operation::Delete | Operation::Purge => None,
        };
        if core.fleet.take(&entry.key, report) {
            core.wake();
        }
    }
    Ok(())
}

fn report(entry: &Entry) -> Option<Report> {
    match serde_json::from_slice::<ReplicaState>(&entry.value) {
        Ok(state) => {
            let nanos = i64::try_from(entry.created.unix_timestamp_nanos()).unwrap_or_default();
            Some(Report { stored_at: DateTime::from_timestamp_nanos(nanos), state })
        }
        Err(error) => {
            tracing::warn!(replica = entry.key, %error, "a replica's report cannot be read");
            None
        }
    }
}
