//! The reconciler: routes in, loaded versions out.
//!
//! One path handles a change, a restart and a missed message: what the latest routes assign to this replica is compared with what is
//! served, and a version that differs is loaded beside it. Until that version is warmed up, or if it cannot be loaded, the earlier
//! one keeps answering.

mod backoff;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_domain::{Assignment, ModelName, ReplicaId, Routes, VersionRef};
use rekindle_service::chain;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use crate::{
    Error,
    loader::Loader,
    routes::{RoutesByModel, SavedRoutes, unsupported},
    serving::{Catalog, LoadedVersion, Progress, Slot},
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
        !snapshot.serves(assignment.version)
            || progress.generation != assignment.generation
            || progress.failure.is_some()
    }

    /// Tries once to carry out routes, unless other routes supersede them.
    async fn attempt(&self, routes: Routes) -> Attempt {
        let assignment = routes.assignment(&self.replica);
        let Assignment { version, generation } = assignment;
        let mut failed = None;
        if let Some(slot) = self.catalog.find(routes.model.as_str()) {
            let progress = Progress { generation, failure: unsupported(&routes) };
            if slot.snapshot().serves(version) {
                failed = progress.failure.is_some().then_some(assignment);
                set_progress(&slot, progress);
            } else {
                tokio::select! {
                    loaded = self.loader.load(&routes.model, version) => {
                        failed = (loaded.is_err() || progress.failure.is_some()).then_some(assignment);
                        slot.metrics().record_load(&loaded);
                        settle(&slot, version, progress, loaded);
                    }
                    () = self.superseded(&routes.model, version) => {}
                }
            }
            self.changed.notify_one();
        }
        Attempt { model: routes.model, failed }
    }

    /// Waits until another version, or none, is assigned.
    async fn superseded(&self, model: &ModelName, version: VersionRef) {
        let is_other = |routes: &RoutesByModel| {
            routes.get(model).is_none_or(|routes| routes.assignment(&self.replica).version != version)
        };
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

/// Serves a version that was loaded, or reports why it was not.
fn settle(slot: &Slot, version: VersionRef, progress: Progress, loaded: Result<Arc<LoadedVersion>, Error>) {
    let (model, number, generation) = (slot.model(), version.version, progress.generation);
    match loaded {
        Ok(loaded) => {
            log_failure(slot, &progress);
            slot.serve(&loaded, &[], &progress);
            tracing::info!(%model, version = number, bundle = %version.bundle, generation, "serving");
        }
        Err(error) => set_progress(slot, Progress { failure: Some(chain(&error)), ..progress }),
    }
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
