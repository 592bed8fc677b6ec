//! The layers: which crates may depend on which (from cargo's metadata and tree), and where messages of the wire may be named (from the
//! sources).

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
/// The crate of the messages, as sources name it.
const WIRE: &str = "rekindle_proto";
/// Its modules that hold messages.
const MESSAGES: [&str; 6] = ["registry", "trainer", "monitor", "orchestrator", "events", "inference"];
const PURE: [&str; 3] = ["rekindle-domain", "rekindle-statistics", "rekindle-dataset"];
const SERVICES: [&str; 5] =
    ["rekindle-registry", "rekindle-trainer", "rekindle-inference", "rekindle-monitor", "rekindle-orchestrator"];
const NETWORK: [&str; 8] = ["tokio", "tonic", "hyper", "prost", "sea-orm", "sqlx-core", "async-nats", "axum"];

/// The crates of ours that each crate of ours may use outside of tests.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let libs_for_services = vec![
        "rekindle-proto",
        "rekindle-domain",
        "rekindle-client",
        "rekindle-service",
        "rekindle-dataset",
        "rekindle-statistics",
        "rekindle-drift-report",
        "rekindle-bundle",
        "rekindle-artifacts",
        "rekindle-store",
        "rekindle-bus",
        "rekindle-runtime",
    ];
    let mut allowed = BTreeMap::from([
        ("rekindle-domain", vec![]),
        ("rekindle-statistics", vec![]),
        ("rekindle-dataset", vec!["rekindle-domain", "rekindle-statistics"]),
        ("rekindle-drift-report", PURE.to_vec()),
        ("rekindle-proto", vec![]),
        ("rekindle-client", vec!["rekindle-proto", "rekindle-domain"]),
        ("rekindle-service", vec!["rekindle-proto", "rekindle-domain", "rekindle-store", "rekindle-client"]),
        ("rekindle-artifacts", PURE.to_vec()),
        ("rekindle-bundle", PURE.to_vec()),
        ("rekindle-training", PURE.into_iter().chain(["rekindle-bundle"]).collect()),
        ("rekindle-store", vec!["rekindle-domain", "rekindle-proto"]),
        ("rekindle-bus", vec!["rekindle-domain", "rekindle-proto", "rekindle-store"]),
        ("rekindle-runtime", vec!["rekindle-domain", "rekindle-proto"]),
        ("rekindle-testkit", vec!["rekindle-artifacts", "rekindle-store", "rekindle-bus"]),
    ]);
    for service in SERVICES {
        allowed.insert(service, libs_for_services.clone());
    }
    allowed.entry("rekindle-trainer").or_default().push("rekindle-training");
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

/// Every crate that is built for a crate of ours outside of tests and build scripts, at any depth, with its versions. The tree contains
/// only the optional dependencies that are enabled; the graph of the metadata contains all.
fn built_for(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // With the features of the package alone, also where those of the workspace are unified for the build of the tests.
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
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
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} has no row in `allowed`: add one"));
        let uses = direct[*name].iter().filter(|used| ours.contains(used.as_str()));
        let wrong: Vec<_> = uses.filter(|used| !may.contains(&used.as_str())).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

#[test]
fn no_service_is_built_for_another() {
    for name in SERVICES {
        let built = built_for(name);
        let others: Vec<_> = SERVICES.iter().filter(|other| **other != name && built.contains_key(**other)).collect();
        assert!(others.is_empty(), "{name} is built with {others:?}");
    }
}

#[test]
fn pure_crates_are_built_without_network_and_async() {
    for name in PURE.into_iter().chain(["rekindle-drift-report"]) {
        let pulled = built_for(name);
        let wrong: Vec<_> = NETWORK.iter().filter(|banned| pulled.contains_key(**banned)).collect();
        assert!(wrong.is_empty(), "{name} pulls in {wrong:?}");
    }
}

/// The crates of burn among `names`.
fn burn<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    names.into_iter().map(String::as_str).filter(|name| *name == "burn" || name.starts_with("burn-")).collect()
}

#[test]
fn only_training_depends_on_burn() {
    let metadata = metadata();
    let packages = metadata.workspace_packages().into_iter();
    let depends = packages.filter(|package| !burn(package.dependencies.iter().map(|used| &used.name)).is_empty());
    let depends: Vec<&str> = depends.map(|package| package.name.as_str()).collect();
    assert_eq!(depends, ["rekindle-training"]);
}

#[test]
fn services_except_the_trainer_are_built_without_burn() {
    assert!(!burn(built_for("rekindle-trainer").keys()).is_empty(), "the trainer is built with burn");
    for name in SERVICES.into_iter().filter(|name| *name != "rekindle-trainer").chain(["rekindle-bundle"]) {
        let built = built_for(name);
        assert_eq!(burn(built.keys()), Vec::<&str>::new(), "{name} is built with burn");
    }
}

#[test]
fn the_test_kit_is_a_dependency_of_tests_only() {
    for (name, uses) in direct(&metadata()) {
        let test_crate = name == "rekindle-integration-tests";
        assert!(test_crate || !uses.contains("rekindle-testkit"), "{name} ships with the test kit");
    }
}

#[test]
fn crates_are_named_after_a_purpose() {
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
        assert!(versions.len() == 1, "{name} is built in the versions {versions:?}");
    }
}

