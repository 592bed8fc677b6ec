//! The replicas, as they report themselves in their bucket.

use std::{collections::BTreeMap, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use async_nats::jetstream::kv::{Entry, Operation};
use futures::StreamExt as _;
use rekindle_domain::{ReplicaId, ReplicaState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, core::Core, error::chain};

/// How long a replica that fell silent is remembered, so that its last report is not taken for a new one when it is read again.
const MEMORY: Duration = Duration::from_secs(3600);

/// The last report of each replica. A report renews a lease from the moment it arrives here: no two clocks are compared.
#[derive(Debug)]
pub(crate) struct Fleet {
    lease: Duration,
    replicas: Mutex<BTreeMap<ReplicaId, Report>>,
}

#[derive(Debug, Clone)]
struct Report {
    /// Distinguishes it from the replica's other reports.
    revision: u64,
    /// When this instance first saw it.
    seen_at: Instant,
    state: ReplicaState,
}

impl Fleet {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, replicas: Mutex::default() }
    }

    /// Replicas whose lease has not run out, by id.
    pub(crate) fn live(&self, now: Instant) -> Vec<ReplicaState> {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |report: &Report| now.saturating_duration_since(report.seen_at);
        replicas.retain(|_, report| age(report) < self.lease.max(MEMORY));
        replicas.values().filter(|report| age(report) < self.lease).map(|report| report.state.clone()).collect()
    }

    /// Takes in what the bucket says. Returns whether anything but the time of the report is new.
    fn take(&self, key: &str, report: Option<Report>) -> bool {
        let Ok(id) = key.parse::<ReplicaId>() else { return false };
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = report else { return replicas.remove(&id).is_some() };
        if replicas.get(&id).is_some_and(|known| known.revision == report.revision) {
            // The bucket is read again from the beginning after the connection was lost.
            return false;
        }
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
        Ok(state) => Some(Report { revision: entry.revision, seen_at: Instant::now(), state }),
        Err(error) => {
            tracing::warn!(replica = entry.key, %error, "a replica's report cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn report(revision: u64, seen_at: Instant) -> Option<Report> {
        let state = ReplicaState {
            replica: "replica-0".parse().expect("name"),
            incarnation: uuid::Uuid::nil(),
            address: "127.0.0.1:1".into(),
            // By a clock that is far off.
            reported_at: chrono::DateTime::UNIX_EPOCH,
            models: BTreeMap::new(),
        };
        Some(Report { revision, seen_at, state })
    }

    #[test]
    fn a_replica_lives_for_its_lease_after_its_last_new_report() {
        let fleet = Fleet::new(Duration::from_secs(10));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let live = |seconds| fleet.live(after(seconds)).len();
        fleet.take("replica-0", report(1, start));
        assert_eq!((live(9), live(10)), (1, 0));
        fleet.take("replica-0", report(1, after(11)));
        assert_eq!(live(11), 0, "the same report, read again");
        fleet.take("replica-0", report(2, after(12)));
        assert_eq!((live(21), live(22)), (1, 0));
        fleet.take("replica-0", report(3, after(22)));
        fleet.take("replica-0", None);
        assert_eq!(live(22), 0, "it took its leave");
    }
}
