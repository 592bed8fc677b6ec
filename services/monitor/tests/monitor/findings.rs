//! Findings beyond single columns and all rows: slices, dependence between features, volume, and load.

use std::time::Duration;

use rekindle_domain::{
    WatchSettings,
    alert::{AlertKind, AlertState},
    report::{SliceQuality, Verdict, WindowReport},
};
use rekindle_testkit::eventually;
use serde_json::Value;

use crate::{
    alerts::closing,
    rows::{DAY, Distribution, Replica, Row, START, labels, rows},
    world::{MODEL, World, bundle, model, timestamp},
};

const ROWS: usize = 2000;
/// The start of a window of two days.
const EVEN: i64 = START - DAY;

/// A day of rows, of which some have the other outcome.
fn day(day: i64, is_wrong: impl Fn(usize, &Row) -> bool) -> Vec<Row> {
    let from = START + day * DAY;
    let mut rows = rows(u64::try_from(day).expect("from 0"), ROWS, from, from + DAY, Distribution::Reference);
    for (index, row) in rows.iter_mut().enumerate() {
        let is_wrong = is_wrong(index, row);
        row.late ^= is_wrong;
    }
    rows
}

impl World {
    /// Logs days of rows with their outcomes, and what closes the last.
    async fn days(&self, replica: &mut Replica, days: &[Vec<Row>], closing: &[Row]) {
        for rows in days {
            self.predictions(&replica.log(rows, 0)).await;
            self.outcomes(&format!("outcomes/{}", rows[0].id), labels(rows)).await;
        }
        self.predictions(&replica.log(closing, 0)).await;
    }
}

