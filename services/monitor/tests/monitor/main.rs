//! The monitor as a whole, with a real broker, on both databases: published predictions and outcomes become reports, events and labelled
//! rows.

mod alerts;
mod bounds;
mod findings;
mod instances;
mod join_keys;
mod notifications;
mod outcomes;
mod poison;
mod raw;
mod receiver;
mod recorded;
mod resets;
mod retention;
mod revisions;
mod rows;
mod turns;
mod unknown;
mod world;

use std::collections::BTreeMap;

use rekindle_bus::streams;
use rekindle_client::{PageRequest, wire::event};
use rekindle_dataset::read_parquet;
use rekindle_domain::{
    Digest, Namespace, ReportId, VersionRef, WatchSettings,
    event::EventKind,
    outcome::{Label, Outcome},
    prediction_log::{ExportRequest, Value},
    report::{Verdict, WindowHeader, WindowReport},
};
use tonic::Code;
use tonic_types::StatusExt as _;

use rows::{DAY, Distribution, Replica, Row, START, labels, rows};
use world::{MODEL, World, bundle, model, timestamp};

/// Two whole days, the second of shifted rows, and the beginning of a third that closes them.
fn three_days() -> [Vec<Row>; 3] {
    [
        rows(1, 1500, START, START + DAY, Distribution::Reference),
        rows(2, 1500, START + DAY, START + 2 * DAY, Distribution::Shifted),
        rows(3, 300, START + 2 * DAY, START + 2 * DAY + DAY / 8, Distribution::Reference),
    ]
}

fn header<'a>(event: &'a async_nats::Message, name: &str) -> &'a str {
    event.headers.as_ref().and_then(|headers| headers.get(name)).map_or("", |value| value.as_str())
}

async fn drift_and_degradation_are_reported_once_and_share_an_id(world: World) {
    world.watch().await;
    let days = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 3);
    // Outcomes that were published before the predictions that end their label wait are not missed, whichever is captured first.
    world.outcomes("day-1", labels(&days[0])).await;
    world.outcomes("day-2", labels(&days[1])).await;
    world.predictions(&replica.log(&days.concat(), 2)).await;

    let reports = world.reported(2, 2).await;
    let [shifted, reference] = reports.as_slice() else { panic!("two reports") };
    let WindowHeader { rows, version, .. } = reference.window;
    assert_eq!((rows, reference.drift.verdict, version.version), (1500, Verdict::Stable, 3), "{reference:?}");
    let quality = reference.quality.as_ref().expect("measured");
    assert_eq!((quality.verdict, quality.labelled_rows), (Verdict::Stable, 1500), "{quality:?}");
    assert!(quality.metrics["auc"] > 0.8, "{quality:?}");
    assert_eq!(reference.correlation_id, None);
    assert_eq!((shifted.window.rows, shifted.drift.verdict), (1500, Verdict::Drifted));
    let quality = shifted.quality.as_ref().expect("measured");
    assert_eq!(quality.verdict, Verdict::Drifted, "{quality:?}");
    assert!(quality.rise_lower_bound > 0.0 && quality.loss > quality.reference_loss);

    let events = world.events(8).await;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        *kinds.entry(header(event, "ce-type")).or_default() += 1;
    }
    let expected = [
        ("dev.rekindle.monitor.alert.opened.v1", 2),
        ("dev.rekindle.monitor.degradation.detected.v1", 1),
        ("dev.rekindle.monitor.drift.detected.v1", 1),
        ("dev.rekindle.monitor.window.reported.v1", 4),
    ];
    assert_eq!(kinds, BTreeMap::from(expected));
    for event in events.iter().filter(|event| header(event, "ce-type").contains("detected")) {
        let correlation = shifted.correlation_id.map(|id| id.to_string());
        assert_eq!(Some(header(event, "ce-correlationid")), correlation.as_deref());
        assert!(event.subject.ends_with(MODEL), "{}", event.subject);
    }
    let drift = events.iter().find(|event| header(event, "ce-type").contains("drift")).expect("counted above");
    let data: serde_json::Value = serde_json::from_slice(&drift.payload).expect("json");
    let alert = event::detection(EventKind::DRIFT_DETECTED, &data).expect("its message").expect("an alert");
    assert_eq!(alert.window, shifted.window);
    let causes: Vec<&str> = alert.causes.iter().map(|cause| cause.name.as_str()).collect();
    assert!(causes.contains(&"distance") && !causes.contains(&"carrier"), "{causes:?}");
    assert!(alert.causes.is_sorted_by(|a, b| a.cause_share >= b.cause_share), "{alert:?}");

    let status = world.captured(3300, 3000).await;
    assert_eq!((status.lost, status.open_windows), (14 * 2, 1));
    labelled_rows_are_exported_as_published(&world, &days).await;
    rows_are_found_by_id(&world, &days).await;
}

