//! Whether this replica should receive requests.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use rekindle_domain::ModelName;

use crate::{routes::RoutesByModel, serving::Catalog};

/// Readiness of one start of the replica.
///
/// Models that are deployed later never revoke readiness, and a model that cannot be served revokes it only if no other model is
/// served: whether a certain model is ready is a matter of that model.
pub(crate) struct Readiness {
    catalog: Arc<Catalog>,
    /// The models of the first routes known, from disk or from the bus; unset until some are.
    initial: OnceLock<BTreeSet<ModelName>>,
}

impl Readiness {
    /// Readiness of a replica that starts with `saved` routes.
    pub(crate) fn new(catalog: Arc<Catalog>, saved: &RoutesByModel) -> Self {
        let readiness = Self { catalog, initial: OnceLock::new() };
        if !saved.is_empty() {
            readiness.routes_known(saved);
        }
        readiness
    }

    /// The routes are known. Only the first call has an effect.
    pub(crate) fn routes_known(&self, routes: &RoutesByModel) {
        self.initial.get_or_init(|| routes.keys().cloned().collect());
    }

    /// Whether the routes are known, and each of the initial models is served or has failed to load.
    pub(crate) fn is_ready(&self) -> bool {
        self.initial.get().is_some_and(|initial| {
            let slots: Vec<_> = initial.iter().filter_map(|model| self.catalog.find(model.as_str())).collect();
            slots.is_empty() || (slots.iter().all(|slot| slot.is_settled()) && self.catalog.serves_any())
        })
    }
}
