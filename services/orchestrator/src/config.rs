//! Settings of the service; `default.toml` explains each.

use std::time::Duration;

use serde::Deserialize;

/// The defaults, to be overlaid.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Settings of the orchestrator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Told in the source of every event, and the holder of the lease.
    pub instance: String,
    /// The orchestrator's own database.
    pub database: rekindle_store::Config,
    /// Longest time between two looks at workflows and deployments.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// Time between two looks at a run that is under way.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// First pause after a passing failure.
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    /// Longest pause after a passing failure.
    #[serde(with = "humantime_serde")]
    pub retry_longest: Duration,
    /// How long an instance may be silent and still be the one that acts.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How long a replica may be silent and still be waited for.
    #[serde(with = "humantime_serde")]
    pub replica_lease: Duration,
    /// How often a training or an evaluation is tried in one workflow.
    pub attempts: u32,
    /// How long a lost run is given to be taken by another worker.
    #[serde(with = "humantime_serde")]
    pub lost_grace: Duration,
    /// How long a deployment made by hand may take.
    #[serde(with = "humantime_serde")]
    pub deploy_deadline: Duration,
    /// Concurrent WatchWorkflow calls.
    pub watchers: usize,
}