async fn labelled_rows_are_exported_as_published(world: &World, days: &[Vec<Row>; 3]) {
    let request = export("at");
    let done = world.client.export_labelled(&request).await.expect("exported");
    assert_eq!(done.rows, 3000);
    assert_eq!(done.rows_left_out, 0);
    the_manifest_names_every_chunk(world, done.manifest.expect("one")).await;
    let bytes = world.artifacts.get(&done.blob.expect("one")).await.expect("stored");
    let table = read_parquet(bytes).expect("canonical");
    assert_eq!(table.schema.names().collect::<Vec<_>>(), ["distance", "carrier", "at", "late"]);
    let labelled = days[..2].concat();
    assert_eq!(table.times("at").expect("sorted"), labelled.iter().map(|row| row.time).collect::<Vec<_>>());
    let late = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(table.column("late").expect("there"));
    assert_eq!(late.values().to_vec(), labelled.iter().map(|row| i64::from(row.late)).collect::<Vec<_>>());
    let holdout = done.holdout_from.expect("requested").timestamp_millis();
    assert_eq!(labelled.iter().filter(|row| row.time >= holdout).count(), 750);
    assert_eq!(world.client.export_labelled(&request).await.expect("exported"), done);
    let later = ExportRequest { from: Some(timestamp(START + 5 * DAY)), ..request };
    let none = world.client.export_labelled(&later).await.expect("an empty export");
    assert_eq!((none.rows, none.blob), (0, None));
}

/// Every labelled row, of which the latest quarter is held out.
pub(crate) fn export(time_column: &str) -> ExportRequest {
    ExportRequest {
        model: model(),
        from: None,
        until: None,
        target: "late".into(),
        time_column: time_column.into(),
        holdout_share: 0.25,
    }
}

async fn the_manifest_names_every_chunk(world: &World, digest: Digest) {
    let bytes = world.artifacts.get(&digest).await.expect("stored");
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
    assert_eq!(manifest["model"], MODEL);
    assert_eq!(manifest["schema"], 2);
    let chunks = manifest["chunks"].as_array().expect("a list");
    assert_eq!(chunks.len() as u64, world.status().await.chunks);
    let rows = |kind: &str| -> u64 {
        let of_kind = chunks.iter().filter(|chunk| chunk["kind"] == kind);
        of_kind.filter_map(|chunk| chunk["rows"].as_u64()).sum()
    };
    assert_eq!((rows("prediction"), rows("outcome")), (3300, 3000));
    for chunk in chunks {
        let (key, digest) = (chunk["key"].as_str().expect("a key"), chunk["digest"].as_str().expect("a digest"));
        world.artifacts.get_object_verified(key, &digest.parse().expect("a digest")).await.expect("as listed");
    }
}

async fn rows_are_found_by_id(world: &World, days: &[Vec<Row>; 3]) {
    let (row, client) = (&days[1][77], &world.client);
    let found = client.prediction(row.prediction(), 0).await.expect("logged");
    assert_eq!((found.model, found.version.version, found.replica.as_str()), (model(), 3, "replica-1"));
    assert_eq!(found.inputs["distance"], Value::Number(row.distance));
    assert_eq!(found.inputs["carrier"], Value::Text(row.carrier.into()));
    assert_eq!(found.outputs["probability"].len(), 4);
    assert_eq!(found.label, Some(row.label()));
    let error = client.prediction(row.prediction(), 9).await.expect_err("no such row");
    assert!(error.is_not_found(), "{error}");
    every_row_is_on_one_page(world, days).await;
}

