//! Outcomes in random order at scale: the exactness of the join, the time of one window's queries, and the memory.
//!
//! One monitor with its default settings but for the wait of revisions, SQLite, a folder of objects and a nats-server, all on this machine, is
//! given the predictions of ROWS rows (default 10,000,000) of three features over thirty days, in requests of one row, and then an outcome of
//! each in random order over the whole month. The outcome of each row follows from its number: those of one exported window are compared one by one.
//! Memory is the resident set of this process beyond what it was before the first message, the messages in flight counted.
//!
//! ```text
//! cargo run --release -p rekindle-monitor --example bench_outcomes [-- ROWS]
//! ```

mod bench;
#[path = "../tests/monitor/rows.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod rows;
#[path = "../tests/monitor/world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

use std::{fmt::Write as _, time::Instant};

use rekindle_bundle::column::Cells;
use rekindle_client::PageRequest;
use rekindle_domain::{Digest, WatchSettings, prediction_log::ExportRequest, report::WindowReport};
use uuid::Uuid;

use bench::{Peak, print, publish};
use rows::{DAY, Replica, Row, START};
use world::{MODEL, World, bundle, captured, model, reported, timestamp};

const DAYS: u64 = 30;
/// Outcomes of a message.
const LINES: u64 = 2_000;
/// Rows that are prepared at once.
const PREPARED: u64 = 10_000;
/// Rows with this remainder by 100 have the other label.
const WRONG: u64 = 7;

/// A row: a pure function of its number, as is its outcome.
fn row(number: u64, rows: u64) -> Row {
    let time =
        START + i64::try_from(u128::from(number) * 86_400_000 * u128::from(DAYS) / u128::from(rows)).expect("a month");
    let distance = (number * 7_919 % 2_000) as f64 / 10.0;
    // As replicas make them: the time, and random bits.
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2;
    let id = Uuid::from_u128((u128::from(time.unsigned_abs()) << 80) | (0x7 << 76) | (0b10 << 62) | u128::from(random));
    Row {
        id,
        row: 0,
        time,
        ahead: 0,
        distance,
        carrier: ["AA", "BB", "CC"][usize::try_from(number % 3).expect("small")],
        late: (distance > 100.0) ^ (number % 100 == WRONG),
        request_id: None,
        entity_key: None,
    }
}

/// A number coprime to the number of rows: its multiples visit every row once, in no order.
fn stride(rows: u64) -> u64 {
    let divides = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a > 1
    };
    (rows / 3 * 2 + 1..).find(|candidate| !divides(*candidate, rows)).expect("a prime is among them")
}

