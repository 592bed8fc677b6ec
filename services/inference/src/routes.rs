//! Routes on this replica: which loaded version answers a request, and why.
//!
//! A request that names no version is answered by a weighted version or by the primary version. With a routing key, the same version
//! answers all requests of the key as long as the weights stay: the key is hashed to a point of the weights. Without one, the request's id is.

mod saved;
mod watch;

use std::{borrow::Cow, hash::Hasher as _, sync::Arc};

use rekindle_domain::{ModelName, PredictionId, routes::TOTAL_WEIGHT};
use twox_hash::XxHash3_64;

pub(crate) use self::{
    saved::{RoutesByModel, SavedRoutes},
    watch::RoutesWatch,
};
use crate::{
    error::RequestError,
    serving::{LoadedVersion, Slot, Snapshot},
    tensor::shortened,
};

/// Why a version answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// It is the primary version.
    Primary,
    /// It takes a share of the requests, and its weight took this one.
    Weight,
    /// It takes a share of the requests, and the request's routing key belongs to its share.
    Key,
    /// The request names it.
    Requested,
}

impl Route {
    /// The value of the answer's parameter `route`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Weight => "weight",
            Self::Key => "routing_key",
            Self::Requested => "version",
        }
    }
}

/// The version that answers a request, and why: the loaded version whose number is `requested`, or one that the routes select.
/// `routing_key` is called only if requests are shared between versions.
pub(crate) fn select<'a>(
    slot: &Slot,
    requested: &str,
    request: PredictionId,
    routing_key: impl FnOnce() -> Option<Cow<'a, [u8]>>,
) -> Result<(Arc<LoadedVersion>, Route), RequestError> {
    let snapshot = slot.snapshot();
    let primary = addressed(slot, &snapshot, requested)?;
    if !requested.is_empty() {
        return Ok((primary, Route::Requested));
    }
    if !snapshot.is_split() {
        return Ok((primary, Route::Primary));
    }
    let key = routing_key();
    let route = if key.is_some() { Route::Key } else { Route::Weight };
    let point = point(slot.model(), key.as_deref().unwrap_or(request.uuid().as_bytes()));
    let (mut upper, mut selected) = (0, None);
    for (weight, version) in snapshot.weighted() {
        upper += weight;
        if point < upper {
            selected = Some(version);
            break;
        }
    }
    Ok(selected.map_or((primary, Route::Primary), |version| (Arc::clone(version), route)))
}

/// The loaded version whose number is `requested`, or the primary version.
pub(crate) fn find(slot: &Slot, requested: &str) -> Result<Arc<LoadedVersion>, RequestError> {
    addressed(slot, &slot.snapshot(), requested)
}

fn addressed(slot: &Slot, snapshot: &Snapshot, requested: &str) -> Result<Arc<LoadedVersion>, RequestError> {
    let Some(primary) = snapshot.primary() else {
        return Err(RequestError::ModelLoading { model: slot.model().clone() });
    };
    let mut loaded = snapshot.loaded();
    let found = if requested.is_empty() { Some(primary) } else { loaded.find(|version| version.number == requested) };
    if let Some(version) = found {
        return Ok(Arc::clone(version));
    }
    let served: Vec<_> = snapshot.loaded().map(|version| version.number.as_str()).collect();
    Err(RequestError::VersionNotServed {
        model: slot.model().clone(),
        requested: shortened(requested),
        served: served.join(" or "),
    })
}

/// A key as a point of the weights, 0 to [`TOTAL_WEIGHT`]. The shares of two models are independent of each other.
fn point(model: &ModelName, key: &[u8]) -> u32 {
    let mut hasher = XxHash3_64::new();
    hasher.write(model.as_str().as_bytes());
    hasher.write_u8(0);
    hasher.write(key);
    // The high half of a product with a hash is uniform to within 2^-50.
    let product = u128::from(hasher.finish()) * u128::from(TOTAL_WEIGHT);
    u32::try_from(product >> u64::BITS).unwrap_or(TOTAL_WEIGHT - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::serving::{
        Catalog, Progress, Versions,
        fixture::{loaded, model},
    };

    fn id(number: u128) -> PredictionId {
        PredictionId::new(Uuid::from_u128(number))
    }

    fn answers(slot: &Slot, requested: &str, key: Option<&str>, number: u128) -> (u32, Route) {
        let (version, route) =
            select(slot, requested, id(number), || key.map(|key| key.as_bytes().into())).expect("a version is loaded");
        (version.version.version, route)
    }

    #[test]
    fn a_request_is_answered_by_the_primary_version_or_by_the_loaded_version_that_it_names() {
        let slot = Catalog::default().slot(&model());
        let error = select(&slot, "", id(0), || None).err().expect("nothing is loaded");
        assert!(matches!(error, RequestError::ModelLoading { .. }), "{error}");
        let shadow = Some(loaded(7));
        slot.serve(&Versions { shadow, ..Versions::only(&loaded(8)) }, &Progress::default());
        assert_eq!(answers(&slot, "", Some("key"), 1), (8, Route::Primary));
        assert_eq!(answers(&slot, "8", None, 1), (8, Route::Requested));
        assert_eq!(answers(&slot, "7", None, 1), (7, Route::Requested));
        let error = select(&slot, "07", id(0), || None).err().expect("not loaded").to_string();
        assert!(error.ends_with("request version 7 or 8, or no version"), "{error}");
    }

    /// Of 20,000 requests at a share of p, the number of a version deviates from its mean by less than five standard deviations.
    #[test]
    fn weighted_versions_get_their_shares_with_keys_and_without() {
        const REQUESTS: u32 = 20_000;
        let slot = Catalog::default().slot(&model());
        let weighted = vec![(1_000, loaded(2)), (2_500, loaded(3))];
        slot.serve(&Versions { weighted, ..Versions::only(&loaded(1)) }, &Progress::default());
        for with_key in [false, true] {
            let mut counts = BTreeMap::<u32, f64>::new();
            for n in 0..REQUESTS {
                let key = with_key.then(|| format!("user-{n}"));
                *counts.entry(answers(&slot, "", key.as_deref(), n.into()).0).or_default() += 1.0;
            }
            for (version, share) in [(1, 0.65), (2, 0.1), (3, 0.25)] {
                let (mean, n) = (share * f64::from(REQUESTS), f64::from(REQUESTS));
                let deviation = (n * share * (1.0 - share)).sqrt();
                assert!((counts[&version] - mean).abs() < 5.0 * deviation, "{version}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_key_stays_with_its_version_and_a_greater_weight_takes_keys_only_from_the_primary_version() {
        let slot = Catalog::default().slot(&model());
        let (primary, canary) = (loaded(1), loaded(2));
        let serve = |weight: u32| {
            let weighted = vec![(weight, Arc::clone(&canary))];
            slot.serve(&Versions { weighted, ..Versions::only(&primary) }, &Progress::default());
            (0..1_000).map(|n| answers(&slot, "", Some(&format!("user-{n}")), n).0).collect::<Vec<_>>()
        };
        let (first, again, more) = (serve(1_000), serve(1_000), serve(3_000));
        assert_eq!(first, again);
        assert!(first.iter().zip(&more).all(|(before, after)| before <= after), "no key leaves the canary");
        assert!(more.iter().filter(|&&version| version == 2).count() > first.iter().filter(|&&v| v == 2).count());
    }
}