async fn every_row_is_on_one_page(world: &World, days: &[Vec<Row>; 3]) {
    let mut request = PageRequest::first(400);
    let mut listed = Vec::new();
    loop {
        let page = world.client.predictions(&model(), request).await.expect("listed");
        assert!(page.items.len() <= 400 && !page.items.is_empty());
        listed.extend(page.items);
        if page.next_page_token.is_empty() {
            break;
        }
        request = PageRequest { size: 400, token: page.next_page_token };
    }
    let mut expected: Vec<_> = days.concat().iter().map(Row::prediction).collect();
    expected.reverse();
    assert_eq!(listed.iter().map(|row| row.prediction).collect::<Vec<_>>(), expected);
    assert!(listed[0].label.is_none() && listed[3000].label.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_exports_and_lookups_on_sqlite() {
    drift_and_degradation_are_reported_once_and_share_an_id(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_exports_and_lookups_on_postgres() {
    drift_and_degradation_are_reported_once_and_share_an_id(World::on_postgres().await).await;
}

/// Reports without the ids, times and revisions that differ between two runs.
fn comparable(reports: Vec<WindowReport>) -> Vec<WindowReport> {
    let strip = |report: WindowReport| WindowReport {
        window: WindowHeader { report: ReportId::new(uuid::Uuid::nil()), closed_at: timestamp(0), ..report.window },
        quality_at: None,
        revision: 1,
        changes: String::new(),
        correlation_id: report.correlation_id.map(|_| rekindle_domain::WorkflowId::new(uuid::Uuid::nil())),
        ..report
    };
    reports.into_iter().map(strip).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_is_killed_repeatedly_reports_the_same() {
    let days = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let messages = replica.log(&days.concat(), 1);
    let undisturbed = World::on_sqlite().await;
    undisturbed.watch().await;
    undisturbed.outcomes("all", labels(&days[..2].concat())).await;
    undisturbed.predictions(&messages).await;
    let expected = comparable(undisturbed.reported(2, 2).await);

    let mut killed = World::on_sqlite().await;
    killed.watch().await;
    for (round, part) in messages.chunks(4).enumerate() {
        if round == 2 {
            killed.outcomes("all", labels(&days[..2].concat())).await;
        }
        killed.predictions(part).await;
        // The same messages again, under ids that are new to the bus: only the monitor can recognise them.
        for (id, bytes) in part {
            killed.publish("predictions", &format!("again/{round}/{id}"), bytes.clone()).await;
        }
        killed.kill_and_restart().await;
    }
    assert_eq!(comparable(killed.reported(2, 2).await), expected);
    let status = killed.captured(3300, 3000).await;
    assert_eq!(status.lost, messages.len() as u64);
    assert_eq!(killed.events(8).await.len(), 8);
}

/// The reason of a report, and the verdict and reason of each of its columns.
fn reasons(report: &WindowReport) -> (&str, Vec<(Verdict, &str)>) {
    (&report.reason, report.drift.columns().map(|column| (column.verdict, column.reason.as_str())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_reported_separately_and_inconclusive_ones_have_a_reason() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let [reference, _, last] = three_days();
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&reference, 0)).await;
    world.captured(1500, 0).await;
    // Both have drifted far enough to be detected: one has too few rows for the watch, one answered in the morning only.
    let few = rows(7, 150, START, START + DAY, Distribution::Shifted);
    world.predictions(&Replica::new(bundle(), MODEL, 2).log(&few, 0)).await;
    let part = rows(8, 300, START, START + DAY / 2, Distribution::Shifted);
    let mut third = Replica::new(bundle(), MODEL, 3);
    world.predictions(&third.log(&part, 0)).await;
    world.captured(1950, 0).await;
    world.predictions(&third.log(&last, 0)).await;
    // The end of the first day and the end of its label wait are passed at once.
    let reports = world.reported(3, 3).await;
    let by_version: BTreeMap<u32, &WindowReport> =
        reports.iter().map(|report| (report.window.version.version, report)).collect();
    let verdicts: Vec<(u32, u64, Verdict)> =
        by_version.iter().map(|(version, report)| (*version, report.window.rows, report.drift.verdict)).collect();
    assert_eq!(
        verdicts,
        [(1, 1500, Verdict::Stable), (2, 150, Verdict::Inconclusive), (3, 300, Verdict::Inconclusive)]
    );
    let (of_window, of_columns) = reasons(by_version[&2]);
    assert_eq!(of_window, "the window has 150 rows, min_rows is 200");
    assert_eq!(of_columns, [(Verdict::Inconclusive, of_window); 3]);
    let (of_window, of_columns) = reasons(by_version[&3]);
    let why = of_window.strip_prefix("inconclusive: ").unwrap_or_default();
    assert!(why.starts_with("the version answered only from 2024-01-01T00:00:00"), "{of_window}");
    assert_eq!(of_columns, [(Verdict::Inconclusive, why); 3]);

    // Late rows are kept and counted, and not reported; no outcomes arrive, and the label wait ends.
    let late = rows(9, 300, START, START + DAY / 2, Distribution::Shifted);
    world.predictions(&third.log(&late, 0)).await;
    let end = rows(10, 250, START + 3 * DAY, START + 4 * DAY, Distribution::Reference);
    world.predictions(&third.log(&end, 0)).await;
    let reports = world.reported(4, 3).await;
    let mut first_day: Vec<_> = reports
        .iter()
        .filter(|report| report.window.until == timestamp(START + DAY))
        .map(|report| {
            let VersionRef { version, .. } = report.window.version;
            (version, report.window.rows, report.quality.as_ref().map(|quality| quality.verdict.name()))
        })
        .collect();
    first_day.sort_unstable();
    let inconclusive = Some(Verdict::Inconclusive.name());
    assert_eq!(first_day, [(1, 1500, inconclusive), (2, 150, inconclusive), (3, 300, inconclusive)]);
    assert_eq!(world.captured(1950 + 300 + 300 + 250, 0).await.predictions, 2800);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_satisfy_the_watch_may_still_be_too_few() {
    let world = World::on_sqlite().await;
    world.watch_from(2).await;
    let [_, _, last] = three_days();
    let few = rows(7, 30, START, START + DAY, Distribution::Reference);
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&few, 0)).await;
    world.predictions(&replica.log(&last, 0)).await;
    let [report] = <[_; 1]>::try_from(world.reported(1, 1).await).expect("one report");
    let (of_window, of_columns) = reasons(&report);
    assert_eq!((report.drift.verdict, of_columns.len()), (Verdict::Inconclusive, 3));
    assert!(of_window.starts_with("30 rows are too few"), "{of_window}");
    for (verdict, reason) in of_columns {
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.starts_with("30 rows are too few: the smallest detectable effect is "), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_and_lines_are_dead_lettered_and_delay_nothing() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let day = rows(1, 10, START, START + DAY, Distribution::Reference);
    world.publish("predictions", "junk", "not arrow".into()).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    // A message may have lost all of its rows: it is captured before the next one.
    world.predictions(&[replica.log_lost(&day, 7)]).await;
    world.predictions(&replica.log(&day, 0)).await;
    world.outcomes("mixed", format!("nonsense\n{}", labels(&day[..1]))).await;
    assert_eq!(world.captured(10, 1).await.lost, 7);
    let mut dead = world.stream(streams::DEAD_LETTERS, 2).await;
    dead.sort_by(|a, b| a.subject.cmp(&b.subject));
    let [lines, junk] = dead.as_slice() else { panic!("two dead letters: {dead:?}") };
    assert_eq!(lines.subject.as_str(), "rekindle.dead.monitor-outcomes");
    assert_eq!(lines.payload.as_ref(), b"nonsense");
    assert!(header(lines, "Rekindle-Dead-Reason").starts_with("line 1: not an outcome"));
    assert_eq!(junk.subject.as_str(), "rekindle.dead.monitor-predictions");
    assert_eq!(junk.payload.as_ref(), b"not arrow");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_validated_and_idempotent() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let day = rows(1, 2, START, START + DAY, Distribution::Reference);
    let outcomes: Vec<Outcome> = day.iter().map(Row::outcome).collect();
    let invalid = Outcome { label: Label::Class(String::new()), ..outcomes[0].clone() };
    let client = world.client.clone();
    let report = async |outcomes: &[Outcome], key: &str| client.report_outcomes(&model(), outcomes, key).await;
    let error = report(&[outcomes[0].clone(), invalid], "once").await.expect_err("an empty class");
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["outcomes[1].class".to_owned()]));
    for _ in 0..2 {
        assert_eq!(report(&outcomes, "once").await.expect("accepted").accepted, 2);
    }
    world.captured(0, 2).await;
    // A third call, with another outcome, is captured after any repetition would have been.
    report(&outcomes[..1], "").await.expect("accepted");
    world.captured(0, 3).await;

    let stale = client.set_watch(&model(), &WatchSettings::default(), 7).await.expect_err("at revision 1");
    assert_eq!((stale.code(), stale.metadata("actual").as_str()), (Code::Aborted, "1"));
    let wrong = WatchSettings { drift_margin: -1.0, min_rows: 0, ..WatchSettings::default() };
    let error = client.set_watch(&model(), &wrong, 1).await.expect_err("out of bounds");
    assert_eq!(fields(&error), ["watch.min_rows", "watch.drift_margin"]);
    let error = client.export_labelled(&export("late")).await.expect_err("two columns of one name");
    assert_eq!(fields(&error), ["time_column"]);
    for token in ["x", "ff", &hex(b"1/2/3")] {
        let page = || PageRequest { size: 0, token: token.to_owned() };
        assert_eq!(fields(&client.predictions(&model(), page()).await.expect_err(token)), ["page_token"]);
        assert_eq!(fields(&client.reports(&model(), page()).await.expect_err(token)), ["page_token"]);
    }
    let tenant: Namespace = "team-a".parse().expect("a valid name");
    let ours = client.watch(&model()).await.expect("set");
    let theirs = world.client_in(tenant).set_watch(&model(), &WatchSettings::default(), 0).await.expect("of its own");
    assert_eq!((theirs.model.as_str(), theirs.revision), (format!("team-a.{}", model()).as_str(), 1));
    assert_eq!(client.watch(&model()).await.expect("set"), ours);
    assert!(world.reports().await.is_empty());
    assert_eq!(world.status().await.predictions, 0);
}

/// The fields that a call was refused for.
pub(crate) fn fields(error: &rekindle_client::Error) -> Vec<String> {
    let details = error.status().expect("a status").get_error_details();
    let violations = details.bad_request().map(|request| request.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
