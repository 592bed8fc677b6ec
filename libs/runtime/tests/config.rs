//! Layers of configuration, and the errors of an invalid one.

use std::{io::Write as _, time::Duration};

use rekindle_domain::validation::{Checks, Violations};
use rekindle_runtime::{Error, config::Layers, grpc, telemetry};
use serde::Deserialize;

const DEFAULTS: &str = r#"
[registry]
listen = "127.0.0.1:7010"
workers = 2
tags = []

[registry.database]
url = "sqlite://registry.db"

[registry.grpc]
max_concurrent_calls = 10

[telemetry]
log = "info"
"#;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry: Registry,
    telemetry: telemetry::Config,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    listen: std::net::SocketAddr,
    workers: u16,
    tags: Vec<String>,
    database: Database,
    grpc: grpc::Config,
    token: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    url: String,
}

impl Settings {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.at_least("registry.workers", self.registry.workers, 1);
        checks.nested("registry.grpc", self.registry.grpc.validate());
        checks.nested("telemetry", self.telemetry.validate());
        checks.finish()
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("writes");
    file
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn load(toml: Option<&str>, variables: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let file = toml.map(file);
    let path = file.as_ref().map(|file| file.path());
    let layers = Layers::new(DEFAULTS).file(path).variables(pairs(variables)).overrides(pairs(overrides));
    layers.load(Settings::validate).map_err(|error| match error {
        Error::Configuration { problems } => problems,
        other => panic!("another error: {other}"),
    })
}

#[test]
fn the_defaults_are_enough() {
    let settings = load(None, &[], &[]).expect("valid");
    assert_eq!(settings.registry.workers, 2);
    assert_eq!(settings.registry.grpc.max_concurrent_calls, 10);
    assert_eq!(settings.registry.grpc.timeout, Some(Duration::from_secs(300)), "left out: the type's own default");
    assert_eq!(settings.registry.token, None);
}

#[test]
fn each_layer_overrides_the_one_below() {
    let toml = "[registry]\nworkers = 3\nlisten = '127.0.0.1:1'\n[registry.database]\nurl = 'sqlite://file'";
    let variables = [("REKINDLE__REGISTRY__WORKERS", "4"), ("REKINDLE__REGISTRY__DATABASE__URL", "postgres://env")];
    let settings = load(Some(toml), &variables, &[("registry.workers", "5")]).expect("valid");
    assert_eq!(settings.registry.workers, 5, "command line");
    assert_eq!(settings.registry.database.url, "postgres://env", "variable");
    assert_eq!(settings.registry.listen.port(), 1, "file");
    assert_eq!(settings.telemetry.log, "info", "default");
}

#[test]
fn text_is_converted_to_the_type_of_the_field() {
    let variables = [
        ("REKINDLE__REGISTRY__TOKEN", "12345"),
        ("REKINDLE__REGISTRY__TAGS", r#"["a", "b"]"#),
        ("REKINDLE__REGISTRY__GRPC__TIMEOUT", "1m 30s"),
        ("REKINDLE__TELEMETRY__FORMAT", "json"),
        ("UNRELATED", "x"),
        ("REKINDLE_LOG_OF_SOMETHING_ELSE", "x"),
    ];
    let settings = load(None, &variables, &[]).expect("valid");
    assert_eq!(settings.registry.token.as_deref(), Some("12345"), "digits stay text in a text field");
    assert_eq!(settings.registry.tags, ["a", "b"]);
    assert_eq!(settings.registry.grpc.timeout, Some(Duration::from_secs(90)));
    assert_eq!(settings.telemetry.format, telemetry::Format::Json);
}

#[test]
fn a_deadline_of_calls_can_be_none_but_not_zero() {
    let timeout =
        |text: &str| load(None, &[], &[("registry.grpc.timeout", text)]).map(|read| read.registry.grpc.timeout);
    assert_eq!(timeout("none"), Ok(None));
    assert_eq!(timeout("5m"), Ok(Some(Duration::from_secs(300))));
    assert!(timeout("0s").expect_err("zero")[0].contains("greater than 0s"));
    assert!(timeout("never").expect_err("not a duration")[0].contains("\"none\""));
    let file = load(Some("[registry.grpc]\ntimeout = 'none'"), &[], &[]).expect("valid in TOML");
    assert_eq!(file.registry.grpc.timeout, None);
}

#[test]
fn all_problems_are_reported_at_once_each_with_origin_and_key() {
    let toml = "[registry]\nworkers = 'many'\nlisten = '127.0.0.1:1'\n[registry.databse]\nurl = 'x'";
    let variables = [
        ("REKINDLE__REGISTRY__GRPC__TIMEOUT", "soon"),
        ("REKINDLE__REGISTRI__WORKERS", "1"),
        ("REKINDLE__TELEMETRY__OTLP_ENDPOINT", "collector:4317"),
    ];
    let overrides = [("registry.colour", "red"), ("registry.grpc.max_concurrent_calls", "0")];
    let problems = load(Some(toml), &variables, &overrides).expect_err("seven problems");
    for (origin, key, fault) in [
        ("/", "registry.workers", "many"),
        ("/", "registry.databse.url", "databse"),
        ("REKINDLE__REGISTRY__GRPC__TIMEOUT", "registry.grpc.timeout", "soon"),
        ("REKINDLE__REGISTRI__WORKERS", "registri.workers", "registri"),
        ("command line", "registry.colour", "colour"),
        ("command line", "registry.grpc.max_concurrent_calls", "is 0: expected at least 1"),
        ("REKINDLE__TELEMETRY__OTLP_ENDPOINT", "telemetry.otlp_endpoint", "is collector:4317: expected"),
    ] {
        let is_reported = |problem: &&String| {
            problem.starts_with(origin) && problem.contains(&format!(": {key}: ")) && problem.contains(fault)
        };
        assert_eq!(problems.iter().filter(is_reported).count(), 1, "{key}: {problems:#?}");
    }
    assert_eq!(problems.len(), 7, "nothing else is reported: {problems:#?}");
}

#[test]
fn a_default_out_of_bounds_is_reported_without_an_origin() {
    let defaults = DEFAULTS.replace("workers = 2", "workers = 0");
    let error = Layers::new(&defaults).load(Settings::validate).expect_err("out of bounds");
    assert_eq!(error.to_string(), "invalid configuration:\n  registry.workers: is 0: expected at least 1");
}

#[test]
fn every_bound_of_the_shared_sections_is_validated() {
    let grpc = [
        ("max_concurrent_calls", "0"),
        ("max_concurrent_streams", "0"),
        ("max_request_bytes", "0"),
        ("timeout", "0s"),
        ("keepalive", "0s"),
    ];
    let telemetry = [("telemetry.log", "rekindle=loud"), ("telemetry.otlp_endpoint", "collector")];
    let keys: Vec<(String, &str)> = grpc
        .map(|(key, value)| (format!("registry.grpc.{key}"), value))
        .into_iter()
        .chain(telemetry.map(|(key, value)| (key.to_owned(), value)))
        .collect();
    let invalid: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let problems = load(None, &[], &invalid).expect_err("all are out of bounds");
    for (key, _) in &keys {
        assert!(problems.iter().any(|problem| problem.contains(&format!(": {key}: "))), "{key}: {problems:#?}");
    }
    assert_eq!(problems.len(), keys.len(), "{problems:#?}");
}

#[test]
fn a_file_that_is_missing_or_malformed_is_named() {
    let missing = Layers::new(DEFAULTS).file(Some(std::path::Path::new("/nowhere/x.toml"))).parse::<Settings>();
    assert!(missing.expect_err("missing").to_string().contains("/nowhere/x.toml"));
    let malformed = load(Some("[registry\n"), &[], &[]).expect_err("malformed");
    assert_eq!(malformed.len(), 1, "{malformed:?}");
}

#[test]
fn keys_that_are_not_paths_are_refused_and_not_ignored() {
    for key in ["registry.", "", "registry.[", "."] {
        assert!(load(None, &[], &[(key, "1")]).is_err(), "{key:?} was ignored");
    }
    assert!(load(None, &[("REKINDLE__", "1")], &[]).is_err());
}
