//! The monitor as a whole, with a real broker, on both databases: what is published comes out as reports, events and labelled rows.

mod bounds;
mod rows;
mod stage;

use std::collections::BTreeMap;

use rekindle_bus::streams;
use rekindle_dataset::read_parquet;
use rekindle_proto::{
    events::DriftDetected,
    json,
    monitor::{
        ExportLabelledRequest, GetPredictionRequest, ListPredictionsRequest, Outcome, ReportOutcomesRequest,
        SetWatchRequest, Verdict, Watch, WindowReport, outcome::Truth, value::Value,
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

use rows::{DAY, Replica, Row, START, World, rows, truths};
use stage::{MODEL, Stage, bundle};

/// Two whole days, usual and turned, and the beginning of a third that closes them.
fn three_days() -> [Vec<Row>; 3] {
    [
        rows(1, 1500, START, START + DAY, World::Usual),
        rows(2, 1500, START + DAY, START + 2 * DAY, World::Turned),
        rows(3, 300, START + 2 * DAY, START + 2 * DAY + DAY / 8, World::Usual),
    ]
}

fn header<'a>(event: &'a async_nats::Message, name: &str) -> &'a str {
    event.headers.as_ref().and_then(|headers| headers.get(name)).map_or("", |value| value.as_str())
}

async fn drift_and_degradation_are_told_once_and_share_an_id(mut stage: Stage) {
    stage.watch().await;
    let days = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 3);
    // Outcomes that lie on the bus before what ends the wait for them are not missed, whatever is captured first.
    stage.outcomes("day-1", truths(&days[0])).await;
    stage.outcomes("day-2", truths(&days[1])).await;
    stage.predictions(&replica.log(&days.concat(), 2)).await;

    let reports = stage.reported(2, 2).await;
    let [turned, usual] = reports.as_slice() else { panic!("two reports") };
    assert_eq!((usual.rows, usual.drift(), usual.model_version), (1500, Verdict::Stable, 3), "{usual:?}");
    let quality = usual.quality.as_ref().expect("judged");
    assert_eq!((quality.verdict(), quality.labelled_rows), (Verdict::Stable, 1500), "{quality:?}");
    assert!(quality.metrics["auc"] > 0.8, "{quality:?}");
    assert_eq!(usual.correlation_id, "");
    assert_eq!((turned.rows, turned.drift()), (1500, Verdict::Drifted));
    let quality = turned.quality.as_ref().expect("judged");
    assert_eq!(quality.verdict(), Verdict::Drifted, "{quality:?}");
    assert!(quality.rise_lower_bound > 0.0 && quality.loss > quality.reference_loss);

    let events = stage.events(6).await;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        *kinds.entry(header(event, "ce-type")).or_default() += 1;
    }
    let expected = [
        ("dev.rekindle.monitor.degradation.detected.v1", 1),
        ("dev.rekindle.monitor.drift.detected.v1", 1),
        ("dev.rekindle.monitor.window.reported.v1", 4),
    ];
    assert_eq!(kinds, BTreeMap::from(expected));
    for event in events.iter().filter(|event| header(event, "ce-type").contains("detected")) {
        assert_eq!(header(event, "ce-correlationid"), turned.correlation_id);
        assert!(event.subject.ends_with(MODEL), "{}", event.subject);
    }
    let drift = events.iter().find(|event| header(event, "ce-type").contains("drift")).expect("counted above");
    let drift: DriftDetected = json::from_slice(&drift.payload).expect("its message");
    let blame: Vec<&str> = drift.features.iter().map(|feature| feature.name.as_str()).collect();
    assert!(blame.contains(&"distance") && !blame.contains(&"carrier"), "{blame:?}");
    assert!(drift.features.is_sorted_by(|a, b| a.cause_share >= b.cause_share), "{drift:?}");

    let status = stage.captured(3300, 3000).await;
    assert_eq!((status.lost, status.open_windows), (14 * 2, 1));
    labelled_rows_come_out_as_they_went_in(&mut stage, &days).await;
    rows_are_found_by_id(&mut stage, &days).await;
}