/// The Rust sources of the workspace, by path from its root, without generated ones.
fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(WORKSPACE).parent().expect("a folder");
    let mut folders: Vec<PathBuf> =
        ["proto", "libs", "services", "integration-tests"].map(|name| root.join(name)).into();
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target" && name != "fuzz") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                sources.insert(path.strip_prefix(root).expect("below the root").to_owned(), text);
            }
        }
    }
    sources
}

/// The modules of messages that a source names, and `re-export` if it renames or re-exports the crate of the messages.
fn names_messages(source: &str) -> BTreeSet<&str> {
    let mut named = BTreeSet::new();
    let renamed = [format!("pub use {WIRE}"), format!("{WIRE} as "), format!("use {WIRE};")];
    if renamed.iter().any(|form| source.contains(form)) {
        named.insert("re-export");
    }
    for path in source.split(&format!("{WIRE}::")).skip(1) {
        let segments = path.strip_prefix('{').map_or_else(|| vec![first_segment(path)], outermost);
        named.extend(segments.into_iter().filter_map(|name| MESSAGES.into_iter().find(|module| *module == name)));
    }
    named
}

/// The first segment of each path of a use tree, up to the brace that ends it.
fn outermost(tree: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut is_end = |c: char| {
        let ends = c == '}' && depth == 0;
        depth += i32::from(c == '{') - i32::from(c == '}');
        ends
    };
    let end = tree.find(&mut is_end).unwrap_or(tree.len());
    let mut depth = 0;
    let is_separator = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    tree[..end].split(is_separator).map(first_segment).collect()
}

fn first_segment(path: &str) -> &str {
    path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Whether that file may name those messages: in their crate, in the conversions, in the rpc layer of a service, in tests of a service that
/// call its own rpc layer, in tests that send what no typed client sends or that fake a server, and in tests of libraries that carry any message.
fn may_name_messages(path: &Path, named: &BTreeSet<&str>) -> bool {
    let text = path.to_str().expect("UTF-8");
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        ["proto", ..] | ["libs", "client", ..] => true,
        ["services", service, "src", first, ..] => {
            let layers: &[&str] = if service == "inference" { &["rpc", "grpc"] } else { &["rpc"] };
            layers.contains(&first.trim_end_matches(".rs"))
        }
        ["services", service, "tests" | "examples", ..] if named.iter().all(|module| *module == service) => true,
        ["libs", _, "tests", ..] | [.., "tests", _, "raw.rs" | "peers.rs"] => true,
        _ => false,
    }
}

#[test]
fn the_wire_is_named_in_the_client_and_the_rpc_layers_only() {
    let sources = sources();
    let naming = sources.iter().map(|(path, source)| (path, names_messages(source)));
    let naming: Vec<_> = naming.filter(|(_, named)| !named.is_empty()).collect();
    assert!(naming.iter().any(|(path, _)| path.ends_with("wire/workflow.rs")), "the scan finds the conversions");
    let wrong: Vec<_> = naming.into_iter().filter(|(path, named)| !may_name_messages(path, named)).collect();
    assert!(wrong.is_empty(), "these files must use domain types and rekindle-client: {wrong:#?}");
}

#[test]
fn every_form_of_naming_a_message_is_found() {
    for (source, expected) in [
        ("use WIRE::registry::Run;", vec!["registry"]),
        ("use WIRE::{json, monitor as m, trainer::{self, Job}, trace};", vec!["monitor", "trainer"]),
        ("use WIRE::{\n    events::AliasMoved,\n    inference,\n};", vec!["events", "inference"]),
        ("let run = WIRE::orchestrator::Workflow::default();", vec!["orchestrator"]),
        ("pub use WIRE::json;", vec!["re-export"]),
        ("use WIRE::{json::{self, registry}, trace};", vec![]),
        ("use WIRE::trace; use rekindle_client::registry;", vec![]),
    ] {
        let source = source.replace("WIRE", WIRE);
        assert_eq!(names_messages(&source).into_iter().collect::<Vec<_>>(), expected, "{source}");
    }
    for (path, expected) in [
        ("services/monitor/src/rpc.rs", true),
        ("services/registry/src/rpc/runs.rs", true),
        ("services/inference/src/grpc/decode.rs", true),
        ("services/monitor/src/grpc.rs", false),
        ("services/monitor/src/report.rs", false),
        ("services/orchestrator/tests/orchestrator/peers.rs", true),
        ("services/orchestrator/tests/orchestrator/main.rs", false),
        ("libs/runtime/tests/tracing.rs", true),
        ("libs/service/src/intent.rs", false),
    ] {
        assert_eq!(may_name_messages(Path::new(path), &BTreeSet::from(["monitor"])), expected, "{path}");
    }
    let own = Path::new("services/registry/tests/registry/runs.rs");
    assert!(may_name_messages(own, &BTreeSet::from(["registry"])));
    assert!(!may_name_messages(own, &BTreeSet::from(["registry", "monitor"])));
}

#[test]
fn a_module_with_children_is_a_file_beside_its_folder() {
    let wrong: Vec<_> = sources().into_keys().filter(|path| is_source(path) && path.ends_with("mod.rs")).collect();
    assert!(wrong.is_empty(), "noun.rs beside noun/, not noun/mod.rs: {wrong:?}");
}

/// A module that the tests of a crate share must be `mod.rs`: a file directly in `tests` is a test of its own.
fn is_source(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "src")
}
