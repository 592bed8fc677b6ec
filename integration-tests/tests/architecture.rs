//! Who may depend on whom, as cargo itself tells: its metadata for what a manifest asks for, its tree for what is built because of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
const PURE: [&str; 3] = ["rekindle-domain", "rekindle-statistics", "rekindle-dataset"];
const SERVICES: [&str; 5] =
    ["rekindle-registry", "rekindle-trainer", "rekindle-inference", "rekindle-monitor", "rekindle-orchestrator"];
const NETWORK: [&str; 8] = ["tokio", "tonic", "hyper", "prost", "sea-orm", "sqlx-core", "async-nats", "axum"];

/// The crates of ours that each crate of ours may use outside of tests.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let libs_for_services = vec![
        "rekindle-proto",
        "rekindle-domain",
        "rekindle-dataset",
        "rekindle-statistics",
        "rekindle-model",
        "rekindle-artifacts",
        "rekindle-store",
        "rekindle-bus",
        "rekindle-runtime",
    ];
    let mut allowed = BTreeMap::from([
        ("rekindle-domain", vec![]),
        ("rekindle-statistics", vec![]),
        ("rekindle-dataset", vec!["rekindle-domain", "rekindle-statistics"]),
        ("rekindle-proto", PURE.to_vec()),
        ("rekindle-artifacts", PURE.to_vec()),
        ("rekindle-model", PURE.to_vec()),
        ("rekindle-store", vec!["rekindle-domain", "rekindle-proto"]),
        ("rekindle-bus", vec!["rekindle-domain", "rekindle-proto", "rekindle-store"]),
        ("rekindle-runtime", vec!["rekindle-domain", "rekindle-proto"]),
        ("rekindle-testkit", vec!["rekindle-artifacts", "rekindle-store", "rekindle-bus"]),
    ]);
    for service in SERVICES {
        allowed.insert(service, libs_for_services.clone());
    }
    allowed.insert("rekindle", libs_for_services.into_iter().chain(SERVICES).collect());
    allowed
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(WORKSPACE).exec().expect("metadata")
}

/// Our crates and, for each, the crates it depends on outside of tests and build scripts.
fn direct(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let normal = |package: &cargo_metadata::Package| {
        let used = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        used.map(|dependency| dependency.name.clone()).collect()
    };
    metadata.workspace_packages().into_iter().map(|package| (package.name.to_string(), normal(package))).collect()
}

/// Every crate that is built for a crate of ours outside of tests and build scripts, however deep, with its versions. The tree knows
/// which optional dependencies are really used; the metadata's graph does not.
fn built_for(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--manifest-path", WORKSPACE, "--locked", "--package", name])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut built: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            built.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    built
}

#[test]
fn each_crate_uses_only_the_layers_below_it() {
    let allowed = allowed();
    let direct = direct(&metadata());
    let ours: BTreeSet<&str> = direct.keys().map(String::as_str).filter(|name| name.starts_with("rekindle")).collect();
    for name in ours.iter().filter(|name| **name != "rekindle-integration-tests") {
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} has no place in the layering: give it one"));
        let uses = direct[*name].iter().filter(|used| ours.contains(used.as_str()));
        let wrong: Vec<_> = uses.filter(|used| !may.contains(&used.as_str())).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

#[test]
fn pure_crates_know_no_network_and_no_async() {
    for name in PURE {
        let pulled = built_for(name);
        let wrong: Vec<_> = NETWORK.iter().filter(|banned| pulled.contains_key(**banned)).collect();
        assert!(wrong.is_empty(), "{name} pulls in {wrong:?}");
    }
}

#[test]
fn the_test_kit_is_for_tests_alone() {
    for (name, uses) in direct(&metadata()) {
        let test_crate = name == "rekindle-integration-tests";
        assert!(test_crate || !uses.contains("rekindle-testkit"), "{name} ships with the test kit");
    }
}

#[test]
fn no_crate_is_a_drawer_for_everything() {
    for name in direct(&metadata()).keys() {
        let last = name.trim_start_matches("rekindle-");
        assert!(!["common", "utils", "util", "helpers", "core", "types", "shared"].contains(&last), "{name}");
    }
}

#[test]
fn one_version_of_each_crate_that_crosses_our_interfaces() {
    let built = built_for("rekindle");
    for name in ["tonic", "prost", "hyper", "axum", "arrow", "parquet", "object_store", "rustls", "opentelemetry"] {
        let versions = built.get(name).unwrap_or_else(|| panic!("{name} is not built at all"));
        assert!(versions.len() == 1, "{name} is there as {versions:?}");
    }
}
