//! The whole configuration in one struct: shared sections and one section per service. One file may configure all services; an unknown
//! key and a value out of bounds are errors in every section.

#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use humantime::format_duration;
use rekindle_domain::validation::{Checks, Violations};
use rekindle_runtime::{config::Layers, grpc, telemetry};
use serde::Deserialize;

use crate::serve::{Service, replica_limits};

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub telemetry: telemetry::Config,
    pub bus: rekindle_bus::Config,
    pub artifacts: rekindle_artifacts::Config,
    pub peers: Peers,
    pub grpc: grpc::Config,
    pub shutdown: Shutdown,
    pub registry: rekindle_registry::Config,
    pub trainer: rekindle_trainer::Config,
    pub monitor: rekindle_monitor::Config,
    pub orchestrator: rekindle_orchestrator::Config,
    pub inference: rekindle_inference::Config,
}

/// Addresses of the other services.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peers {
    pub registry: String,
    pub trainer: String,
    pub monitor: String,
}

/// Shutdown of the program.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shutdown {
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// What the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `rekindle up`, which chooses databases and object store if they are not set.
    Platform,
    /// `rekindle serve`: the service's database and the object store must be set.
    Service(Service),
}

/// All commented defaults as one TOML file, which `rekindle config` prints.
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
    /// Reads and validates defaults, then the file, then `REKINDLE__SECTION__KEY`, then `overrides` (dotted keys).
    pub(crate) fn load(
        file: Option<&Path>,
        overrides: Vec<(String, String)>,
        scope: Scope,
    ) -> Result<Self, rekindle_runtime::Error> {
        let defaults = defaults();
        let layers = Layers::new(&defaults).file(file).process_variables().overrides(overrides);
        layers.load(|settings: &Self| settings.validate(scope))
    }

    /// Validates every section, the relations between sections, and what `scope` requires.
    fn validate(&self, scope: Scope) -> Result<(), Violations> {
        let mut checks = Checks::new();
        for (section, result) in [
            ("telemetry", self.telemetry.validate()),
            ("bus", self.bus.validate()),
            ("artifacts", self.artifacts.validate()),
            ("peers", self.peers.validate()),
            ("grpc", self.grpc.validate()),
            ("registry", self.registry.validate()),
            ("trainer", self.trainer.validate()),
            ("monitor", self.monitor.validate()),
            ("orchestrator", self.orchestrator.validate()),
            ("inference", self.inference.validate()),
        ] {
            checks.nested(section, result);
        }
        self.check_relations(&mut checks);
        if let Scope::Service(service) = scope {
            self.check_required(&mut checks, service);
        }
        checks.finish()
    }

    /// Bounds that one section sets to another.
    fn check_relations(&self, checks: &mut Checks) {
        let Self { bus, registry, trainer, monitor, orchestrator, inference, .. } = self;
        let report_interval = ("inference.report_interval", inference.report_interval);
        for (field, given, (other, bound)) in [
            ("bus.limits.replica_lease", bus.limits.replica_lease, report_interval),
            ("orchestrator.replica_lease", orchestrator.replica_lease, report_interval),
            ("registry.running_lease", registry.running_lease, ("trainer.report_every", trainer.report_every)),
            ("monitor.remember", monitor.remember, ("bus.limits.predictions_age", bus.limits.predictions_age)),
            ("monitor.remember", monitor.remember, ("bus.limits.outcomes_age", bus.limits.outcomes_age)),
        ] {
            let expected = format!("greater than {other} = {}", format_duration(bound));
            checks.require(given > bound, field, format_duration(given), &expected);
        }
        if self.grpc.validate().is_ok() && inference.validate().is_ok() {
            checks.nested("grpc", replica_limits(self).validate());
        }
        let server = self.grpc.linger + self.grpc.drain;
        let drain = self.shutdown.drain;
        let expected = format!("at least grpc.linger + grpc.drain = {}", format_duration(server));
        checks.require(drain >= server, "shutdown.drain", format_duration(drain), &expected);
    }

    /// The database of a service that has one, and the field of its URL.
    pub(crate) fn database(&self, service: Service) -> Option<(&'static str, &rekindle_store::Config)> {
        match service {
            Service::Registry => Some(("registry.database.url", &self.registry.database)),
            Service::Monitor => Some(("monitor.database.url", &self.monitor.database)),
            Service::Orchestrator => Some(("orchestrator.database.url", &self.orchestrator.database)),
            Service::Trainer | Service::Inference => None,
        }
    }

    /// What `rekindle serve` cannot choose by itself.
    fn check_required(&self, checks: &mut Checks, service: Service) {
        let database = self.database(service).map(|(field, database)| (field, &database.url));
        let artifacts = ("artifacts.url", &self.artifacts.url);
        for (field, _) in database.into_iter().chain([artifacts]).filter(|(_, url)| url.is_empty()) {
            checks.violation(field, "is not set: `rekindle serve` requires a value, see `rekindle config`");
        }
    }
}

impl Peers {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        for (field, url) in [("registry", &self.registry), ("trainer", &self.trainer), ("monitor", &self.monitor)] {
            let is_http = url.starts_with("http://") || url.starts_with("https://");
            checks.require(is_http, field, url, "an address such as http://host:port");
        }
        checks.finish()
    }
}
