//! A value means the same in a file, a request, an outcome and a retraining.

use chrono::DateTime;
use rekindle_bus::{
    Bus,
    consumer::{Consumer, Puller},
    streams,
};
use rekindle_client::{
    PageRequest,
    inference::{Elements, InferRequest, Tensor},
};
use rekindle_domain::{
    ColumnKind, Recipe, Task, WorkflowState, event::EventKind, model_version::VersionSelector, report::Verdict,
};
use rekindle_integration_tests::{
    Clients, Platform, Wiring,
    scenario::{self, described},
    table::{self, Row, csv},
};
use rekindle_testkit::eventually;
use serde_json::Value;

const JOB: &str = "01890000-0000-7000-8000-000000000001";
/// Hours of training rows.
const TRAINED: u64 = 72;

/// Rows whose labels follow from the row and its number.
fn labelled(hours: std::ops::Range<u64>, label: impl Fn(usize, &Row) -> &'static str) -> Vec<Row> {
    let rows = table::rows(hours, u64::MAX).into_iter().enumerate();
    rows.map(|(index, row)| Row { bought: label(index, &row), ..row }).collect()
}

/// Enough epochs that the training converges: what more of the same rows improve is not worth a redeployment.
fn recipe() -> Recipe {
    scenario::recipe_of(7, 60)
}

/// A platform with a first model of these rows.
async fn platform(rows: &[Row]) -> Platform {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = &platform.clients;
    scenario::register(clients, csv(rows), "training rows").await;
    let (_, version) = scenario::train_with(clients, JOB, recipe()).await;
    scenario::promote_and_deploy(clients, version.version).await;
    platform
}

async fn classes(clients: &Clients, version: u32) -> Vec<String> {
    let selector = VersionSelector::Number(version);
    let version = clients.registry().model_version(&scenario::model(), &selector).await.expect("registered");
    let manifest: Value = serde_json::from_slice(&scenario::download(clients, version.bundle).await).expect("JSON");
    serde_json::from_value(manifest["classes"].clone()).expect("classes")
}

/// Classes that look like numbers are text: a retraining keeps their spelling, and cannot approve a model of other classes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_as_classes_survive_a_retraining() {
    // The region says which, which a few thousand rows teach completely, but for a quarter of the labels, which nothing predicts: more of
    // the same rows make no better model.
    let codes = |index: usize, row: &Row| match row.region {
        _ if index.is_multiple_of(4) => ["01", "02", "03"][index / 4 % 3],
        "north" => "01",
        "south" => "02",
        _ => "03",
    };
    let platform = platform(&labelled(0..TRAINED, codes)).await;
    let clients = &platform.clients;
    assert_eq!(classes(clients, 1).await, ["01", "02", "03"]);
    scenario::set_policy(clients, |policy| {
        policy.triggers.clear();
        policy.recipe = recipe();
        // Of equal challengers, one in a thousand passes.
        policy.gate.confidence = 0.999;
    })
    .await;
    let traffic = labelled(TRAINED..TRAINED + 48, codes);
    scenario::send_day_by_day(clients, &traffic).await;
    scenario::captured(clients, traffic.len() as u64).await;

    let started = clients.orchestrator().start_workflow(&scenario::model(), "nothing moved", "once").await;
    let workflow = scenario::ended(clients, started.expect("started").id).await;
    assert_eq!(workflow.state, WorkflowState::Rejected, "nothing moved: {:?}", workflow.steps);
    let evaluation = scenario::download(clients, workflow.evaluation.expect("evaluated")).await;
    let evaluation: Value = serde_json::from_slice(&evaluation).expect("JSON");
    let accuracy = |model: &str| evaluation[model]["accuracy"].as_f64().expect("a number");
    let (champion, challenger) = (accuracy("champion_metrics"), accuracy("challenger_metrics"));
    // Three quarters and a third of the rest are predictable.
    assert!(champion > 0.8 && (champion - challenger).abs() < 0.01, "{evaluation}");
    let (name, number) = workflow.dataset_version.split_once('/').expect("name/version");
    let (name, number) = (name.parse().expect("a name"), number.parse().expect("a number"));
    let dataset = clients.registry().dataset(&name, Some(number)).await.expect("registered");
    let target = dataset.columns.iter().find(|column| column.name == "bought").expect("the target");
    assert_eq!(target.kind, ColumnKind::Categorical);
    assert_eq!(classes(clients, workflow.to_version.expect("trained")).await, ["01", "02", "03"]);
    let reports = clients.monitor().reports(&scenario::model(), PageRequest::first(10)).await.expect("listed").items;
    let quality = reports.iter().filter_map(|report| report.quality.as_ref()).next().expect("measured");
    assert_eq!((quality.verdict, quality.invalid_outcomes, quality.new_classes.len()), (Verdict::Stable, 0, 0));
}

