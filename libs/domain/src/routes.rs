//! Routes: which versions of a model answer its requests. The orchestrator writes them, and every replica carries them out.
//!
//! Routes are stored as JSON in a NATS key-value bucket and in each replica's local cache, so they are small and self-contained, and
//! they name every version by its digest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Digest, ModelName, ReplicaId,
    schema::{self, UnreadableRecord},
    validation::{Checks, Violations},
};

/// A model version as serving needs it: the number for people, the digest for verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionRef {
    /// The registered version, from 1.
    pub version: u32,
    /// The digest of its bundle manifest.
    pub bundle: Digest,
}

/// The desired state of one deployment: the value under its model's name in the bucket `rekindle-deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Stored")]
pub struct Routes {
    /// The model, and the deployment's name.
    pub model: ModelName,
    /// Increases by one with every change. A replica reports the generation that it has reached.
    pub generation: u64,
    /// Answers requests that no other route takes.
    pub primary: VersionRef,
    /// Further versions that answer a share of the requests, e.g. a canary.
    pub weighted: Vec<WeightedVersion>,
    /// A version that receives a copy of the requests, and whose predictions are not returned to the caller.
    pub shadow: Option<VersionRef>,
    /// The rollout of another primary version, while one is under way.
    pub rollout: Option<Rollout>,
}

/// A version that answers a share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedVersion {
    /// The version.
    pub version: VersionRef,
    /// Its share of the requests, out of [`TOTAL_WEIGHT`].
    pub weight: u32,
}

/// The greatest generation: the greatest whole number that every reader of JSON represents exactly. A change per microsecond reaches it after
/// 285 years.
pub const MAX_GENERATION: u64 = 1 << 53;

/// The weight of all requests. The primary version answers what the weighted versions leave.
pub const TOTAL_WEIGHT: u32 = 10_000;

/// A rolling update to another primary version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version to update to.
    pub target: VersionRef,
    /// The replicas whose primary version is the target already. The others keep [`Routes::primary`].
    pub moved: BTreeSet<ReplicaId>,
}

/// What the routes require of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The replica's primary version.
    pub version: VersionRef,
    /// The generation of the routes.
    pub generation: u64,
}

impl Routes {
    /// Routes that send every request to `primary`.
    pub fn to(model: ModelName, generation: u64, primary: VersionRef) -> Self {
        Self { model, generation, primary, weighted: Vec::new(), shadow: None, rollout: None }
    }

    /// What these routes require of `replica`.
    pub fn assignment(&self, replica: &ReplicaId) -> Assignment {
        let version = match &self.rollout {
            Some(rollout) if rollout.moved.contains(replica) => rollout.target,
            _ => self.primary,
        };
        Assignment { version, generation: self.generation }
    }

    /// Checks the weights and the generation, and that no version has two routes.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let expected = format!("1 to {MAX_GENERATION}");
        checks.require((1..=MAX_GENERATION).contains(&self.generation), "generation", self.generation, &expected);
        let mut routes = BTreeMap::from([(self.primary.version, "primary".to_owned())]);
        let mut claim = |checks: &mut Checks, field: String, version: u32| {
            if let Some(other) = routes.get(&version) {
                checks.violation(field, format!("is version {version}, as is {other}: expected another version"));
            } else {
                routes.insert(version, field);
            }
        };
        for (index, route) in self.weighted.iter().enumerate() {
            claim(&mut checks, format!("weighted[{index}].version"), route.version.version);
            checks.require(route.weight > 0, &format!("weighted[{index}].weight"), route.weight, "at least 1");
        }
        if let Some(shadow) = self.shadow {
            claim(&mut checks, "shadow".to_owned(), shadow.version);
        }
        let weights: u64 = self.weighted.iter().map(|route| u64::from(route.weight)).sum();
        let expected = format!("a sum of weights below {TOTAL_WEIGHT}, so that the primary version has a share");
        checks.require(weights < u64::from(TOTAL_WEIGHT), "weighted", weights, &expected);
        checks.finish()
    }
}

/// The latest schema of stored routes.
const SCHEMA: u64 = 2;

/// Routes as they are stored since schema 2.
#[derive(Serialize, Deserialize)]
struct Stored {
    schema: u64,
    model: ModelName,
    generation: u64,
    primary: VersionRef,
    #[serde(default)]
    weighted: Vec<WeightedVersion>,
    #[serde(default)]
    shadow: Option<VersionRef>,
    #[serde(default)]
    rollout: Option<Rollout>,
}

/// Schema 1 had one version for all requests.
#[derive(Deserialize)]
struct StoredV1 {
    model: ModelName,
    generation: u64,
    stable: VersionRef,
    #[serde(default)]
    rollout: Option<Rollout>,
}

impl From<Routes> for Stored {
    fn from(routes: Routes) -> Self {
        let Routes { model, generation, primary, weighted, shadow, rollout } = routes;
        Self { schema: SCHEMA, model, generation, primary, weighted, shadow, rollout }
    }
}

impl From<Stored> for Routes {
    fn from(stored: Stored) -> Self {
        let Stored { schema: _, model, generation, primary, weighted, shadow, rollout } = stored;
        Self { model, generation, primary, weighted, shadow, rollout }
    }
}

