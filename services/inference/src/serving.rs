//! Which version of each model answers, and what is counted about it.
//!
//! Lookups take no lock: the catalog and the version behind each model are swapped whole. A request that began on
//! one version finishes on it; the version is freed when its last request has ended.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rekindle_domain::{Digest, ModelName, ReplicaId, ServedModel, VersionRef};
use rekindle_model::{Manifest, Model};
use rekindle_proto::inference::{InferParameter, infer_parameter::ParameterChoice};

use crate::{log::LogShape, meters::Meters, output::OutputPlan, tensor::InputPlan};

/// One warmed-up version, with everything about its answers that is the same for each.
pub(crate) struct Serving {
    /// The version.
    pub(crate) version: VersionRef,
    /// The version's number, as answers tell it.
    pub(crate) number: String,
    /// Predicts.
    pub(crate) model: Model,
    /// How requests are read.
    pub(crate) inputs: InputPlan,
    /// How answers are written.
    pub(crate) outputs: OutputPlan,
    /// How its rows are logged.
    pub(crate) log: Arc<LogShape>,
    /// Response parameters, all but `prediction_id`.
    pub(crate) parameters: HashMap<String, InferParameter>,
    /// Every blob of its bundle, the manifest among them.
    pub(crate) blobs: Vec<Digest>,
    /// Requests answered.
    pub(crate) answered: AtomicU64,
    /// Requests that failed inside the model.
    pub(crate) failed: AtomicU64,
}

/// A text as a parameter.
pub(crate) fn text_parameter(text: String) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(text)) }
}

/// What every answer of a version says about where it came from.
pub(crate) fn provenance_parameters(
    manifest: &Manifest,
    bundle: Digest,
    replica: &ReplicaId,
) -> HashMap<String, InferParameter> {
    let provenance = &manifest.provenance;
    let datasets: Vec<_> = provenance.dataset_digests.iter().map(ToString::to_string).collect();
    [
        ("bundle_digest", bundle.to_string()),
        ("run_id", provenance.run_id.clone()),
        ("dataset_digests", datasets.join(",")),
        ("code_revision", provenance.code_revision.clone()),
        ("replica", replica.as_str().to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), text_parameter(value)))
    .collect()
}

/// One model's place on this replica.
pub(crate) struct Slot {
    model: ModelName,
    serving: ArcSwapOption<Serving>,
    in_flight: AtomicU64,
    progress: Mutex<Progress>,
    meters: Meters,
}

/// How far the slot has followed the desired state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The latest generation that was carried out or refused.
    pub(crate) generation: u64,
    /// Why it was refused.
    pub(crate) failure: Option<String>,
}

impl Slot {
    fn new(model: ModelName) -> Self {
        Self {
            meters: Meters::new(&model),
            model,
            serving: ArcSwapOption::empty(),
            in_flight: AtomicU64::new(0),
            progress: Mutex::default(),
        }
    }

    /// The model's name.
    pub(crate) fn model(&self) -> &ModelName {
        &self.model
    }

    /// Where requests for the model are counted.
    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// The version that answers now.
    pub(crate) fn serving(&self) -> Option<Arc<Serving>> {
        self.serving.load_full()
    }

    /// How far the slot has followed the desired state.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a version answers, or it is known why none does.
    pub(crate) fn is_settled(&self) -> bool {
        self.serving.load().is_some() || self.progress().failure.is_some()
    }

    /// Puts `serving` in place of whatever answered before, having carried out `generation`.
    pub(crate) fn swap(&self, serving: Arc<Serving>, generation: u64) {
        self.serving.store(Some(serving));
        self.reached(generation);
    }

    /// `generation` asks for what is served already.
    pub(crate) fn reached(&self, generation: u64) {
        self.set_progress(Progress { generation, failure: None });
    }

    /// `generation` cannot be carried out; what was served still is.
    pub(crate) fn refuse(&self, generation: u64, failure: String) {
        self.set_progress(Progress { generation, failure: Some(failure) });
    }

    fn set_progress(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Counts a request in until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    fn state(&self) -> ServedModel {
        let (serving, progress) = (self.serving(), self.progress());
        let count = |of: fn(&Serving) -> &AtomicU64| serving.as_deref().map_or(0, |serving| of(serving).load(Relaxed));
        ServedModel {
            serving: serving.as_ref().map(|serving| serving.version),
            generation: progress.generation,
            failure: progress.failure,
            answered: count(|serving| &serving.answered),
            failed: count(|serving| &serving.failed),
            in_flight: self.in_flight.load(Relaxed),
        }
    }
}

/// A request being answered.
pub(crate) struct InFlight(Arc<Slot>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Every model that this replica has been asked to serve.
#[derive(Default)]
pub(crate) struct Catalog {
    slots: ArcSwap<HashMap<String, Arc<Slot>>>,
}

impl Catalog {
    /// The place of a model, by the text in a request.
    pub(crate) fn find(&self, model: &str) -> Option<Arc<Slot>> {
        self.slots.load().get(model).cloned()
    }

    /// The place of a model, made if there is none.
    pub(crate) fn place(&self, model: &ModelName) -> Arc<Slot> {
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

    /// Forgets a model: new requests for it are refused, those in flight finish.
    pub(crate) fn remove(&self, model: &ModelName) {
        self.slots.rcu(|slots| {
            let mut slots = HashMap::clone(slots);
            slots.remove(model.as_str());
            slots
        });
    }

    /// The actual state of every model.
    pub(crate) fn state(&self) -> BTreeMap<ModelName, ServedModel> {
        self.slots.load().values().map(|slot| (slot.model.clone(), slot.state())).collect()
    }

    /// Every place.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.load().values().cloned().collect()
    }

    /// Whether any model has a version that answers.
    pub(crate) fn serves_any(&self) -> bool {
        self.slots.load().values().any(|slot| slot.serving.load().is_some())
    }
}
