//! Settings of a replica.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use rekindle_domain::{
    ModelName, ReplicaId,
    event_time::Bounds,
    validation::{Checks, Violations},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::sync::Semaphore;

use crate::tensor::Accepted;

/// The commented defaults of the section `[inference]`, with every key.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[inference]`; [`DEFAULTS`] explains each key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct Config {
    #[serde(deserialize_with = "name_or_host")]
    pub replica: ReplicaId,
    pub address: String,
    pub cache_dir: PathBuf,
    pub cache_max_bytes: u64,
    pub max_loaded_bytes: u64,
    #[serde(with = "humantime_serde")]
    pub resync_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub report_interval: Duration,
    pub fetch_attempts: u32,
    pub limits: Limits,
    pub event_times: EventTimes,
    pub guardrails: Guardrails,
    pub log: LogConfig,
}

/// The name of the host, as far as it can be a name of a replica.
fn host_name() -> String {
    let host = hostname::get().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name: String = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    name.trim_matches('-').to_owned()
}

/// The name as given; that of the host if it is empty.
fn name_or_host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReplicaId, D::Error> {
    let given = String::deserialize(deserializer)?;
    let name = if given.is_empty() { host_name() } else { given };
    name.parse().map_err(D::Error::custom)
}

impl Config {
    /// The address, if none is set: that of the listener, or the name of the host if it listens on every interface.
    pub fn listening_on(mut self, listener: SocketAddr) -> Self {
        if self.address.is_empty() {
            self.address = if listener.ip().is_unspecified() {
                format!("{}:{}", hostname::get().unwrap_or_default().to_string_lossy(), listener.port())
            } else {
                listener.to_string()
            };
        }
        self
    }
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
    pub max_batch_rows: usize,
    #[serde(with = "humantime_serde")]
    pub max_batch_latency: Duration,
    pub max_queued_rows: usize,
    pub max_explained_rows: usize,
    pub unknown_inputs: UnknownInputs,
}

/// What becomes of a request with a tensor that is no input of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownInputs {
    /// The request is refused.
    Refuse,
    /// The tensor is ignored.
    Ignore,
}

/// The section `[inference.event_times]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct EventTimes {
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    #[serde(with = "humantime_serde")]
    pub max_ahead: Duration,
    pub models: Vec<ModelEventTimes>,
}

/// The bounds of one model in `inference.event_times.models`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct ModelEventTimes {
    pub model: ModelName,
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    #[serde(with = "humantime_serde")]
    pub max_ahead: Duration,
}

/// The section `[inference.guardrails]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct Guardrails {
    pub models: Vec<ModelGuardrails>,
}

/// The guardrails of one model in `inference.guardrails.models`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct ModelGuardrails {
    pub model: ModelName,
    #[serde(default)]
    pub inputs: Vec<Range>,
    #[serde(default)]
    pub outputs: Vec<Range>,
    #[serde(default)]
    pub missing_values: Policy,
    #[serde(default)]
    pub unseen_categories: Policy,
}

/// The values of an input or output that are allowed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct Range {
    pub name: String,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub action: Action,
}

/// What becomes of a value that a guardrail does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The request is refused.
    Reject,
    /// The nearest value that is allowed takes its place.
    Clip,
    /// The answer and the log say so.
    Flag,
}

impl Action {
    /// The name in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Clip => "clip",
            Self::Flag => "flag",
        }
    }
}

/// What becomes of values that have no nearest allowed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// They are not checked.
    #[default]
    Accept,
    /// The answer and the log say so.
    Flag,
    /// The request is refused.
    Reject,
}

/// The section `[inference.log]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    pub models: Vec<ModelLog>,
}

/// How the requests for one model are logged, in `inference.log.models`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains every key")]
pub struct ModelLog {
    pub model: ModelName,
    #[serde(default = "all")]
    pub sample_rate: f64,
    #[serde(default)]
    pub redact: BTreeSet<String>,
}

/// The share of requests that are logged by default.
const fn all() -> f64 {
    1.0
}

/// The largest message of the prediction log, which its stream and its readers rely on.
const MAX_LOG_MESSAGE_BYTES: usize = 512 * 1024;
/// A message has headers and the columns' names beside its rows.
const MIN_LOG_MESSAGE_BYTES: usize = 4 * 1024;

impl Config {
    /// Validates every field and reports all violations. Fields are named within the section.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.at_least("max_loaded_bytes", self.max_loaded_bytes, 1);
        checks.positive("resync_interval", self.resync_interval);
        checks.positive("report_interval", self.report_interval);
        checks.at_least("fetch_attempts", self.fetch_attempts, 1);
        checks.nested("limits", self.limits.validate());
        checks.nested("event_times", self.event_times.validate());
        checks.nested("guardrails", self.guardrails.validate());
        checks.nested("log", self.log.validate());
        checks.finish()
    }
}

