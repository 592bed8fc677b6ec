//! The registry's section of the configuration.

use std::time::Duration;

use serde::Deserialize;

use crate::{Error, run::Leases};

/// Every setting with its default and what it means.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[registry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names this instance in the events it tells.
    pub instance: String,
    /// How long a run may wait for a worker.
    #[serde(with = "humantime_serde")]
    pub scheduled_lease: Duration,
    /// How long a worker may be silent.
    #[serde(with = "humantime_serde")]
    pub running_lease: Duration,
    /// How often leases are looked at.
    #[serde(with = "humantime_serde")]
    pub reap_every: Duration,
    /// Registrations whose files are read at a time.
    pub readers: usize,
    /// Where state is kept.
    pub database: rekindle_store::Config,
    /// What one request may hold.
    pub limits: Limits,
}

/// What one request may hold.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Params, tags or outputs of a run.
    pub entries: usize,
    /// Characters of a name in them.
    pub name_chars: usize,
    /// Characters of any other text.
    pub text_chars: usize,
    /// Points of one LogMetrics call.
    pub metrics: usize,
    /// Points of one metric's history.
    pub history: u64,
    /// Files of one dataset version.
    pub sources: usize,
    /// Parents of one dataset version.
    pub parents: usize,
    /// Rows of one dataset version.
    pub rows: usize,
    /// Columns of one dataset version.
    pub columns: usize,
    /// Bytes of one dataset version, and of each of its files.
    pub bytes: usize,
}

impl Config {
    pub(crate) fn leases(&self) -> Leases {
        Leases { scheduled: self.scheduled_lease, running: self.running_lease }
    }

    /// Refuses what would stop the registry from doing its work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let positive = [
            ("registry.scheduled_lease", self.scheduled_lease),
            ("registry.running_lease", self.running_lease),
            ("registry.reap_every", self.reap_every),
        ];
        for (field, span) in positive {
            if span.is_zero() {
                return Err(Error::invalid(field, "must be longer than nothing"));
            }
        }
        if self.readers == 0 {
            return Err(Error::invalid("registry.readers", "must be at least 1"));
        }
        Ok(())
    }
}

impl Limits {
    pub(crate) fn table(&self) -> rekindle_dataset::Limits {
        rekindle_dataset::Limits { rows: self.rows, columns: self.columns, bytes: self.bytes }
    }
}
