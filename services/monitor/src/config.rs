//! Settings of the service; `default.toml` explains each.

use std::time::Duration;

use serde::Deserialize;

/// The defaults, to be overlaid.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Settings of the monitor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Told in the source of every event.
    pub instance: String,
    /// The monitor's own database.
    pub database: rekindle_store::Config,
    /// Longest time that a captured row waits for its segment.
    #[serde(with = "humantime_serde")]
    pub flush_after: Duration,
    /// Rows that end a segment early.
    pub flush_rows: usize,
    /// Messages fetched at once and held unacknowledged at most.
    pub fetch_messages: usize,
    /// Rows of a window evaluated at most.
    pub window_rows: u64,
    /// Rows of an export at most; of more, the latest.
    pub export_rows: u64,
    /// Share of a window's rows that must be labelled before its quality is told early, in (0, 1].
    pub labelled_share: f64,
    /// How far ahead of its answer an event time may lie and still move the watermark.
    #[serde(with = "humantime_serde")]
    pub event_horizon: Duration,
    /// Longest time between two looks at the windows.
    #[serde(with = "humantime_serde")]
    pub evaluate_every: Duration,
    /// How long ids of captured messages are remembered; longer than the bus keeps a message.
    #[serde(with = "humantime_serde")]
    pub remember: Duration,
    /// Bundles whose reference is kept in memory.
    pub references: usize,
}
