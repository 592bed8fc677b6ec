//! The filled database of release 0.1.0 is migrated and read, on SQLite and on PostgreSQL: settings in milliseconds, reports with every
//! verdict, counters, and the prediction log with its outcomes, which is exported, too. Then settings are changed, and capture continues.

mod restored;

use std::{collections::BTreeMap, time::Duration};

use rekindle_bus::streams;
use rekindle_client::PageRequest;
use rekindle_domain::{
    PredictionId, Watch, WatchSettings,
    outcome::{Label, Outcome},
    prediction_log::{CaptureStatus, ExportRequest, LoggedPrediction, OutcomeCounts, Value},
    report::{ColumnDrift, Drift, PREDICTION, Quality, Verdict, WindowHeader, WindowReport},
};
use rekindle_testkit::{Fixture, eventually};
use tonic::Code;

use self::restored::{Restored, micros, model, time, version};

macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story(super::Restored::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story(super::Restored::on_postgres().await).await;
            })*
        }
    };
}

on_both!(
    settings_in_milliseconds_read_back,
    settings_are_set_over_their_recorded_revision,
    reports_with_each_verdict_read_back,
    a_drifted_report_reads_back_with_its_causes_and_its_quality,
    counters_read_back,
    logged_rows_read_back_with_their_labels,
    labelled_rows_are_exported,
    outcomes_of_recorded_predictions_are_captured,
    a_recorded_message_is_not_captured_again,
);

const LINEAR: &str = "sha256:c284b79ab6af260054adf12ec700c012dead89a8656876a00da7e14e1aad980d";
const CHAMPION: &str = "sha256:9c0b617d1d9574e890a408cb3da138cb471ebbee633c7dca347dace6c7b7da94";
const REGRESSION: &str = "sha256:fd9e6a38509860e5e474e7a6aaa897554995b791eff0606b775a62352436dfd1";
/// A request of three rows, of which the last two have outcomes.
const THREE_ROWS: &str = "01a21ff8-3951-7284-9c2d-d5866afc4105";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The settings of `late`.
fn settings() -> WatchSettings {
    WatchSettings {
        window: DAY,
        window_offset: Duration::ZERO,
        lateness: Duration::from_secs(60),
        label_wait: Duration::from_secs(6 * 3600),
        min_rows: 40,
        drift_margin: 0.5,
        degradation_margin: 0.3,
        false_alarm_rate: 0.1,
        ..WatchSettings::default()
    }
}

async fn settings_in_milliseconds_read_back(restored: Restored) {
    let late = Watch { model: model("late"), settings: settings(), revision: 2 };
    assert_eq!(restored.client.watch(&late.model).await.expect("recorded"), late);
    let weekly = WatchSettings { window: 7 * DAY, ..WatchSettings::default() };
    let arrival = Watch { model: model("arrival"), settings: weekly, revision: 1 };
    assert_eq!(restored.client.watch(&arrival.model).await.expect("recorded"), arrival);
}

async fn settings_are_set_over_their_recorded_revision(restored: Restored) {
    let (late, next) = (model("late"), WatchSettings { lateness: Duration::from_millis(1500), ..settings() });
    let stale = restored.client.set_watch(&late, &next, 1).await.expect_err("revision 2 is recorded");
    assert_eq!((stale.code(), stale.metadata("actual")), (Code::Aborted, "2".to_owned()));
    let set = restored.client.set_watch(&late, &next, 2).await.expect("set");
    assert_eq!(set, Watch { model: late.clone(), settings: next, revision: 3 });
    assert_eq!(restored.client.watch(&late).await.expect("set"), set);
}

