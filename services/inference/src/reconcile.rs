//! The reconciler: routes in, loaded versions out.
//!
//! One path handles a change, a restart and a missed message: what the latest routes assign to this replica is compared with what is
//! served, and a version that differs is loaded beside it. Until that version is warmed up, or if it cannot be loaded, the earlier
//! one keeps answering.

mod backoff;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_domain::{Assignment, ModelName, ReplicaId, Routes, VersionRef, routes::WeightedVersion};
use rekindle_service::chain;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use crate::{
    Error,
    loader::Loader,
    routes::{RoutesByModel, SavedRoutes},
    serving::{Catalog, LoadedVersion, Progress, Slot, Versions},
};

/// Carries out routes on this replica.
pub(crate) struct Reconciler {
    /// The replica.
    pub(crate) replica: ReplicaId,
    /// What is served.
    pub(crate) catalog: Arc<Catalog>,
    /// Loads versions.
    pub(crate) loader: Loader,
    /// The desired state.
    pub(crate) saved: Arc<SavedRoutes>,
    /// How long after a failure the same assignment is retried.
    pub(crate) retry_interval: Duration,
    /// Notified when the actual state has changed.
    pub(crate) changed: Arc<Notify>,
}

/// The end of one attempt to carry out an assignment.
struct Attempt {
    model: ModelName,
    /// The assignment, if it was not carried out in full.
    failed: Option<Assignment>,
}

