//! Configuration of the monitor.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use rekindle_domain::{
    event,
    validation::{Checks, Violations},
};
use rekindle_runtime::config::duration_or_none;
use serde::Deserialize;

use crate::alert;

/// The commented defaults of the section `[monitor]`, with every key.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[monitor]`; [`DEFAULTS`] explains each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this instance; part of every event's source and of the holder of its leases.
    pub instance: String,
    /// The monitor's own database.
    pub database: rekindle_store::Config,
    /// How long the holder of a lease may be silent before another instance takes over.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// Longest time between the arrival of a row and its chunk.
    #[serde(with = "humantime_serde")]
    pub flush_after: Duration,
    /// Rows that complete a chunk early.
    pub flush_rows: usize,
    /// Messages per fetch, and half of the unacknowledged ones at most.
    pub fetch_messages: usize,
    /// Rows of a window that are evaluated at most; of more, a sample.
    pub window_rows: u64,
    /// Rows of an export at most; of more, the latest.
    pub export_rows: u64,
    /// Share of a window's rows that must be labelled before its quality is measured early, in (0, 1].
    pub labelled_share: f64,
    /// How long outcomes wait for their predictions.
    #[serde(with = "humantime_serde")]
    pub outcome_wait: Duration,
    /// How long outcomes of measured windows wait before the windows are measured again.
    #[serde(with = "humantime_serde")]
    pub revise_after: Duration,
    /// How long the request ids and entity keys of logged rows are kept, so that outcomes can name the rows by them.
    #[serde(with = "humantime_serde")]
    pub join_key_retention: Duration,
    /// How far ahead of its answer an event time may lie and still advance the watermark.
    #[serde(with = "humantime_serde")]
    pub event_horizon: Duration,
    /// Longest time between two checks for due windows.
    #[serde(with = "humantime_serde")]
    pub evaluate_every: Duration,
    /// How long ids of captured messages are kept; longer than the bus keeps a message.
    #[serde(with = "humantime_serde")]
    pub remember: Duration,
    /// How long captured data is kept, since its capture. Written as a duration, or as "none" to keep it.
    #[serde(deserialize_with = "duration_or_none")]
    pub retention: Option<Duration>,
    /// Bundles whose reference data is cached.
    pub references: usize,
    /// Alerts and their receivers.
    pub alerts: alert::config::Config,
}

impl Config {
    /// Validates every field and reports all violations. Fields are named within the section.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.parsed("instance", event::validate_instance(&self.instance));
        checks.nested("database", self.database.validate());
        // A lease shorter than a transaction would be lost at every slow commit.
        let shortest = Duration::from_secs(1);
        checks.require(self.lease >= shortest, "lease", format_duration(self.lease), "at least 1s");
        checks.positive("flush_after", self.flush_after);
        checks.at_least("flush_rows", self.flush_rows, 1);
        checks.at_least("fetch_messages", self.fetch_messages, 1);
        checks.at_least("window_rows", self.window_rows, 1);
        checks.at_least("export_rows", self.export_rows, 1);
        let share = self.labelled_share;
        checks.require(share > 0.0 && share <= 1.0, "labelled_share", share, "above 0 and at most 1");
        checks.positive("join_key_retention", self.join_key_retention);
        checks.positive("evaluate_every", self.evaluate_every);
        checks.positive("remember", self.remember);
        let keeps = self.retention.is_none_or(|retention| !retention.is_zero());
        checks.require(keeps, "retention", "0s", "greater than 0s, or \"none\"");
        checks.at_least("references", self.references, 1);
        checks.nested("alerts", self.alerts.validate());
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Config {
        #[derive(Deserialize)]
        struct File {
            monitor: Config,
        }
        rekindle_runtime::config::Layers::new(DEFAULTS).parse::<File>().expect("the defaults load").monitor
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(defaults().validate(), Ok(()));
    }

    #[test]
    fn every_violated_bound_is_reported_at_once_by_the_name_of_its_key() {
        let zero = Duration::ZERO;
        let defaults = defaults();
        let config = Config {
            instance: String::new(),
            database: rekindle_store::Config { max_connections: 0, ..defaults.database },
            lease: Duration::from_millis(999),
            flush_after: zero,
            flush_rows: 0,
            fetch_messages: 0,
            window_rows: 0,
            export_rows: 0,
            labelled_share: 7.0,
            outcome_wait: zero,
            revise_after: zero,
            join_key_retention: zero,
            event_horizon: zero,
            evaluate_every: zero,
            remember: zero,
            retention: Some(zero),
            references: 0,
            alerts: alert::config::Config { every: zero, retry_for: Duration::MAX, ..defaults.alerts },
        };
        let violations = config.validate().expect_err("every bound is violated");
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "instance",
                "database.max_connections",
                "lease",
                "flush_after",
                "flush_rows",
                "fetch_messages",
                "window_rows",
                "export_rows",
                "labelled_share",
                "join_key_retention",
                "evaluate_every",
                "remember",
                "retention",
                "references",
                "alerts.every",
                "alerts.retry_for",
            ]
        );
        assert!(
            violations.to_string().contains("labelled_share: is 7: expected above 0 and at most 1"),
            "{violations}"
        );
    }

    #[test]
    fn a_share_of_labelled_rows_lies_above_zero_and_up_to_one() {
        let is_valid = |labelled_share| Config { labelled_share, ..defaults() }.validate().is_ok();
        assert_eq!(
            [0.0, f64::MIN_POSITIVE, 1.0, 1.0f64.next_up(), f64::NAN, -0.5].map(is_valid),
            [false, true, true, false, false, false]
        );
    }
}
