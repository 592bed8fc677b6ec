//! The speed and the memory of the monitor: capture, the report of a window, a page of predictions, and an export.
//!
//! One monitor with its default settings, SQLite, a folder of objects and a nats-server, all on this machine, is given a log of ROWS rows
//! (default 1,000,000) of three features over ten days, in messages of 250 rows that are prepared before, and an outcome of each row. Memory
//! is the resident set of this process beyond what it was before each step, the prepared messages not counted.
//!
//! ```text
//! cargo run --release -p rekindle-monitor --example bench_monitor [-- ROWS]
//! ```

mod bench;
#[path = "../tests/monitor/rows.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod rows;
#[path = "../tests/monitor/world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

use std::time::{Duration, Instant};

use rekindle_client::PageRequest;
use rekindle_domain::{WatchSettings, prediction_log::ExportRequest};

use bench::{Peak, print, publish};
use rows::{DAY, Distribution, Message, Replica, START, labels, rows};
use world::{MODEL, World, bundle, captured, model};

const DAYS: i64 = 10;
/// Calls whose median is printed.
const CALLS: usize = 21;

#[tokio::main]
async fn main() {
    let count: usize = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().expect("a number of rows"));
    // Before the world sets up its own, which prints more.
    tracing_subscriber::fmt().with_env_filter("error").init();
    let world = World::on_sqlite_with(&[("flush_after", "1s"), ("flush_rows", "20000")]).await;
    world.set_watch(&model(), WatchSettings::default()).await;
    let log = rows(1, count, START, START + DAYS * DAY, Distribution::Reference);
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let mut predictions = replica.log(&log, 0);
    // Many publications at once arrive in no order; the newest rows are to be the last.
    let last = predictions.pop();
    let outcomes: Vec<Message> = (0..)
        .zip(log.chunks(2_000))
        .map(|(part, rows): (usize, _)| (format!("outcomes/{part}"), labels(rows).into()))
        .collect();
    let newest: Vec<_> = log.iter().rev().take(50).map(rows::Row::prediction).collect();
    drop(log);

    let (peak, started) = (Peak::start(), Instant::now());
    publish(&world, "predictions", predictions).await;
    publish(&world, "predictions", last).await;
    let published = started.elapsed();
    let rows = count as u64;
    captured(&world.client, &model(), rows, 0).await;
    let seconds = started.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    let figures =
        format!("{rate:.0} rows/s ({:.1} s, of which published in {:.1} s)", seconds, published.as_secs_f64());
    print(&format!("capture of {count} rows in messages of 250"), &figures);
    print("its memory at the peak", &format!("{:.0} MB", peak.megabytes()));

    let started = Instant::now();
    publish(&world, "outcomes", outcomes).await;
    captured(&world.client, &model(), rows, rows).await;
    print(
        &format!("capture of {count} outcomes"),
        &format!("{:.0} rows/s", count as f64 / started.elapsed().as_secs_f64()),
    );

    let mut taken = Vec::new();
    for _ in 0..CALLS {
        let started = Instant::now();
        let page = world.client.predictions(&model(), PageRequest::first(50)).await.expect("a page");
        taken.push(started.elapsed());
        let listed: Vec<_> = page.items.iter().map(|row| row.prediction).collect();
        assert_eq!(listed, newest, "the newest rows");
        assert!(page.items.iter().all(|row| row.label.is_some()), "with their outcomes");
    }
    print("ListPredictions of the newest 50, with outcomes, median", &format!("{:.1} ms", median(&mut taken)));
    let mut taken = Vec::new();
    for id in newest.iter().cycle().take(CALLS) {
        let started = Instant::now();
        world.client.prediction(*id, 0).await.expect("logged");
        taken.push(started.elapsed());
    }
    print("GetPrediction, median", &format!("{:.1} ms", median(&mut taken)));

    let (peak, started) = (Peak::start(), Instant::now());
    let request = ExportRequest {
        model: model(),
        from: None,
        until: None,
        target: "late".into(),
        time_column: "at".into(),
        holdout_share: 0.25,
    };
    let exported = world.client.export_labelled(&request).await.expect("exported");
    assert_eq!(exported.rows, rows);
    let figures = format!("{:.1} s, {:.0} MB at the peak", started.elapsed().as_secs_f64(), peak.megabytes());
    print(&format!("export of {count} labelled rows"), &figures);
}

fn median(taken: &mut [Duration]) -> f64 {
    taken.sort_unstable();
    taken[taken.len() / 2].as_secs_f64() * 1e3
}