impl Reconciler {
    /// Carries out assignments until `intake` ends: when they change, and failed ones also after the retry interval and when an object
    /// store is attached.
    pub(crate) async fn run(&self, intake: CancellationToken) -> Result<(), Error> {
        let mut routes = self.saved.subscribe();
        routes.mark_changed();
        let mut artifacts = self.loader.artifacts.clone();
        let mut active = BTreeSet::new();
        let mut backoff = Backoff::new(self.retry_interval);
        let mut attempts = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = routes.changed() => {}
                Ok(()) = artifacts.changed() => backoff.clear_all(),
                () = backoff.next_due() => {}
                Some(Attempt { model, failed }) = attempts.next() => {
                    active.remove(&model);
                    match failed {
                        Some(assignment) => backoff.delay(model, assignment, Instant::now()),
                        None => backoff.clear(&model),
                    }
                    self.prune_cache().await;
                }
                () = intake.cancelled() => return Ok(()),
            }
            let desired = routes.borrow_and_update().clone();
            backoff.retain(&desired, Instant::now());
            let due: Vec<_> = desired.into_values().filter(|routes| self.is_due(routes, &active, &backoff)).collect();
            for routes in due {
                active.insert(routes.model.clone());
                attempts.push(self.attempt(routes));
            }
        }
    }

    /// Whether an attempt should start: the assignment is not carried out, none is active, none failed recently, and the deployment
    /// was not deleted meanwhile.
    fn is_due(&self, routes: &Routes, active: &BTreeSet<ModelName>, backoff: &Backoff) -> bool {
        let assignment = routes.assignment(&self.replica);
        if active.contains(&routes.model) || backoff.is_delayed(&routes.model, assignment) {
            return false;
        }
        let Some(slot) = self.catalog.find(routes.model.as_str()) else { return false };
        let snapshot = slot.snapshot();
        let progress = snapshot.progress();
        !snapshot.serves(
            assignment.version,
            &weighted(&routes.weighted, assignment.version),
            shadow(routes, assignment),
        ) || progress.generation != assignment.generation
            || progress.failure.is_some()
    }

    /// Tries once to carry out routes, unless other routes supersede them.
    async fn attempt(&self, routes: Routes) -> Attempt {
        let assignment = routes.assignment(&self.replica);
        let mut failed = None;
        if let Some(slot) = self.catalog.find(routes.model.as_str()) {
            tokio::select! {
                failure = self.carry_out(&slot, &routes, assignment) => failed = failure.map(|()| assignment),
                () = self.superseded(&routes) => {}
            }
            self.changed.notify_one();
        }
        Attempt { model: routes.model, failed }
    }

    /// Loads the versions of the routes that are not loaded, and serves them. Returns whether something failed. Without the primary version
    /// nothing changes; without another one, the primary version answers its requests.
    async fn carry_out(&self, slot: &Slot, routes: &Routes, assignment: Assignment) -> Option<()> {
        let Assignment { version, generation } = assignment;
        let (primary, mut failures) = (self.version(slot, version).await, Vec::new());
        let primary = match primary {
            Ok(primary) => primary,
            Err(error) => {
                set_progress(slot, Progress { generation, failure: Some(chain(&error)) });
                return Some(());
            }
        };
        let mut versions = Versions { primary, weighted: Vec::new(), shadow: None };
        for route in weighted(&routes.weighted, version) {
            match self.version(slot, route.version).await {
                Ok(loaded) => versions.weighted.push((route.weight, loaded)),
                Err(error) => failures.push(format!("version {}: {}", route.version.version, chain(&error))),
            }
        }
        if let Some(shadow) = shadow(routes, assignment) {
            match self.version(slot, shadow).await {
                Ok(loaded) => versions.shadow = Some(loaded),
                Err(error) => failures.push(format!("shadow version {}: {}", shadow.version, chain(&error))),
            }
        }
        let failure = (!failures.is_empty()).then(|| failures.join("; "));
        let progress = Progress { generation, failure };
        log_failure(slot, &progress);
        let is_change = !slot.snapshot().has(&versions);
        slot.serve(&versions, &progress);
        if is_change {
            let (model, number) = (slot.model(), version.version);
            tracing::info!(%model, version = number, bundle = %version.bundle, generation, "serving");
        }
        progress.failure.map(drop)
    }

    /// A version of the model: the one that is loaded, or freshly loaded.
    async fn version(&self, slot: &Slot, version: VersionRef) -> Result<Arc<LoadedVersion>, Error> {
        if let Some(loaded) = slot.snapshot().version(version) {
            return Ok(Arc::clone(loaded));
        }
        let loaded = self.loader.load(slot.model(), version, slot.recent().requests()).await;
        slot.metrics().record_load(&loaded);
        loaded
    }

    /// Waits until the routes assign other versions, or none.
    async fn superseded(&self, routes: &Routes) {
        let versions = |routes: &Routes| {
            let assignment = routes.assignment(&self.replica);
            (assignment.version, weighted(&routes.weighted, assignment.version), shadow(routes, assignment))
        };
        let present = versions(routes);
        let is_other =
            |desired: &RoutesByModel| desired.get(&routes.model).is_none_or(|other| versions(other) != present);
        // The sender outlives this reconciler, so the wait does not fail.
        drop(self.saved.subscribe().wait_for(is_other).await);
    }

    async fn prune_cache(&self) {
        let slots = self.catalog.slots();
        let keep = slots
            .iter()
            .flat_map(|slot| slot.snapshot().loaded().flat_map(|version| version.blobs.clone()).collect::<Vec<_>>())
            .collect();
        if let Err(error) = self.loader.cache.prune(keep).await {
            tracing::warn!(error = chain(&error), "failed to prune the cache");
        }
    }
}

/// The weighted routes to other versions than the primary one. During a rollout, a weighted version may become the primary version of a
/// replica.
fn weighted(routes: &[WeightedVersion], primary: VersionRef) -> Vec<WeightedVersion> {
    routes.iter().filter(|route| route.version != primary).copied().collect()
}

/// The shadow version, unless it is the primary version.
fn shadow(routes: &Routes, assignment: Assignment) -> Option<VersionRef> {
    routes.shadow.filter(|&shadow| shadow != assignment.version)
}

fn set_progress(slot: &Slot, progress: Progress) {
    log_failure(slot, &progress);
    slot.set_progress(progress);
}

/// Logs a failure. A retry that fails in the same way is not logged again.
fn log_failure(slot: &Slot, progress: &Progress) {
    if let Some(failure) = &progress.failure
        && slot.snapshot().progress() != progress
    {
        tracing::error!(error = failure, model = %slot.model(), generation = progress.generation, "failed to carry out routes");
    }
}
