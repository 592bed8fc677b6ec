//! Layers of configuration, and what is said of a wrong one.

use std::{io::Write as _, time::Duration};

use rekindle_runtime::{Error, config::load_from, grpc, telemetry};
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
    load_from(DEFAULTS, path, pairs(variables), &pairs(overrides)).map_err(|error| match error {
        Error::Configuration { problems } => problems,
        other => panic!("another error: {other}"),
    })
}

#[test]
fn the_defaults_stand_alone() {
    let settings = load(None, &[], &[]).expect("fine");
    assert_eq!(settings.registry.workers, 2);
    assert_eq!(settings.registry.grpc.max_concurrent_calls, 10);
    assert_eq!(settings.registry.grpc.timeout, Some(Duration::from_secs(300)), "left out: the type's own default");
    assert_eq!(settings.registry.token, None);
}

#[test]
fn each_layer_beats_the_one_below() {
    let toml = "[registry]\nworkers = 3\nlisten = '127.0.0.1:1'\n[registry.database]\nurl = 'sqlite://file'";
    let variables = [("REKINDLE__REGISTRY__WORKERS", "4"), ("REKINDLE__REGISTRY__DATABASE__URL", "postgres://env")];
    let settings = load(Some(toml), &variables, &[("registry.workers", "5")]).expect("fine");
    assert_eq!(settings.registry.workers, 5, "override");
    assert_eq!(settings.registry.database.url, "postgres://env", "variable");
    assert_eq!(settings.registry.listen.port(), 1, "file");
    assert_eq!(settings.telemetry.log, "info", "default");
}

#[test]
fn texts_become_what_the_field_wants() {
    let variables = [
        ("REKINDLE__REGISTRY__TOKEN", "12345"),
        ("REKINDLE__REGISTRY__TAGS", r#"["a", "b"]"#),
        ("REKINDLE__REGISTRY__GRPC__TIMEOUT", "1m 30s"),
        ("REKINDLE__TELEMETRY__FORMAT", "json"),
        ("UNRELATED", "x"),
        ("REKINDLE_LOG_OF_SOMETHING_ELSE", "x"),
    ];
    let settings = load(None, &variables, &[]).expect("fine");
    assert_eq!(settings.registry.token.as_deref(), Some("12345"), "a text stays a text");
    assert_eq!(settings.registry.tags, ["a", "b"]);
    assert_eq!(settings.registry.grpc.timeout, Some(Duration::from_secs(90)));
    assert_eq!(settings.telemetry.format, telemetry::Format::Json);
}

#[test]
fn a_time_limit_of_calls_can_be_lifted_but_not_be_nothing() {
    let limit = |text: &str| load(None, &[], &[("registry.grpc.timeout", text)]).map(|read| read.registry.grpc.timeout);
    assert_eq!(limit("none"), Ok(None));
    assert_eq!(limit("5m"), Ok(Some(Duration::from_secs(300))));
    assert!(limit("0s").expect_err("nothing")[0].contains("above 0"));
    assert!(limit("never").expect_err("no duration")[0].contains("\"none\""));
    let file = load(Some("[registry.grpc]\ntimeout = 'none'"), &[], &[]).expect("TOML can say it");
    assert_eq!(file.registry.grpc.timeout, None);
}

#[test]
fn all_problems_are_told_at_once_each_with_its_origin() {
    let toml = "[registry]\nworkers = 'many'\nlisten = '127.0.0.1:1'\n[registry.databse]\nurl = 'x'";
    let variables = [("REKINDLE__REGISTRY__GRPC__TIMEOUT", "soon"), ("REKINDLE__REGISTRI__WORKERS", "1")];
    let problems = load(Some(toml), &variables, &[("registry.colour", "red")]).expect_err("five problems");
    for (origin, fault) in [
        ("registry.workers", "many"),
        ("registry.databse.url", "databse"),
        ("REKINDLE__REGISTRY__GRPC__TIMEOUT", "time"),
        ("REKINDLE__REGISTRI__WORKERS", "registri"),
        ("--set registry.colour", "colour"),
    ] {
        assert!(problems.iter().any(|told| told.contains(origin) && told.contains(fault)), "{origin}: {problems:#?}");
    }
    assert_eq!(problems.len(), 5, "and nothing else is blamed: {problems:#?}");
}

#[test]
fn a_file_that_is_missing_or_malformed_is_named() {
    let missing = load_from::<Settings>(DEFAULTS, Some(std::path::Path::new("/nowhere/x.toml")), [], &[]);
    assert!(missing.expect_err("missing").to_string().contains("/nowhere/x.toml"));
    let malformed = load(Some("[registry\n"), &[], &[]).expect_err("malformed");
    assert_eq!(malformed.len(), 1, "{malformed:?}");
}

#[test]
fn keys_that_are_no_paths_are_refused_and_not_lost() {
    for key in ["registry.", "", "registry.[", "."] {
        assert!(load(None, &[], &[(key, "1")]).is_err(), "{key:?} was ignored");
    }
    assert!(load(None, &[("REKINDLE__", "1")], &[]).is_err());
}