async fn labelled_rows_come_out_as_they_went_in(stage: &mut Stage, days: &[Vec<Row>; 3]) {
    let request = ExportLabelledRequest {
        model: MODEL.into(),
        target: "late".into(),
        time_column: "at".into(),
        holdout_share: 0.25,
        ..ExportLabelledRequest::default()
    };
    let done = stage.client.export_labelled(request.clone()).await.expect("exported").into_inner();
    assert_eq!(done.rows, 3000);
    assert_eq!(done.rows_left_out, 0);
    the_manifest_names_every_segment(stage, &done.manifest_digest).await;
    let bytes = stage.artifacts.get(&done.blob_digest.parse().expect("a digest")).await.expect("stored");
    let table = read_parquet(bytes).expect("canonical");
    assert_eq!(table.schema.names().collect::<Vec<_>>(), ["distance", "carrier", "at", "late"]);
    let labelled = days[..2].concat();
    assert_eq!(table.times("at").expect("sorted"), labelled.iter().map(|row| row.time).collect::<Vec<_>>());
    let late = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(table.column("late").expect("there"));
    assert_eq!(late.values().to_vec(), labelled.iter().map(|row| i64::from(row.late)).collect::<Vec<_>>());
    let holdout = done.holdout_from.expect("asked for").seconds * 1000;
    assert_eq!(labelled.iter().filter(|row| row.time >= holdout).count(), 750);
    let again = stage.client.export_labelled(request.clone()).await.expect("exported").into_inner();
    assert_eq!((again.blob_digest, again.manifest_digest), (done.blob_digest, done.manifest_digest));
    let span = ExportLabelledRequest { from: Some(time(START + 5 * DAY)), ..request };
    let none = stage.client.export_labelled(span).await.expect("nothing there").into_inner();
    assert_eq!((none.rows, none.blob_digest.as_str()), (0, ""));
}

async fn the_manifest_names_every_segment(stage: &mut Stage, digest: &str) {
    let bytes = stage.artifacts.get(&digest.parse().expect("one digest")).await.expect("stored");
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
    assert_eq!(manifest["model"], MODEL);
    let segments = manifest["segments"].as_array().expect("a list");
    assert_eq!(segments.len() as u64, stage.status().await.segments);
    let rows = |kind: &str| -> u64 {
        let of_kind = segments.iter().filter(|segment| segment["kind"] == kind);
        of_kind.filter_map(|segment| segment["rows"].as_u64()).sum()
    };
    assert_eq!((rows("prediction"), rows("outcome")), (3300, 3000));
    for segment in segments {
        let (key, digest) = (segment["key"].as_str().expect("a key"), segment["digest"].as_str().expect("a digest"));
        stage.artifacts.get_object_verified(key, &digest.parse().expect("a digest")).await.expect("as listed");
    }
}

fn time(millis: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: millis / 1000, nanos: 0 }
}

