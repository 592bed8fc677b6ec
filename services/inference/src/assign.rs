//! The reconciler: desired state in, served versions out.
//!
//! One path serves a change, a restart and a missed message: whatever the latest desired state assigns to this replica is
//! compared with what answers, and loaded beside it if it differs. Until that has warmed up, and for good if it
//! cannot, what answered before still does.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::jetstream::kv::{Entry, Operation};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_bus::Bus;
use rekindle_domain::{Assignment, DesiredState, ModelName, ReplicaId, VersionRef};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    desired::{Desired, States},
    loader::Loader,
    log::connected,
    refusals::Refusals,
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
    /// The models of the first desired state that this life knew, from disk or from the bus; unset until one is known.
    opening: OnceLock<BTreeSet<ModelName>>,
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
        let opening = OnceLock::new();
        if !saved.is_empty() {
            opening.get_or_init(|| saved.into_keys().collect());
        }
        Self { replica, catalog, loader, desired, resync, opening, changed }
    }

    /// Whether this replica should get requests: the desired state is known, and no model that it began with still loads.
    ///
    /// What is deployed later never takes readiness back, and one model that cannot be served only does so where nothing else
    /// is: whether a certain model answers is told model by model.
    pub(crate) fn ready(&self) -> bool {
        self.opening.get().is_some_and(|opening| {
            let slots: Vec<_> = opening.iter().filter_map(|model| self.catalog.find(model.as_str())).collect();
            slots.is_empty() || (slots.iter().all(|slot| slot.is_settled()) && self.catalog.serves_any())
        })
    }

    /// The desired state is known from now on.
    fn informed(&self) {
        self.opening.get_or_init(|| self.desired.now().into_keys().collect());
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
            self.informed();
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
                self.informed();
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
                    // Forgotten first: whoever finds the model gone finds nothing left of it.
                    let forgotten = self.desired.remove(&model).await;
                    self.catalog.remove(&model);
                    self.changed.notify_one();
                    forgotten
                }
                Err(_) => Ok(()),
            },
        };
        if let Err(error) = outcome {
            tracing::error!(error = %error.chain(), key = entry.key, "desired state");
        }
    }

    /// Pursues every assignment until `intake` ends: at once when it changes, and one that failed again after the resync interval,
    /// or when an object store was attached.
    pub(crate) async fn reconcile(&self, intake: CancellationToken) -> Result<(), Error> {
        let mut states = self.desired.follow();
        states.mark_changed();
        let mut artifacts = self.loader.artifacts.clone();
        let mut pursued = BTreeSet::new();
        let mut refusals = Refusals::new(self.resync);
        let mut pursuits = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = states.changed() => {}
                Ok(()) = artifacts.changed() => refusals.forget_all(),
                () = refusals.next_due() => {}
                Some((model, refused)) = pursuits.next() => {
                    pursued.remove(&model);
                    match refused {
                        Some(assignment) => refusals.note(model, assignment, Instant::now()),
                        None => refusals.forget(&model),
                    }
                    self.forget_unused().await;
                }
                () = intake.cancelled() => return Ok(()),
            }
            let wanted = states.borrow_and_update().clone();
            refusals.keep(&wanted, Instant::now());
            let due: Vec<_> = wanted.into_values().filter(|state| self.is_due(state, &pursued, &refusals)).collect();
            for state in due {
                pursued.insert(state.model.clone());
                pursuits.push(self.pursue(state));
            }
        }
    }

    /// Whether a pursuit should start: something else is served, nobody is at it, it did not fail just now, and the deployment was
    /// not deleted meanwhile.
    fn is_due(&self, state: &DesiredState, pursued: &BTreeSet<ModelName>, refusals: &Refusals) -> bool {
        let assignment = state.assignment(&self.replica);
        if pursued.contains(&state.model) || refusals.rests(&state.model, assignment) {
            return false;
        }
        let Some(slot) = self.catalog.find(state.model.as_str()) else { return false };
        let progress = slot.progress();
        !serves(&slot, assignment.version) || progress.generation != assignment.generation || progress.failure.is_some()
    }

    /// Tries once to serve what a state assigns, unless it is overtaken by a newer one. Returns the model, and the assignment if
    /// it cannot be carried out.
    async fn pursue(&self, state: DesiredState) -> (ModelName, Option<Assignment>) {
        let assignment = state.assignment(&self.replica);
        let Some(slot) = self.catalog.find(state.model.as_str()) else { return (state.model, None) };
        let mut refused = None;
        if serves(&slot, assignment.version) {
            slot.reached(assignment.generation);
        } else {
            tokio::select! {
                loaded = self.loader.load(&state.model, assignment.version) => {
                    refused = loaded.is_err().then_some(assignment);
                    slot.meters().loaded(loaded.is_ok());
                    settle(&slot, assignment, loaded);
                }
                () = self.overtaken(&state.model, assignment.version) => {}
            }
        }
        self.changed.notify_one();
        (state.model, refused)
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
