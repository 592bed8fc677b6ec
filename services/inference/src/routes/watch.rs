//! Reads routes from the bus: the whole bucket, then its changes, and the whole bucket again at every resync.

use std::{sync::Arc, time::Duration};

use rekindle_bus::{
    Bus,
    bucket::{Change, Entry},
};
use rekindle_domain::{ModelName, Routes};
use rekindle_service::chain;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::SavedRoutes;
use crate::{Error, bus::connected, readiness::Readiness, serving::Catalog};

/// The delay before a failed watch is retried.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Keeps the saved routes equal to those of the bucket.
pub(crate) struct RoutesWatch {
    /// Where the routes are saved.
    pub(crate) saved: Arc<SavedRoutes>,
    /// Has a slot for each model that has routes.
    pub(crate) catalog: Arc<Catalog>,
    /// Waits for the first routes.
    pub(crate) readiness: Arc<Readiness>,
    /// The longest time before the whole bucket is read again.
    pub(crate) resync: Duration,
    /// Notified when the actual state has changed.
    pub(crate) changed: Arc<Notify>,
}

impl RoutesWatch {
    /// Watches the bucket until `intake` ends; waits for the bus as long as it takes.
    pub(crate) async fn run(
        &self,
        mut bus: watch::Receiver<Option<Bus>>,
        intake: CancellationToken,
    ) -> Result<(), Error> {
        let watching = async {
            let Some(bus) = connected(&mut bus).await else { return };
            let mut failing = false;
            loop {
                match self.watch_until_resync(&bus).await {
                    Ok(()) => failing = false,
                    Err(error) => {
                        if !failing {
                            tracing::warn!(
                                error = chain(&error),
                                "failed to read routes, serving the last known, retrying"
                            );
                        }
                        failing = true;
                        sleep(RETRY_DELAY).await;
                    }
                }
            }
        };
        tokio::select! {
            () = watching => {}
            () = intake.cancelled() => {}
        }
        Ok(())
    }

    async fn watch_until_resync(&self, bus: &Bus) -> Result<(), Error> {
        let mut changes = bus.routes().await?.watch().await?;
        let resync = sleep(self.resync);
        tokio::pin!(resync);
        loop {
            let change = tokio::select! {
                change = changes.next() => change?,
                () = &mut resync => return Ok(()),
            };
            if let Err(error) = self.apply(change).await {
                tracing::error!(error = chain(&error), "failed to apply routes");
            }
        }
    }

    async fn apply(&self, change: Change<Routes>) -> Result<(), Error> {
        match change {
            Change::Put(entry) => self.set(entry).await,
            Change::Deleted { key } => match key.parse::<ModelName>() {
                Ok(model) => self.remove(&model).await,
                Err(_) => Ok(()),
            },
            // The orchestrator replaces it; until then the last known routes are served.
            Change::Unreadable { .. } => Ok(()),
            Change::Complete => {
                self.readiness.routes_known(&self.saved.current());
                Ok(())
            }
        }
    }

    async fn set(&self, entry: Entry<Routes>) -> Result<(), Error> {
        let Entry { key, value: routes, .. } = entry;
        if routes.model.as_str() != key {
            return Err(Error::MisplacedRoutes { key, model: routes.model });
        }
        self.catalog.slot(&routes.model);
        self.saved.set(routes).await
    }

    async fn remove(&self, model: &ModelName) -> Result<(), Error> {
        // The saved routes are removed first: once callers find the model removed, a restart must not restore it.
        let removed = self.saved.remove(model).await;
        self.catalog.remove(model);
        self.changed.notify_one();
        removed
    }
}
