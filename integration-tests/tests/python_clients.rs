//! Unmodified clients of others, for Python, with a running platform: those of Triton and of NATS.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use rekindle_client::inference::Elements;
use rekindle_domain::WorkflowState;
use rekindle_integration_tests::{
    Platform, Wiring,
    scenario::{self, MODEL},
    table::{self, csv},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// The interpreter of the virtual environment of `make tools`.
fn python() -> PathBuf {
    let python = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/python/bin/python"));
    assert!(python.is_file(), "{} is missing: run `make tools`", python.display());
    python
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/python")).join(name)
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_triton_predict() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    scenario::register(&platform.clients, csv(&table::rows(0..24, 24)), "training rows").await;
    let (_, version) = scenario::train(&platform.clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(&platform.clients, version.version).await;

    let rows = table::rows(24..25, 25);
    let features: Vec<Value> = rows.iter().take(3).map(|row| {
        json!({"time": row.time_ms, "temperature": row.temperature, "basket": row.basket, "region": row.region})
    }).collect();
    // The same rows through the client of rekindle: the same bits.
    let ours = platform.clients.replica(0).infer(scenario::request(&rows[..3])).await.expect("answered");
    let Some(Elements::Fp32(ours)) = ours.output("probability").map(|output| output.elements.clone()) else {
        panic!("{ours:?}")
    };
    let ours: Vec<f64> = ours.into_iter().map(f64::from).collect();
    for (protocol, address) in [("grpc", &platform.clients.inference[0]), ("http", &platform.clients.rest[0])] {
        let answer = predict(protocol, address, &features).await;
        assert_eq!((&answer["id"], &answer["version"]), (&json!("from-python"), &json!("1")), "{protocol}");
        assert_eq!(answer["parameters"]["bundle_digest"], json!(version.bundle.to_string()));
        assert!(answer["parameters"]["prediction_id"].is_string() && answer["parameters"]["run_id"].is_string());
        let (probability, label) = (&answer["outputs"]["probability"], &answer["outputs"]["label"]);
        assert_eq!((probability.as_array().map(Vec::len), label.as_array().map(Vec::len)), (Some(3), Some(3)));
        let theirs: Vec<f64> = probability.as_array().expect("numbers").iter().filter_map(Value::as_f64).collect();
        assert_eq!(ours, theirs, "{protocol}");
    }
}

/// The answer that the client of a protocol receives, at `host:port`.
async fn predict(protocol: &str, address: &str, features: &[Value]) -> Value {
    let mut child = Command::new(python())
        .arg(script("predict.py"))
        .args([protocol, address, MODEL])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(json!(features).to_string().as_bytes()).await.expect("written");
    drop(stdin);
    lines(&child.wait_with_output().await.expect("it ends")).remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_receives_every_event_of_a_workflow_from_drift_to_redeploy() {
    let platform = Platform::start(Wiring::Embedded, 2).await;
    let clients = &platform.clients;
    let subscriber = Command::new(python())
        .arg(script("subscribe.py"))
        .arg(&clients.nats)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python starts");
    scenario::register(clients, csv(&table::rows(0..72, 72)), "training rows").await;
    let (_, version) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(clients, version.version).await;
    scenario::set_policy(clients, |_| ()).await;
    scenario::send_day_by_day(clients, &table::rows(72..120, 72)).await;
    let workflow = scenario::workflow_in(clients, WorkflowState::Succeeded).await;

    let events = lines(&subscriber.wait_with_output().await.expect("it ends"));
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().expect("text")).collect();
    let position = |kind: &str| {
        let ce_type = format!("dev.rekindle.{kind}.v1");
        kinds.iter().position(|kind| *kind == ce_type).unwrap_or_else(|| panic!("no {kind} among {kinds:?}"))
    };
    let alert = ["monitor.drift.detected", "monitor.degradation.detected"];
    let alert = alert.iter().filter_map(|kind| kinds.iter().position(|k| k.contains(kind))).min().expect("an alert");
    let window = &events[alert]["data"]["window"];
    assert_eq!((&window["model"], &window["model_version"]), (&json!(MODEL), &json!(1)), "{window}");
    let steps = [
        position("registry.dataset-version.registered"),
        position("registry.model-version.registered"),
        position("orchestrator.replica.updated"),
    ];
    assert!(steps.iter().all(|&step| step > alert), "{kinds:?}");
    assert!(steps.is_sorted(), "in the order of the loop: {kinds:?}");
    for event in &events {
        assert_eq!(event["correlationid"], json!(workflow.id.to_string()), "{event}");
        for attribute in ["id", "source", "time", "subject", "partitionkey"] {
            assert!(event[attribute].as_str().is_some_and(|text| !text.is_empty()), "{attribute}: {event}");
        }
    }
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len(), "each event has one id");
}
