//! The actual state of serving: what each replica reports about itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Digest, ModelName, ReplicaId, VersionRef, event_time,
    schema::{self, UnreadableRecord},
    validation::Checks,
};

/// What one replica serves: the value under its id in the bucket `rekindle-replicas`, renewed as a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Stored")]
pub struct ReplicaState {
    /// The replica.
    pub replica: ReplicaId,
    /// Identifies one start of the replica's process. Counters restart with it.
    pub incarnation: uuid::Uuid,
    /// Where its gRPC listens, as `host:port`.
    pub address: String,
    /// When it was written, by the replica's clock.
    pub reported_at: DateTime<Utc>,
    /// The models that the replica was assigned.
    pub models: BTreeMap<ModelName, ServedModel>,
}

/// One model on one replica.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServedModel {
    /// The number of the version that answers requests which name none; `None` before the first one is loaded.
    pub primary: Option<u32>,
    /// The latest generation of the routes that was carried out or has failed.
    pub generation: u64,
    /// Why that generation was not carried out, or not in full. Versions that were loaded before stay loaded.
    pub failure: Option<String>,
    /// The loaded versions, by number.
    pub versions: BTreeMap<u32, ServedVersion>,
    /// Requests in flight on versions that take no new requests.
    pub draining: u64,
    /// How the answers of the shadow version compare with those that were returned, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowComparison>,
}

/// Answers of a shadow version beside those of the primary version to the same requests, since the shadow version was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowComparison {
    /// The number of the shadow version.
    pub version: u32,
    /// Compared requests.
    pub requests: u64,
    /// Compared rows.
    pub rows: u64,
    /// Compared rows whose scores are equal to the bit.
    pub identical: u64,
    /// Compared rows with another class.
    pub disagreeing: u64,
    /// The mean of the absolute differences of all scores.
    pub mean_difference: f64,
    /// The largest absolute difference of two scores.
    pub max_difference: f64,
    /// The mean time to compute the primary version's answer to a request, in microseconds.
    pub primary_micros: f64,
    /// The mean time to compute the shadow version's answer to a request, in microseconds.
    pub shadow_micros: f64,
    /// Rows that were not compared: others were waiting, or the versions have different classes.
    pub skipped: u64,
    /// Rows for which the shadow version failed.
    pub failed: u64,
}

/// One loaded version of a model on one replica. Counters start when the version is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedVersion {
    /// The digest of its bundle manifest.
    pub bundle: Digest,
    /// Requests answered.
    pub answered: u64,
    /// Requests that failed inside the model. Invalid requests do not count.
    pub failed: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// The 99th percentile of the time that answered requests took on the replica, in microseconds; 0 before the first one.
    #[serde(default)]
    pub p99_micros: u64,
    /// Answered requests in which a guardrail has clipped or flagged a value.
    #[serde(default)]
    pub guarded: u64,
}

impl ServedModel {
    /// The version that answers requests which name none.
    pub fn serving(&self) -> Option<VersionRef> {
        let version = self.primary?;
        Some(VersionRef { version, bundle: self.versions.get(&version)?.bundle })
    }

    /// What is reported about `version`, if it is loaded.
    pub fn loaded(&self, version: VersionRef) -> Option<&ServedVersion> {
        self.versions.get(&version.version).filter(|loaded| loaded.bundle == version.bundle)
    }

    /// Requests in flight on all versions.
    pub fn in_flight(&self) -> u64 {
        self.versions.values().map(|version| version.in_flight).fold(self.draining, u64::saturating_add)
    }
}

/// The latest schema of stored replica states.
const SCHEMA: u64 = 2;

/// A replica's state as it is stored since schema 2.
#[derive(Serialize, Deserialize)]
struct Stored {
    schema: u64,
    replica: ReplicaId,
    incarnation: uuid::Uuid,
    address: String,
    reported_at: DateTime<Utc>,
    models: BTreeMap<ModelName, ServedModel>,
}

#[derive(Deserialize)]
struct StoredV1 {
    replica: ReplicaId,
    incarnation: uuid::Uuid,
    address: String,
    reported_at: DateTime<Utc>,
    models: BTreeMap<ModelName, ServedModelV1>,
}

/// Schema 1 had one loaded version, whose counters stood beside it.
#[derive(Deserialize)]
struct ServedModelV1 {
    serving: Option<VersionRef>,
    generation: u64,
    #[serde(default)]
    failure: Option<String>,
    answered: u64,
    failed: u64,
    in_flight: u64,
}

impl From<ReplicaState> for Stored {
    fn from(state: ReplicaState) -> Self {
        let ReplicaState { replica, incarnation, address, reported_at, models } = state;
        Self { schema: SCHEMA, replica, incarnation, address, reported_at, models }
    }
}

impl From<Stored> for ReplicaState {
    fn from(stored: Stored) -> Self {
        let Stored { schema: _, replica, incarnation, address, reported_at, models } = stored;
        Self { replica, incarnation, address, reported_at, models }
    }
}

impl From<StoredV1> for ReplicaState {
    fn from(stored: StoredV1) -> Self {
        let StoredV1 { replica, incarnation, address, reported_at, models } = stored;
        let models = models.into_iter().map(|(name, model)| (name, model.into())).collect();
        Self { replica, incarnation, address, reported_at, models }
    }
}

