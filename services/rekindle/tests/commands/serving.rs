//! Status, policies, deployments, replicas and predictions.

use crate::world::World;

/// A multi-layer perceptron that trains in less than a second.
const RECIPE: &str = r#"{"target": "tip", "ignore": ["id"], "model": {"kind": "mlp", "hidden": [16], "dropout": 0.0,
    "optimizer": {"max_epochs": 12, "patience": 12, "batch_size": 64, "learning_rate": 0.01}}}"#;

/// `status`.
pub(crate) fn the_platform_becomes_ready(world: &World) {
    let ready = world.text(&["status", "--wait", "--timeout", "2m"]);
    assert!(ready.starts_with("ready") && ready.contains("replica-1"), "{ready}");
    let ready = world.json(&["status"]);
    assert_eq!((&ready["ready"], &ready["replicas"][0]["id"]), (&true.into(), &"replica-1".into()));
}

/// `policy set`, `show`.
pub(crate) fn policies(world: &World) {
    world.write("recipe.json", RECIPE);
    let missing = world.error(2, &["policy", "set", "nothing"]);
    assert!(missing.contains("--dataset") && missing.contains("--target"), "{missing}");
    let short = world.json(&["policy", "set", "tips", "--on", "none"]);
    assert_eq!(
        (&short["dataset"], &short["recipe"]["target"]),
        (&"trips".into(), &"tip".into()),
        "of the champion's run"
    );
    assert_eq!((&short["recipe"]["ignore"][0], &short["revision"]), (&"id".into(), &"1".into()), "{short}");
    for (flag, value, code) in [
        ("--target", "tipp", 2),
        ("--ignore", "no", 2),
        ("--gate-slices", "no", 2),
        ("--slice", "no", 2),
        ("--dataset", "no", 4),
    ] {
        let refused = world.error(code, &["policy", "set", "tips", flag, value]);
        assert!(refused.contains(flag) && refused.contains(value), "{refused}");
    }
    let first = ["policy", "set", "tips", "--dataset", "trips", "--recipe", "recipe.json", "--on", "none"];
    let timing = ["--window", "6h", "--lateness", "0s", "--label-wait", "1h", "--bake", "0s", "--observe", "0s"];
    let timing = [&timing[..], &["--slice", "company", "--slice", "fare > 20"]].concat();
    let set = world.run(&[&first[..], &timing].concat());
    assert!(set.out.contains("triggers:") && set.out.contains("none") && set.out.contains("6h"), "{set:?}");
    let difference = "differs from the training of the champion, tips version 1: model mlp instead of linear";
    assert!(set.err.contains(difference), "{set:?}");
    let changed = world.json(&["policy", "set", "tips", "--require-approval", "true", "--min-new-rows", "200"]);
    assert_eq!((&changed["revision"], &changed["watch"]["window"]), (&"3".into(), &"21600s".into()), "{changed}");
    assert_eq!(changed["recipe"]["mlp"]["hidden"][0], 16);
    assert_eq!(changed["watch"]["slices"], serde_json::json!(["company", "fare > 20"]), "{changed}");

    let bounds = ["--gate-confidence", "0.5", "--gate-margin", "1", "--holdout", "2"];
    let invalid = world.error(2, &[&["policy", "set", "tips"][..], &bounds].concat());
    for flag in ["--gate-confidence: is 0.5", "--gate-margin: is 1", "--holdout: is 2"] {
        assert!(invalid.contains(flag), "every violation is reported: {invalid}");
    }
    monitoring_rules(world);
    trigger_and_rollout_rules(world);
    assert!(world.text(&["policy", "show", "tips"]).contains("approval required: "));
    let shown = world.json(&["policy", "show", "tips"]);
    // The revision counts the changes that were taken back.
    let mut expected = changed.clone();
    expected["revision"] = shown["revision"].clone();
    assert_eq!(shown, expected, "refused changes had no effect");
    world.write("policy.json", shown.to_string());
    let copied = world.json(&["policy", "set", "tips", "--file", "policy.json", "--cooldown", "2days"]);
    assert_eq!((&copied["cooldown"], &copied["recipe"]), (&"172800s".into(), &shown["recipe"]));
}

