//! Desired and actual state of serving: what the orchestrator writes and what the replicas answer.
//!
//! Both travel as JSON in NATS key-value buckets and lie in each replica's local cache, so they are
//! small, self-contained and name everything by digest.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Digest, ModelName, ReplicaId};

/// A model version as serving needs it: the number for people, the digest for verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionRef {
    /// The registered version, from 1.
    pub version: u32,
    /// The digest of its bundle manifest.
    pub bundle: Digest,
}

/// What one deployment should look like: the value under its model's name in `rekindle-deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// The model, and the deployment's name.
    pub model: ModelName,
    /// Grows by one with every change; a replica reports the generation it has reached.
    pub generation: u64,
    /// Served by every replica that is not named in the rollout.
    pub stable: VersionRef,
    /// A move to another version under way.
    #[serde(default)]
    pub rollout: Option<Rollout>,
}

/// A rolling move to another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version to move to.
    pub target: VersionRef,
    /// The replicas that should serve the target already; the others keep the stable version.
    pub moved: BTreeSet<ReplicaId>,
}

/// What one replica should serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The version.
    pub version: VersionRef,
    /// The generation of the desired state that asked for it.
    pub generation: u64,
}

impl DesiredState {
    /// What `replica` should serve under this state.
    pub fn assignment(&self, replica: &ReplicaId) -> Assignment {
        let version = match &self.rollout {
            Some(rollout) if rollout.moved.contains(replica) => rollout.target,
            _ => self.stable,
        };
        Assignment { version, generation: self.generation }
    }
}

/// What one replica is doing: the value under its id in `rekindle-replicas`, renewed as a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaState {
    /// The replica.
    pub replica: ReplicaId,
    /// Distinguishes two lives of the same replica; counters restart with it.
    pub incarnation: uuid::Uuid,
    /// Where its gRPC listens, as `host:port`.
    pub address: String,
    /// When it was written, by the replica's clock.
    pub reported_at: DateTime<Utc>,
    /// Per model, what is served.
    pub models: BTreeMap<ModelName, ServedModel>,
}

/// One model on one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServedModel {
    /// The version that answers now; `None` before the first has warmed up.
    pub serving: Option<VersionRef>,
    /// The latest generation that was carried out or refused.
    pub generation: u64,
    /// Why the assignment of that generation was not carried out; what was served before still is.
    #[serde(default)]
    pub failure: Option<String>,
    /// Requests that the serving version has answered since it took over.
    pub answered: u64,
    /// Requests that failed inside the serving version since it took over, not counting bad input.
    pub failed: u64,
    /// Requests being answered now, by any version.
    pub in_flight: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_serves_the_target_only_once_it_is_named() {
        let version = |n: u32| VersionRef { version: n, bundle: Digest::of(&[n as u8]) };
        let (a, b): (ReplicaId, ReplicaId) = ("a".parse().expect("name"), "b".parse().expect("name"));
        let mut desired = DesiredState {
            model: "flight-delay".parse().expect("name"),
            generation: 7,
            stable: version(1),
            rollout: None,
        };
        assert_eq!(desired.assignment(&a).version, version(1));
        desired.rollout = Some(Rollout { target: version(2), moved: BTreeSet::from([a.clone()]) });
        assert_eq!(desired.assignment(&a).version, version(2));
        assert_eq!(desired.assignment(&b), Assignment { version: version(1), generation: 7 });
    }
}
