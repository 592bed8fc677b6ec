//! Alerts open, go on and are resolved; each fault has its own kind and advice.

use std::{collections::BTreeMap, time::Duration};

use rekindle_client::PageRequest;
use rekindle_domain::{
    Alert, IdPrefix, WatchSettings,
    alert::{AlertKind, AlertRule, AlertRules, AlertState, Notification, Severity},
    prediction_log,
};
use rekindle_testkit::eventually;
use serde_json::Value;
use tonic::Code;
use uuid::Uuid;

use crate::{
    fields,
    rows::{DAY, Distribution, Replica, Row, START, labels, rows},
    world::{MODEL, World, bundle, model, timestamp},
};

const ROWS: usize = 1000;

/// A day of rows, from 0.
pub(crate) fn day(day: i64, distribution: Distribution) -> Vec<Row> {
    let from = START + day * DAY;
    rows(u64::try_from(day).expect("from 0"), ROWS, from, from + DAY, distribution)
}

/// Rows that close the window of the day before.
pub(crate) fn closing(day: i64) -> Vec<Row> {
    let from = START + day * DAY;
    rows(77, 60, from, from + DAY / 8, Distribution::Reference)
}

pub(crate) fn prefix(alert: &Alert) -> IdPrefix {
    alert.id.to_string().parse().expect("an id")
}

impl World {
    pub(crate) async fn all_alerts(&self) -> Vec<Alert> {
        self.alerts().list(Some(&model()), true, PageRequest::default()).await.expect("listed").items
    }

    /// The one alert of a kind, once it is in a state.
    pub(crate) async fn alert(&self, kind: AlertKind, state: AlertState) -> Alert {
        eventually("the alert", async || {
            let found = self.alerts().list(Some(&model()), true, PageRequest::default()).await;
            let found = found.map_err(|error| error.to_string())?.items;
            let alert = found.iter().find(|alert| alert.kind == kind && alert.state() == state);
            alert.cloned().ok_or_else(|| format!("{found:?}"))
        })
        .await
    }

    pub(crate) async fn notifications(&self, alert: &Alert) -> Vec<Notification> {
        self.alerts().get(&prefix(alert)).await.expect("found").1
    }
}

