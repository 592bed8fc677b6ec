//! Test rows enter no window, and windows can be restarted.

use rekindle_domain::report::Quality;
use rekindle_testkit::eventually;

use crate::{
    rows::{DAY, Distribution, Replica, Row, START, labels, rows},
    world::{MODEL, World, bundle, model},
};

fn days(seed: u64, from: i64, count: i64) -> Vec<Row> {
    let count_of_rows = usize::try_from(count).expect("few") * 300;
    rows(seed, count_of_rows, from, from + count * DAY, Distribution::Reference)
}

#[tokio::test(flavor = "multi_thread")]
async fn test_rows_are_logged_and_enter_no_window() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let mut tests = Replica { is_test: true, ..Replica::new(bundle(), MODEL, 1) };
    // Enough of them to move the watermark by years, if they counted.
    let tried = days(1, START + 1000 * DAY, 1);
    world.predictions(&tests.log(&tried, 0)).await;
    eventually("the test rows to be captured", async || {
        let tests = world.status().await.tests;
        if tests == 300 { Ok(()) } else { Err(format!("{tests}")) }
    })
    .await;
    let monitored = days(2, START, 3);
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&monitored, 0)).await;
    world.outcomes("tests", labels(&tried)).await;
    world.outcomes("rows", labels(&monitored)).await;
    let reports = world.reported(2, 2).await;
    assert!(reports.iter().all(|report| report.window.rows == 300), "{reports:?}");
    let labelled = |quality: &Quality| quality.labelled_rows;
    assert!(reports.iter().filter_map(|report| report.quality.as_ref()).map(labelled).all(|rows| rows == 300));
    let status = world.captured(900, 1200).await;
    assert_eq!((status.tests, status.late, status.ahead), (300, 0, None));
    let found = world.client.prediction(tried[0].prediction(), 0).await.expect("logged");
    assert!(found.is_test && found.label == Some(tried[0].label()));
    assert!(!world.client.prediction(monitored[0].prediction(), 0).await.expect("logged").is_test);
}

async fn windows_are_restarted(mut world: World) {
    world.watch().await;
    // Rows with wrong times, of too many requests to be outvoted: every row of the present is late.
    let wrong = days(1, START + 1000 * DAY, 3);
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&wrong, 0)).await;
    // The label wait of the first is over.
    world.reported(2, 1).await;
    let first = days(2, START, 3);
    world.predictions(&replica.log(&first, 0)).await;
    let stuck = world.captured(1800, 0).await;
    assert_eq!(stuck.late, 900);

    let reset = world.client.reset_watch(&model()).await.expect("reset");
    assert_eq!((reset.watermark, reset.open_windows, reset.predictions), (None, 0, 1800));
    // What came before enters no window; the same span again does, after a restart too.
    world.kill_and_restart().await;
    let again = days(3, START, 3);
    world.predictions(&replica.log(&again, 0)).await;
    world.outcomes("again", labels(&again)).await;
    let reports = world.reported(4, 3).await;
    let labelled =
        reports.iter().filter(|report| report.quality.as_ref().is_some_and(|quality| quality.labelled_rows == 300));
    assert_eq!(labelled.filter(|report| report.window.rows == 300).count(), 2, "{reports:?}");
    assert_eq!(world.captured(2700, 900).await.late, 900);

    // A window that was reported before the reset is reported again after it.
    world.client.reset_watch(&model()).await.expect("reset");
    world.predictions(&replica.log(&days(4, START, 3), 0)).await;
    // One label wait is over, the other is not: nothing remembers the watermark of before.
    let reports = world.reported(6, 4).await;
    let of_first_day = reports.iter().filter(|report| report.window.from.timestamp_millis() == START).count();
    assert_eq!(of_first_day, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_restarted_on_sqlite() {
    windows_are_restarted(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_restarted_on_postgres() {
    windows_are_restarted(World::on_postgres().await).await;
}