async fn reports_with_each_verdict_read_back(restored: Restored) {
    use Verdict::{Drifted, Inconclusive, Stable};
    let reports = restored.client.reports(&model("late"), PageRequest::default()).await.expect("a list").items;
    let read: Vec<_> =
        reports.iter().map(|report| (report.window.version, report.window.rows, verdicts(report))).collect();
    let (linear, champion) = (version(1, LINEAR), version(3, CHAMPION));
    let expected = [
        (champion, 60, (Drifted, None)),
        (champion, 150, (Drifted, Some(Stable))),
        (linear, 150, (Drifted, Some(Drifted))),
        // Written as UNKNOWN.
        (linear, 5, (Inconclusive, Some(Inconclusive))),
        (linear, 150, (Stable, Some(Stable))),
    ];
    assert_eq!(read, expected);
    let inconclusive = &reports[3];
    assert_eq!(inconclusive.reason, "the window has 5 rows, the watch asks for 40");
    assert!(inconclusive.drift.columns().all(|column| column.verdict == Inconclusive), "{inconclusive:?}");
    assert_eq!((reports[0].quality_at, reports[4].correlation_id), (None, None));

    let reports = restored.client.reports(&model("arrival"), PageRequest::default()).await.expect("a list").items;
    let read: Vec<_> = reports.iter().map(|report| (report.window.rows, verdicts(report))).collect();
    assert_eq!(read, [(3, (Inconclusive, Some(Inconclusive))), (4, (Inconclusive, Some(Inconclusive)))]);
    let quality = reports[0].quality.as_ref().expect("recorded");
    assert_eq!((quality.labelled_rows, quality.metrics["mae"]), (2, 8.130_637_168_884_277));
}

fn verdicts(report: &WindowReport) -> (Verdict, Option<Verdict>) {
    (report.drift.verdict, report.quality.as_ref().map(|quality| quality.verdict))
}

async fn a_drifted_report_reads_back_with_its_causes_and_its_quality(restored: Restored) {
    let reports = restored.client.reports(&model("late"), PageRequest::default()).await.expect("a list").items;
    let report = reports.into_iter().nth(2).expect("five");
    let window = WindowHeader { closed_at: micros(report.window.closed_at), ..report.window.clone() };
    assert_eq!(window, drifted().window);
    let quality_at = report.quality_at.map(micros);
    assert_eq!(WindowReport { window, quality_at, ..report.clone() }, drifted());
    let causes: Vec<&str> = report.drift.causes().iter().map(|cause| cause.name.as_str()).collect();
    assert_eq!(causes, ["dep_delay", PREDICTION, "origin"]);
}

fn drifted() -> WindowReport {
    WindowReport {
        window: WindowHeader {
            report: "01a21ff8-2ffe-713c-a6b2-27410ad98df1".parse().expect("an id"),
            model: model("late"),
            version: version(1, LINEAR),
            slice: String::new(),
            from: time("2026-01-17T00:00:00Z"),
            until: time("2026-01-18T00:00:00Z"),
            rows: 150,
            closed_at: time("2026-11-28T02:24:48.638400Z"),
        },
        drift: drift(),
        estimate: None,
        quality: Some(quality()),
        quality_at: Some(time("2026-11-28T02:24:48.648841Z")),
        correlation_id: Some("01a21ff8-2ffe-713c-a6b2-27404d673c0a".parse().expect("an id")),
        reason: String::new(),
        revision: 1,
        changes: String::new(),
    }
}

fn drift() -> Drift {
    let origin = ColumnDrift {
        name: "origin".to_owned(),
        verdict: Verdict::Drifted,
        reason: "\"LGA\": 20.0 % of the rows before, 61.3 % now".to_owned(),
        psi: 0.832_545_028_326_342_9,
        p_value: 8.907_629_743_757_227e-18,
        minimum_detectable_psi: 0.227_968_75,
        cause_share: 0.110_096_083_974_428_67,
        missing_reference: 0.0,
        missing_current: 0.0,
        cause: None,
        blocks: None,
        impact: None,
        since: None,
        onset: None,
        examples: Vec::new(),
    };
    let distance = ColumnDrift {
        name: "distance".to_owned(),
        verdict: Verdict::Stable,
        reason: "a difference of 0 is within the margin of 0.5".to_owned(),
        psi: 0.007_805_200_143_603_069,
        p_value: 1.0,
        minimum_detectable_psi: 0.264_843_75,
        cause_share: 0.0,
        ..origin.clone()
    };
    let dep_delay = ColumnDrift {
        name: "dep_delay".to_owned(),
        reason: "28.3 to 71.1: 9.3 % of the rows before, 77.3 % now; the mean went from 10.73 to 48.69".to_owned(),
        psi: 3.977_104_295_872_546_7,
        p_value: 2.720_505_826_158_354e-66,
        minimum_detectable_psi: 0.345_937_5,
        cause_share: 0.523_974_702_267_530_6,
        missing_reference: 0.003_333_333_333_333_333_5,
        missing_current: 0.066_666_666_666_666_67,
        ..origin.clone()
    };
    let prediction = ColumnDrift {
        name: PREDICTION.to_owned(),
        reason: "0.9057 to 0.9993: 10.0 % of the rows before, 75.3 % now; the mean went from 0.5579 to 0.9263"
            .to_owned(),
        psi: 2.800_677_014_338_888,
        p_value: 4.523_396_097_333_184e-47,
        minimum_detectable_psi: 0.336_25,
        cause_share: 0.365_929_213_758_040_66,
        ..origin.clone()
    };
    Drift::of(Verdict::Drifted, vec![origin, distance, dep_delay], Some(prediction))
}

