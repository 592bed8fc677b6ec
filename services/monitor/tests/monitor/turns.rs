//! Models take turns: the backlog of one delays neither the others nor shutdown.

use std::time::Duration;

use rekindle_domain::{ModelName, WatchSettings};
use rekindle_store::Leases;
use rekindle_testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::{
    rows::{Distribution, Replica, START, rows},
    world::{World, bundle, captured, count, reported},
};

const MINUTE: i64 = 60_000;
/// Due windows of the model with the backlog.
const BACKLOG: u32 = 400;

/// Captures rows for `windows` windows of a minute, and for one more, which closes the last of them.
async fn capture_minutes(world: &World, model: &ModelName, windows: u32, rows_per_window: u32) {
    let settings = WatchSettings {
        window: Duration::from_secs(60),
        lateness: Duration::ZERO,
        label_wait: Duration::from_secs(30 * 86_400),
        ..WatchSettings::default()
    };
    world.set_watch(model, settings).await;
    let until = START + (i64::from(windows) + 1) * MINUTE;
    let count = (windows + 1) * rows_per_window;
    let rows = rows(1, count as usize, START, until, Distribution::Reference);
    for (id, bytes) in Replica::new(bundle(), model.as_str(), 1).log(&rows, 0) {
        world.publish_to(&format!("rekindle.predictions.{model}"), &id, bytes).await;
    }
    captured(&world.client, model, count.into(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_model_delays_neither_another_model_nor_shutdown() {
    let mut world = World::on_sqlite_with(&[("lease", "10s")]).await;
    let [backlog, single] = ["backlog", "single"].map(|name| name.parse::<ModelName>().expect("a valid name"));
    let names = [&backlog, &single].map(|model| format!("evaluate/{model}"));
    // Until everything is captured, evaluation is left to an instance that does nothing.
    let database = world.database().await;
    let (blocker, stop) =
        (Leases::new(database.clone(), "blocker".to_owned(), Duration::from_secs(60)), CancellationToken::new());
    names.iter().for_each(|name| blocker.claim(name));
    let blocking = tokio::spawn(blocker.clone().run(stop.clone()));
    eventually("the blocker to hold the leases", async || {
        if names.iter().all(|name| blocker.is_held(name)) { Ok(()) } else { Err("not held".to_owned()) }
    })
    .await;
    capture_minutes(&world, &backlog, BACKLOG, 1).await;
    capture_minutes(&world, &single, 1, 20).await;
    assert_eq!(count(&database, "reports").await, 0);
    stop.cancel();
    blocking.await.expect("no panic").expect("infallible");

    let single = reported(&world.client, &single, 1, 0).await[0].window.closed_at;
    world.shut_down().await;
    let closed = count(&database, "reports").await;
    assert!(closed < i64::from(BACKLOG), "shutdown waited for {closed} windows");

    world.restart().await;
    let backlog = reported(&world.client, &backlog, BACKLOG as usize, 0).await;
    let before = backlog.iter().filter(|report| report.window.closed_at < single).count();
    assert!(before <= 2, "{before} windows of another model were closed first");
    let mut windows: Vec<i64> = backlog.iter().map(|report| report.window.from.timestamp_millis()).collect();
    windows.sort_unstable();
    let expected: Vec<i64> = (0..i64::from(BACKLOG)).map(|minute| START + minute * MINUTE).collect();
    assert_eq!(windows, expected, "each window is reported once");
}
