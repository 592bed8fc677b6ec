//! The models of this replica as the repository of the protocol: what it serves, what it cannot serve, and what it is asked to load.
//!
//! Deployments decide what a replica loads. So loading a model that is served succeeds and changes nothing, and everything else is refused.

use std::sync::Arc;

use rekindle_bundle::Datatype;

use crate::{
    error::RequestError,
    infer::{Engine, Target},
    serving::{LoadedVersion, Slot},
    tensor::shortened,
};

/// The name of a type in the configuration of a model.
pub(crate) const fn data_type(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "TYPE_BOOL",
        Datatype::Int64 => "TYPE_INT64",
        Datatype::Fp32 => "TYPE_FP32",
        Datatype::Fp64 => "TYPE_FP64",
        Datatype::Bytes => "TYPE_STRING",
    }
}

/// One entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The model.
    pub(crate) name: String,
    /// The version; empty if none is loaded.
    pub(crate) version: String,
    /// READY, LOADING or UNAVAILABLE.
    pub(crate) state: &'static str,
    /// Why it is not ready.
    pub(crate) reason: String,
}

/// The index of `slots`; with `ready`, of what is served only.
pub(crate) fn index(slots: &[Arc<Slot>], ready: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    for slot in slots {
        let (name, snapshot) = (slot.model().to_string(), slot.snapshot());
        let served = snapshot.loaded().map(|version| Entry {
            name: name.clone(),
            version: version.number.clone(),
            state: "READY",
            reason: String::new(),
        });
        entries.extend(served);
        let is_loading = snapshot.primary().is_none();
        match &snapshot.progress().failure {
            _ if ready => {}
            Some(reason) => {
                entries.push(Entry { name, version: String::new(), state: "UNAVAILABLE", reason: reason.clone() });
            }
            None if is_loading => {
                entries.push(Entry { name, version: String::new(), state: "LOADING", reason: String::new() });
            }
            None => {}
        }
    }
    entries
}

impl Engine {
    /// The loaded versions that `target` names: one, all of a model, or all of every model.
    pub(crate) fn versions(&self, target: Target<'_>) -> Result<Vec<Arc<LoadedVersion>>, RequestError> {
        if !target.version.is_empty() {
            return self.find(target).map(|version| vec![version]);
        }
        let slots = if target.model.is_empty() { self.slots() } else { vec![self.slot(target.model)?] };
        Ok(slots.iter().flat_map(|slot| slot.snapshot().loaded().cloned().collect::<Vec<_>>()).collect())
    }

    /// Succeeds if the model is served. `parameters` are those of the call: the replica takes neither files nor a configuration.
    pub(crate) fn load<'a>(
        &self,
        model: &str,
        mut parameters: impl Iterator<Item = &'a str>,
    ) -> Result<(), RequestError> {
        if let Some(parameter) = parameters.next() {
            return Err(RequestError::NotLoadable {
                model: shortened(model),
                problem: format!("the parameter {:?} is not supported", shortened(parameter)),
            });
        }
        self.find(Target { model, version: "" }).map(drop)
    }

    /// Why the model is not unloaded.
    pub(crate) fn unload(&self, model: &str) -> RequestError {
        match self.slot(model) {
            Err(error) => error,
            Ok(_) => RequestError::NotLoadable {
                model: shortened(model),
                problem: "a replica does not unload a model that is deployed".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::{
        Catalog, Progress, Versions,
        fixture::{loaded, model},
    };

    #[test]
    fn the_index_lists_what_is_served_and_why_the_rest_is_not() {
        let slot = Catalog::default().slot(&model());
        let states = |ready| index(&[Arc::clone(&slot)], ready).iter().map(|entry| entry.state).collect::<Vec<_>>();
        assert_eq!((states(false), states(true)), (vec!["LOADING"], vec![]));
        slot.serve(&Versions::only(&loaded(2)), &Progress { generation: 1, failure: None });
        assert_eq!((states(false), states(true)), (vec!["READY"], vec!["READY"]));
        slot.set_progress(Progress { generation: 2, failure: Some("no such blob".to_owned()) });
        assert_eq!((states(false), states(true)), (vec!["READY", "UNAVAILABLE"], vec!["READY"]));
        assert_eq!(index(&[slot], false)[1].reason, "no such blob");
    }
}