impl Limits {
    /// The defaults.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        tests::defaults().limits
    }

    /// What a request may contain.
    pub(crate) fn accepted(&self) -> Accepted {
        Accepted { rows: self.max_rows_per_request, unknown_inputs: self.unknown_inputs == UnknownInputs::Ignore }
    }

    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.at_least("max_rows_per_request", self.max_rows_per_request, 1);
        checks.at_least("max_message_bytes", self.max_message_bytes, 1);
        let (concurrent, most) = (self.max_concurrent_requests, Semaphore::MAX_PERMITS);
        let expected = format!("1 to {most}");
        checks.require((1..=most).contains(&concurrent), "max_concurrent_requests", concurrent, &expected);
        checks.at_least("max_batch_rows", self.max_batch_rows, 1);
        checks.positive("max_batch_latency", self.max_batch_latency);
        checks.at_least("max_queued_rows", self.max_queued_rows, 1);
        checks.finish()
    }
}

impl EventTimes {
    /// The bounds of a model: its own, or those of every model.
    pub(crate) fn of(&self, model: &ModelName) -> Bounds {
        self.models.iter().find(|own| own.model == *model).map_or_else(|| self.bounds(), ModelEventTimes::bounds)
    }

    fn bounds(&self) -> Bounds {
        Bounds { max_age: self.max_age, max_ahead: self.max_ahead }
    }

    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.taken_here(self.bounds().validate());
        for (index, own) in self.models.iter().enumerate() {
            let field = format!("models[{index}]");
            checks.nested(&field, own.bounds().validate());
            let is_first = self.models[..index].iter().all(|other| other.model != own.model);
            checks.require(is_first, &format!("{field}.model"), &own.model, "each model once");
        }
        checks.finish()
    }
}

impl ModelEventTimes {
    fn bounds(&self) -> Bounds {
        Bounds { max_age: self.max_age, max_ahead: self.max_ahead }
    }
}

impl Guardrails {
    /// The guardrails of a model, if it has any.
    pub(crate) fn of(&self, model: &ModelName) -> Option<&ModelGuardrails> {
        self.models.iter().find(|own| own.model == *model)
    }

    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        for (index, own) in self.models.iter().enumerate() {
            let field = format!("models[{index}]");
            let is_first = self.models[..index].iter().all(|other| other.model != own.model);
            checks.require(is_first, &format!("{field}.model"), &own.model, "each model once");
            for (part, ranges) in [("inputs", &own.inputs), ("outputs", &own.outputs)] {
                for (at, range) in ranges.iter().enumerate() {
                    let name = format!("{field}.{part}[{at}].name");
                    let is_first = ranges[..at].iter().all(|other| other.name != range.name);
                    checks.require(is_first, &name, &range.name, "each name once");
                    checks.nested(&format!("{field}.{part}[{at}]"), range.validate());
                }
            }
        }
        checks.finish()
    }
}

impl Range {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let bounds = [self.min, self.max];
        let is_number = bounds.iter().flatten().all(|bound| bound.is_finite());
        checks.require(is_number, "min", format!("{bounds:?}"), "finite numbers");
        match bounds {
            [None, None] => checks.violation("min", "is missing: expected min, max or both"),
            [Some(min), Some(max)] => checks.require(min <= max, "min", min, &format!("at most max = {max}")),
            _ => {}
        }
        checks.finish()
    }
}

impl LogConfig {
    /// How the requests for a model are logged.
    pub(crate) fn of(&self, model: &ModelName) -> ModelLog {
        let own = self.models.iter().find(|own| own.model == *model);
        own.cloned().unwrap_or_else(|| ModelLog { model: model.clone(), sample_rate: all(), redact: BTreeSet::new() })
    }

    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.at_least("batch_rows", self.batch_rows, 1);
        let bounds = MIN_LOG_MESSAGE_BYTES..=MAX_LOG_MESSAGE_BYTES;
        let expected = format!("{MIN_LOG_MESSAGE_BYTES} to {MAX_LOG_MESSAGE_BYTES}");
        checks.require(bounds.contains(&self.batch_bytes), "batch_bytes", self.batch_bytes, &expected);
        let expected = format!("at least batch_bytes = {}", self.batch_bytes);
        checks.require(self.buffer_bytes >= self.batch_bytes, "buffer_bytes", self.buffer_bytes, &expected);
        checks.positive("batch_interval", self.batch_interval);
        checks.positive("retry_interval", self.retry_interval);
        for (index, own) in self.models.iter().enumerate() {
            let field = format!("models[{index}]");
            let is_first = self.models[..index].iter().all(|other| other.model != own.model);
            checks.require(is_first, &format!("{field}.model"), &own.model, "each model once");
            let is_share = own.sample_rate > 0.0 && own.sample_rate <= 1.0;
            checks.require(is_share, &format!("{field}.sample_rate"), own.sample_rate, "above 0 and at most 1");
        }
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn defaults() -> Config {
        #[derive(Deserialize)]
        struct File {
            inference: Config,
        }
        rekindle_runtime::config::Layers::new(DEFAULTS).parse::<File>().expect("the defaults load").inference
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(defaults().validate(), Ok(()));
    }

