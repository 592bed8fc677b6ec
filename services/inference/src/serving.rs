//! The models that this replica serves, and the versions of each that are loaded.
//!
//! Lookups take no lock: the catalog and the state of each slot are replaced as a whole. A request that began on one version ends on
//! it; the version is freed when its last request has ended.

#[cfg(test)]
pub(crate) mod fixture;
mod recent;
mod reference;
mod version;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use arc_swap::{ArcSwap, Guard};
use rekindle_domain::{ModelName, ServedModel, VersionRef, routes::WeightedVersion};

pub(crate) use self::{
    recent::Recent,
    reference::{ReferenceData, Seen},
    version::{InFlight, LoadedVersion, ModelSettings},
};
use crate::metrics::Metrics;

/// One model on this replica.
pub(crate) struct Slot {
    model: ModelName,
    snapshot: ArcSwap<Snapshot>,
    metrics: Metrics,
    recent: Recent,
}

/// What a slot serves, and how far it has carried out its routes. A change replaces it as a whole.
#[derive(Default, Clone)]
pub(crate) struct Snapshot {
    loaded: BTreeMap<u32, Arc<LoadedVersion>>,
    /// The number of the version that answers requests which name none, and which no weighted version takes.
    primary: Option<u32>,
    /// Versions that answer a share of the requests which name none, with their weights.
    weighted: Vec<WeightedVersion>,
    /// The version that gets a copy of the requests.
    shadow: Option<u32>,
    /// Versions that take no new requests and may have some in flight.
    draining: Vec<Weak<LoadedVersion>>,
    progress: Progress,
}

/// The versions of one model to serve.
#[derive(Clone)]
pub(crate) struct Versions {
    /// Answers requests that name no version.
    pub(crate) primary: Arc<LoadedVersion>,
    /// Answer a share of them instead.
    pub(crate) weighted: Vec<(u32, Arc<LoadedVersion>)>,
    /// Gets a copy of them.
    pub(crate) shadow: Option<Arc<LoadedVersion>>,
}

impl Versions {
    /// A version that answers every request.
    #[cfg(test)]
    pub(crate) fn only(primary: &Arc<LoadedVersion>) -> Self {
        Self { primary: Arc::clone(primary), weighted: Vec::new(), shadow: None }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<LoadedVersion>> {
        self.weighted.iter().map(|(_, version)| version).chain(&self.shadow).chain([&self.primary])
    }
}

/// How far a slot has carried out its routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The latest generation that was carried out or has failed.
    pub(crate) generation: u64,
    /// Why it was not carried out, or not in full.
    pub(crate) failure: Option<String>,
}

impl Snapshot {
    /// Inputs of loaded versions whose values are not logged.
    pub(crate) fn redacted(&self) -> BTreeSet<String> {
        self.loaded.values().flat_map(|version| &version.redacted).cloned().collect()
    }

    /// The version that answers requests which name none.
    pub(crate) fn primary(&self) -> Option<&Arc<LoadedVersion>> {
        self.loaded.get(&self.primary?)
    }

    /// The version that gets a copy of the requests.
    pub(crate) fn shadow(&self) -> Option<&Arc<LoadedVersion>> {
        self.loaded.get(&self.shadow?)
    }

    /// The weighted versions, with their weights.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = (u32, &Arc<LoadedVersion>)> {
        self.weighted.iter().filter_map(|route| Some((route.weight, self.loaded.get(&route.version.version)?)))
    }

    /// Whether requests are shared between versions.
    pub(crate) fn is_split(&self) -> bool {
        !self.weighted.is_empty()
    }

    /// The loaded version, if it is this one.
    pub(crate) fn version(&self, version: VersionRef) -> Option<&Arc<LoadedVersion>> {
        self.loaded.get(&version.version).filter(|loaded| loaded.version == version)
    }

    /// Whether these versions are served in these roles.
    pub(crate) fn serves(&self, primary: VersionRef, weighted: &[WeightedVersion], shadow: Option<VersionRef>) -> bool {
        let serves_shadow = match shadow {
            None => self.shadow.is_none(),
            Some(shadow) => self.shadow().is_some_and(|version| version.version == shadow),
        };
        let primary = self.primary().is_some_and(|version| version.version == primary);
        primary && serves_shadow && self.weighted == weighted
    }

    /// Whether exactly these versions are served, in these roles.
    pub(crate) fn has(&self, versions: &Versions) -> bool {
        let same = |one: Option<&Arc<LoadedVersion>>, other: Option<&Arc<LoadedVersion>>| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let weighted = versions.weighted.iter().map(|(weight, version)| (*weight, version));
        same(self.primary(), Some(&versions.primary))
            && same(self.shadow(), versions.shadow.as_ref())
            && self
                .weighted()
                .map(|(weight, version)| (weight, Arc::as_ptr(version)))
                .eq(weighted.map(|(weight, version)| (weight, Arc::as_ptr(version))))
    }

    /// Every version that takes requests.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &Arc<LoadedVersion>> {
        self.loaded.values()
    }

    /// How far the routes are carried out.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The snapshot in which these versions replace all others, which drain.
    fn replaced_by(&self, versions: &Versions, progress: Progress) -> Self {
        let number = |version: &Arc<LoadedVersion>| version.version.version;
        let loaded: BTreeMap<_, _> = versions.all().map(|version| (number(version), Arc::clone(version))).collect();
        let stays = |version: &Arc<LoadedVersion>| {
            loaded.get(&number(version)).is_some_and(|loaded| Arc::ptr_eq(loaded, version))
        };
        let replaced = self.loaded.values().filter(|version| !stays(version)).map(Arc::downgrade);
        let still_draining = self.draining.iter().filter(|version| version.strong_count() > 0).cloned();
        let draining = still_draining.chain(replaced).collect();
        let weighted = versions.weighted.iter();
        let weighted = weighted.map(|(weight, version)| WeightedVersion { version: version.version, weight: *weight });
        Self {
            primary: Some(number(&versions.primary)),
            weighted: weighted.collect(),
            shadow: versions.shadow.as_ref().map(number),
            draining,
            loaded,
            progress,
        }
    }

    fn report(&self) -> ServedModel {
        ServedModel {
            primary: self.primary,
            generation: self.progress.generation,
            failure: self.progress.failure.clone(),
            versions: self.loaded.iter().map(|(&number, version)| (number, version.report())).collect(),
            draining: self.draining.iter().filter_map(Weak::upgrade).map(|version| version.report().in_flight).sum(),
            shadow: self.shadow().map(|shadow| shadow.comparison.read(shadow.version.version)),
        }
    }
}