/// Waits until no more than `behind` rows are on the way, so that memory is that of the monitor and not of the bus.
async fn keep_up(
    world: &World,
    of: impl Fn(&rekindle_domain::prediction_log::CaptureStatus) -> u64,
    published: u64,
    behind: u64,
) {
    while published.saturating_sub(of(&world.status().await)) > behind {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Every row of every window has an outcome.
fn assert_complete(reports: &[WindowReport]) {
    for report in reports {
        let labelled = report.quality.as_ref().map(|quality| quality.labelled_rows);
        assert_eq!(labelled, Some(report.window.rows), "{}", report.window.from);
    }
}

/// Every exported row has its own outcome. The number of a row follows from its time.
async fn assert_exact(world: &World, blob: &Digest, rows: u64) {
    let bytes = world.artifacts.get(blob).await.expect("exported");
    let batch = rekindle_dataset::read_parquet(bytes).expect("a dataset").batch;
    let column = |name: &str| Cells::of(batch.column_by_name(name).expect(name).as_ref()).expect("a canonical type");
    let (times, labels) = (column("at"), column("late"));
    for index in 0..batch.num_rows() {
        let since = u128::from((times.timestamp(index).expect("a time") - START).unsigned_abs());
        let number = (since * u128::from(rows)).div_ceil(86_400_000 * u128::from(DAYS));
        let row = row(u64::try_from(number).expect("small"), rows);
        assert_eq!(times.timestamp(index), Some(row.time), "times are unique");
        assert_eq!(labels.class(index).as_deref(), Some(if row.late { "1" } else { "0" }), "row {number}");
    }
}

#[tokio::main]
async fn main() {
    let rows: u64 = std::env::args().nth(1).map_or(10_000_000, |text| text.parse().expect("a number of rows"));
    tracing_subscriber::fmt().with_env_filter("error").init();
    let world = World::on_sqlite_with(&[("flush_after", "1s"), ("flush_rows", "20000"), ("revise_after", "5s")]).await;
    world.set_watch(&model(), WatchSettings::default()).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);

    let (peak, started) = (Peak::start(), Instant::now());
    for first in (0..rows).step_by(usize::try_from(PREPARED).expect("small")) {
        let prepared: Vec<Row> = (first..rows.min(first + PREPARED)).map(|number| row(number, rows)).collect();
        publish(&world, "predictions", replica.log(&prepared, 0)).await;
        keep_up(&world, |status| status.predictions, first, 20 * PREPARED).await;
    }
    captured(&world.client, &model(), rows, 0).await;
    let seconds = started.elapsed().as_secs_f64();
    let peak = || format!("{:.0} MB at the peak", peak.megabytes());
    print(&format!("{rows} predictions made, published and captured"), &format!("{seconds:.0} s, {}", peak()));

    let (stride, started) = (stride(rows), Instant::now());
    for first in (0..rows).step_by(usize::try_from(PREPARED).expect("small")) {
        let messages =
            (first..rows.min(first + PREPARED)).step_by(usize::try_from(LINES).expect("small")).map(|first| {
                let mut lines = String::new();
                for number in first..rows.min(first + LINES) {
                    let number = u128::from(number) * u128::from(stride) % u128::from(rows);
                    let row = row(u64::try_from(number).expect("below the rows"), rows);
                    writeln!(lines, "{{\"prediction_id\":\"{}\",\"label\":\"{}\"}}", row.id, u8::from(row.late))
                        .expect("a text");
                }
                (format!("outcomes/{first}"), lines.into())
            });
        publish(&world, "outcomes", messages).await;
        keep_up(&world, |status| status.outcomes, first, 20 * PREPARED).await;
    }
    captured(&world.client, &model(), rows, rows).await;
    let seconds = started.elapsed().as_secs_f64();
    print(&format!("{rows} outcomes in random order published and captured"), &format!("{seconds:.0} s, {}", peak()));

    // The last window is open.
    let windows = usize::try_from(DAYS - 1).expect("small");
    let closed = rows / DAYS * (DAYS - 1);
    let reports = loop {
        let reports = reported(&world.client, &model(), windows, windows).await;
        let labelled: u64 =
            reports.iter().filter_map(|report| report.quality.as_ref()).map(|quality| quality.labelled_rows).sum();
        if labelled >= closed {
            break reports;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert_complete(&reports);
    print(
        &format!("until the {windows} closed windows are measured with all outcomes"),
        &format!("{:.0} s, {}", started.elapsed().as_secs_f64(), peak()),
    );
    loop {
        let counts = world.status().await.outcome_counts;
        if counts.matched == rows {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    print("until every outcome is matched to its prediction", &format!("{seconds:.0} s, {}", peak()));

    let (started, day) = (Instant::now(), 10);
    let request = ExportRequest {
        model: model(),
        from: Some(timestamp(START + day * DAY)),
        until: Some(timestamp(START + (day + 1) * DAY)),
        target: "late".into(),
        time_column: "at".into(),
        holdout_share: 0.0,
    };
    let exported = world.client.export_labelled(&request).await.expect("exported");
    assert!(exported.rows.abs_diff(rows / DAYS) <= 1, "{}", exported.rows);
    print(
        &format!("export of one window, {} labelled rows", exported.rows),
        &format!("{:.2} s", started.elapsed().as_secs_f64()),
    );
    assert_exact(&world, &exported.blob.expect("rows"), rows).await;
    let mut taken = Vec::new();
    for number in (0..21).map(|n| n * (rows / 21) + 5) {
        let (started, row) = (Instant::now(), row(number, rows));
        let logged = world.client.prediction(row.prediction(), 0).await.expect("logged");
        taken.push(started.elapsed());
        assert_eq!(logged.label, Some(row.label()), "its outcome");
    }
    taken.sort_unstable();
    print("GetPrediction with its outcome, median", &format!("{:.0} ms", taken[10].as_secs_f64() * 1e3));
    let started = Instant::now();
    world.client.predictions(&model(), PageRequest::first(50)).await.expect("a page");
    print(
        "ListPredictions of the newest 50, with outcomes",
        &format!("{:.0} ms", started.elapsed().as_secs_f64() * 1e3),
    );
}
