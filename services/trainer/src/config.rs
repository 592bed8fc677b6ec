//! The trainer's section of the configuration.

use std::time::Duration;

use serde::Deserialize;

use crate::Error;

/// Every setting with its default and what it means.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[trainer]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names this instance in logs.
    pub instance: String,
    /// Jobs carried out at the same time.
    pub workers: usize,
    /// How long a job may go without a sign of life before another trainer is given it.
    #[serde(with = "humantime_serde")]
    pub ack_wait: Duration,
    /// How often a job is taken up before it is set aside.
    pub max_deliveries: u64,
    /// How often a run is reported on while it is carried out.
    #[serde(with = "humantime_serde")]
    pub report_every: Duration,
}

impl Config {
    /// Refuses what would stop the trainer from doing its work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let least = Duration::from_millis(10);
        for (field, span) in [("trainer.ack_wait", self.ack_wait), ("trainer.report_every", self.report_every)] {
            if span < least {
                return Err(Error::invalid(field, format!("must be at least {least:?}")));
            }
        }
        if self.max_deliveries == 0 {
            return Err(Error::invalid("trainer.max_deliveries", "must be at least 1"));
        }
        if self.workers == 0 {
            return Err(Error::invalid("trainer.workers", "must be at least 1"));
        }
        Ok(())
    }
}
