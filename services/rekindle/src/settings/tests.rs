//! The documented defaults against the structs, and the bounds of every section.

mod fields;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

/// A commented key, `#key = value`, as the key itself. A comment in words has a space after `#`.
fn uncommented(line: &str) -> &str {
    let is_key = |rest: &str| rest.split_once(" = ").is_some_and(|(key, _)| is_name(key));
    line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The defaults with every commented key set to its example.
fn complete() -> String {
    defaults().lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

fn values(toml: &str) -> Value {
    Layers::new(toml).parse().expect("TOML")
}

/// The dotted keys of all values.
fn documented(value: &Value) -> BTreeSet<String> {
    fn collect(path: &str, value: &Value, keys: &mut BTreeSet<String>) {
        match value {
            Value::Object(table) if !table.is_empty() => {
                for (key, value) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    collect(&path, value, keys);
                }
            }
            _ => {
                keys.insert(path.to_owned());
            }
        }
    }
    let mut keys = BTreeSet::new();
    collect("", value, &mut keys);
    keys
}

/// The keys of the structs that `toml` does not contain.
fn missing(toml: &str) -> BTreeSet<String> {
    let values = values(toml);
    let documented = documented(&values);
    let is_documented = |key: &String| {
        let section = format!("{key}.");
        documented.contains(key) || documented.iter().any(|documented| documented.starts_with(&section))
    };
    fields::of::<Settings>(&values).into_iter().filter(|key| !is_documented(key)).collect()
}

#[test]
fn every_field_of_the_structs_is_documented() {
    assert_eq!(fields::of::<Settings>(&values(&complete())), documented(&values(&complete())));
}

/// The test above must fail for each key that is removed from the documentation, whether or not it is optional.
#[test]
fn a_field_without_documentation_is_detected() {
    let complete = complete();
    let mut section = "";
    for (n, line) in complete.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_name(key)) else { continue };
        let without: Vec<&str> = complete.lines().enumerate().filter(|(m, _)| *m != n).map(|(_, line)| line).collect();
        assert_eq!(missing(&without.join("\n")), BTreeSet::from([format!("{section}.{key}")]));
    }
}

#[test]
fn every_key_has_a_comment_of_its_own() {
    let text = defaults();
    let mut previous = "";
    for line in text.lines() {
        if uncommented(line).split_once(" = ").is_some_and(|(key, _)| is_name(key)) {
            assert!(previous.starts_with("# "), "no comment above: {line}");
        }
        previous = line;
    }
}