impl Slot {
    fn new(model: ModelName) -> Self {
        Self { metrics: Metrics::new(&model), model, snapshot: ArcSwap::default(), recent: Recent::default() }
    }

    /// The model's name.
    pub(crate) fn model(&self) -> &ModelName {
        &self.model
    }

    /// The metrics of requests for the model.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Rows of recent requests.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// What the slot serves now.
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Whether a version is served, or it is known why none is.
    pub(crate) fn is_settled(&self) -> bool {
        let snapshot = self.snapshot();
        snapshot.primary.is_some() || snapshot.progress.failure.is_some()
    }

    /// Serves these versions instead of whatever was served before.
    pub(crate) fn serve(&self, versions: &Versions, progress: &Progress) {
        self.snapshot.rcu(|snapshot| snapshot.replaced_by(versions, progress.clone()));
    }

    /// Changes nothing but the progress.
    pub(crate) fn set_progress(&self, progress: Progress) {
        self.snapshot.rcu(|snapshot| Snapshot { progress: progress.clone(), ..Snapshot::clone(snapshot) });
    }
}

/// Every model that has routes.
#[derive(Default)]
pub(crate) struct Catalog {
    slots: ArcSwap<HashMap<String, Arc<Slot>>>,
}

impl Catalog {
    /// The slot of a model, by the name in a request.
    pub(crate) fn find(&self, model: &str) -> Option<Arc<Slot>> {
        self.slots.load().get(model).cloned()
    }

    /// The slot of a model, created if it does not exist.
    pub(crate) fn slot(&self, model: &ModelName) -> Arc<Slot> {
        if let Some(slot) = self.find(model.as_str()) {
            return slot;
        }
        let slot = Arc::new(Slot::new(model.clone()));
        self.slots.rcu(|slots| {
            let mut slots = HashMap::clone(slots);
            slots.entry(model.as_str().to_owned()).or_insert_with(|| Arc::clone(&slot));
            slots
        });
        self.find(model.as_str()).unwrap_or(slot)
    }

    /// Removes a model: new requests for it are refused, and those in flight end.
    pub(crate) fn remove(&self, model: &ModelName) {
        self.slots.rcu(|slots| {
            let mut slots = HashMap::clone(slots);
            slots.remove(model.as_str());
            slots
        });
    }

    /// The actual state of every model.
    pub(crate) fn report(&self) -> BTreeMap<ModelName, ServedModel> {
        self.slots.load().values().map(|slot| (slot.model.clone(), slot.snapshot().report())).collect()
    }

    /// Every slot.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.load().values().cloned().collect()
    }

    /// Whether a version of any model is served.
    pub(crate) fn serves_any(&self) -> bool {
        self.slots.load().values().any(|slot| slot.snapshot().primary.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{fixture::loaded, *};
    use crate::statistics::Stopwatch;

    fn reached(generation: u64) -> Progress {
        Progress { generation, failure: None }
    }

    #[test]
    fn a_replaced_version_drains_until_its_last_request_has_ended() {
        let catalog = Catalog::default();
        let slot = catalog.slot(&fixture::model());
        let (first, second, third) = (loaded(1), loaded(2), loaded(3));
        slot.serve(&Versions::only(&first), &reached(1));
        let in_flight = InFlight::enter(Arc::clone(&first));
        assert_eq!(slot.snapshot().report().in_flight(), 1);

        drop(first);
        slot.serve(&Versions::only(&second), &reached(2));
        let report = slot.snapshot().report();
        assert_eq!((report.primary, report.generation, report.draining), (Some(2), 2, 1));
        assert_eq!(report.versions.keys().copied().collect::<Vec<_>>(), [2], "only loaded versions take requests");

        drop(in_flight);
        slot.serve(&Versions::only(&third), &reached(3));
        let snapshot = slot.snapshot();
        assert_eq!(snapshot.report().draining, 0);
        assert_eq!(snapshot.draining.len(), 1, "the first version is freed");
    }

    #[test]
    fn a_version_that_stays_loaded_keeps_its_counters_and_does_not_drain() {
        let slot = Slot::new(fixture::model());
        let (stable, canary) = (loaded(1), loaded(2));
        slot.serve(&Versions::only(&stable), &reached(1));
        Stopwatch::new(&stable.statistics, Instant::now()).answered(1, 0);
        let split = Versions { weighted: vec![(100, Arc::clone(&stable))], ..Versions::only(&canary) };
        slot.serve(&split, &reached(2));
        let report = slot.snapshot().report();
        assert_eq!((report.versions[&1].answered, report.versions[&2].answered), (1, 0));
        assert!(slot.snapshot().draining.is_empty());
    }
}