fn slice<'a>(report: &'a WindowReport, name: &str) -> &'a SliceQuality {
    let quality = report.quality.as_ref().expect("measured");
    let found = quality.slices.iter().find(|slice| slice.slice == name);
    found.unwrap_or_else(|| panic!("{name} is not among {:?}", quality.slices))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_degrades_alone_is_an_alert_until_it_recovers() {
    let world = World::on_sqlite().await;
    let declared = ["carrier", "distance > 120", "distance > 1000000", "weight > 1"];
    let settings = WatchSettings {
        slices: declared.map(|text| text.parse().expect(text)).into(),
        degradation_margin: 0.3,
        ..WatchSettings::default()
    };
    world.set_watch(&model(), settings).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let bad = day(1, |index, row| row.carrier == "BB" && index % 10 < 4);
    world.days(&mut replica, &[day(0, |_, _| false), bad], &closing(2)).await;
    let reports = world.reported(2, 2).await;
    let (bad, good) = (&reports[0], &reports[1]);
    assert_eq!(bad.quality.as_ref().map(|quality| quality.verdict), Some(Verdict::Stable), "{bad:?}");
    let of_carrier = slice(bad, "carrier = 'BB'");
    assert_eq!((of_carrier.verdict, of_carrier.found), (Verdict::Drifted, false), "{of_carrier:?}");
    assert!(of_carrier.loss > 1.4 * of_carrier.reference_loss && of_carrier.reference_rows > 200, "{of_carrier:?}");
    assert!((500..800).contains(&of_carrier.labelled_rows) && of_carrier.metrics.contains_key("auc"), "{of_carrier:?}");
    for (report, name) in [(good, "carrier = 'BB'"), (bad, "carrier = 'AA'"), (bad, "carrier = 'CC'")] {
        assert_eq!(slice(report, name).verdict, Verdict::Stable, "{name}");
    }
    let nobody = slice(bad, "distance > 1000000");
    assert_eq!(
        (nobody.verdict, nobody.reason.as_str()),
        (Verdict::Inconclusive, "too few labelled rows: 0, min_rows is 200")
    );
    assert_eq!(slice(bad, "weight > 1").reason, "weight is no feature");
    assert_eq!(bad.quality.as_ref().map(|quality| quality.slices.len()), Some(6), "the found one is declared");

    let alert = world.alert(AlertKind::SliceDegradation, AlertState::Open).await;
    assert!(
        alert.message.summary.contains("in a slice of the rows") && alert.message.summary.ends_with("carrier = 'BB'."),
        "{alert:?}"
    );
    assert!(alert.message.causes[0].starts_with("Slice carrier = 'BB': the mean loss of "), "{alert:?}");
    assert!(alert.message.response.starts_with("No retraining starts"), "{alert:?}");
    world.days(&mut replica, &[day(2, |_, _| false), day(3, |_, _| false)], &closing(4)).await;
    let resolved = world.alert(AlertKind::SliceDegradation, AlertState::Resolved).await;
    assert_eq!((resolved.id, resolved.windows), (alert.id, 1));
    assert!(world.all_alerts().await.iter().all(|alert| alert.kind != AlertKind::Degradation));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_degradation_names_the_slice_and_the_time_of_the_change() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let change = START + DAY + DAY / 5;
    let bad = day(1, |_, row| row.carrier == "BB" && row.time >= change);
    world.days(&mut replica, &[day(0, |_, _| false), bad], &closing(2)).await;
    let reports = world.reported(2, 2).await;
    let quality = reports[0].quality.as_ref().expect("measured");
    assert_eq!(quality.verdict, Verdict::Drifted, "{quality:?}");
    let found: Vec<&SliceQuality> = quality.slices.iter().collect();
    assert_eq!(
        found.iter().map(|slice| (slice.slice.as_str(), slice.found)).collect::<Vec<_>>(),
        [("carrier = 'BB'", true)]
    );
    assert_eq!((found[0].verdict, found[0].rise_lower_bound > 0.0), (Verdict::Drifted, true));
    let onset = quality.onset.expect("within the window");
    let off = (onset - timestamp(change)).num_milliseconds().abs();
    assert!(off < DAY / 8, "{onset}");
    let before = reports[1].quality.as_ref().expect("measured");
    assert_eq!((before.slices.len(), before.onset), (0, None), "{before:?}");

    let alert = world.alert(AlertKind::Degradation, AlertState::Open).await;
    assert!(alert.message.causes.iter().any(|cause| cause.starts_with("Slice carrier = 'BB':")), "{alert:?}");
    assert!(alert.message.causes.iter().any(|cause| cause.starts_with("The loss rose at about ")), "{alert:?}");
    let data = eventually("the event", async || {
        let events = world.events(0).await;
        let event = events.iter().find(|event| event.subject.contains(".degradation."));
        event
            .map(|event| serde_json::from_slice::<Value>(&event.payload).expect("json"))
            .ok_or_else(|| "none yet".to_owned())
    })
    .await;
    let data = data.get("data").unwrap_or(&data);
    assert_eq!(data["slices"][0]["slice"], "carrier = 'BB'", "{data}");
    assert!(data["onset"].is_string(), "{data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn far_fewer_rows_than_usual_are_an_alert() {
    let world = World::on_sqlite().await;
    let window = Duration::from_secs(2 * 86_400);
    let settings = WatchSettings { window, min_rows: 50, ..WatchSettings::default() };
    world.set_watch(&model(), settings).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let counts = [300, 310, 290, 305, 300, 295, 300, 310, 300, 60, 10];
    for (number, count) in (0..).zip(counts) {
        let from = EVEN + 2 * DAY * number;
        let rows = rows(number.unsigned_abs(), count, from, from + 2 * DAY, Distribution::Reference);
        world.predictions(&replica.log(&rows, 0)).await;
    }
    let reports = world.windows(10).await;
    let volumes: Vec<Option<bool>> =
        reports.iter().map(|report| report.drift.volume.map(|volume| volume.is_unusual())).collect();
    assert_eq!(volumes[..2], [Some(true), Some(false)]);
    assert!(volumes[2..].iter().all(Option::is_none), "eight windows come first: {volumes:?}");
    let alert = world.alert(AlertKind::VolumeAnomaly, AlertState::Open).await;
    assert!(alert.message.summary.starts_with("flights answered far fewer rows than usual"), "{alert:?}");
    assert!(alert.message.causes[0].starts_with("1.25 rows per hour; 9 earlier windows suggest "), "{alert:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accuracy_that_falls_as_the_load_rises_is_reported_as_that() {
    let world = World::on_sqlite().await;
    let window = Duration::from_secs(2 * 86_400);
    world.set_watch(&model(), WatchSettings { window, lateness: Duration::ZERO, ..WatchSettings::default() }).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    // Rows of a window, and how many of a hundred are wrong.
    let loads = [(200, 2), (1000, 10), (600, 5), (1200, 15)];
    let mut windows = Vec::new();
    for number in 0..12 {
        let (count, wrong) = loads[usize::try_from(number * 3 % 4).expect("small")];
        let from = EVEN + 2 * DAY * number;
        let mut rows = rows(number.unsigned_abs(), count, from, from + 2 * DAY, Distribution::Reference);
        for (index, row) in rows.iter_mut().enumerate() {
            row.late = (row.distance > 100.0) ^ (index % 100 < wrong);
        }
        windows.push(rows);
    }
    let from = EVEN + 24 * DAY;
    let closing = rows(99, 20, from, from + DAY, Distribution::Reference);
    world.days(&mut replica, &windows, &closing).await;
    let reports = world.reported(12, 12).await;
    let load = reports[0].quality.as_ref().and_then(|quality| quality.load.clone()).expect("an association");
    assert_eq!((load.metric.as_str(), load.windows), ("accuracy", 12));
    assert!(load.correlation < -0.9 && load.p_value < 0.001, "{load:?}");
    assert!(
        load.means[0] > 0.95 && load.means[1] < 0.9 && load.rows_per_hour[1] > 3.0 * load.rows_per_hour[0],
        "{load:?}"
    );
    let early = reports.last().and_then(|report| report.quality.clone()).expect("measured");
    assert_eq!(early.load, None, "one window says nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_correlations_are_an_alert_and_no_drift() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    // Each carrier has as many rows as before, and now its own distances.
    let mut joined = day(1, |_, _| false);
    for row in &mut joined {
        row.carrier = if row.distance < 88.0 {
            "AA"
        } else if row.distance < 112.0 {
            "BB"
        } else {
            "CC"
        };
    }
    world.predictions(&replica.log(&day(0, |_, _| false), 0)).await;
    world.predictions(&replica.log(&joined, 0)).await;
    world.predictions(&replica.log(&closing(2), 0)).await;
    let reports = world.reported(2, 1).await;
    let pairs =
        |report: &WindowReport| report.drift.dependence.as_ref().map(|found| (found.pairs, found.changed.len()));
    assert_eq!((pairs(&reports[1]), pairs(&reports[0])), (Some((1, 0)), Some((1, 1))), "{:?}", reports[0].drift);
    assert!(reports.iter().all(|report| report.drift.verdict != Verdict::Drifted), "{reports:?}");
    let alert = world.alert(AlertKind::DependenceChange, AlertState::Open).await;
    assert!(
        alert.message.summary.contains("changed from the reference data") && alert.message.causes.len() == 1,
        "{alert:?}"
    );
    assert_eq!(world.all_alerts().await, [alert]);
}
