//! Canary and shadow versions, as an operator sets them with the program, on a running platform with two replicas.

use std::collections::BTreeSet;

use rekindle_integration_tests::{
    Platform, Wiring,
    scenario::{self, MODEL, described},
    table::{self, csv},
};
use rekindle_testkit::eventually;
use serde_json::{Value, json};

const REQUESTS: usize = 40;

/// The versions that answer, of both replicas together.
async fn answering(platform: &Platform) -> BTreeSet<String> {
    let rows = table::rows(72..73, u64::MAX);
    let mut versions = BTreeSet::new();
    for at in 0..REQUESTS {
        let replica = platform.clients.replica(at % 2);
        let answer = replica.infer(scenario::request(&rows[..2])).await.map_err(described).expect("answered");
        versions.insert(answer.version);
    }
    versions
}

async fn answered_by(platform: &Platform, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|version| (*version).to_owned()).collect();
    eventually("answers of these versions", async || {
        let versions = answering(platform).await;
        if versions == expected { Ok(()) } else { Err(format!("{versions:?}, not {expected:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_takes_its_share_a_shadow_is_compared_and_a_rollout_ends_both() {
    let platform = Platform::start(Wiring::Embedded, 2).await;
    let clients = &platform.clients;
    scenario::register(clients, csv(&table::rows(0..48, u64::MAX)), "training rows").await;
    let (_, first) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::train_with_seed(clients, "01890000-0000-7000-8000-000000000002", 8).await;
    let (code, _, err) = platform.command(&["traffic", MODEL, "--canary", "2=50%"]).await;
    assert_eq!(code, 4, "there is no deployment: {err}");
    scenario::promote_and_deploy(clients, first.version).await;
    answered_by(&platform, &["1"]).await;

    let deployment = platform.json(&["traffic", MODEL, "--canary", "2=50%", "--why", "a first look"]).await;
    assert_eq!(
        (&deployment["weighted"][0]["version"]["version"], &deployment["weighted"][0]["weight"]),
        (&json!(2), &json!(5000))
    );
    answered_by(&platform, &["1", "2"]).await;
    for (arguments, words) in [
        (&["traffic", MODEL, "--canary", "1=50%"][..], "as is primary"),
        (&["traffic", MODEL, "--canary", "9=50%"], "9"),
        (&["traffic", MODEL, "--canary", "2=60%", "--canary", "2=30%"], "as is weighted[0].version"),
    ] {
        let (code, _, err) = platform.command(arguments).await;
        assert!(code != 0 && err.contains(words), "{arguments:?}: {code} {err}");
    }

    platform.json(&["traffic", MODEL, "--shadow", "2"]).await;
    answered_by(&platform, &["1"]).await;
    let compared = eventually("comparisons of both replicas", async || {
        answering(&platform).await;
        let shown = platform.json(&["deployments", "show", MODEL]).await;
        let comparison = shown["shadow_comparison"].clone();
        match comparison["rows"].as_u64() {
            Some(rows) if rows >= 2 * REQUESTS as u64 => Ok(comparison),
            _ => Err(shown.to_string()),
        }
    })
    .await;
    assert_eq!((&compared["version"], &compared["failed"]), (&json!(2), &json!(0)), "{compared}");
    let identical = compared["identical"].as_u64().zip(compared["rows"].as_u64());
    assert!(identical.is_some_and(|(identical, rows)| identical < rows), "another seed has other scores: {compared}");

    // The version that is rolled out has no other route any more.
    platform.json(&["traffic", MODEL, "--canary", "2=50%"]).await;
    platform.json(&["deploy", MODEL, "--version", "2", "--wait"]).await;
    answered_by(&platform, &["2"]).await;
    let listed = platform.json(&["deployments", "list"]).await;
    assert_eq!(listed[0]["weighted"], Value::Array(Vec::new()), "{listed}");
    platform.json(&["status"]).await;
}