impl From<ServedModelV1> for ServedModel {
    fn from(model: ServedModelV1) -> Self {
        let ServedModelV1 { serving, generation, failure, answered, failed, in_flight } = model;
        let counted = |version: VersionRef| {
            (
                version.version,
                ServedVersion { bundle: version.bundle, answered, failed, in_flight, p99_micros: 0, guarded: 0 },
            )
        };
        Self {
            primary: serving.map(|version| version.version),
            generation,
            failure,
            versions: serving.map(counted).into_iter().collect(),
            draining: if serving.is_none() { in_flight } else { 0 },
            shadow: None,
        }
    }
}

impl TryFrom<Value> for ReplicaState {
    type Error = UnreadableRecord;

    fn try_from(record: Value) -> Result<Self, UnreadableRecord> {
        let state: Self = match schema::version_of(&record)? {
            1 => serde_json::from_value::<StoredV1>(record)?.into(),
            SCHEMA => serde_json::from_value::<Stored>(record)?.into(),
            found => return Err(UnreadableRecord::Unsupported { found, supported: SCHEMA }),
        };
        // No message to a caller can carry another time.
        let mut checks = Checks::new();
        checks.parsed("reported_at", event_time::checked(state.reported_at.timestamp_millis()));
        checks.finish()?;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u8) -> VersionRef {
        VersionRef { version: number.into(), bundle: Digest::of(&[number]) }
    }

    fn state(models: impl IntoIterator<Item = (&'static str, ServedModel)>) -> ReplicaState {
        ReplicaState {
            replica: "replica-0".parse().expect("a name"),
            incarnation: uuid::Uuid::nil(),
            address: "127.0.0.1:8001".to_owned(),
            reported_at: DateTime::from_timestamp(1_772_366_400, 0).expect("in range"),
            models: models.into_iter().map(|(name, model)| (name.parse().expect("a name"), model)).collect(),
        }
    }

    fn two_versions() -> ServedModel {
        let counted = |number, in_flight| {
            (
                u32::from(number),
                ServedVersion {
                    bundle: version(number).bundle,
                    answered: 9,
                    failed: 1,
                    in_flight,
                    p99_micros: 0,
                    guarded: 0,
                },
            )
        };
        let versions = BTreeMap::from([counted(1, 2), counted(2, 3)]);
        ServedModel { primary: Some(2), generation: 4, failure: None, versions, draining: 5, shadow: None }
    }

    #[test]
    fn a_model_reports_each_loaded_version() {
        let model = two_versions();
        assert_eq!((model.serving(), model.in_flight()), (Some(version(2)), 10));
        assert_eq!(model.loaded(version(1)).map(|loaded| loaded.in_flight), Some(2));
        let rebuilt = VersionRef { bundle: Digest::of(b"another bundle"), ..version(1) };
        assert_eq!(model.loaded(rebuilt), None, "the number alone does not identify a version");
        assert_eq!(ServedModel::default().serving(), None);
    }

    #[test]
    fn a_stored_state_carries_its_schema_and_reads_back_the_same() {
        let state = state([("flight-delay", two_versions())]);
        let json = serde_json::to_string(&state).expect("json");
        assert!(json.contains(r#""schema":2"#), "{json}");
        assert_eq!(serde_json::from_str::<ReplicaState>(&json).expect("reads"), state);
        let error =
            serde_json::from_str::<ReplicaState>(&json.replace(r#""schema":2"#, r#""schema":3"#)).expect_err("newer");
        assert!(error.to_string().contains("schema version 3 is not supported"), "{error}");
        let distant = json.replace("2026-03-01", "+20000-03-01");
        let error = serde_json::from_str::<ReplicaState>(&distant).expect_err("out of range").to_string();
        assert!(error.contains("reported_at: is 568"), "{error}");
    }

    #[test]
    fn a_state_of_the_first_schema_is_read() {
        let json = r#"{"replica":"replica-0","incarnation":"00000000-0000-0000-0000-000000000000",
            "address":"127.0.0.1:8001","reported_at":"2026-03-01T12:00:00Z","models":{
            "flight-delay":{"serving":{"version":1,
                "bundle":"sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"},
                "generation":7,"failure":"it does not warm up","answered":90,"failed":2,"in_flight":3},
            "weather":{"serving":null,"generation":1,"answered":0,"failed":0,"in_flight":1}}}"#;
        let loaded = ServedVersion {
            bundle: version(1).bundle,
            answered: 90,
            failed: 2,
            in_flight: 3,
            p99_micros: 0,
            guarded: 0,
        };
        let delay = ServedModel {
            primary: Some(1),
            generation: 7,
            failure: Some("it does not warm up".to_owned()),
            versions: BTreeMap::from([(1, loaded)]),
            draining: 0,
            shadow: None,
        };
        let weather = ServedModel { generation: 1, draining: 1, ..ServedModel::default() };
        let expected = state([("flight-delay", delay), ("weather", weather)]);
        assert_eq!(serde_json::from_str::<ReplicaState>(json).expect("reads"), expected);
    }
}