async fn an_alert_opens_once_goes_on_and_is_resolved(world: World) {
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 3);
    let mut log = replica.log(&day(0, Distribution::Reference), 0);
    for shifted in [1, 2, 3] {
        log.extend(replica.log(&day(shifted, Distribution::Shifted), 0));
    }
    log.extend(replica.log(&closing(4), 0));
    world.predictions(&log).await;
    world.reported(4, 3).await;
    let alert = world.alert(AlertKind::Drift, AlertState::Open).await;
    assert_eq!((alert.windows, alert.version, alert.severity), (3, Some(3), Severity::Warning), "{alert:?}");
    assert_eq!((alert.from, alert.until), (timestamp(START + DAY), timestamp(START + 4 * DAY)));
    assert!(alert.message.causes[0].starts_with("distance (PSI "), "{:?}", alert.message);
    assert!(alert.message.causes[0].contains("; such as row 0 of prediction "), "{:?}", alert.message);
    let reports = world.reports().await;
    let drifted = reports.iter().find(|report| report.window.from == timestamp(START + DAY)).expect("reported");
    let examples = &drifted.drift.features[0].examples;
    assert_eq!(examples.len(), 3, "{:?}", drifted.drift);
    for example in examples {
        let logged = world.client.prediction(example.prediction, example.row).await.expect("logged");
        let distance = match logged.inputs["distance"] {
            prediction_log::Value::Number(distance) => distance,
            ref other => panic!("{other:?}"),
        };
        assert!(distance > 130.0 && drifted.window.from <= logged.event_time.expect("a time"), "{logged:?}");
    }
    let report = world.reports().await.into_iter().find(|report| Some(report.window.report) == alert.report);
    assert_eq!(report.map(|report| report.window.until), Some(alert.until));
    assert_eq!(world.all_alerts().await, std::slice::from_ref(&alert));

    let mut log = replica.log(&day(4, Distribution::Reference), 0);
    log.extend(replica.log(&day(5, Distribution::Reference), 0));
    log.extend(replica.log(&closing(6), 0));
    world.predictions(&log).await;
    let resolved = world.alert(AlertKind::Drift, AlertState::Resolved).await;
    assert_eq!((resolved.id, resolved.windows, resolved.until), (alert.id, 3, alert.until));
    let note = resolved.resolved.expect("it is resolved");
    assert_eq!(
        (note.by.as_str(), note.why.as_str()),
        ("service:monitor", "the last 2 windows with a verdict do not have the finding")
    );

    let counts = eventually("the event of the resolution", async || {
        let events = world.events(0).await;
        let of = |verb: &str| events.iter().filter(|event| event.subject.contains(&format!(".alert.{verb}."))).count();
        let counts = (of("opened"), of("resolved"));
        if counts.1 > 0 { Ok(counts) } else { Err(format!("{counts:?}")) }
    })
    .await;
    assert_eq!(counts, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_opens_once_goes_on_and_is_resolved_on_sqlite() {
    an_alert_opens_once_goes_on_and_is_resolved(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_opens_once_goes_on_and_is_resolved_on_postgres() {
    an_alert_opens_once_goes_on_and_is_resolved(World::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_acknowledge_and_resolve_alerts_and_old_windows_open_none() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&day(0, Distribution::Shifted), 0)).await;
    world.predictions(&replica.log(&closing(1), 0)).await;
    let open = world.alert(AlertKind::Drift, AlertState::Open).await;
    let ann = world.alerts_as("ann");
    let acknowledged = ann.acknowledge(&prefix(&open), "mine").await.expect("acknowledged");
    let note = acknowledged.acknowledged.clone().expect("it is");
    assert_eq!((acknowledged.state(), note.by.as_str(), note.why.as_str()), (AlertState::Acknowledged, "ann", "mine"));
    // By somebody else, and again: it stays with the first.
    let again = world.alerts_as("bob").acknowledge(&prefix(&open), "").await.expect("unchanged");
    assert_eq!(again, acknowledged);
    let refused = ann.resolve(&prefix(&open), " ").await.expect_err("without a reason");
    assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["why".to_owned()]));
    let short: IdPrefix = open.id.to_string()[..8].parse().expect("digits");
    let resolved = ann.resolve(&short, "a holiday").await.expect("resolved");
    assert_eq!(resolved.state(), AlertState::Resolved);
    let unknown: IdPrefix = Uuid::from_u128(1).to_string().parse().expect("an id");
    assert!(ann.resolve(&unknown, "x").await.expect_err("unknown").is_not_found());

    // The quality of the same window is measured later, and opens no second alert of drift; the next window does.
    world.outcomes("day", labels(&day(0, Distribution::Shifted))).await;
    world.predictions(&replica.log(&day(1, Distribution::Shifted), 0)).await;
    world.predictions(&replica.log(&closing(2), 0)).await;
    let next = world.alert(AlertKind::Drift, AlertState::Open).await;
    assert_eq!((next.windows, next.until), (1, timestamp(START + 2 * DAY)));
    let open_ones = world.alerts().list(None, false, PageRequest::default()).await.expect("listed").items;
    assert_eq!(open_ones, [next]);
    let first = PageRequest::first(1);
    let page = world.alerts().list(None, true, first).await.expect("listed");
    let second = PageRequest { size: 1, token: page.next_page_token };
    assert_eq!(world.alerts().list(None, true, second).await.expect("listed").items, [resolved]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_can_ask_for_several_windows_or_disable_a_kind() {
    let world = World::on_sqlite().await;
    let rule = AlertRule { windows: 2, of: 3, severity: Severity::Critical, ..AlertRule::default_of(AlertKind::Drift) };
    let disabled = AlertRule { disabled: true, ..AlertRule::default_of(AlertKind::Degradation) };
    let alerts = AlertRules(BTreeMap::from([(AlertKind::Drift, rule), (AlertKind::Degradation, disabled)]));
    world.set_watch(&model(), WatchSettings { alerts, ..WatchSettings::default() }).await;
    let days = [
        day(0, Distribution::Shifted),
        day(1, Distribution::Reference),
        day(2, Distribution::Reference),
        day(3, Distribution::Shifted),
        day(4, Distribution::Shifted),
    ];
    world.outcomes("days", labels(&days.concat())).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let mut log = replica.log(&days.concat(), 0);
    log.extend(replica.log(&closing(5), 0));
    world.predictions(&log).await;
    let reports = world.reported(5, 5).await;
    let degraded = reports.iter().filter(|report| {
        report.quality.as_ref().is_some_and(|quality| quality.verdict == rekindle_domain::report::Verdict::Drifted)
    });
    assert_eq!(degraded.count(), 3);
    let [alert] = <[Alert; 1]>::try_from(world.all_alerts().await).expect("one alert");
    assert_eq!((alert.kind, alert.severity, alert.windows), (AlertKind::Drift, Severity::Critical, 2));
    assert_eq!((alert.from, alert.until), (timestamp(START + 3 * DAY), timestamp(START + 5 * DAY)));
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_are_restarted_resolve_their_alerts_and_open_them_again() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let mut drifted = async || {
        world.predictions(&replica.log(&day(0, Distribution::Shifted), 0)).await;
        world.predictions(&replica.log(&closing(1), 0)).await;
        world.alert(AlertKind::Drift, AlertState::Open).await
    };
    let first = drifted().await;
    world.client.reset_watch(&model()).await.expect("reset");
    let resolved = world.alert(AlertKind::Drift, AlertState::Resolved).await;
    let why = resolved.resolved.as_ref().map(|note| note.why.as_str());
    assert_eq!((resolved.id, why), (first.id, Some("the windows were restarted")));
    let second = drifted().await;
    assert_ne!(second.id, first.id);
    assert_eq!((second.windows, second.until), (1, first.until));
}

/// The alerts that a window of these rows opens: kinds and advice.
async fn opened_by(world: &World, log: &[Row], outcomes: String) -> BTreeMap<AlertKind, String> {
    world.outcomes(&Uuid::now_v7().to_string(), outcomes).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(log, 0)).await;
    world.predictions(&replica.log(&closing(1), 0)).await;
    world.reported(1, 1).await;
    world.all_alerts().await.into_iter().map(|alert| (alert.kind, alert.message.advice)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_unit_is_a_data_fault() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let scaled = |row: Row| Row { distance: row.distance * 1000.0, ..row };
    let rows: Vec<Row> = day(0, Distribution::Reference).into_iter().map(scaled).collect();
    let opened = opened_by(&world, &rows, labels(&rows)).await;
    assert!(opened[&AlertKind::DataFault].contains("unit"), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_missing_is_a_data_fault() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let rows: Vec<Row> =
        day(0, Distribution::Reference).into_iter().map(|row| Row { distance: f64::NAN, ..row }).collect();
    let opened = opened_by(&world, &rows, labels(&rows)).await;
    assert!(opened[&AlertKind::DataFault].contains("source of the columns"), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_sent_twice_are_duplicates() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let once = day(0, Distribution::Reference);
    let opened = opened_by(&world, &once, labels(&once)).await;
    assert_eq!(opened, BTreeMap::new(), "rows that are sent once");

    let world = World::on_sqlite().await;
    world.watch().await;
    // A fifth of the rows, as a client does that repeats requests which were answered.
    let again = once.iter().step_by(5).map(|row| Row { id: Uuid::now_v7(), ..row.clone() });
    let twice: Vec<Row> = once.iter().cloned().chain(again).collect();
    let opened = opened_by(&world, &twice, labels(&twice)).await;
    assert_eq!(opened.keys().collect::<Vec<_>>(), [&AlertKind::DuplicateRows]);
    assert!(opened[&AlertKind::DuplicateRows].contains("repeats requests"), "{opened:?}");
    let repeated = world.reports().await[0].drift.repeated.expect("the reference has a share");
    assert_eq!((repeated.rows, repeated.reference_share), (200, 0.0));
    let fault = world.events(4).await.into_iter().find(|event| event.subject.contains(".data-fault.detected."));
    let data: Value = serde_json::from_slice(&fault.expect("an event").payload).expect("JSON");
    assert_eq!(data["repeated"]["rows"], "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_the_training_did_not_have_is_a_new_class() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let rows = day(0, Distribution::Reference);
    let relabelled = |(index, row): (usize, &Row)| {
        let label = if index < 30 { "diverted" } else { ["0", "1"][usize::from(row.late)] };
        format!("{{\"prediction_id\":\"{}\",\"label\":\"{label}\"}}\n", row.id)
    };
    let outcomes: String = rows.iter().enumerate().map(relabelled).collect();
    let opened = opened_by(&world, &rows, outcomes).await;
    assert!(opened[&AlertKind::NewClass].contains("spelled"), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_makes_late_rows_until_it_is_set() {
    let world = World::on_sqlite_with(&[("alerts.every", "50ms")]).await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&day(5, Distribution::Reference), 0)).await;
    world.predictions(&replica.log(&closing(6), 0)).await;
    world.reported(1, 0).await;
    let behind = day(1, Distribution::Reference);
    world.predictions(&replica.log(&behind[..50], 0)).await;
    let late = world.alert(AlertKind::LateRows, AlertState::Open).await;
    assert!(late.message.summary.starts_with("50 of the last 1110 rows"), "{}", late.message.summary);
    assert!(late.message.advice.contains("clocks"), "{}", late.message.advice);
    // A window of rows on time resolves it.
    world.predictions(&replica.log(&day(6, Distribution::Reference), 0)).await;
    world.predictions(&replica.log(&closing(7), 0)).await;
    let resolved = world.alert(AlertKind::LateRows, AlertState::Resolved).await;
    assert_eq!((resolved.id, late.rows), (late.id, 50));
    // What was late before opens no other.
    world.predictions(&replica.log(&day(7, Distribution::Reference), 0)).await;
    world.predictions(&replica.log(&closing(8), 0)).await;
    world.reported(3, 2).await;
    assert_eq!(world.all_alerts().await.iter().filter(|alert| alert.kind == AlertKind::LateRows).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_alert_that_a_person_resolves_does_not_open_again_until_rows_have_come() {
    let world = World::on_sqlite_with(&[("alerts.every", "50ms")]).await;
    let feed_timeout = Some(Duration::from_secs(1));
    world.set_watch(&model(), WatchSettings { feed_timeout, ..WatchSettings::default() }).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let rows = day(0, Distribution::Reference);
    world.predictions(&replica.log(&rows[..10], 0)).await;
    let stopped = world.alert(AlertKind::FeedStopped, AlertState::Open).await;
    world.alerts_as("ann").resolve(&prefix(&stopped), "a planned stop").await.expect("resolved");
    // Another model stops later: by the time of its alert, this one would have been opened again.
    let other: rekindle_domain::ModelName = "other".parse().expect("a name");
    world.set_watch(&other, WatchSettings { feed_timeout, ..WatchSettings::default() }).await;
    let mut of_other = Replica::new(bundle(), "other", 1);
    for (id, bytes) in of_other.log(&rows[..10], 0) {
        world.publish_to("rekindle.predictions.other", &id, bytes).await;
    }
    eventually("the other alert", async || {
        let found = world.alerts().list(Some(&other), false, PageRequest::default()).await;
        let found = found.map_err(|error| error.to_string())?.items;
        if found.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(world.all_alerts().await.iter().filter(|alert| alert.kind == AlertKind::FeedStopped).count(), 1);
    world.predictions(&replica.log(&rows[10..20], 0)).await;
    let again = world.alert(AlertKind::FeedStopped, AlertState::Open).await;
    assert_ne!(again.id, stopped.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_makes_rows_ahead_until_the_others_outvote_it() {
    let world = World::on_sqlite_with(&[("alerts.every", "50ms")]).await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&day(0, Distribution::Reference)[..100], 0)).await;
    world.captured(100, 0).await;
    // One request of 30 rows a year ahead.
    let request = Uuid::now_v7();
    let ahead = day(365, Distribution::Reference).into_iter().take(30);
    let ahead: Vec<Row> = (0..).zip(ahead).map(|(row, ahead)| Row { id: request, row, ..ahead }).collect();
    world.predictions(&replica.log(&ahead, 0)).await;
    let alert = world.alert(AlertKind::RowsAhead, AlertState::Open).await;
    assert!(alert.message.summary.starts_with("At least 20 rows of flights"), "{}", alert.message.summary);
    assert!(alert.message.advice.contains("unit of the event times"), "{}", alert.message.advice);
    world.predictions(&replica.log(&day(0, Distribution::Reference)[100..200], 0)).await;
    assert_eq!(world.alert(AlertKind::RowsAhead, AlertState::Resolved).await.id, alert.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_stops_opens_an_alert_and_the_next_row_resolves_it() {
    let world = World::on_sqlite_with(&[("alerts.every", "50ms")]).await;
    let feed_timeout = Some(Duration::from_secs(1));
    world.set_watch(&model(), WatchSettings { feed_timeout, ..WatchSettings::default() }).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let rows = day(0, Distribution::Reference);
    world.predictions(&replica.log(&rows[..100], 0)).await;
    let stopped = world.alert(AlertKind::FeedStopped, AlertState::Open).await;
    assert!(stopped.message.causes[0].contains("feed timeout of the model is 1s"), "{:?}", stopped.message);
    assert_eq!(stopped.severity, Severity::Critical);
    // Rows come until it is resolved: on a busy machine, one may be older than the timeout when it is noticed.
    let mut rest = rows[100..].chunks(10);
    let resolved = eventually("the alert to be resolved", async || {
        if let Some(some) = rest.next() {
            world.predictions(&replica.log(some, 0)).await;
        }
        let found = world.all_alerts().await.into_iter().find(|alert| alert.id == stopped.id);
        found.filter(|alert| alert.state() == AlertState::Resolved).ok_or_else(|| "it is open".to_owned())
    })
    .await;
    assert_eq!(resolved.resolved.map(|note| note.why).as_deref(), Some("rows are captured again"));
}
