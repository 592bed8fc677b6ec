//! The reconciler: desired state in, served versions out.
//!
//! One path serves a change, a restart and a missed message: whatever the latest desired state assigns to this replica is
//! compared with what answers, and loaded beside it if it differs. Until that has warmed up, and for good if it
//! cannot, what answered before still does.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::jetstream::kv::{Entry, Operation};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_bus::Bus;
use rekindle_domain::{Assignment, DesiredState, ModelName, ReplicaId, VersionRef};
use tokio::{
    sync::{Notify, watch},
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    desired::{Desired, States},
    loader::Loader,
    log::connected,
    serving::{Catalog, Serving, Slot},
};

/// Wait before the bucket is read again after it could not be.
const PAUSE: Duration = Duration::from_millis(500);

/// Carries out the desired state on this replica.
pub(crate) struct Assigner {
    replica: ReplicaId,
    catalog: Arc<Catalog>,
    loader: Loader,
    desired: Desired,
    resync: Duration,
    /// Whether any desired state, even an empty one, is known.
    informed: AtomicBool,
    /// Notified when the actual state has changed.
    changed: Arc<Notify>,
}

impl Assigner {
    /// The reconciler of `replica`, beginning with the states that were saved.
    pub(crate) fn new(
        replica: ReplicaId,
        catalog: Arc<Catalog>,
        loader: Loader,
        desired: Desired,
        resync: Duration,
        changed: Arc<Notify>,
    ) -> Self {
        let saved = desired.now();
        saved.keys().for_each(|model| drop(catalog.place(model)));
        let informed = AtomicBool::new(!saved.is_empty());
        Self { replica, catalog, loader, desired, resync, informed, changed }
    }

    /// Whether the desired state is known and every model in it is served.
    pub(crate) fn ready(&self) -> bool {
        self.informed.load(Relaxed) && self.catalog.all_serving()
    }

