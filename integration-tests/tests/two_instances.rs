//! Two orchestrators and two monitors on one PostgreSQL and one bus: the holder of a lease is suspended in the middle of its work for longer
//! than the lease, another instance takes over, and the former holder is resumed. Everything has one effect, and the write of the former
//! holder is refused by its epoch.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rekindle_bus::{
    Bus,
    cloudevent::{self, CloudEvent},
    consumer::{Consumer, Puller},
    streams,
};
use rekindle_client::{PageRequest, registry::RunSearch};
use rekindle_domain::{AliasName, WorkflowState, event::EventKind};
use rekindle_integration_tests::{
    Clients, Cluster, Service, Wiring, scenario,
    table::{self, csv},
};
use rekindle_store::sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use rekindle_testkit::eventually;
use serde_json::{Value, json};

const SHIFT: u64 = 72;
/// How the log of the store names a refused write.
const REFUSED: &str = "write refused";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_holder_is_replaced_and_its_late_writes_are_refused() {
    let leases = json!({ "monitor": { "lease": "2s" }, "orchestrator": { "lease": "2s" } });
    let mut cluster = Cluster::start_with(Wiring::servers().await, 2, leases).await;
    let monitors = database(&cluster, "monitor").await;
    let orchestrators = database(&cluster, "orchestrator").await;
    let first = cluster.clients.clone();
    scenario::register(&first, csv(&table::rows(0..SHIFT, SHIFT)), "training rows").await;
    let (_, version) = scenario::train(&first, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(&first, version.version).await;
    scenario::set_policy(&first, |policy| policy.cooldown = Duration::from_secs(7 * 24 * 3600)).await;
    let traffic = table::rows(SHIFT..SHIFT + 49, SHIFT);
    let (morning, rest) = traffic.split_at(hours(12));
    let (afternoon, next_day) = rest.split_at(hours(12));
    scenario::send_hour_by_hour(&first, morning).await;
    scenario::captured(&first, morning.len() as u64).await;
    held_by(&monitors, &["capture", "evaluate/shop"], Service::Monitor(0)).await;
    held_by(&orchestrators, &["reconciler"], Service::Orchestrator(0)).await;
    cluster.add(Service::Monitor(1)).await;
    cluster.add(Service::Orchestrator(1)).await;
    let second = cluster.clients_of(1);

    suspend_the_monitor_while_it_captures(&cluster, &second, afternoon).await;
    held_by(&monitors, &["capture", "evaluate/shop"], Service::Monitor(1)).await;
    scenario::captured(&second, hours(24) as u64).await;
    resume_and_refuse(&cluster, Service::Monitor(0)).await;

    // Each orchestrator calls the monitor of its number.
    cluster.suspend(Service::Monitor(0));
    scenario::send_hour_by_hour(&second, next_day).await;
    suspend_the_orchestrator_while_it_decides(&cluster, &second).await;
    held_by(&orchestrators, &["reconciler"], Service::Orchestrator(1)).await;
    scenario::workflow_in(&second, WorkflowState::Succeeded).await;
    cluster.resume(Service::Monitor(0));
    resume_and_refuse(&cluster, Service::Orchestrator(0)).await;

    scenario::captured(&second, traffic.len() as u64).await;
    every_window_has_one_report(&second).await;
    the_workflow_has_one_effect_per_step(&second).await;
    every_event_is_published_once(&cluster, [&monitors, &orchestrators]).await;
}

fn hours(hours: usize) -> usize {
    hours * usize::try_from(table::ROWS_PER_HOUR).expect("few")
}

async fn database(cluster: &Cluster, service: &str) -> DatabaseConnection {
    let url = cluster.wiring.as_servers().database(service).to_owned();
    let config = rekindle_store::Config { max_connections: 4, ..rekindle_store::Config::at(url) };
    rekindle_store::connect(&config).await.expect("connects")
}

async fn count(db: &impl ConnectionTrait, what: &str) -> i64 {
    let select = Statement::from_string(db.get_database_backend(), format!("SELECT COUNT(*) AS n FROM {what}"));
    let row = db.query_one_raw(select).await.expect("readable").expect("one row");
    row.try_get("", "n").expect("a count")
}

/// Waits until a service holds the leases.
async fn held_by(db: &DatabaseConnection, names: &[&str], service: Service) {
    let instance = service.instance().expect("a service that holds leases");
    let list = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    eventually(&format!("{service:?} to hold {list}"), async || {
        let held = count(db, &format!("leases WHERE name IN ({list}) AND holder LIKE '{instance}/%'")).await;
        if held == i64::try_from(names.len()).expect("few") { Ok(()) } else { Err(format!("it holds {held}")) }
    })
    .await;
}

/// Resumes a former holder, and waits until the store has refused its write.
async fn resume_and_refuse(cluster: &Cluster, service: Service) {
    assert!(!cluster.log(service).contains(REFUSED), "{service:?} was refused before it was suspended");
    cluster.resume(service);
    eventually(&format!("the write of {service:?} to be refused"), async || {
        if cluster.log(service).contains(REFUSED) { Ok(()) } else { Err("not in its log".to_owned()) }
    })
    .await;
}

/// Suspends the first monitor between taking messages and committing them, while it waits for the object store, which does not answer.
async fn suspend_the_monitor_while_it_captures(cluster: &Cluster, clients: &Clients, rows: &[table::Row]) {
    let objects = &cluster.wiring.as_servers().s3;
    objects.suspend();
    scenario::send_hour_by_hour(clients, rows).await;
    eventually("the monitor to store a chunk", async || {
        if objects.has_unread_request() { Ok(()) } else { Err("the object store has no request".to_owned()) }
    })
    .await;
    cluster.suspend(Service::Monitor(0));
    objects.resume();
}

/// Suspends the first orchestrator between taking its fence and writing, while it waits for the export of the first monitor, which does not
/// answer.
async fn suspend_the_orchestrator_while_it_decides(cluster: &Cluster, clients: &Clients) {
    scenario::workflow_in(clients, WorkflowState::Assembling).await;
    eventually("the orchestrator to call the monitor", async || {
        if cluster.has_unread_request(Service::Monitor(0)) { Ok(()) } else { Err("it has not".to_owned()) }
    })
    .await;
    cluster.suspend(Service::Orchestrator(0));
}

async fn every_window_has_one_report(clients: &Clients) {
    let reports = eventually("both windows to be reported", async || {
        let reports = clients.monitor().reports(&scenario::model(), PageRequest::first(100)).await;
        let reports = reports.map_err(scenario::described)?.items;
        let measured = reports.iter().filter(|report| report.quality.is_some()).count();
        if measured >= 2 { Ok(reports) } else { Err(format!("{measured} of {}", reports.len())) }
    })
    .await;
    let windows: Vec<_> = reports.iter().map(|report| (report.window.from, report.window.version.version)).collect();
    let [later, earlier] = windows[..] else { panic!("two windows of one version: {windows:?}") };
    assert!(earlier.0 < later.0 && earlier.1 == 1 && later.1 == 1, "{windows:?}");
    assert!(reports.iter().all(|report| report.window.rows == hours(24) as u64), "{reports:?}");
}

async fn the_workflow_has_one_effect_per_step(clients: &Clients) {
    let workflows = scenario::workflows(clients).await;
    let [workflow] = &workflows[..] else { panic!("one workflow: {workflows:?}") };
    assert_eq!(workflow.state, WorkflowState::Succeeded, "{}", workflow.reason);
    let (registry, model, page) = (clients.registry(), scenario::model(), PageRequest::first(100));
    let datasets = registry.dataset_versions(&scenario::dataset(), page.clone()).await.expect("listed").items;
    let versions = registry.model_versions(&model, page.clone()).await.expect("listed").items;
    let runs = registry.runs(&RunSearch::default(), page.clone()).await.expect("listed").items;
    let moves = registry.alias_history(&model, &AliasName::champion(), page).await.expect("listed").items;
    // Beside those of the workflow: the first dataset, the first version, its run and its promotion. The workflow has a training, an
    // evaluation, a refit and its check.
    let (trials, runs): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run.parent_id.is_some());
    assert_eq!((datasets.len(), versions.len(), runs.len(), moves.len()), (2, 3, 5, 2));
    let numbers: BTreeSet<_> = trials.iter().map(|trial| &trial.params["trial"]).collect();
    assert!(numbers.len() >= 2 && numbers.len() == trials.len(), "each trial has one run: {numbers:?}");
}

