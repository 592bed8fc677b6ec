//! The actual state, written to `rekindle-replicas` as a lease: each interval, and at once when it changes.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::kv::Store;
use bytes::Bytes;
use chrono::Utc;
use rekindle_bus::Bus;
use rekindle_domain::{ReplicaId, ReplicaState};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, log::connected, serving::Catalog};

/// Longest wait for one write; the next one has newer news anyway.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells what this replica does.
pub(crate) struct Reporter {
    /// The replica.
    pub(crate) replica: ReplicaId,
    /// This life of it.
    pub(crate) incarnation: Uuid,
    /// Where clients reach its gRPC, as `host:port`.
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
            tracing::debug!("the lease was not withdrawn, it will run out");
        }
        Ok(())
    }

    async fn report_forever(&self, bus: &mut watch::Receiver<Option<Bus>>, bucket: &mut Option<Store>) {
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
                Ok(Err(error)) => Some(error.chain()),
                Err(_) => Some("no answer".to_owned()),
            };
            match &failure {
                Some(error) if !failing => tracing::warn!(error, "cannot report the actual state"),
                None if failing => tracing::info!("the actual state is reported again"),
                _ => {}
            }
            failing = failure.is_some();
        }
    }

    async fn write(&self, bus: &Bus, bucket: &mut Option<Store>) -> Result<(), Error> {
        // What is written while the connection is away would arrive late, as stale news.
        if !bus.is_connected() {
            return Err(Error::bus("report the actual state", "not connected"));
        }
        let store = match bucket {
            Some(store) => store,
            None => bucket.insert(bus.replicas().await.map_err(|error| Error::bus("open the replicas", error))?),
        };
        let state = self.state();
        let json = serde_json::to_vec(&state).map_err(|error| Error::bus("write the actual state", error))?;
        store
            .put(self.replica.as_str(), Bytes::from(json))
            .await
            .map_err(|error| Error::bus("report the actual state", error))?;
        Ok(())
    }

    fn state(&self) -> ReplicaState {
        ReplicaState {
            replica: self.replica.clone(),
            incarnation: self.incarnation,
            address: self.address.clone(),
            reported_at: Utc::now(),
            models: self.catalog.state(),
        }
    }
}