fn quality() -> Quality {
    let numbers = |pairs: &[(&str, f64)]| pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    Quality {
        verdict: Verdict::Drifted,
        rows: 0,
        labelled_rows: 150,
        metrics: numbers(&[
            ("accuracy", 0.433_333_333_333_333_35),
            ("auc", 0.249_235_748_966_013_3),
            ("brier", 0.519_612_356_399_249_1),
            ("log_loss", 2.495_138_095_960_012),
        ]),
        reference_metrics: numbers(&[
            ("accuracy", 0.766_666_666_666_666_7),
            ("auc", 0.887_766_554_433_221_1),
            ("best_epoch", 12.0),
            ("brier", 0.149_082_462_164_140_28),
            ("log_loss", 0.460_257_487_435_045_7),
            ("train_loss", 0.448_107_985_655_466_7),
        ]),
        loss: 2.495_138_095_960_012,
        reference_loss: 0.460_257_487_435_045_7,
        rise_lower_bound: 1.461_880_984_942_376_4,
        ..Quality::inconclusive()
    }
}

async fn counters_read_back(restored: Restored) {
    let late = CaptureStatus {
        model: model("late"),
        predictions: 968,
        lost: 0,
        lost_messages: 0,
        unsampled: 0,
        tests: 0,
        outcomes: 905,
        outcome_counts: OutcomeCounts { pending: 155, ..OutcomeCounts::default() },
        watermark: Some(time("2026-01-23T00:19:00Z")),
        chunks: 5,
        open_windows: 1,
        deleted: None,
        late: 0,
        ahead: None,
    };
    assert_eq!(restored.client.capture_status(&late.model).await.expect("recorded"), late);
    let arrival = restored.client.capture_status(&model("arrival")).await.expect("recorded");
    assert_eq!((arrival.predictions, arrival.outcomes, arrival.chunks), (87, 86, 4));
}

fn three_rows() -> PredictionId {
    THREE_ROWS.parse().expect("an id")
}

async fn logged_rows_read_back_with_their_labels(restored: Restored) {
    let row = async |row| restored.client.prediction(three_rows(), row).await.expect("recorded");
    let first = LoggedPrediction {
        guardrails: None,
        prediction: three_rows(),
        row: 0,
        model: model("arrival"),
        version: version(1, REGRESSION),
        replica: "replica-1".to_owned(),
        event_time: Some(time("2026-01-02T06:00:00Z")),
        answered_at: Some(time("2026-11-28T02:24:51.025196Z")),
        inputs: BTreeMap::from([
            ("time".to_owned(), Value::Integer(1_767_333_600_000)),
            ("origin".to_owned(), Value::Text("EWR".to_owned())),
            ("distance".to_owned(), Value::Integer(200)),
            ("dep_delay".to_owned(), Value::Number(3.5)),
        ]),
        outputs: BTreeMap::from([("prediction".to_owned(), 2.642_652_8f32.to_le_bytes().to_vec())]),
        label: None,
        is_test: false,
        request_id: None,
        entity_key: None,
    };
    assert_eq!(row(0).await, first);
    let second = row(1).await;
    assert_eq!((second.label, second.inputs.get("dep_delay")), (Some(Label::Number(9.5)), None));
    assert_eq!(row(2).await.label, Some(Label::Number(33.0)));

    let page = restored.client.predictions(&model("late"), PageRequest::first(100)).await.expect("a page");
    let newest = &page.items[0];
    assert_eq!((newest.version, newest.event_time), (version(3, CHAMPION), Some(time("2026-01-23T00:20:00Z"))));
    assert_eq!(newest.inputs["dep_delay"], Value::Number(120.1));
    let next = PageRequest { size: 500, token: page.next_page_token };
    let rest = restored.client.predictions(&model("late"), next).await.expect("a page").items;
    assert_eq!((page.items.len(), rest.len()), (100, 100));
    let first = rest.last().expect("the first row that is kept");
    assert_eq!(first.prediction.to_string(), "01a21ff8-2bd1-71d0-af05-7dec0026268f");
    assert_eq!((first.version, &first.label), (version(1, LINEAR), &Some(Label::Class("1".to_owned()))));
}

