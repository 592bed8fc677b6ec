//! The streams and key-value buckets: their names, and how much each may store.

use std::time::Duration;

use async_nats::jetstream::{
    context::ConsumerInfoErrorKind,
    kv,
    stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType},
};
use humantime_serde::re::humantime::format_duration;
use rekindle_domain::validation::{Checks, Violations};
use serde::Deserialize;

use crate::{
    Bus, Error,
    subject::{matches, of_stream},
};

/// Events.
pub const EVENTS: &str = "REKINDLE_EVENTS";
/// Jobs: a work queue.
pub const JOBS: &str = "REKINDLE_JOBS";
/// Logged predictions.
pub const PREDICTIONS: &str = "REKINDLE_PREDICTIONS";
/// Prediction requests that have no answer.
pub const FAILURES: &str = "REKINDLE_FAILURES";
/// Reported outcomes.
pub const OUTCOMES: &str = "REKINDLE_OUTCOMES";
/// Dead letters of consumers.
pub const DEAD_LETTERS: &str = "REKINDLE_DEAD_LETTERS";
/// Desired state: the routes of each deployment, by model.
pub const DEPLOYMENTS: &str = "rekindle-deployments";
/// Actual state: the state of each replica, which expires unless it is renewed.
pub const REPLICAS: &str = "rekindle-replicas";

