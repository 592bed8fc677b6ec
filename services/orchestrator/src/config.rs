//! Configuration of the orchestrator.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use rekindle_domain::{
    event,
    validation::{Checks, Violations},
};
use serde::Deserialize;

/// The commented defaults of the section `[orchestrator]`, with every key.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[orchestrator]`; [`DEFAULTS`] explains each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this instance in the source of its events, and as holder of the lease.
    pub instance: String,
    /// The orchestrator's own database.
    pub database: rekindle_store::Config,
    /// Longest interval between two reconciliations of workflows and deployments.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// Interval at which an active run is polled.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// First delay after a transient failure.
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    /// Longest delay after a transient failure.
    #[serde(with = "humantime_serde")]
    pub retry_longest: Duration,
    /// Lease of the active instance.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// Time without a heartbeat after which a replica counts as lost.
    #[serde(with = "humantime_serde")]
    pub replica_lease: Duration,
    /// Attempts of a training or an evaluation in one workflow.
    pub attempts: u32,
    /// Time that a lost run may take to be resumed by another worker.
    #[serde(with = "humantime_serde")]
    pub lost_grace: Duration,
    /// Deadline of a manual deployment.
    #[serde(with = "humantime_serde")]
    pub deploy_deadline: Duration,
    /// Time between two computations of the delivery metrics for Prometheus.
    #[serde(with = "humantime_serde")]
    pub delivery_interval: Duration,
    /// Concurrent WatchWorkflow calls.
    pub watchers: usize,
}

impl Config {
    /// Validates every field and reports all violations. Fields are named within the section.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.parsed("instance", event::validate_instance(&self.instance));
        checks.nested("database", self.database.validate());
        checks.positive("tick", self.tick);
        checks.positive("delivery_interval", self.delivery_interval);
        checks.positive("poll", self.poll);
        checks.positive("retry_first", self.retry_first);
        let expected = format!("at least retry_first = {}", format_duration(self.retry_first));
        let is_ordered = self.retry_longest >= self.retry_first;
        checks.require(is_ordered, "retry_longest", format_duration(self.retry_longest), &expected);
        checks.positive("lease", self.lease);
        checks.positive("replica_lease", self.replica_lease);
        checks.at_least("attempts", self.attempts, 1);
        checks.positive("deploy_deadline", self.deploy_deadline);
        checks.at_least("watchers", self.watchers, 1);
        checks.finish()
    }
}