/// Schedule, quiet hours, budget, canary steps and the limit of the latency.
fn trigger_and_rollout_rules(world: &World) {
    let set = |arguments: &[&'static str]| [&["policy", "set", "tips"][..], arguments].concat();
    let when = ["--schedule", "0 3 * * 1", "--schedule-zone", "Europe/Berlin", "--quiet-hours", "22:00-06:00"];
    let how = ["--canary", "0=10m,5%=1h", "--max-latency", "20ms", "--max-trainings-per-day", "3"];
    let ruled = world.text(&set(&[&when[..], &how].concat()));
    for part in [
        "schedule 0 3 * * 1 (Europe/Berlin)",
        "22:00:00 to 06:00:00 (UTC)",
        "shadow for 10m, 5 % for 1h, bake",
        "99 % within 20ms",
        "at most 3",
    ] {
        assert!(ruled.contains(part), "{part}: {ruled}");
    }
    let shown = world.json(&["policy", "show", "tips"]);
    assert_eq!(shown["rollout"]["canary"][1], serde_json::json!({"weight": 500, "duration": "3600s"}), "{shown}");
    let refused = world.error(2, &set(&["--schedule", "daily", "--schedule-zone", "Berlin"]));
    assert!(
        refused.contains("--schedule: is \"daily\"") && refused.contains("--schedule-zone: is \"Berlin\""),
        "{refused}"
    );
    let none = ["--schedule", "none", "--quiet-hours", "none", "--canary", "none", "--max-latency", "none"];
    let back = world.text(&set(&[&none[..], &["--max-trainings-per-day", "24"]].concat()));
    assert!(!back.contains("schedule") && !back.contains("shadow"), "{back}");
}

/// Rules of columns and alerts, and the feed timeout.
fn monitoring_rules(world: &World) {
    let set = |arguments: &[&'static str]| [&["policy", "set", "tips"][..], arguments].concat();
    let column = ["--column", "company=0.5", "--why", "few rows a day", "--by", "ann"];
    let alert = ["--alert", "drift=2/3,info", "--feed-timeout", "2h"];
    let ruled = world.text(&set(&[&column[..], &alert].concat()));
    for part in ["company: margin psi 0.5 by ann: few rows a day", "drift=2/3,info,resolve=2", "feed timeout:"] {
        assert!(ruled.contains(part), "{part}: {ruled}");
    }
    let unknown = world.error(2, &set(&["--column", "no=mute", "--why", "x"]));
    assert!(unknown.contains("--column: \"no\" is not a column of trips/"), "{unknown}");
    let without = world.error(2, &set(&["--column", "fare=mute"]));
    assert!(without.contains("watch.columns.fare.why: is empty"), "{without}");
    let unreadable = world.error(2, &set(&["--slice", "fare >"]));
    assert!(unreadable.contains("--slice") && unreadable.contains("cannot be parsed"), "{unreadable}");
    let wrong = world.error(2, &set(&["--alert", "drift=3/2"]));
    assert!(wrong.contains("watch.alerts.DRIFT.windows: is 3: expected 1 to `of`"), "{wrong}");
    let taken_back = ["--column", "company=default", "--alert", "drift=default", "--feed-timeout", "none"];
    let taken_back = world.json(&set(&taken_back));
    assert_eq!(taken_back["watch"]["column_rules"].as_array().map(Vec::len), Some(0), "{taken_back}");
}

/// `deploy`, `rollback`, `replicas`, and `status` with a deployment.
pub(crate) fn deployments(world: &World) {
    let deployed = world.text(&["deploy", "tips", "--wait", "--by", "alice", "--why", "first model"]);
    assert!(deployed.contains("stable version:") && deployed.contains("completed"), "{deployed}");
    let second = world.json(&["deploy", "tips", "--version", "2", "--wait"]);
    assert_eq!((&second["phase"], &second["stable"]["version"]), (&"DEPLOYMENT_PHASE_STABLE".into(), &2.into()));
    let back = world.json(&["rollback", "tips", "--wait", "--why", "compare"]);
    assert_eq!(
        (&back["stable"]["version"], &back["outcome"]),
        (&1.into(), &"ROLLOUT_OUTCOME_COMPLETED".into()),
        "{back}"
    );
    assert_eq!(world.json(&["deploy", "tips", "--version", "2", "--wait"])["stable"]["version"], 2);
    assert!(world.text(&["rollback", "tips", "--wait"]).contains("stable version:"));

    let replicas = world.text(&["replicas"]);
    let line = replicas.lines().find(|line| line.contains("replica-1")).expect("a replica");
    assert!(line.contains("tips") && replicas.trim_start().starts_with("REPLICA"), "{replicas}");
    assert_eq!(world.json(&["replicas"])[0]["models"][0]["serving"]["version"], 1);
    let status = world.text(&["status"]);
    assert!(status.lines().any(|line| line.trim_start().starts_with("tips") && line.contains("stable")), "{status}");
    assert_eq!(world.json(&["status"])["deployments"][0]["model"], "tips");
}

/// `traffic` and `deployments`.
pub(crate) fn traffic(world: &World) {
    let split = world.json(&["traffic", "tips", "--canary", "2=10%", "--by", "alice", "--why", "a first look"]);
    assert_eq!((&split["weighted"][0]["weight"], &split["shadow"]), (&1_000.into(), &serde_json::Value::Null));
    let shown = world.text(&["deployments", "show", "tips"]);
    assert!(shown.contains("90 % version 1, 10 % version 2") && shown.contains("a first look"), "{shown}");
    assert!(world.text(&["traffic", "tips", "--shadow", "2"]).contains("100 % version 1"));
    let shown = world.json(&["deployments", "show", "tips"]);
    assert_eq!(shown["shadow_comparison"]["version"], 2, "{shown}");
    assert!(world.text(&["deployments", "show", "tips"]).contains("compared rows"));
    assert_eq!(world.json(&["traffic", "tips"])["weighted"], serde_json::json!([]));
    assert_eq!(world.json(&["deployments", "list"])[0]["model"], "tips");
    let listed = world.text(&["deployments", "list"]);
    assert!(listed.contains("100 % version 1"), "{listed}");
}

/// `predict`. Returns the id of a prediction.
pub(crate) fn predictions(world: &World) -> String {
    let inputs = world.text(&["predict", "tips"]);
    assert!(
        inputs.trim_start().starts_with("FEATURE") && inputs.contains("fare") && inputs.contains("BYTES"),
        "{inputs}"
    );
    let inputs = world.json(&["predict", "tips"]);
    assert_eq!((&inputs[0]["name"], &inputs[0]["shape"][0]), (&"time".into(), &"-1".into()), "{inputs}");

    let row = ["predict", "tips", "time=2024-01-02T00:00:00Z", "fare=25.5", "company=north"];
    let answer = world.json(&row);
    let probability = answer[0]["outputs"]["probability"][0].as_f64().expect("a probability");
    assert!((0.0..=1.0).contains(&probability) && answer[0]["model_version"] == "1", "{answer}");
    assert!(answer[0]["code_revision"].is_string() && answer[0]["replica"] == "replica-1", "{answer}");
    let text = world.text(&[&row[..], &["--version", "1"]].concat());
    assert!(text.trim_start().starts_with("PREDICTION") && text.contains("probability"), "{text}");
    let from_file = world.json(&["predict", "tips", "--file", "trips.csv", "--rows", "3"]);
    assert_eq!(from_file.as_array().map(Vec::len), Some(3));

    let unknown = world.error(1, &["predict", "tips", "colour=red"]);
    assert!(unknown.contains("\"colour\" is not a feature of tips"), "{unknown}");
    answer[0]["prediction_id"].as_str().expect("an id").to_owned()
}