async fn every_event_is_published_once(cluster: &Cluster, databases: [&DatabaseConnection; 2]) {
    eventually("every event to be published", async || {
        let rows = [count(databases[0], "outbox").await, count(databases[1], "outbox").await];
        if rows == [0, 0] { Ok(()) } else { Err(format!("{rows:?} in the outboxes")) }
    })
    .await;
    let mut by_effect: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for event in events(cluster).await {
        by_effect.entry(effect(&event)).or_default().push(event.data);
    }
    let repeated: BTreeMap<_, _> = by_effect.iter().filter(|(_, events)| events.len() > 1).collect();
    assert!(repeated.is_empty(), "{repeated:#?}");
    let alerts = by_effect.keys().filter(|effect| effect.contains(&EventKind::DRIFT_DETECTED.to_string())).count();
    assert_eq!(alerts, 2, "one per window: {:?}", by_effect.keys());
    let last = format!("{}: SUCCEEDED", EventKind::WORKFLOW_ADVANCED);
    assert!(by_effect.contains_key(&last), "{:?}", by_effect.keys());
}

/// What an event reports, without the ids that a repetition would have of its own.
fn effect(event: &CloudEvent) -> String {
    let (kind, data) = (event.kind, &event.data);
    let state = |field: &str| data[field].as_str().unwrap_or_default().trim_start_matches("WORKFLOW_STATE_").to_owned();
    match kind {
        EventKind::WINDOW_REPORTED | EventKind::DRIFT_DETECTED | EventKind::DEGRADATION_DETECTED => {
            let window = &data["window"];
            format!("{kind}: {} of version {}, quality {}", window["from"], window["model_version"], data["quality"])
        }
        EventKind::WORKFLOW_ADVANCED => format!("{kind}: {}", state("to_state")),
        _ => format!("{kind}: {data}"),
    }
}

/// Every event on the bus.
async fn events(cluster: &Cluster) -> Vec<CloudEvent> {
    let bus = Bus::connect(&rekindle_bus::Config::at(&cluster.clients.nats)).await.expect("connects");
    let mut puller = Puller::new(bus, Consumer::new("test", streams::EVENTS, ["rekindle.events.>".to_owned()]));
    let mut events = Vec::new();
    loop {
        let deliveries = puller.next_batch(500, Duration::from_secs(1)).await.expect("a batch");
        if deliveries.is_empty() {
            return events;
        }
        for delivery in deliveries {
            events.push(cloudevent::from_message(delivery.message()).expect("an event"));
            delivery.ack().await.expect("acknowledged");
        }
    }
}
