//! From a prediction to all that it came from, with one command, and back to the same bits.

use rekindle_integration_tests::{
    Platform, Wiring, story,
    table::{self, csv},
};
use rekindle_testkit::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prediction_resolves_and_replays_to_the_same_bits() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = &platform.clients;
    let dataset = story::register(clients, csv(&table::rows(0..24, 24)), "learn").await;
    let (run, version) = story::train(clients, "01890000-0000-7000-8000-000000000001").await;
    story::promote_and_deploy(clients, version.version).await;
    let ids = story::live_through(clients, &table::rows(24..27, 30)).await;

    let lineage = eventually("the prediction is in the log", async || {
        let (code, out, err) = platform.command(&["lineage", &ids[1], "--row", "7", "--replay"]).await;
        if code == 0 { Ok(out) } else { Err(format!("{code}: {err}")) }
    })
    .await;
    let lineage: serde_json::Value = serde_json::from_str(&lineage).expect("JSON");
    let text = lineage.to_string();
    for part in [&version.bundle_digest, &run.id, &dataset.content_digest, &run.code_revision] {
        assert!(!part.is_empty() && text.contains(part.as_str()), "{part} in {text}");
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
async fn what_was_acknowledged_survives_a_kill_of_the_whole_platform() {
    let mut platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = platform.clients.clone();
    story::register(&clients, csv(&table::rows(0..24, 24)), "learn").await;
    let (run, version) = story::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    story::promote_and_deploy(&clients, version.version).await;

    platform.kill_and_restart().await;
    let clients = platform.clients.clone();
    story::deployed(&clients, 1).await;
    let answer = clients.replica(0).model_infer(story::request(&table::rows(24..25, 30))).await.expect("answered");
    assert_eq!(story::parameter(answer.get_ref(), "run_id"), run.id);
}