async fn rows_are_found_by_id(stage: &mut Stage, days: &[Vec<Row>; 3]) {
    let row = &days[1][77];
    let request = GetPredictionRequest { prediction_id: row.id.to_string(), row: 0 };
    let found = stage.client.get_prediction(request.clone()).await.expect("logged").into_inner();
    assert_eq!((found.model.as_str(), found.model_version, found.replica.as_str()), (MODEL, 3, "replica-1"));
    assert_eq!(found.inputs["distance"].value, Some(Value::Number(row.distance)));
    assert_eq!(found.inputs["carrier"].value, Some(Value::Text(row.carrier.into())));
    assert_eq!(found.outputs["probability"].len(), 4);
    let truth = found.outcome.expect("told").truth;
    assert_eq!(truth, Some(Truth::Label(u8::from(row.late).to_string())));
    let error = stage.client.get_prediction(GetPredictionRequest { row: 9, ..request }).await.expect_err("no such row");
    assert_eq!(error.code(), Code::NotFound);
    let latest = ListPredictionsRequest { model: MODEL.into(), page_size: 400 };
    let latest = stage.client.list_predictions(latest).await.expect("listed").into_inner().predictions;
    assert_eq!(latest.len(), 400);
    assert_eq!(latest[0].prediction_id, days[2].last().expect("rows").id.to_string());
    assert!(latest[0].outcome.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_exports_and_lookups_on_sqlite() {
    drift_and_degradation_are_told_once_and_share_an_id(Stage::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_exports_and_lookups_on_postgres() {
    drift_and_degradation_are_told_once_and_share_an_id(Stage::on_postgres().await).await;
}

/// A report without what each telling makes anew.
fn essence(reports: Vec<WindowReport>) -> Vec<WindowReport> {
    let strip = |report: WindowReport| WindowReport {
        id: String::new(),
        closed_at: None,
        quality_at: None,
        correlation_id: if report.correlation_id.is_empty() { String::new() } else { "some".to_owned() },
        ..report
    };
    reports.into_iter().map(strip).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_reports_the_same() {
    let days = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let messages = replica.log(&days.concat(), 1);
    let mut calm = Stage::on_sqlite().await;
    calm.watch().await;
    calm.outcomes("all", truths(&days[..2].concat())).await;
    calm.predictions(&messages).await;
    let expected = essence(calm.reported(2, 2).await);

    let mut rough = Stage::on_sqlite().await;
    rough.watch().await;
    for (round, part) in messages.chunks(4).enumerate() {
        if round == 2 {
            rough.outcomes("all", truths(&days[..2].concat())).await;
        }
        rough.predictions(part).await;
        // The same messages once more, under ids that the bus does not know: only the monitor can recognise them.
        for (id, bytes) in part {
            rough.publish("predictions", &format!("again/{round}/{id}"), bytes.clone()).await;
        }
        rough.kill_and_restart().await;
    }
    assert_eq!(essence(rough.reported(2, 2).await), expected);
    let status = rough.captured(3300, 3000).await;
    assert_eq!(status.lost, messages.len() as u64);
    assert_eq!(rough.events(6).await.len(), 6);
}

/// What is said of a window, and of each of its columns.
fn said(report: &WindowReport) -> (&str, Vec<(Verdict, &str)>) {
    let columns = report.features.iter().chain(&report.prediction);
    (&report.reason, columns.map(|column| (column.verdict(), column.reason.as_str())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_reported_apart_and_what_cannot_be_told_says_why() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch().await;
    let [usual, _, last] = three_days();
    stage.predictions(&Replica::new(bundle(), MODEL, 1).log(&usual, 0)).await;
    stage.captured(1500, 0).await;
    // Both are turned so far that their rows alone would tell: one has too few for the watch, one answered in the morning only.
    let few = rows(7, 150, START, START + DAY, World::Turned);
    stage.predictions(&Replica::new(bundle(), MODEL, 2).log(&few, 0)).await;
    let part = rows(8, 300, START, START + DAY / 2, World::Turned);
    let mut third = Replica::new(bundle(), MODEL, 3);
    stage.predictions(&third.log(&part, 0)).await;
    stage.captured(1950, 0).await;
    stage.predictions(&third.log(&last, 0)).await;
    // The end of the first day and the end of the wait for its outcomes are passed at once.
    let reports = stage.reported(3, 3).await;
    let by_version: BTreeMap<u32, &WindowReport> =
        reports.iter().map(|report| (report.model_version, report)).collect();
    let told: Vec<(u32, u64, Verdict)> =
        by_version.iter().map(|(version, report)| (*version, report.rows, report.drift())).collect();
    assert_eq!(told, [(1, 1500, Verdict::Stable), (2, 150, Verdict::Unknown), (3, 300, Verdict::Unknown)]);
    let (of_window, of_columns) = said(by_version[&2]);
    assert_eq!(of_window, "the window has 150 rows, the watch asks for 200");
    assert_eq!(of_columns, [(Verdict::Unknown, of_window); 3]);
    let (of_window, of_columns) = said(by_version[&3]);
    let why = of_window.strip_prefix("cannot tell: ").unwrap_or_default();
    assert!(why.starts_with("the version answered only from 2024-01-01T00:00:00"), "{of_window}");
    assert_eq!(of_columns, [(Verdict::Unknown, why); 3]);

    // Rows of a closed window are kept and counted, and reported no more; outcomes no longer come, and the wait ends.
    let late = rows(9, 300, START, START + DAY / 2, World::Turned);
    stage.predictions(&third.log(&late, 0)).await;
    let end = rows(10, 250, START + 3 * DAY, START + 4 * DAY, World::Usual);
    stage.predictions(&third.log(&end, 0)).await;
    let reports = stage.reported(4, 3).await;
    let mut first_day: Vec<_> = reports
        .iter()
        .filter(|report| report.until == Some(time(START + DAY)))
        .map(|report| (report.model_version, report.rows, report.quality.as_ref().map(|quality| quality.verdict())))
        .collect();
    first_day.sort_unstable();
    let unjudged = Some(Verdict::Unknown);
    assert_eq!(first_day, [(1, 1500, unjudged), (2, 150, unjudged), (3, 300, unjudged)]);
    assert_eq!(stage.captured(1950 + 300 + 300 + 250, 0).await.predictions, 2800);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_watch_takes_may_still_be_too_few_to_tell() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch_from(2).await;
    let [_, _, last] = three_days();
    let few = rows(7, 30, START, START + DAY, World::Usual);
    let mut replica = Replica::new(bundle(), MODEL, 1);
    stage.predictions(&replica.log(&few, 0)).await;
    stage.predictions(&replica.log(&last, 0)).await;
    let [report] = <[_; 1]>::try_from(stage.reported(1, 1).await).expect("one report");
    let (of_window, of_columns) = said(&report);
    assert_eq!((report.drift(), of_columns.len()), (Verdict::Unknown, 3));
    assert!(of_window.starts_with("30 rows are too few"), "{of_window}");
    for (verdict, reason) in of_columns {
        assert_eq!(verdict, Verdict::Unknown);
        assert!(reason.starts_with("30 rows are too few: only an effect of "), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_holds_up_nothing() {
    let mut stage = Stage::on_sqlite().await;
    let day = rows(1, 10, START, START + DAY, World::Usual);
    stage.publish("predictions", "junk", "not arrow".into()).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    // Rows may all be lost: what declares them is captured before the rows that come next.
    stage.predictions(&[replica.log_lost(&day, 7)]).await;
    stage.predictions(&replica.log(&day, 0)).await;
    stage.outcomes("mixed", format!("nonsense\n{}", truths(&day[..1]))).await;
    assert_eq!(stage.captured(10, 1).await.lost, 7);
    let mut dead = stage.stream(streams::DEAD_LETTERS, 2).await;
    dead.sort_by(|a, b| a.subject.cmp(&b.subject));
    let [lines, junk] = dead.as_slice() else { panic!("two dead letters: {dead:?}") };
    assert_eq!(lines.subject.as_str(), "rekindle.dead.monitor-outcomes");
    assert_eq!(lines.payload.as_ref(), b"nonsense");
    assert!(header(lines, "Rekindle-Dead-Reason").starts_with("line 1: not an outcome"));
    assert_eq!(junk.subject.as_str(), "rekindle.dead.monitor-predictions");
    assert_eq!(junk.payload.as_ref(), b"not arrow");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_checked_and_repeatable() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch().await;
    let day = rows(1, 2, START, START + DAY, World::Usual);
    let outcome = |row: &Row| Outcome {
        prediction_id: row.id.to_string(),
        row: 0,
        truth: Some(Truth::Label(u8::from(row.late).to_string())),
    };
    let good: Vec<Outcome> = day.iter().map(outcome).collect();
    let bad = Outcome { prediction_id: "?".into(), ..good[0].clone() };
    let request = ReportOutcomesRequest { model: MODEL.into(), outcomes: good.clone(), idempotency_key: "once".into() };
    let mixed = ReportOutcomesRequest { outcomes: vec![good[0].clone(), bad], ..request.clone() };
    let error = stage.client.report_outcomes(mixed).await.expect_err("a bad id");
    assert_eq!(error.code(), Code::InvalidArgument);
    let violations = error.get_error_details().bad_request().expect("details").field_violations.clone();
    assert_eq!(violations[0].field, "outcomes[1].prediction_id");

    for _ in 0..2 {
        let accepted = stage.client.report_outcomes(request.clone()).await.expect("taken").into_inner().accepted;
        assert_eq!(accepted, 2);
    }
    stage.captured(0, 2).await;
    // A third, of other outcomes, is captured after any repetition would have been.
    let other = ReportOutcomesRequest { outcomes: good[..1].to_vec(), idempotency_key: String::new(), ..request };
    stage.client.report_outcomes(other).await.expect("taken");
    stage.captured(0, 3).await;

    let stale =
        SetWatchRequest { watch: Some(Watch { model: MODEL.into(), ..Watch::default() }), expected_revision: 7 };
    assert_eq!(stage.client.set_watch(stale.clone()).await.expect_err("stale").code(), Code::Aborted);
    let mut wrong = stale;
    wrong.watch = Some(Watch { model: MODEL.into(), drift_margin: -1.0, ..Watch::default() });
    let error = stage.client.set_watch(wrong).await.expect_err("out of bounds");
    assert!(error.message().starts_with("watch.drift_margin"), "{error}");
    let unknown = ExportLabelledRequest { model: "Nope!".into(), ..ExportLabelledRequest::default() };
    assert_eq!(stage.client.export_labelled(unknown).await.expect_err("no name").code(), Code::InvalidArgument);
    assert!(stage.reports().await.is_empty());
    assert_eq!(stage.status().await.predictions, 0);
}
