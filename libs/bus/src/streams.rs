//! What lies on the bus: the streams and key-value buckets, by name, and how much each may hold.

use std::time::Duration;

use async_nats::jetstream::{
    context::ConsumerInfoErrorKind,
    kv,
    stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType},
};
use serde::Deserialize;

use crate::{Bus, Error};

/// Facts: `rekindle.events.<service>.<noun>.<past-verb>.<name>`.
pub const EVENTS: &str = "REKINDLE_EVENTS";
/// Work: `rekindle.jobs.<pool>`.
pub const JOBS: &str = "REKINDLE_JOBS";
/// What was predicted: `rekindle.predictions.<model>`.
pub const PREDICTIONS: &str = "REKINDLE_PREDICTIONS";
/// What turned out to be true: `rekindle.outcomes.<model>`.
pub const OUTCOMES: &str = "REKINDLE_OUTCOMES";
/// What consumers gave up on: `rekindle.dead.<consumer>`.
pub const DEAD_LETTERS: &str = "REKINDLE_DEAD_LETTERS";
/// Desired state: one key per deployment.
pub const DEPLOYMENTS: &str = "rekindle-deployments";
/// Actual state: one key per replica, gone when it is not renewed.
pub const REPLICAS: &str = "rekindle-replicas";

/// Where dead letters of a consumer go.
pub fn dead_letter_subject(consumer: &str) -> String {
    format!("rekindle.dead.{consumer}")
}

/// How much the bus may hold. Sizes are in bytes on the server's disk, and reserved there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Facts, oldest go first.
    pub events_bytes: i64,
    /// How long facts are kept.
    #[serde(with = "humantime_serde")]
    pub events_age: Duration,
    /// Jobs; above it, new jobs are refused.
    pub jobs_bytes: i64,
    /// Predictions, oldest go first; whoever reads them sees from their sequence that some are missing.
    pub predictions_bytes: i64,
    /// How long predictions are kept.
    #[serde(with = "humantime_serde")]
    pub predictions_age: Duration,
    /// Outcomes that nobody has captured yet; above it, new ones are refused until some are.
    pub outcomes_bytes: i64,
    /// How long outcomes wait to be captured.
    #[serde(with = "humantime_serde")]
    pub outcomes_age: Duration,
    /// Dead letters, oldest go first.
    pub dead_letters_bytes: i64,
    /// How long dead letters are kept.
    #[serde(with = "humantime_serde")]
    pub dead_letters_age: Duration,
    /// How long the id of a published message is remembered.
    #[serde(with = "humantime_serde")]
    pub duplicate_window: Duration,
    /// How long a replica's state stands without being renewed.
    #[serde(with = "humantime_serde")]
    pub replica_lease: Duration,
    /// Copies of each stream; more than one needs a cluster.
    pub replicas: usize,
}

const MIB: i64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Limits {
    fn default() -> Self {
        Self {
            events_bytes: 512 * MIB,
            events_age: 365 * DAY,
            jobs_bytes: 64 * MIB,
            predictions_bytes: 1024 * MIB,
            predictions_age: 7 * DAY,
            outcomes_bytes: 512 * MIB,
            outcomes_age: 7 * DAY,
            dead_letters_bytes: 128 * MIB,
            dead_letters_age: 90 * DAY,
            duplicate_window: Duration::from_secs(120),
            replica_lease: Duration::from_secs(10),
            replicas: 1,
        }
    }
}

impl Limits {
    /// Every stream as it should be.
    pub(crate) fn streams(&self) -> Vec<StreamConfig> {
        let stream = |name: &str, subjects: &str, bytes: i64, age: Duration, discard: DiscardPolicy| StreamConfig {
            name: name.to_owned(),
            subjects: vec![subjects.to_owned()],
            max_bytes: bytes,
            max_age: age,
            discard,
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            num_replicas: self.replicas,
            duplicate_window: self.duplicate_window,
            allow_direct: true,
            ..StreamConfig::default()
        };
        let jobs = stream(JOBS, "rekindle.jobs.>", self.jobs_bytes, Duration::ZERO, DiscardPolicy::New);
        vec![
            stream(EVENTS, "rekindle.events.>", self.events_bytes, self.events_age, DiscardPolicy::Old),
            StreamConfig { retention: RetentionPolicy::WorkQueue, ..jobs },
            stream(
                PREDICTIONS,
                "rekindle.predictions.*",
                self.predictions_bytes,
                self.predictions_age,
                DiscardPolicy::Old,
            ),
            stream(OUTCOMES, "rekindle.outcomes.*", self.outcomes_bytes, self.outcomes_age, DiscardPolicy::New),
            stream(DEAD_LETTERS, "rekindle.dead.*", self.dead_letters_bytes, self.dead_letters_age, DiscardPolicy::Old),
        ]
    }

    /// Every bucket as it should be.
    pub(crate) fn buckets(&self) -> Vec<kv::Config> {
        let bucket = |name: &str, description: &str| kv::Config {
            bucket: name.to_owned(),
            description: description.to_owned(),
            history: 1,
            // In memory, a restarted server would have forgotten not only the values but the bucket.
            storage: StorageType::File,
            max_bytes: 16 * MIB,
            num_replicas: self.replicas,
            ..kv::Config::default()
        };
        vec![
            bucket(DEPLOYMENTS, "desired state of every deployment"),
            kv::Config {
                max_age: self.replica_lease,
                ..bucket(REPLICAS, "actual state of every replica, held as a lease")
            },
        ]
    }
}

/// How far a durable consumer has come in its stream; sequences of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of the last message that the stream took, whether it is still there or not.
    pub last: u64,
    /// Up to here nothing is left to come: each message was acknowledged, set aside, or left the stream by its bounds.
    pub done: u64,
}

impl Progress {
    /// Whether nothing up to `sequence` is left to come. Of a stream that was made anew and counts from its beginning again,
    /// all that it holds is asked for, and not what only its predecessor had.
    pub fn has_passed(&self, sequence: u64) -> bool {
        self.done >= sequence.min(self.last)
    }
}

impl Bus {
    /// How far a durable consumer has come; while there is none, as far as messages have left the stream.
    pub async fn progress(&self, stream: &'static str, consumer: &str) -> Result<Progress, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable {
            operation: format!("ask how far {consumer} has come in {stream}"),
            waited: Duration::ZERO,
            source: Some(source),
        };
        let stream = self.jetstream().get_stream(stream).await.map_err(|error| failed(error.into()))?;
        let state = &stream.cached_info().state;
        let gone = state.first_sequence.saturating_sub(1);
        let acknowledged = match stream.consumer_info(consumer).await {
            Ok(info) => info.ack_floor.stream_sequence,
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error.into())),
        };
        Ok(Progress { last: state.last_sequence, done: gone.max(acknowledged) })
    }

    /// Removes the messages that a durable consumer has acknowledged from the beginning of its stream on, and says how many. For
    /// streams with one consumer that keeps elsewhere what it takes; what it has not acknowledged stays, also while it is away.
    pub async fn purge_acknowledged(&self, stream: &'static str, consumer: &str) -> Result<u64, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable {
            operation: format!("purge what {consumer} has taken from {stream}"),
            waited: Duration::ZERO,
            source: Some(source),
        };
        let stream = self.jetstream().get_stream_no_info(stream).await.map_err(|error| failed(error.into()))?;
        let info = stream.consumer_info(consumer).await.map_err(|error| failed(error.into()))?;
        // The sequence is the first that stays.
        let purge = stream.purge().sequence(info.ack_floor.stream_sequence + 1);
        Ok(purge.await.map_err(|error| failed(error.into()))?.purged)
    }
}
