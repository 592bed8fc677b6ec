//! Exit codes.

use crate::world::{World, alone};

/// The codes 1 to 5 of the help text.
pub(crate) fn exit_codes(world: &World) {
    for missing in [
        &["dataset", "show", "nothing"][..],
        &["models", "show", "nothing"],
        &["promote", "tips", "99"],
        &["deploy", "nothing"],
        &["policy", "show", "nothing"],
        &["predict", "nothing"],
        &["reports", "nothing"],
        &["report", "nothing"],
        &["failures", "nothing"],
        &["alerts", "show", "0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e"],
        &["alerts", "silence", "nothing", "--for", "1h", "--why", "x"],
        &["workflows", "list", "--model", "nothing"],
        &["train", "nothing", "--target", "x"],
        &["runs", "show", "0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e"],
        &["workflows", "show", "0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e"],
        &["lineage", "0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e"],
    ] {
        let message = world.error(4, missing);
        assert_eq!(message.contains("; `rekindle "), missing[0] != "predict" && missing[0] != "lineage", "{message}");
        assert!(message.starts_with("error: failed to ") && message.lines().count() == 1, "{message}");
    }
    for usage in [&["models", "show", "Not A Name"][..], &["train", "trips", "--target", ""], &["promote", "tips"]] {
        world.error(2, usage);
    }
    let unknown = world.error(1, &["train", "trips", "--target", "tipp"]);
    let is_named = unknown.contains("--target: \"tipp\" is not a column of trips/");
    assert!(is_named && unknown.contains(": expected one of ") && unknown.contains("fare, company, tip"), "{unknown}");
    let unknown = world.error(1, &["dataset", "register", "trips", "trips.csv", "--time", "tyme"]);
    assert!(unknown.contains("--time: column \"tyme\" does not exist; the columns are id, time"), "{unknown}");
    assert!(world.error(2, &["promote", "tips", "x"]).contains("expected a whole number"));
    assert!(world.error(2, &["policy", "set", "tips", "--window", "5"]).contains("expected a duration, e.g. 30m"));
    assert!(
        world
            .error(1, &["dataset", "register", "trips", "notes.txt"])
            .contains(".csv, .csv.gz, .csv.zst, .parquet or .pq")
    );
    assert!(world.error(1, &["dataset", "register", "trips", "absent.csv"]).contains("cannot read absent.csv"));
    let dead = ["--inference", "127.0.0.1:1"];
    let unreachable = world.error(5, &[&dead[..], &["predict", "tips"]].concat());
    assert!(unreachable.contains("a replica is unreachable") && unreachable.contains("127.0.0.1:1"), "{unreachable}");
    let status = world.run(&[&dead[..], &["status"]].concat());
    assert!(status.code == 3 && status.out.starts_with("not ready: replica 127.0.0.1:1 is not ready"), "{status:?}");
}

#[test]
fn a_platform_that_is_unreachable_has_its_own_exit_code() {
    for arguments in [
        &["--address", "http://127.0.0.1:1", "status"][..],
        &["--address", "http://127.0.0.1:1", "models", "list", "--json"],
        &["--nats", "nats://127.0.0.1:1", "events"],
    ] {
        let printed = alone(arguments);
        assert_eq!(printed.code, 5, "{printed:?}");
        let is_named = printed.err.contains("127.0.0.1:1") && printed.err.contains("rekindle up");
        assert!(is_named && printed.out.is_empty(), "{printed:?}");
    }
    assert_eq!(alone(&["--address", "nowhere", "status"]).code, 1);
}

#[test]
fn help_config_and_completions_require_no_platform() {
    let help = alone(&["--help"]).out;
    assert!(help.contains("Exit codes:") && help.starts_with("MLOps platform"), "{help}");
    let config = alone(&["config"]);
    assert!(config.code == 0 && config.out.contains("[orchestrator]") && config.out.contains("[bus.limits]"));
    let script = alone(&["completions", "bash"]);
    assert!(script.code == 0 && script.out.contains("_rekindle"));
    assert_eq!(alone(&["completions", "abacus"]).code, 2);
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = std::fs::File::create(folder.path().join("lock")).expect("a file");
    other.try_lock().expect("nobody else has it");
    let refused = alone(&["up", "--free-ports", "--data-dir", folder.path().to_str().expect("UTF-8")]);
    assert!(refused.code == 1 && refused.err.contains("another platform works in"), "{refused:?}");
    assert!(!folder.path().join("nats").exists(), "nothing was started");
}

#[test]
fn a_demonstration_names_the_flag_of_a_column_that_does_not_exist() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("trips.csv");
    std::fs::write(&data, crate::rows::csv(0..2, 2)).expect("a file");
    let paths = ["demo", "--data", data.to_str().expect("UTF-8"), "--out", folder.path().to_str().expect("UTF-8")];
    for (flag, columns) in
        [("--target", ["no", "time", "id"]), ("--time", ["tip", "no", "id"]), ("--ignore", ["tip", "time", "no"])]
    {
        let [target, time, ignore] = columns;
        let given = ["--target", target, "--time", time, "--ignore", ignore, "--train-until", "2024-01-01T01:00:00Z"];
        let refused = alone(&[&paths[..], &given].concat());
        let expected =
            format!("error: {flag}: column \"no\" does not exist; the columns are id, time, fare, company, tip");
        assert!(refused.code == 1 && refused.err.starts_with(&expected), "{refused:?}");
    }
}
