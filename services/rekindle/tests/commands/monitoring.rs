//! Replays, outcomes, lineage, reports and events.

use rekindle_testkit::eventually;
use serde_json::Value;

use crate::{rows, world::World};

/// `replay`: two days in which the relation between features and label is reversed.
pub(crate) fn replays(world: &World) {
    world.write("later.csv", rows::csv(24..72, 24));
    let replay = ["replay", "later.csv", "--model", "tips", "--time", "time", "--target", "tip", "--rate", "2000"];
    let late = ["replay", "later.csv", "--model", "tips", "--time", "time", "--target", "no", "--label-delay", "2h"];
    let late = world.run(&late);
    assert!(late.code == 1 && late.err.contains("but the monitor waits 1h for those of a window of tips"), "{late:?}");
    let day = world.text(&[&replay[..], &["--label-delay", "1h", "--until", "2024-01-03"]].concat());
    assert!(day.contains("requests:") && day.contains("1440"), "{day}");
    let day = world.json(&[&replay[..], &["--from", "2024-01-03"]].concat());
    let counted = ["requests", "rows", "outcomes", "failed_requests"].map(|key| day[key].as_u64());
    assert_eq!(counted, [Some(1440), Some(1440), Some(1440), Some(0)], "{day}");
}

/// `outcomes`, given as arguments and in a file.
pub(crate) fn outcomes(world: &World, prediction: &str) {
    let given = format!("{prediction}=1");
    let reported = world.text(&["outcomes", "tips", &given]);
    assert!(reported.contains("accepted:") && reported.contains("matched:"), "{reported}");
    world.write("outcomes.jsonl", format!("{{\"prediction_id\": \"{prediction}\", \"row\": 0, \"label\": 1}}\n"));
    assert_eq!(world.json(&["outcomes", "tips", "--file", "outcomes.jsonl"])["accepted"], "1");
    world.write("outcomes.jsonl", format!("{{\"prediction_id\": \"{prediction}\", \"row\": 0, \"label\": \"0\"}}\n"));
    assert_eq!(world.json(&["outcomes", "tips", "--file", "outcomes.jsonl"])["accepted"], "1");
    world.write("outcomes.jsonl", format!("{{\"prediction_id\": \"{prediction}\"}}\n"));
    let invalid = world.error(1, &["outcomes", "tips", "--file", "outcomes.jsonl"]);
    assert!(invalid.contains("outcomes.jsonl, line 1: label: is missing: specify label or number"), "{invalid}");
}

/// `lineage`, of a prediction, a version and a bundle.
pub(crate) async fn lineage(world: &World, prediction: &str) {
    let json = eventually("the prediction and its last outcome are captured", async || {
        let printed = world.run(&["lineage", prediction, "--replay", "--json"]);
        let json = if printed.code == 0 { serde_json::from_str(&printed.out).expect("JSON") } else { Value::Null };
        let is_complete = json["prediction"]["outcome"]["class"] == "0";
        if is_complete { Ok(json) } else { Err(format!("{printed:?}")) }
    })
    .await;
    assert!(json["replay"].as_array().is_some_and(|all| all.iter().all(|one| one["same_bits"] == true)), "{json}");
    let text = world.text(&["lineage", prediction, "--replay"]);
    assert!(text.contains("trips version 1") && text.contains("probability: replayed"), "{text}");
    assert!(text.contains("outcome:"), "{text}");
    assert_eq!(text.matches("identical bits").count(), 2, "probability and label: {text}");

    let version = world.json(&["lineage", "tips@champion"]);
    let bundle = version["bundle_digest"].as_str().expect("a digest");
    assert_eq!((bundle, &version["prediction"]), (json["bundle_digest"].as_str().expect("a digest"), &Value::Null));
    assert!(world.text(&["lineage", bundle]).contains("tips version 1"));
    assert!(world.error(1, &["lineage", "tips", "--replay"]).contains("--replay requires a prediction id"));

    let tree = world.text(&["lineage", "tips@champion", "--graph"]);
    assert!(tree.contains("from run/") && tree.contains("to alias/tips/champion"), "{tree}");
    assert!(tree.contains("from dataset-version/trips/") && tree.contains("to deployment/tips"), "{tree}");
    let results = world.json(&["lineage", "dataset:trips@1", "--results"]);
    let is_there = |id: &str| results["nodes"].as_array().is_some_and(|all| all.iter().any(|node| node["id"] == id));
    assert!(is_there("model-version/tips/1") && is_there("alias/tips/champion"), "{results}");
    let run = json["lineage"]["run"]["id"].as_str().expect("a run");
    assert!(world.text(&["lineage", &format!("run:{run}"), "--graph", "dot"]).starts_with("digraph"));
    assert!(world.text(&["lineage", bundle, "--graph", "svg", "--sources"]).contains("<svg"));
}

/// `reports`.
pub(crate) async fn reports(world: &World) {
    let reports = eventually("a window with drift is reported", async || {
        let reports = world.json(&["reports", "tips"]);
        let has_drift = reports.as_array().is_some_and(|all| all.iter().any(|one| one["drift"] == "VERDICT_DRIFTED"));
        if has_drift { Ok(reports) } else { Err(reports.to_string()) }
    })
    .await;
    assert_eq!(reports[0]["window"]["model"], "tips");
    let text = world.text(&["reports", "tips", "--limit", "3"]);
    assert!(text.trim_start().starts_with("FROM") && text.lines().count() == 4, "{text}");
    assert!(text.contains("drifted") && text.contains("fare (psi"), "{text}");
    let slices = world.json(&["reports", "tips", "--slices"]);
    let slices = slices.as_array().expect("a list");
    let is_fare = |slice: &Value| slice["slice"] == "fare > 20" && slice["window"]["model"] == "tips";
    assert!(slices.iter().any(is_fare), "{slices:?}");
    let text = world.text(&["reports", "tips", "--slices", "--limit", "1000"]);
    assert!(text.contains("VALIDATION LOSS") && text.contains("fare > 20") && text.contains("company = '"), "{text}");
}