impl From<StoredV1> for Routes {
    fn from(stored: StoredV1) -> Self {
        Self { rollout: stored.rollout, ..Self::to(stored.model, stored.generation, stored.stable) }
    }
}

impl TryFrom<Value> for Routes {
    type Error = UnreadableRecord;

    fn try_from(record: Value) -> Result<Self, UnreadableRecord> {
        let routes: Self = match schema::version_of(&record)? {
            1 => serde_json::from_value::<StoredV1>(record)?.into(),
            SCHEMA => serde_json::from_value::<Stored>(record)?.into(),
            found => return Err(UnreadableRecord::Unsupported { found, supported: SCHEMA }),
        };
        routes.validate()?;
        Ok(routes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(number: u8) -> VersionRef {
        VersionRef { version: number.into(), bundle: Digest::of(&[number]) }
    }

    fn routes() -> Routes {
        Routes::to("flight-delay".parse().expect("a name"), 7, version(1))
    }

    fn replica(name: &str) -> ReplicaId {
        name.parse().expect("a name")
    }

    fn violations(routes: &Routes) -> String {
        routes.validate().expect_err("not valid").to_string()
    }

    #[test]
    fn a_replica_serves_the_target_only_once_the_rollout_names_it() {
        let mut routes = routes();
        assert_eq!(routes.assignment(&replica("a")).version, version(1));
        routes.rollout = Some(Rollout { target: version(2), moved: BTreeSet::from([replica("a")]) });
        assert_eq!(routes.assignment(&replica("a")).version, version(2));
        assert_eq!(routes.assignment(&replica("b")), Assignment { version: version(1), generation: 7 });
    }

    #[test]
    fn weights_leave_a_share_to_the_primary_version_and_every_version_has_one_route() {
        let canary = |number, weight| WeightedVersion { version: version(number), weight };
        let split = Routes { weighted: vec![canary(2, 500), canary(3, 9_499)], shadow: Some(version(4)), ..routes() };
        assert_eq!(split.validate(), Ok(()));

        let full = Routes { weighted: vec![canary(2, 5_000), canary(3, 5_000)], ..routes() };
        assert!(violations(&full).starts_with("weighted: is 10000: expected a sum of weights below 10000"));
        let overflowing = Routes { weighted: vec![canary(2, u32::MAX), canary(3, u32::MAX)], ..routes() };
        assert!(violations(&overflowing).starts_with("weighted: is 8589934590"));
        let unused = Routes { weighted: vec![canary(2, 0)], ..routes() };
        assert_eq!(violations(&unused), "weighted[0].weight: is 0: expected at least 1");
        let twice = Routes { weighted: vec![canary(1, 1), canary(2, 1)], shadow: Some(version(2)), ..routes() };
        assert_eq!(
            violations(&twice),
            "weighted[0].version: is version 1, as is primary: expected another version; \
             shadow: is version 2, as is weighted[1].version: expected another version"
        );
    }

    #[test]
    fn stored_routes_carry_their_schema_and_read_back_the_same() {
        let weighted = vec![WeightedVersion { version: version(2), weight: 100 }];
        let routes = Routes { weighted, shadow: Some(version(3)), ..routes() };
        let json = serde_json::to_value(&routes).expect("json");
        assert_eq!(json["schema"], 2);
        assert_eq!(serde_json::from_value::<Routes>(json).expect("reads"), routes);
    }

    #[test]
    fn routes_of_the_first_schema_are_read() {
        let json = r#"{"model":"flight-delay","generation":7,
            "stable":{"version":1,"bundle":"sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"},
            "rollout":{"target":{"version":2,
                "bundle":"sha256:dbc1b4c900ffe48d575b5da5c638040125f65db0fe3e24494b76ea986457d986"},
                "moved":["replica-0"]}}"#;
        let expected = Routes {
            rollout: Some(Rollout { target: version(2), moved: BTreeSet::from([replica("replica-0")]) }),
            ..routes()
        };
        assert_eq!(serde_json::from_str::<Routes>(json).expect("reads"), expected);
        let json = r#"{"model":"flight-delay","generation":7,"rollout":null,
            "stable":{"version":1,"bundle":"sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"}}"#;
        assert_eq!(serde_json::from_str::<Routes>(json).expect("reads"), routes());
    }

    #[test]
    fn routes_that_this_build_cannot_carry_out_are_not_read() {
        let mut json = serde_json::to_value(routes()).expect("json");
        json["schema"] = json!(3);
        let error = serde_json::from_value::<Routes>(json.clone()).expect_err("a later schema").to_string();
        assert!(error.contains("schema version 3 is not supported"), "{error}");
        json["schema"] = json!(2);
        for generation in [0, MAX_GENERATION + 1, u64::MAX] {
            let json = {
                let mut json = json.clone();
                json["generation"] = json!(generation);
                json
            };
            let error = serde_json::from_value::<Routes>(json).expect_err("out of range").to_string();
            assert!(error.contains(&format!("generation: is {generation}: expected 1 to 9007199254740992")), "{error}");
        }
        json["weighted"] = json!([{"version": version(2), "weight": 10_000}]);
        let error = serde_json::from_value::<Routes>(json).expect_err("no share is left").to_string();
        assert!(error.contains("weighted: is 10000"), "{error}");
    }
}