    #[test]
    fn a_replica_without_a_name_has_that_of_its_host() {
        let config = defaults();
        assert_eq!(config.replica.as_str(), host_name());
        assert!(!host_name().is_empty());
        let host = hostname::get().expect("a name");
        let address = |config: &Config, listener: &str| {
            config.clone().listening_on(listener.parse().expect("an address")).address
        };
        assert_eq!(address(&config, "0.0.0.0:8001"), format!("{}:8001", host.to_string_lossy()));
        assert_eq!(address(&config, "127.0.0.1:8001"), "127.0.0.1:8001");
        let named = Config { address: "proxy:1".to_owned(), ..config };
        assert_eq!(address(&named, "0.0.0.0:8001"), "proxy:1");
    }

    #[test]
    fn every_violated_bound_is_reported_at_once_by_the_name_of_its_key() {
        let zero = Duration::ZERO;
        let weather =
            |max_ahead| ModelEventTimes { model: "weather".parse().expect("a name"), max_age: zero, max_ahead };
        let sampled =
            |sample_rate| ModelLog { model: "weather".parse().expect("a name"), sample_rate, redact: BTreeSet::new() };
        let range = |min, max| Range { name: "wind".to_owned(), min, max, action: Action::Flag };
        let guardrails = ModelGuardrails {
            model: "weather".parse().expect("a name"),
            inputs: vec![range(None, None), range(Some(2.0), Some(1.0))],
            outputs: vec![range(Some(f64::NAN), None)],
            missing_values: Policy::Accept,
            unseen_categories: Policy::Accept,
        };
        let config = Config {
            max_loaded_bytes: 0,
            resync_interval: zero,
            report_interval: zero,
            fetch_attempts: 0,
            limits: Limits {
                max_rows_per_request: 0,
                max_message_bytes: 0,
                max_concurrent_requests: 0,
                inline_rows: 0,
                max_batch_rows: 0,
                max_batch_latency: zero,
                max_queued_rows: 0,
                max_explained_rows: 0,
                unknown_inputs: UnknownInputs::Refuse,
            },
            event_times: EventTimes {
                max_age: Duration::MAX,
                max_ahead: zero,
                models: [Duration::MAX, zero].map(weather).to_vec(),
            },
            guardrails: Guardrails { models: vec![guardrails.clone(), guardrails] },
            log: LogConfig {
                buffer_bytes: 1,
                batch_rows: 0,
                batch_bytes: MAX_LOG_MESSAGE_BYTES + 1,
                batch_interval: zero,
                retry_interval: zero,
                models: [0.0, f64::NAN].map(sampled).to_vec(),
            },
            ..defaults()
        };
        let violations = config.validate().expect_err("every bound is violated");
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "max_loaded_bytes",
                "resync_interval",
                "report_interval",
                "fetch_attempts",
                "limits.max_rows_per_request",
                "limits.max_message_bytes",
                "limits.max_concurrent_requests",
                "limits.max_batch_rows",
                "limits.max_batch_latency",
                "limits.max_queued_rows",
                "event_times.max_age",
                "event_times.models[0].max_ahead",
                "event_times.models[1].model",
                "guardrails.models[0].inputs[0].min",
                "guardrails.models[0].inputs[1].name",
                "guardrails.models[0].inputs[1].min",
                "guardrails.models[0].outputs[0].min",
                "guardrails.models[1].model",
                "guardrails.models[1].inputs[0].min",
                "guardrails.models[1].inputs[1].name",
                "guardrails.models[1].inputs[1].min",
                "guardrails.models[1].outputs[0].min",
                "log.batch_rows",
                "log.batch_bytes",
                "log.buffer_bytes",
                "log.batch_interval",
                "log.retry_interval",
                "log.models[0].sample_rate",
                "log.models[1].model",
                "log.models[1].sample_rate",
            ]
        );
        let too_many = Limits { max_concurrent_requests: usize::MAX, ..defaults().limits };
        assert!(
            Config { limits: too_many, ..defaults() }.validate().is_err(),
            "a semaphore does not have that many permits"
        );
    }
}
