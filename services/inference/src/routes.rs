//! Routes on this replica: which loaded version answers a request, and which routes this build can carry out.

mod saved;
mod watch;

use std::sync::Arc;

use rekindle_domain::Routes;

pub(crate) use self::{
    saved::{RoutesByModel, SavedRoutes},
    watch::RoutesWatch,
};
use crate::{
    error::RequestError,
    serving::{LoadedVersion, Slot},
    tensor::shortened,
};

/// The version that answers a request: the primary version, or the loaded version whose number is `requested`.
pub(crate) fn select(slot: &Slot, requested: &str) -> Result<Arc<LoadedVersion>, RequestError> {
    let snapshot = slot.snapshot();
    let Some(primary) = snapshot.primary() else {
        return Err(RequestError::ModelLoading { model: slot.model().clone() });
    };
    if requested.is_empty() || requested == primary.number {
        return Ok(Arc::clone(primary));
    }
    if let Some(version) = snapshot.loaded().find(|version| version.number == requested) {
        return Ok(Arc::clone(version));
    }
    let served: Vec<_> = snapshot.loaded().map(|version| version.number.as_str()).collect();
    Err(RequestError::VersionNotServed {
        model: slot.model().clone(),
        requested: shortened(requested),
        served: served.join(" or "),
    })
}

/// Why the routes cannot be carried out in full, if they cannot: this build sends every request to the primary version.
pub(crate) fn unsupported(routes: &Routes) -> Option<String> {
    let weighted = routes.weighted.iter().map(|route| format!("a weighted route to version {}", route.version.version));
    let shadow = routes.shadow.iter().map(|version| format!("a shadow route to version {}", version.version));
    let unsupported: Vec<_> = weighted.chain(shadow).collect();
    (!unsupported.is_empty()).then(|| {
        format!(
            "this replica does not support {}: the primary version answers every request",
            unsupported.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{Digest, VersionRef, routes::WeightedVersion};

    use super::*;
    use crate::serving::{
        Catalog, Progress,
        fixture::{loaded, model},
    };

    #[test]
    fn a_request_is_answered_by_the_primary_version_or_by_the_loaded_version_that_it_names() {
        let slot = Catalog::default().slot(&model());
        let error = select(&slot, "").err().expect("nothing is loaded");
        assert!(matches!(error, RequestError::ModelLoading { .. }), "{error}");
        slot.serve(&loaded(8), &[loaded(7)], &Progress::default());
        for (requested, answers) in [("", "8"), ("8", "8"), ("7", "7")] {
            assert_eq!(select(&slot, requested).expect("loaded").number, answers);
        }
        let error = select(&slot, "07").err().expect("not loaded").to_string();
        assert!(error.ends_with("request version 7 or 8, or no version"), "{error}");
    }

    #[test]
    fn weighted_and_shadow_routes_are_declared_unsupported() {
        let version = |number: u32| VersionRef { version: number, bundle: Digest::of(b"bundle") };
        let plain = Routes::to("flight-delay".parse().expect("a name"), 1, version(1));
        assert_eq!(unsupported(&plain), None);
        let weighted = vec![WeightedVersion { version: version(2), weight: 100 }];
        let split = Routes { weighted, shadow: Some(version(3)), ..plain };
        assert_eq!(
            unsupported(&split).expect("not supported"),
            "this replica does not support a weighted route to version 2 and a shadow route to version 3: \
             the primary version answers every request"
        );
    }
}