#[test]
fn the_defaults_are_those_of_the_libraries() {
    let settings = Layers::new(&defaults()).parse::<Settings>().expect("complete");
    assert_eq!(settings.telemetry, telemetry::Config::default());
    assert_eq!(settings.bus, rekindle_bus::Config::at(settings.bus.url.clone()));
    assert_eq!(settings.artifacts, rekindle_artifacts::Config::default());
    assert_eq!(settings.grpc, grpc::Config::default());
    let database: rekindle_store::Config = serde_json::from_str(r#"{ "url": "" }"#).expect("the rest has defaults");
    for (service, config) in [
        ("registry", settings.registry.database),
        ("monitor", settings.monitor.database),
        ("orchestrator", settings.orchestrator.database),
    ] {
        assert_eq!(config, database, "{service}");
    }
}

fn load(toml: &str, overrides: &[(&str, &str)], scope: Scope) -> Result<Settings, Vec<String>> {
    let layers = Layers::new(toml).overrides(overrides.iter().copied());
    layers.load(|settings: &Settings| settings.validate(scope)).map_err(|error| match error {
        rekindle_runtime::Error::Configuration { problems } => problems,
        other => panic!("another error: {other}"),
    })
}

#[test]
fn the_defaults_and_the_examples_are_valid() {
    load(&defaults(), &[], Scope::Platform).expect("the defaults are valid");
    load(&complete(), &[], Scope::Platform).expect("the examples are valid");
}

#[test]
fn every_variable_of_the_compose_file_is_a_setting() {
    let text = include_str!("../../../../compose.yaml");
    let variable = |line: &str| {
        let (key, value) = line.trim().strip_prefix("REKINDLE__")?.split_once(": ")?;
        // Secrets are files, which only the containers have.
        let value = ["nats_password", "postgres_password", "s3_secret"]
            .into_iter()
            .fold(value.trim_matches('"').to_owned(), |value, name| {
                value.replace(&format!("{{file:/run/secrets/{name}}}"), "secret")
            });
        Some((format!("REKINDLE__{key}"), value))
    };
    let variables: BTreeMap<_, _> = text.lines().filter_map(variable).collect();
    assert!(variables.len() > 5, "{variables:?}");
    let scopes = [Service::Registry, Service::Trainer, Service::Monitor, Service::Orchestrator, Service::Inference];
    for service in scopes {
        let layers = |defaults| Layers::new(defaults).variables(variables.clone());
        let settings: Result<Settings, _> =
            layers(&defaults()).load(|settings: &Settings| settings.validate(Scope::Service(service)));
        settings.unwrap_or_else(|error| panic!("{service:?}: {error}"));
    }
}

#[test]
fn an_unknown_key_is_named() {
    let problems = load(&defaults(), &[("registry.databse.url", "x")], Scope::Platform).expect_err("a typo");
    assert!(problems.len() == 1 && problems[0].contains("registry.databse.url"), "{problems:?}");
}

/// A value out of bounds for each bounded key.
const OUT_OF_BOUNDS: &[(&str, &str)] = &[
    ("telemetry.log", "rekindle=loud"),
    ("telemetry.otlp_endpoint", "collector:4317"),
    ("bus.url", "nats://bus:port"),
    ("bus.connect_timeout", "0s"),
    ("bus.publish_timeout", "0s"),
    ("bus.limits.events_bytes", "0"),
    ("bus.limits.events_age", "0s"),
    ("bus.limits.jobs_bytes", "-1"),
    ("bus.limits.predictions_bytes", "0"),
    ("bus.limits.predictions_age", "0s"),
    ("bus.limits.failures_bytes", "0"),
    ("bus.limits.failures_age", "0s"),
    ("bus.limits.outcomes_bytes", "0"),
    ("bus.limits.outcomes_age", "0s"),
    ("bus.limits.dead_letters_bytes", "0"),
    ("bus.limits.dead_letters_age", "0s"),
    ("bus.limits.duplicate_window", "8days"),
    ("bus.limits.replica_lease", "0s"),
    ("bus.limits.replicas", "6"),
    ("artifacts.url", "ftp://store"),
    ("artifacts.endpoint", "http://store:9000"),
    ("artifacts.access_key_id", "key"),
    ("artifacts.max_blob_bytes", "0"),
    ("artifacts.request_timeout", "0s"),
    ("peers.registry", "registry:7010"),
    ("peers.trainer", ""),
    ("peers.monitor", "nats://monitor"),
    ("grpc.max_connections", "0"),
    ("grpc.max_concurrent_calls", "0"),
    ("grpc.max_concurrent_transfers", "0"),
    ("grpc.max_concurrent_streams", "0"),
    ("grpc.max_request_bytes", "0"),
    ("grpc.max_pending_bytes", "1000000"),
    ("grpc.receive_timeout", "0s"),
    ("grpc.idle_timeout", "0s"),
    ("grpc.timeout", "0s"),
    ("grpc.keepalive", "0s"),
    ("shutdown.drain", "14s"),
    ("registry.instance", "a/b"),
    ("registry.scheduled_lease", "0s"),
    ("registry.running_lease", "0s"),
    ("registry.reap_every", "0s"),
    ("registry.readers", "0"),
    ("registry.bundles", "0"),
    ("registry.transfer_idle", "0s"),
    ("trainer.training_bytes", "0"),
    ("registry.database.url", "mysql://host"),
    ("registry.database.max_connections", "0"),
    ("registry.limits.entries", "0"),
    ("registry.limits.name_chars", "0"),
    ("registry.limits.text_chars", "0"),
    ("registry.limits.texts_bytes", "524288"),
    ("registry.limits.metrics", "0"),
    ("registry.limits.sources", "0"),
    ("registry.limits.parents", "0"),
    ("registry.limits.rows", "0"),
    ("registry.limits.columns", "0"),
    ("registry.limits.bytes", "0"),
    ("trainer.instance", ""),
    ("trainer.workers", "0"),
    ("trainer.ack_wait", "9ms"),
    ("trainer.max_deliveries", "0"),
    ("trainer.report_every", "0s"),
    ("monitor.instance", "one two"),
    ("monitor.database.url", "monitor.db"),
    ("monitor.database.max_connections", "0"),
    ("monitor.lease", "999ms"),
    ("monitor.flush_after", "0s"),
    ("monitor.flush_rows", "0"),
    ("monitor.fetch_messages", "0"),
    ("monitor.window_rows", "0"),
    ("monitor.export_rows", "0"),
    ("monitor.labelled_share", "7"),
    ("monitor.evaluate_every", "0s"),
    ("monitor.remember", "0s"),
    ("monitor.references", "0"),
    ("monitor.alerts.every", "0s"),
    ("monitor.alerts.retry_for", "31days"),
    ("orchestrator.instance", ""),
    ("orchestrator.tick", "0s"),
    ("orchestrator.poll", "0s"),
    ("orchestrator.retry_first", "0s"),
    ("orchestrator.lease", "0s"),
    ("orchestrator.replica_lease", "0s"),
    ("orchestrator.attempts", "0"),
    ("orchestrator.deploy_deadline", "0s"),
    ("orchestrator.watchers", "0"),
    ("orchestrator.database.url", "orchestrator.db"),
    ("orchestrator.database.max_connections", "0"),
    ("inference.resync_interval", "0s"),
    ("inference.report_interval", "0s"),
    ("inference.fetch_attempts", "0"),
    ("inference.limits.max_rows_per_request", "0"),
    ("inference.limits.max_message_bytes", "0"),
    ("inference.limits.max_concurrent_requests", "0"),
    ("inference.log.buffer_bytes", "0"),
    ("inference.log.batch_rows", "0"),
    ("inference.log.batch_bytes", "1"),
    ("inference.log.batch_interval", "0s"),
    ("inference.log.retry_interval", "0s"),
];

#[test]
fn a_value_out_of_bounds_is_refused_with_its_key() {
    for &(key, value) in OUT_OF_BOUNDS {
        let problems = load(&defaults(), &[(key, value)], Scope::Platform).expect_err(key);
        let is_named = |problem: &String| problem.contains(key) || problem.contains("artifacts.secret_access_key");
        assert!(problems.iter().any(is_named), "{key} = {value}: {problems:#?}");
        assert!(problems.iter().any(|problem| problem.contains("expected") || key == "telemetry.log"), "{problems:#?}");
    }
}

#[test]
fn all_values_out_of_bounds_are_reported_at_once() {
    let problems = load(&defaults(), OUT_OF_BOUNDS, Scope::Platform).expect_err("all are out of bounds");
    for (key, _) in OUT_OF_BOUNDS.iter().filter(|(key, _)| *key != "artifacts.access_key_id") {
        assert!(problems.iter().any(|problem| problem.contains(&format!("{key}: "))), "{key}: {problems:#?}");
    }
}

#[test]
fn sections_that_contradict_each_other_are_refused() {
    for (key, value, other) in [
        ("inference.report_interval", "10s", "bus.limits.replica_lease: is 10s"),
        ("inference.report_interval", "10s", "orchestrator.replica_lease: is 10s"),
        ("trainer.report_every", "1m", "registry.running_lease: is 1m"),
        ("monitor.remember", "7days", "monitor.remember: is 7days: expected greater than bus.limits.predictions_age"),
        (
            "bus.limits.outcomes_age",
            "15days",
            "monitor.remember: is 14days: expected greater than bus.limits.outcomes_age",
        ),
        ("grpc.linger", "6s", "shutdown.drain: is 20s: expected at least grpc.linger + grpc.drain = 21s"),
        ("orchestrator.retry_longest", "499ms", "orchestrator.retry_longest: is 499ms: expected at least retry_first"),
        ("inference.log.buffer_bytes", "4096", "inference.log.buffer_bytes: is 4096"),
    ] {
        let problems = load(&defaults(), &[(key, value)], Scope::Platform).expect_err(key);
        assert!(problems.iter().any(|problem| problem.contains(other)), "{key}: {problems:#?}");
    }
}

#[test]
fn a_password_is_not_printed() {
    let secrets = [
        ("registry.database.url", "mysql://me:hunter2@host/registry"),
        ("bus.url", "nats://me:hunter2@bus:port"),
        ("artifacts.secret_access_key", "hunter2"),
    ];
    let problems = load(&defaults(), &secrets, Scope::Platform).expect_err("three are not valid");
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(!problems.iter().any(|problem| problem.contains("hunter2")), "{problems:#?}");
}

#[test]
fn a_service_alone_requires_its_database_and_the_object_store() {
    let missing = |service| load(&defaults(), &[], Scope::Service(service)).expect_err("nothing is set");
    assert_eq!(missing(Service::Trainer).len(), 1);
    let problems = missing(Service::Registry);
    assert!(problems[0].starts_with("registry.database.url: is not set"), "{problems:?}");
    assert!(problems[1].starts_with("artifacts.url: is not set"), "{problems:?}");
    let set = [("registry.database.url", "sqlite:///tmp/x.db"), ("artifacts.url", "file:///tmp/objects")];
    load(&defaults(), &set, Scope::Service(Service::Registry)).expect("both are set");
}