    /// Learns the desired state from the bus until `intake` ends; waits for the bus as long as it takes.
    pub(crate) async fn learn(
        &self,
        mut bus: watch::Receiver<Option<Bus>>,
        intake: CancellationToken,
    ) -> Result<(), Error> {
        let learning = async {
            let Some(bus) = connected(&mut bus).await else { return };
            let mut failing = false;
            loop {
                match self.follow(&bus).await {
                    Ok(()) => failing = false,
                    Err(error) => {
                        if !failing {
                            tracing::warn!(error = %error.chain(), "cannot read the desired state, serving the last known");
                        }
                        failing = true;
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = learning => {}
            () = intake.cancelled() => {}
        }
        Ok(())
    }

    /// Reads the whole bucket, then its changes until it is time to read it anew.
    async fn follow(&self, bus: &Bus) -> Result<(), Error> {
        let bucket = bus.deployments().await.map_err(|error| Error::bus("open the deployments", error))?;
        let mut entries =
            bucket.watch_with_history(">").await.map_err(|error| Error::bus("watch the deployments", error))?;
        let status = bucket.status().await.map_err(|error| Error::bus("count the deployments", error))?;
        if status.values() == 0 {
            self.informed.store(true, Relaxed);
        }
        let resync = sleep(self.resync);
        tokio::pin!(resync);
        loop {
            let entry = tokio::select! {
                entry = entries.next() => entry,
                () = &mut resync => return Ok(()),
            };
            let entry = entry.ok_or_else(|| Error::bus("watch the deployments", "the watch ended"))?;
            let entry = entry.map_err(|error| Error::bus("watch the deployments", error))?;
            self.take_in(&entry).await;
            if entry.seen_current {
                self.informed.store(true, Relaxed);
            }
        }
    }

    /// An entry that makes no sense is told about and changes nothing.
    async fn take_in(&self, entry: &Entry) {
        let outcome = match entry.operation {
            Operation::Put => match parse(entry) {
                Ok(state) => {
                    self.catalog.place(&state.model);
                    self.desired.set(state).await
                }
                Err(error) => Err(error),
            },
            Operation::Delete | Operation::Purge => match entry.key.parse::<ModelName>() {
                Ok(model) => {
                    self.catalog.remove(&model);
                    self.changed.notify_one();
                    self.desired.remove(&model).await
                }
                Err(_) => Ok(()),
            },
        };
        if let Err(error) = outcome {
            tracing::error!(error = %error.chain(), key = entry.key, "desired state");
        }
    }

    /// Pursues every assignment, at once when it changes and again at each resync, until `intake` ends.
    pub(crate) async fn reconcile(&self, intake: CancellationToken) -> Result<(), Error> {
        let mut states = self.desired.follow();
        states.mark_changed();
        let mut again = interval(self.resync);
        let mut pursued = BTreeSet::new();
        let mut pursuits = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = states.changed() => {}
                _ = again.tick() => {}
                Some(model) = pursuits.next() => {
                    pursued.remove(&model);
                    self.forget_unused().await;
                }
                () = intake.cancelled() => return Ok(()),
            }
            let due: Vec<_> =
                states.borrow_and_update().values().filter(|state| self.is_due(state, &pursued)).cloned().collect();
            for state in due {
                pursued.insert(state.model.clone());
                pursuits.push(self.pursue(state));
            }
        }
    }

    /// Whether a pursuit should start: something else is served, and nobody is at it.
    fn is_due(&self, state: &DesiredState, pursued: &BTreeSet<ModelName>) -> bool {
        if pursued.contains(&state.model) {
            return false;
        }
        let assignment = state.assignment(&self.replica);
        let slot = self.catalog.place(&state.model);
        let progress = slot.progress();
        !serves(&slot, assignment.version) || progress.generation != assignment.generation || progress.failure.is_some()
    }

    /// Tries once to serve what a state assigns, unless it is overtaken by a newer one. Returns the model.
    async fn pursue(&self, state: DesiredState) -> ModelName {
        let assignment = state.assignment(&self.replica);
        let slot = self.catalog.place(&state.model);
        if serves(&slot, assignment.version) {
            slot.reached(assignment.generation);
        } else {
            tokio::select! {
                loaded = self.loader.load(&state.model, assignment.version) => settle(&slot, assignment, loaded),
                () = self.overtaken(&state.model, assignment.version) => {}
            }
        }
        self.changed.notify_one();
        state.model
    }

    /// Waits until another version, or none, is assigned.
    async fn overtaken(&self, model: &ModelName, version: VersionRef) {
        let other =
            |states: &States| states.get(model).is_none_or(|state| state.assignment(&self.replica).version != version);
        // The sender lives as long as this reconciler.
        drop(self.desired.follow().wait_for(other).await);
    }

    async fn forget_unused(&self) {
        let slots = self.catalog.slots();
        let keep = slots.iter().filter_map(|slot| slot.serving()).flat_map(|serving| serving.blobs.clone()).collect();
        if let Err(error) = self.loader.cache.prune(keep).await {
            tracing::warn!(error = %error.chain(), "cannot prune the cache");
        }
    }
}

fn serves(slot: &Slot, version: VersionRef) -> bool {
    slot.serving().is_some_and(|serving| serving.version == version)
}

fn settle(slot: &Slot, assignment: Assignment, loaded: Result<Arc<Serving>, Error>) {
    let Assignment { version, generation } = assignment;
    let (model, bundle) = (slot.model(), version.bundle);
    match loaded {
        Ok(serving) => {
            slot.swap(serving, generation);
            tracing::info!(%model, version = version.version, %bundle, generation, "serving");
        }
        Err(error) => {
            let failure = error.chain();
            let before = slot.progress();
            if before.failure.as_ref() != Some(&failure) || before.generation != generation {
                tracing::error!(error = %failure, %model, version = version.version, generation, "cannot serve the version");
            }
            slot.refuse(generation, failure);
        }
    }
}

fn parse(entry: &Entry) -> Result<DesiredState, Error> {
    let state: DesiredState = serde_json::from_slice(&entry.value)
        .map_err(|source| Error::DesiredState { key: entry.key.clone(), source })?;
    if state.model.as_str() == entry.key {
        return Ok(state);
    }
    let source = serde::de::Error::custom(format!("it is the state of {}", state.model));
    Err(Error::DesiredState { key: entry.key.clone(), source })
}
