//! Configuration of the registry.

use std::{path::PathBuf, time::Duration};

use rekindle_domain::{
    event, text,
    validation::{Checks, Violations},
};
use serde::Deserialize;

use crate::{Error, run::Leases};

/// The commented defaults of the section `[registry]`, with every key.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[registry]`; [`DEFAULTS`] explains each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this instance in the source of its events.
    pub instance: String,
    /// Lease of a run that waits for a worker.
    #[serde(with = "humantime_serde")]
    pub scheduled_lease: Duration,
    /// Lease of a run that a worker has taken, renewed by its heartbeat.
    #[serde(with = "humantime_serde")]
    pub running_lease: Duration,
    /// Interval at which expired leases are checked.
    #[serde(with = "humantime_serde")]
    pub reap_every: Duration,
    /// Dataset registrations that read their files at the same time.
    pub readers: usize,
    /// Model registrations that read their bundle at the same time.
    pub bundles: usize,
    /// Time without progress of a client after which a download ends.
    #[serde(with = "humantime_serde")]
    pub transfer_idle: Duration,
    /// Folder for temporary files of dataset registrations; empty: the system's.
    pub scratch: String,
    /// How models in the ONNX format are checked.
    pub onnx: OnnxConfig,
    /// The registry's database.
    pub database: rekindle_store::Config,
    /// Limits of one request.
    pub limits: Limits,
}

/// The section `[registry.onnx]`: the process that reads and runs a model in the ONNX format before its version is READY.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxConfig {
    /// Address space of the process, in bytes.
    pub memory_bytes: u64,
    /// Time and processor time that it takes at most.
    #[serde(with = "humantime_serde")]
    pub time: Duration,
    /// Bytes of the Parquet blob of a dataset that is named with a model.
    pub dataset_bytes: u64,
    /// The program and its arguments, to which the folder of the check is added; empty: this program with `check-model`.
    pub command: Vec<String>,
}

/// The section `[registry.limits]`: limits of one request.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Params, tags or outputs of a run.
    pub entries: usize,
    /// Characters of a name of a param, tag, output or metric.
    pub name_chars: usize,
    /// Characters of any other text.
    pub text_chars: usize,
    /// Bytes of the params, of the tags or of the outputs of a run in JSON, at most what an event holds.
    pub texts_bytes: usize,
    /// Points of one LogMetrics call.
    pub metrics: usize,
    /// Files of one dataset version.
    pub sources: usize,
    /// Parents of one dataset version.
    pub parents: usize,
    /// Rows of one dataset version.
    pub rows: usize,
    /// Columns of one dataset version.
    pub columns: usize,
    /// Bytes of the values of one dataset version, of its files together, and of the text of each of its CSV files.
    pub bytes: usize,
}

/// Bytes of what an event lists: other fields have room beside it.
const EVENT_BYTES: usize = rekindle_store::outbox::MAX_DATA_BYTES - 64 * 1024;
/// Bytes of a digest in a list.
const DIGEST_BYTES: usize = 76;

/// What the program and the library of ONNX Runtime take of the address space themselves.
const MIN_CHECK_BYTES: u64 = 512 << 20;

impl Config {
    pub(crate) fn leases(&self) -> Leases {
        Leases { scheduled: self.scheduled_lease, running: self.running_lease }
    }

    /// The folder for temporary files, which is created if it does not exist.
    pub(crate) fn scratch_folder(&self) -> Result<PathBuf, Error> {
        rekindle_dataset::scratch_folder(&self.scratch).map_err(Error::Scratch)
    }

    /// Validates every field and reports all violations. Fields are named within the section.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.parsed("instance", event::validate_instance(&self.instance));
        checks.positive("scheduled_lease", self.scheduled_lease);
        checks.positive("running_lease", self.running_lease);
        checks.positive("reap_every", self.reap_every);
        checks.at_least("readers", self.readers, 1);
        checks.at_least("bundles", self.bundles, 1);
        checks.positive("transfer_idle", self.transfer_idle);
        checks.nested("onnx", self.onnx.validate());
        checks.nested("database", self.database.validate());
        checks.nested("limits", self.limits.validate());
        checks.finish()
    }
}

impl OnnxConfig {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.at_least("memory_bytes", self.memory_bytes, MIN_CHECK_BYTES);
        checks.positive("time", self.time);
        checks.at_least("dataset_bytes", self.dataset_bytes, 1);
        checks.finish()
    }
}

impl Limits {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.at_least("entries", self.entries, 1);
        checks.at_least("name_chars", self.name_chars, 1);
        // What services compose fits.
        checks.at_least("text_chars", self.text_chars, text::REASON_CHARS);
        checks.require(
            (1..=EVENT_BYTES).contains(&self.texts_bytes),
            "texts_bytes",
            self.texts_bytes,
            &format!("1 to {EVENT_BYTES}"),
        );
        checks.at_least("metrics", self.metrics, 1);
        checks.at_least("sources", self.sources, 1);
        let most = EVENT_BYTES / DIGEST_BYTES;
        checks.require((1..=most).contains(&self.parents), "parents", self.parents, &format!("1 to {most}"));
        checks.at_least("rows", self.rows, 1);
        checks.at_least("columns", self.columns, 1);
        checks.at_least("bytes", self.bytes, 1);
        checks.finish()
    }

    pub(crate) fn table(&self) -> rekindle_dataset::Limits {
        rekindle_dataset::Limits { rows: self.rows, columns: self.columns, bytes: self.bytes }
    }
}
