//! Replicas and what they serve.

use std::collections::BTreeMap;

use rekindle_domain::{
    ModelName, ReplicaState, ServedModel, ServedVersion, ShadowComparison, VersionRef, validation::Violations,
};
use rekindle_proto::{json, orchestrator as wire};
use serde_json::Value;

use super::{
    deployment::{version_from_wire, version_to_wire},
    field::{each, nested, parse, required_time},
    time,
};

/// A replica as a message.
pub fn to_wire(replica: &ReplicaState) -> wire::Replica {
    wire::Replica {
        id: replica.replica.to_string(),
        address: replica.address.clone(),
        reported_at: Some(time::to_wire(replica.reported_at)),
        models: replica.models.iter().map(|(name, served)| model_to_wire(name, served)).collect(),
        incarnation: replica.incarnation.to_string(),
    }
}

/// The replica in proto3 JSON.
pub fn to_json(replica: &ReplicaState) -> Value {
    json::to_value(&to_wire(replica))
}

/// The replica that a message holds.
pub fn from_wire(given: wire::Replica) -> Result<ReplicaState, Violations> {
    Ok(ReplicaState {
        replica: parse("id", &given.id)?,
        incarnation: parse("incarnation", &given.incarnation)?,
        address: given.address,
        reported_at: required_time("reported_at", given.reported_at)?,
        models: each("models", given.models, model_from_wire)?.into_iter().collect(),
    })
}

fn model_to_wire(name: &ModelName, served: &ServedModel) -> wire::ReplicaModel {
    let version = |(&version, loaded): (&u32, &ServedVersion)| wire::ReplicaVersion {
        version: Some(version_to_wire(VersionRef { version, bundle: loaded.bundle })),
        answered: loaded.answered,
        failed: loaded.failed,
        in_flight: loaded.in_flight,
        p99_micros: loaded.p99_micros,
        guarded: loaded.guarded,
    };
    wire::ReplicaModel {
        model: name.to_string(),
        serving: served.serving().map(version_to_wire),
        generation: served.generation,
        failure: served.failure.clone().unwrap_or_default(),
        in_flight: served.in_flight(),
        versions: served.versions.iter().map(version).collect(),
        shadow: served.shadow.map(shadow_to_wire),
    }
}

fn shadow_to_wire(comparison: ShadowComparison) -> wire::ShadowComparison {
    wire::ShadowComparison {
        version: comparison.version,
        requests: comparison.requests,
        rows: comparison.rows,
        identical: comparison.identical,
        disagreeing: comparison.disagreeing,
        mean_difference: comparison.mean_difference,
        max_difference: comparison.max_difference,
        primary_micros: comparison.primary_micros,
        shadow_micros: comparison.shadow_micros,
        skipped: comparison.skipped,
        failed: comparison.failed,
    }
}

fn shadow_from_wire(given: wire::ShadowComparison) -> ShadowComparison {
    ShadowComparison {
        version: given.version,
        requests: given.requests,
        rows: given.rows,
        identical: given.identical,
        disagreeing: given.disagreeing,
        mean_difference: given.mean_difference,
        max_difference: given.max_difference,
        primary_micros: given.primary_micros,
        shadow_micros: given.shadow_micros,
        skipped: given.skipped,
        failed: given.failed,
    }
}

fn model_from_wire(given: wire::ReplicaModel) -> Result<(ModelName, ServedModel), Violations> {
    let versions = each("versions", given.versions, loaded_from_wire)?;
    let versions: BTreeMap<u32, ServedVersion> = versions.into_iter().collect();
    let counted: u64 = versions.values().map(|version| version.in_flight).fold(0, u64::saturating_add);
    let served = ServedModel {
        primary: given.serving.map(|version| version.version),
        generation: given.generation,
        failure: Some(given.failure).filter(|failure| !failure.is_empty()),
        draining: given.in_flight.saturating_sub(counted),
        versions,
        shadow: given.shadow.map(shadow_from_wire),
    };
    Ok((parse("model", &given.model)?, served))
}

fn loaded_from_wire(given: wire::ReplicaVersion) -> Result<(u32, ServedVersion), Violations> {
    let version = nested("version", given.version.clone(), version_from_wire)?;
    let wire::ReplicaVersion { version: _, answered, failed, in_flight, p99_micros, guarded } = given;
    Ok((version.version, ServedVersion { bundle: version.bundle, answered, failed, in_flight, p99_micros, guarded }))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekindle_domain::Digest;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn replicas_survive() {
        let loaded = ServedVersion {
            bundle: Digest::of(b"bundle"),
            answered: 5,
            failed: 1,
            in_flight: 2,
            p99_micros: 700,
            guarded: 0,
        };
        let served = ServedModel {
            primary: Some(3),
            generation: 7,
            failure: Some("version 4 is not available".into()),
            versions: BTreeMap::from([(3, loaded)]),
            draining: 4,
            shadow: Some(ShadowComparison { version: 5, rows: 7, max_difference: 0.5, ..ShadowComparison::default() }),
        };
        let replica = ReplicaState {
            replica: "replica-1".parse().expect("a name"),
            incarnation: Uuid::from_u128(9),
            address: "127.0.0.1:8001".into(),
            reported_at: DateTime::UNIX_EPOCH,
            models: BTreeMap::from([("m".parse().expect("a name"), served)]),
        };
        assert_eq!(to_json(&replica)["models"][0]["serving"]["version"], 3);
        assert_eq!(from_wire(to_wire(&replica)), Ok(replica));
    }
}