async fn labelled_rows_are_exported(restored: Restored) {
    let request = ExportRequest {
        model: model("arrival"),
        from: None,
        until: None,
        target: "arr_delay".to_owned(),
        time_column: "time".to_owned(),
        holdout_share: 0.5,
    };
    let exported = restored.client.export_labelled(&request).await.expect("exported");
    assert_eq!(exported.rows, 6);
    assert_eq!(exported.time_range, Some((time("2026-01-01T00:00:00Z"), time("2026-01-02T06:00:00Z"))));
    assert_eq!(exported.holdout_from, Some(time("2026-01-01T01:40:48Z")));
    let request = ExportRequest { model: model("late"), target: "late".to_owned(), ..request };
    assert_eq!(restored.client.export_labelled(&request).await.expect("exported").rows, 137);
}

async fn outcomes_of_recorded_predictions_are_captured(restored: Restored) {
    restored.continue_capture();
    let outcome = Outcome::new(three_rows(), 0, Label::Number(4.25));
    let accepted = restored.client.report_outcomes(&model("arrival"), &[outcome], "upgrade").await;
    assert_eq!(accepted.expect("accepted").accepted, 1);
    eventually("the outcome to be captured", async || {
        let label = restored.client.prediction(three_rows(), 0).await.map_err(|error| error.to_string())?.label;
        if label == Some(Label::Number(4.25)) { Ok(()) } else { Err(format!("{label:?}")) }
    })
    .await;
    let status = restored.client.capture_status(&model("arrival")).await.expect("recorded");
    assert_eq!((status.outcomes, status.chunks), (87, 5));
    // Those that the first release captured are checked too: six in its files, and this one.
    eventually("the outcomes to be checked", async || {
        let status = restored.client.capture_status(&model("arrival")).await.map_err(|error| error.to_string())?;
        let counts = status.outcome_counts;
        if (counts.matched, counts.pending) == (7, 0) { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
}

async fn a_recorded_message_is_not_captured_again(restored: Restored) {
    let before = restored.client.capture_status(&model("arrival")).await.expect("recorded");
    let payload = Fixture::of("0.1.0").read("messages/predictions.bin").into();
    let id = "replica-1/01a21ff8-207d-70b6-b204-a77986009d67/1";
    let headers = async_nats::HeaderMap::new();
    restored.bus.publish("rekindle.predictions.arrival".to_owned(), id, headers, payload).await.expect("stored");
    restored.continue_capture();
    eventually("the message to be acknowledged", async || {
        let progress = restored.bus.progress(streams::PREDICTIONS, "monitor-predictions").await;
        let done = progress.map_err(|error| error.to_string())?.done;
        if done == 1 { Ok(()) } else { Err(done.to_string()) }
    })
    .await;
    let dead = restored.bus.jetstream().get_stream(streams::DEAD_LETTERS).await.expect("the stream");
    assert_eq!(dead.cached_info().state.messages, 0);
    let after = restored.client.capture_status(&model("arrival")).await.expect("recorded");
    // The first release did not check outcomes against the predictions.
    assert_eq!(CaptureStatus { outcome_counts: before.outcome_counts.clone(), ..after }, before);
}