/// Storage limits of streams and buckets. Sizes are in bytes on the server's disk, and are reduced in proportion if it has less; ages are
/// greater than zero.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Size of the events stream; the oldest events are discarded.
    pub events_bytes: i64,
    /// Retention of events.
    #[serde(with = "humantime_serde")]
    pub events_age: Duration,
    /// Size of the job queue; further jobs are refused.
    pub jobs_bytes: i64,
    /// Size of the prediction log; the oldest messages are discarded, which readers detect by their sequence.
    pub predictions_bytes: i64,
    /// Retention of the prediction log.
    #[serde(with = "humantime_serde")]
    pub predictions_age: Duration,
    /// Size of the log of failed requests; the oldest messages are discarded.
    pub failures_bytes: i64,
    /// Retention of the log of failed requests.
    #[serde(with = "humantime_serde")]
    pub failures_age: Duration,
    /// Size of the outcomes stream; further outcomes are refused until some are captured.
    pub outcomes_bytes: i64,
    /// Retention of outcomes that are not captured.
    #[serde(with = "humantime_serde")]
    pub outcomes_age: Duration,
    /// Size of the dead-letter stream; the oldest dead letters are discarded.
    pub dead_letters_bytes: i64,
    /// Retention of dead letters.
    #[serde(with = "humantime_serde")]
    pub dead_letters_age: Duration,
    /// Time within which a message with the same id is discarded as a duplicate; at most the shortest age.
    #[serde(with = "humantime_serde")]
    pub duplicate_window: Duration,
    /// Time after which the state of a replica expires unless it is renewed.
    #[serde(with = "humantime_serde")]
    pub replica_lease: Duration,
    /// Copies of each stream, 1 to 5; more than one needs a NATS cluster.
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
            failures_bytes: 64 * MIB,
            failures_age: 7 * DAY,
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
    /// Validates every field and reports all violations.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        for (field, bytes) in [
            ("events_bytes", self.events_bytes),
            ("jobs_bytes", self.jobs_bytes),
            ("predictions_bytes", self.predictions_bytes),
            ("failures_bytes", self.failures_bytes),
            ("outcomes_bytes", self.outcomes_bytes),
            ("dead_letters_bytes", self.dead_letters_bytes),
        ] {
            // To the server, zero and less are no limit.
            checks.at_least(field, bytes, 1);
        }
        let ages = [
            ("events_age", self.events_age),
            ("predictions_age", self.predictions_age),
            ("failures_age", self.failures_age),
            ("outcomes_age", self.outcomes_age),
            ("dead_letters_age", self.dead_letters_age),
        ];
        for (field, age) in ages {
            checks.positive(field, age);
        }
        let shortest = ages.map(|(_, age)| age).into_iter().min().unwrap_or_default();
        let (window, expected) = (
            self.duplicate_window,
            format!("greater than 0s and at most the shortest age, {}", format_duration(shortest)),
        );
        let is_valid = !window.is_zero() && window <= shortest;
        checks.require(is_valid, "duplicate_window", format_duration(window), &expected);
        checks.positive("replica_lease", self.replica_lease);
        checks.require((1..=5).contains(&self.replicas), "replicas", self.replicas, "1 to 5");
        checks.finish()
    }

    /// The configuration of every stream.
    pub(crate) fn streams(&self) -> Vec<StreamConfig> {
        let stream = |name: &str, subjects: &[&str], bytes: i64, age: Duration, discard: DiscardPolicy| StreamConfig {
            name: name.to_owned(),
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
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
        let jobs = stream(JOBS, of_stream::JOBS, self.jobs_bytes, Duration::ZERO, DiscardPolicy::New);
        vec![
            stream(EVENTS, of_stream::EVENTS, self.events_bytes, self.events_age, DiscardPolicy::Old),
            StreamConfig { retention: RetentionPolicy::WorkQueue, ..jobs },
            stream(
                PREDICTIONS,
                of_stream::PREDICTIONS,
                self.predictions_bytes,
                self.predictions_age,
                DiscardPolicy::Old,
            ),
            stream(FAILURES, of_stream::FAILURES, self.failures_bytes, self.failures_age, DiscardPolicy::Old),
            stream(OUTCOMES, of_stream::OUTCOMES, self.outcomes_bytes, self.outcomes_age, DiscardPolicy::New),
            stream(
                DEAD_LETTERS,
                of_stream::DEAD_LETTERS,
                self.dead_letters_bytes,
                self.dead_letters_age,
                DiscardPolicy::Old,
            ),
        ]
    }

    /// Whether one of the streams has the subject.
    pub(crate) fn has_stream_for(&self, subject: &str) -> bool {
        self.streams().iter().flat_map(|stream| &stream.subjects).any(|pattern| matches(pattern, subject))
    }

    /// The configuration of every bucket.
    pub(crate) fn buckets(&self) -> Vec<kv::Config> {
        let bucket = |name: &str, description: &str| kv::Config {
            bucket: name.to_owned(),
            description: description.to_owned(),
            history: 1,
            // A restarted server would have lost a bucket in memory, not only its values.
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

/// The progress of a durable consumer, as sequences of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last message that the stream has stored, deleted or not.
    pub last: u64,
    /// Up to here every message was acknowledged, became a dead letter, or was discarded by the limits of the stream.
    pub done: u64,
}

impl Progress {
    /// Whether no message up to `sequence` is left to process. For a stream that was recreated, and counts from its beginning again, that means all
    /// of its messages.
    pub fn has_passed(&self, sequence: u64) -> bool {
        self.done >= sequence.min(self.last)
    }
}

impl Bus {
    /// The progress of a durable consumer; if it does not exist, that of the limits of the stream.
    pub async fn progress(&self, stream: &'static str, consumer: &str) -> Result<Progress, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable {
            operation: format!("read the progress of {consumer} in {stream}"),
            waited: Duration::ZERO,
            source: Some(source),
        };
        let stream = self.jetstream().get_stream(stream).await.map_err(|error| failed(error.into()))?;
        let state = &stream.cached_info().state;
        let discarded = state.first_sequence.saturating_sub(1);
        let acknowledged = match stream.consumer_info(consumer).await {
            Ok(info) => info.ack_floor.stream_sequence,
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error.into())),
        };
        Ok(Progress { last: state.last_sequence, done: discarded.max(acknowledged) })
    }

    /// Deletes the messages up to the first that a durable consumer has not acknowledged, and returns how many. For streams with one
    /// consumer, which stores elsewhere what it acknowledges.
    pub async fn purge_acknowledged(&self, stream: &'static str, consumer: &str) -> Result<u64, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable {
            operation: format!("purge what {consumer} has acknowledged in {stream}"),
            waited: Duration::ZERO,
            source: Some(source),
        };
        let stream = self.jetstream().get_stream_no_info(stream).await.map_err(|error| failed(error.into()))?;
        let info = stream.consumer_info(consumer).await.map_err(|error| failed(error.into()))?;
        // The sequence is that of the first message that stays.
        let purge = stream.purge().sequence(info.ack_floor.stream_sequence + 1);
        Ok(purge.await.map_err(|error| failed(error.into()))?.purged)
    }
}
