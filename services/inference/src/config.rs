//! Settings of a replica.

use std::{path::PathBuf, time::Duration};

use rekindle_domain::ReplicaId;
use serde::Deserialize;

use crate::Error;

/// The commented defaults, section `[inference]`; every key must be here.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[inference]`; each key is explained in [`DEFAULTS`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct Config {
    pub replica: ReplicaId,
    pub address: String,
    pub cache_dir: PathBuf,
    pub cache_max_bytes: u64,
    #[serde(with = "humantime_serde")]
    pub resync_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub report_interval: Duration,
    pub fetch_attempts: u32,
    pub limits: Limits,
    pub log: LogConfig,
}

/// The section `[inference.limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct Limits {
    pub max_rows_per_request: usize,
    pub max_message_bytes: usize,
    pub max_concurrent_requests: usize,
    pub inline_rows: usize,
}

/// The section `[inference.log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct LogConfig {
    pub buffer_bytes: usize,
    pub batch_rows: usize,
    pub batch_bytes: usize,
    #[serde(with = "humantime_serde")]
    pub batch_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub retry_interval: Duration,
}

impl Config {
    /// Checks every bound, and reports all that do not hold.
    pub fn validate(&self) -> Result<(), Error> {
        let (limits, log) = (&self.limits, &self.log);
        let problems: Vec<_> = [
            (self.address.is_empty(), "inference.address must name the host:port that clients reach"),
            (self.report_interval.is_zero(), "inference.report_interval must be above 0"),
            (self.resync_interval.is_zero(), "inference.resync_interval must be above 0"),
            (self.fetch_attempts == 0, "inference.fetch_attempts must be at least 1"),
            (limits.max_rows_per_request == 0, "inference.limits.max_rows_per_request must be at least 1"),
            (limits.max_message_bytes == 0, "inference.limits.max_message_bytes must be at least 1"),
            (limits.max_concurrent_requests == 0, "inference.limits.max_concurrent_requests must be at least 1"),
            (log.batch_rows == 0, "inference.log.batch_rows must be at least 1"),
            (
                !(4096..=MAX_LOG_MESSAGE_BYTES).contains(&log.batch_bytes),
                "inference.log.batch_bytes must be 4096 to 524288",
            ),
            (
                log.buffer_bytes < log.batch_bytes,
                "inference.log.buffer_bytes must be at least inference.log.batch_bytes",
            ),
            (log.batch_interval.is_zero(), "inference.log.batch_interval must be above 0"),
            (log.retry_interval.is_zero(), "inference.log.retry_interval must be above 0"),
        ]
        .into_iter()
        .filter_map(|(wrong, problem)| wrong.then_some(problem))
        .collect();
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems: problems.join("; ") }) }
    }
}

/// The contract's bound of one message of the prediction log.
const MAX_LOG_MESSAGE_BYTES: usize = 512 * 1024;