/// A class that training did not have degrades the quality, is an event of its own, and is in the next model, also where the recipe says
/// that there are two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_class_is_reported_and_in_the_next_model() {
    let two = |_: usize, row: &Row| if row.temperature < 20.0 { "no" } else { "yes" };
    let platform = platform(&labelled(0..TRAINED, two)).await;
    let clients = &platform.clients;
    scenario::set_policy(clients, |policy| policy.recipe.task = Some(Task::Binary)).await;
    let three = |index: usize, row: &Row| if index.is_multiple_of(3) { "perhaps" } else { two(index, row) };
    scenario::send_day_by_day(clients, &labelled(TRAINED..TRAINED + 48, three)).await;

    let workflow = scenario::workflow_in(clients, WorkflowState::Succeeded).await;
    assert_eq!(classes(clients, workflow.to_version.expect("trained")).await, ["no", "perhaps", "yes"]);
    let reports = clients.monitor().reports(&scenario::model(), PageRequest::first(10)).await.expect("listed").items;
    let first = reports.iter().rfind(|report| report.quality.is_some()).expect("measured");
    let quality = first.quality.as_ref().expect("measured");
    assert_eq!((quality.verdict, quality.invalid_outcomes), (Verdict::Drifted, 0), "{quality:?}");
    assert_eq!(quality.new_classes["perhaps"], 24 * table::ROWS_PER_HOUR / 3);

    let bus = Bus::connect(&rekindle_bus::Config::at(&clients.nats)).await.expect("connects");
    let subject = rekindle_bus::subject::events_of(EventKind::NEW_CLASS_DETECTED);
    let mut puller = Puller::new(bus, Consumer::new("test", streams::EVENTS, [subject]));
    let events = puller.next_batch(10, std::time::Duration::from_secs(5)).await.expect("asked");
    assert!(!events.is_empty(), "the new class has an event");
}

/// A time in another unit is refused by name; the platform goes on, also after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_an_odd_time_is_refused() {
    let two = |_: usize, row: &Row| if row.temperature < 20.0 { "no" } else { "yes" };
    let mut platform = platform(&labelled(0..TRAINED, two)).await;
    let traffic = labelled(TRAINED..TRAINED + 25, two);
    let at = |time: i64| {
        let mut request: InferRequest = scenario::request(&traffic[..2]);
        request.inputs[0] = Tensor::column("time", Elements::Int64(vec![traffic[0].time_ms, time]));
        request
    };
    for (time, problem) in [
        (
            1_710_460_800_000_000,
            "row 1 is 1710460800000000: expected milliseconds since 1970, in the years 1 to 9999; it looks like microseconds",
        ),
        (i64::MIN, "row 1 is -9223372036854775808"),
        (i64::MAX, "row 1 is 9223372036854775807"),
    ] {
        let refused = platform.clients.replica(0).infer(at(time)).await.expect_err("out of range");
        assert!(refused.status().expect("a status").message().contains(problem), "{refused:?}");
    }
    // At the ends of the range, and far from the others.
    let ends = ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"];
    for end in ends.map(|end| end.parse::<DateTime<chrono::Utc>>().expect(end).timestamp_millis()) {
        platform.clients.replica(0).infer(at(end)).await.expect("in range");
    }
    scenario::set_policy(&platform.clients, |_| ()).await;
    platform.kill_and_restart().await;
    scenario::send_hour_by_hour(&platform.clients, &traffic).await;
    let monitor = platform.clients.monitor();
    let day = eventually("the day to be reported", async || {
        let reports = monitor.reports(&scenario::model(), PageRequest::first(100)).await.map_err(described)?.items;
        let day = reports.iter().find(|report| report.window.rows > 1_000).cloned();
        day.ok_or_else(|| format!("{} reports", reports.len()))
    })
    .await;
    assert!(day.window.rows >= 24 * table::ROWS_PER_HOUR, "{day:?}");
    assert_eq!(monitor.capture_status(&scenario::model()).await.expect("readable").late, 0);
}
