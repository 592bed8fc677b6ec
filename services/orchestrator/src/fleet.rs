//! The replicas, as they report themselves in their bucket.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use rekindle_bus::bucket::{Change, Entry};
use rekindle_domain::{ReplicaId, ReplicaState};
use rekindle_service::chain;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, core::Core};

/// How long the last report of a lost replica is kept, so that it is not taken for a new one when the bucket is read again.
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
    /// Shared, since every deployment is compared with it.
    state: Arc<ReplicaState>,
}

impl Fleet {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, replicas: Mutex::default() }
    }

    /// Replicas whose lease has not run out, by id.
    pub(crate) fn live(&self, now: Instant) -> Vec<Arc<ReplicaState>> {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |report: &Report| now.saturating_duration_since(report.seen_at);
        replicas.retain(|_, report| age(report) < self.lease.max(MEMORY));
        replicas.values().filter(|report| age(report) < self.lease).map(|report| Arc::clone(&report.state)).collect()
    }

    /// Records a report, or that a replica has left. Returns whether anything but the time of the report is new.
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

/// Watches the bucket until `shutdown`. While the bus is unreachable, retries.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Err(error) = watch(&core) => tracing::warn!(error = chain(&error), "replica watch failed, retrying"),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(core.config.retry_first) => {}
        }
    }
    Ok(())
}

async fn watch(core: &Core) -> Result<Infallible, Error> {
    let mut changes = core.bus.replica_states().await?.watch().await?;
    loop {
        let (key, report) = match changes.next().await? {
            Change::Put(Entry { key, value, .. }) if value.replica.as_str() != key => {
                tracing::error!(key, replica = %value.replica, "state of a replica under the key of another, skipping it");
                continue;
            }
            Change::Put(Entry { key, value, revision }) => {
                (key, Some(Report { revision, seen_at: Instant::now(), state: Arc::new(value) }))
            }
            Change::Deleted { key } => (key, None),
            Change::Unreadable { .. } | Change::Complete => continue,
        };
        if core.fleet.take(&key, report) {
            core.wake();
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
            // A clock that is wrong.
            reported_at: chrono::DateTime::UNIX_EPOCH,
            models: BTreeMap::new(),
        };
        Some(Report { revision, seen_at, state: Arc::new(state) })
    }

    #[test]
    fn a_replica_is_live_for_its_lease_after_its_last_new_report() {
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
        assert_eq!(live(22), 0, "it has left");
    }
}
