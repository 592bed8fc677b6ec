//! Everything that can be configured, in one struct: shared sections and one per service. One file may hold the settings of all; a
//! service reads what it needs, and a key that nobody knows is an error wherever it stands.

use std::{path::Path, time::Duration};

use rekindle_runtime::{config, grpc, telemetry};
use serde::Deserialize;

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub telemetry: telemetry::Config,
    pub bus: rekindle_bus::Config,
    pub artifacts: rekindle_artifacts::Config,
    pub peers: Peers,
    pub grpc: grpc::Config,
    pub shutdown: Ending,
    pub registry: rekindle_registry::Config,
    pub trainer: rekindle_trainer::Config,
    pub monitor: rekindle_monitor::Config,
    pub orchestrator: rekindle_orchestrator::Config,
    pub inference: rekindle_inference::Config,
}

/// Where the other services are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peers {
    pub registry: String,
    pub trainer: String,
    pub monitor: String,
}

/// How the program ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ending {
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// Every commented default there is, as one TOML file: what `rekindle config` prints.
pub(crate) fn defaults() -> String {
    [
        include_str!("default.toml"),
        rekindle_registry::DEFAULTS,
        rekindle_trainer::DEFAULTS,
        rekindle_monitor::DEFAULTS,
        rekindle_orchestrator::DEFAULTS,
        rekindle_inference::DEFAULTS,
    ]
    .join("\n")
}

impl Settings {
    /// Defaults, then the file, then `REKINDLE__SECTION__KEY`, then `overrides` (dotted keys).
    pub(crate) fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Self, rekindle_runtime::Error> {
        config::load(&defaults(), file, overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        Settings::load(None, &[]).expect("every key has a default");
    }

    #[test]
    fn every_variable_of_the_compose_file_is_a_setting() {
        let text = include_str!("../../../compose.yaml");
        let variables = text.lines().filter_map(|line| line.trim().strip_prefix("REKINDLE__")?.split_once(": ")).map(
            |(key, value)| {
                (
                    format!("REKINDLE__{key}"),
                    value.trim_matches('"').replace("${REKINDLE_PASSWORD:-rekindle}", "secret"),
                )
            },
        );
        let variables: Vec<_> = variables.collect();
        assert!(variables.len() > 5, "{variables:?}");
        config::load_from::<Settings>(&defaults(), None, variables, &[]).expect("every variable is known");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Settings::load(None, &[("registry.databse.url".into(), "x".into())]).expect_err("a typo");
        assert!(error.to_string().contains("databse"), "{error}");
    }
}