/// `report`, whose figures are those of the lists.
pub(crate) fn report(world: &World) {
    let report = world.json(&["report", "tips", "--html", "report.html"]);
    let workflows = world.json(&["workflows", "list", "--model", "tips"]);
    assert_eq!(report["workflows"].as_u64(), workflows.as_array().map(|all| all.len() as u64), "{report}");
    assert!(
        report["drifted"].as_u64() > Some(0) && report["drifted"].as_u64() <= report["windows"].as_u64(),
        "{report}"
    );
    let champion = world.json(&["models", "show", "tips", "champion"]);
    assert_eq!((&report["champion"], &report["html"]), (&champion["version"], &"report.html".into()));
    let page = world.read("report.html");
    assert!(page.contains("Drift per feature over time") && page.contains(">fare<") && !page.contains("<script"));
    let text = world.text(&["report", "tips", "--from", "2020-01-01", "--until", "2020-01-02"]);
    assert!(text.contains("no window was closed") && text.contains("windows drifted:"), "{text}");
    let backwards = ["report", "tips", "--from", "2020-01-02", "--until", "2020-01-01"];
    assert!(world.error(1, &backwards).contains("--until"));
}

/// `failures`.
pub(crate) async fn failures(world: &World) {
    let long_ago = ["predict", "tips", "time=2020-01-02T00:00:00Z", "fare=25.5", "company=north", "--traffic", "live"];
    for _ in 0..2 {
        assert!(world.error(1, &long_ago).contains("inputs[time]"));
    }
    let failed = eventually("both requests are reported", async || {
        let all = world.json(&["failures", "tips"]);
        let is_early = |one: &&Value| one["message"].as_str().is_some_and(|message| message.contains("2020-01-02"));
        let early: Vec<Value> = all.as_array().into_iter().flatten().filter(is_early).cloned().collect();
        let requests = early.iter().filter_map(|one| one["requests"].as_str()?.parse::<u64>().ok());
        if requests.sum::<u64>() == 2 { Ok(early) } else { Err(all.to_string()) }
    })
    .await;
    assert_eq!((&failed[0]["reason"], &failed[0]["model_version"]), (&"INVALID_INPUT".into(), &1.into()), "{failed:?}");
    let text = world.text(&["failures", "tips", "--since", "1d", "--limit", "1"]);
    assert!(text.contains("INVALID_INPUT") && text.contains("inputs[time]") && text.contains("replica-1"), "{text}");
}

/// `watch reset`.
pub(crate) fn resets(world: &World) {
    let reset = world.json(&["watch", "reset", "tips"]);
    assert!(reset["model"] == "tips" && reset["watermark"].is_null(), "{reset}");
    assert!(world.text(&["watch", "reset", "tips"]).contains("rows captured:"));
}

/// `events`.
pub(crate) fn events(world: &World) {
    let all = ["events", "--all", "--no-follow"];
    let moved = world.text(&[&all[..], &["--kind", "registry.alias.moved", "--name", "tips"]].concat());
    assert!(moved.contains("registry.alias.moved") && moved.contains("alias=champion"), "{moved}");
    let printed = world.run(&[&all[..], &["--kind", "orchestrator.workflow.*", "--json", "--count", "2"]].concat());
    let events: Vec<Value> = printed.out.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert_eq!((printed.code, events.len()), (0, 2), "{printed:?}");
    assert_eq!(events[0]["type"], "dev.rekindle.orchestrator.workflow.advanced.v1");
    let id = events[0]["correlationid"].as_str().expect("the workflow");
    let of_workflow = world.text(&[&all[..], &["--correlation", id]].concat());
    assert!(of_workflow.lines().count() > 2 && of_workflow.contains(id), "{of_workflow}");
    events_of_a_namespace(world);
    assert!(world.text(&["events", "replay"]).contains("entries"));
    let replayed = world.json(&["events", "replay"]);
    assert_eq!(replayed["replayed"], replayed["registry"], "{replayed}");
    assert!(replayed["entries"].as_u64() > Some(10), "{replayed}");
}

fn events_of_a_namespace(world: &World) {
    let kind = ["events", "--all", "--no-follow", "--kind", "registry.dataset-version.registered"];
    let of_default = || world.text(&kind);
    let (before, tenant) = (of_default(), ["--namespace", "team-a"]);
    world.text(&[&tenant[..], &["dataset", "register", "trips", "trips.csv", "--time", "time"]].concat());
    assert_eq!(of_default(), before, "of another namespace");
    for arguments in [
        [&tenant[..], &kind].concat(),
        [&tenant[..], &kind, &["--name", "trips"]].concat(),
        [&kind[..], &["--name", "team-a.trips"]].concat(),
    ] {
        let found = world.text(&arguments);
        assert!(found.lines().count() == 1 && found.contains("team-a.trips"), "{arguments:?}: {found}");
    }
    world.error(2, &["events", "--name", "a.b.c"]);
}
