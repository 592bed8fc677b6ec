//! Configuration of the trainer.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use rekindle_domain::{
    event,
    validation::{Checks, Violations},
};
use serde::Deserialize;

/// The commented defaults of the section `[trainer]`, with every key.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[trainer]`; [`DEFAULTS`] explains each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this instance in its logs.
    pub instance: String,
    /// Concurrent jobs of normal priority.
    pub workers: usize,
    /// Concurrent jobs of high priority, besides.
    pub high_priority_workers: usize,
    /// The folder for temporary files; that of the system if empty.
    pub scratch: String,
    /// Bytes of memory of one training at most, as estimated when it is submitted.
    pub training_bytes: u64,
    /// Time without progress after which a job is redelivered to another trainer.
    #[serde(with = "humantime_serde")]
    pub ack_wait: Duration,
    /// Deliveries of a job before it is dead-lettered.
    pub max_deliveries: u64,
    /// Time within which a worker outside of the platform renews its claim.
    #[serde(with = "humantime_serde")]
    pub worker_lease: Duration,
    /// Interval of the heartbeat of a run.
    #[serde(with = "humantime_serde")]
    pub report_every: Duration,
    /// Time between two checkpoints of a training.
    #[serde(with = "humantime_serde")]
    pub checkpoint_every: Duration,
}

/// Shorter intervals would keep the bus and the registry busy with acknowledgements and heartbeats.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

impl Config {
    /// Validates every field and reports all violations. Fields are named within the section.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.parsed("instance", event::validate_instance(&self.instance));
        checks.at_least("workers", self.workers, 1);
        checks.at_least("high_priority_workers", self.high_priority_workers, 1);
        checks.at_least("training_bytes", self.training_bytes, 1);
        for (field, interval) in [("ack_wait", self.ack_wait), ("report_every", self.report_every)] {
            let is_valid = interval >= SHORTEST_INTERVAL;
            checks.require(is_valid, field, format_duration(interval), "at least 10ms");
        }
        checks.positive("worker_lease", self.worker_lease);
        checks.at_least("max_deliveries", self.max_deliveries, 1);
        checks.finish()
    }
}
