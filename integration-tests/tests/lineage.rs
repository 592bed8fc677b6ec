//! Lineage: from a prediction to its model version, run, datasets and code revision with one command, and a replay to the same bits.

use rekindle_integration_tests::{
    Platform, Wiring, scenario,
    table::{self, csv},
};
use rekindle_testkit::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prediction_resolves_and_replays_to_the_same_bits() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = &platform.clients;
    let dataset = scenario::register(clients, csv(&table::rows(0..24, 24)), "training rows").await;
    let (run, version) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(clients, version.version).await;
    let ids = scenario::send_day_by_day(clients, &table::rows(24..27, 30)).await;

    let lineage = eventually("the prediction to be in the log", async || {
        let (code, out, err) = platform.command(&["lineage", &ids[1], "--row", "7", "--replay"]).await;
        if code == 0 { Ok(out) } else { Err(format!("{code}: {err}")) }
    })
    .await;
    let lineage: serde_json::Value = serde_json::from_str(&lineage).expect("JSON");
    let text = lineage.to_string();
    let parts =
        [version.bundle.to_string(), run.id.to_string(), dataset.content.to_string(), run.code_revision.clone()];
    for part in parts {
        assert!(!part.is_empty() && text.contains(&part), "{part} in {text}");
    }
    assert_eq!(
        (&lineage["prediction"]["model_version"], &lineage["prediction"]["row"]),
        (&1.into(), &7.into()),
        "{text}"
    );
    assert_eq!(lineage["code_revision"], run.code_revision, "{text}");
    let outputs = lineage["replay"].as_array().expect("one entry for each output");
    let names: Vec<_> = outputs.iter().filter_map(|output| output["output"].as_str()).collect();
    assert_eq!(names, ["probability", "label"], "{text}");
    assert!(outputs.iter().all(|output| output["same_bits"] == true), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill_of_the_platform() {
    let mut platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = platform.clients.clone();
    scenario::register(&clients, csv(&table::rows(0..24, 24)), "training rows").await;
    let (run, version) = scenario::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(&clients, version.version).await;

    platform.kill_and_restart().await;
    let clients = platform.clients.clone();
    scenario::deployed(&clients, 1).await;
    let answer = clients.replica(0).infer(scenario::request(&table::rows(24..25, 30))).await.expect("answered");
    assert_eq!(answer.text("run_id"), run.id.to_string());
}
