//! Reports the actual state to the bucket `rekindle-replicas` as a lease: at an interval, and on every change.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use rekindle_bus::{Bucket, Bus};
use rekindle_domain::{ReplicaId, ReplicaState};
use rekindle_service::chain;
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, bus::connected, serving::Catalog};

/// The longest wait for one write. The next report replaces it anyway.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports what this replica serves.
pub(crate) struct Reporter {
    /// The replica.
    pub(crate) replica: ReplicaId,
    /// This start of the replica.
    pub(crate) incarnation: Uuid,
    /// Where clients connect to its gRPC, as `host:port`.
    pub(crate) address: String,
    /// What is served.
    pub(crate) catalog: Arc<Catalog>,
    /// Notified when `catalog` has changed.
    pub(crate) changed: Arc<Notify>,
    /// The longest time between two reports.
    pub(crate) interval: Duration,
}

impl Reporter {
    /// Reports until `closing`, then withdraws the lease.
    pub(crate) async fn run(
        &self,
        mut bus: watch::Receiver<Option<Bus>>,
        closing: CancellationToken,
    ) -> Result<(), Error> {
        let mut bucket = None;
        tokio::select! {
            () = self.report_forever(&mut bus, &mut bucket) => {}
            () = closing.cancelled() => {}
        }
        if let Some(bucket) = bucket
            && !matches!(timeout(WRITE_TIMEOUT, bucket.delete(self.replica.as_str())).await, Ok(Ok(())))
        {
            tracing::debug!("failed to withdraw the lease, which will expire");
        }
        Ok(())
    }

    async fn report_forever(&self, bus: &mut watch::Receiver<Option<Bus>>, bucket: &mut Option<Bucket<ReplicaState>>) {
        let Some(bus) = connected(bus).await else { return };
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.changed.notified() => {}
            }
            let written = timeout(WRITE_TIMEOUT, self.write(&bus, bucket)).await;
            let failure = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(chain(&error)),
                Err(_) => Some(format!("no response within {WRITE_TIMEOUT:?}")),
            };
            match &failure {
                Some(error) if !failing => tracing::warn!(error, "failed to report the state, retrying"),
                None if failing => tracing::info!("reporting the state again"),
                _ => {}
            }
            failing = failure.is_some();
        }
    }

    async fn write(&self, bus: &Bus, bucket: &mut Option<Bucket<ReplicaState>>) -> Result<(), Error> {
        // A write that is queued while the connection is down would arrive late and renew the lease with an outdated state.
        if !bus.is_connected() {
            return Err(Error::Disconnected);
        }
        let bucket = match bucket {
            Some(bucket) => bucket,
            None => bucket.insert(bus.replica_states().await?),
        };
        bucket.put(self.replica.as_str(), &self.state()).await?;
        Ok(())
    }

    fn state(&self) -> ReplicaState {
        ReplicaState {
            replica: self.replica.clone(),
            incarnation: self.incarnation,
            address: self.address.clone(),
            reported_at: Utc::now(),
            models: self.catalog.report(),
        }
    }
}
