//! Captured data is deleted by age, once no window needs it.

use rekindle_domain::{
    prediction_log::{DeletedRows, ExportRequest},
    report::WindowReport,
};
use rekindle_testkit::eventually;

use crate::{
    export,
    rows::{DAY, Distribution, Replica, Row, START, labels, rows},
    world::{MODEL, World, bundle, timestamp},
};

/// Younger chunks are kept; a killed instance captures again after a second.
const SETTINGS: [(&str, &str); 1] = [("retention", "100ms")];

fn day(number: i64) -> Vec<Row> {
    let from = START + number * DAY;
    rows(u64::try_from(number).expect("small") + 1, 600, from, from + DAY, Distribution::Reference)
}

async fn matched(world: &World, outcomes: u64) {
    eventually("the outcomes to be checked", async || match world.status().await.outcome_counts.matched {
        matched if matched == outcomes => Ok(()),
        matched => Err(format!("{matched}")),
    })
    .await;
}

async fn deleted_rows_are_reported_and_open_windows_stay(mut world: World) {
    world.watch().await;
    let (mut replica, days) = (Replica::new(bundle(), MODEL, 1), [day(0), day(1), day(2)]);
    let (morning, evening) = days[2].split_at(300);
    for (number, day) in days[..2].iter().enumerate() {
        world.predictions(&replica.log(day, 0)).await;
        world.outcomes(&format!("day-{number}"), labels(day)).await;
        let rows = 600 * (number as u64 + 1);
        world.captured(rows, rows).await;
    }
    world.predictions(&replica.log(morning, 0)).await;
    world.captured(1500, 1200).await;
    let before = world.reported(2, 2).await;
    matched(&world, 1200).await;
    assert_eq!(world.status().await.deleted, None);
    let files = world.captures();

    world.kill_and_restart().await;
    let until = days[1].last().expect("rows").time;
    let expected = DeletedRows { rows: 1200, outcomes: 1200, until: Some(timestamp(until)) };
    let status = eventually("the first two days to be deleted", async || match world.status().await {
        status if status.deleted == Some(expected) => Ok(status),
        status => Err(format!("{status:?}")),
    })
    .await;
    assert_eq!((status.predictions, status.outcomes), (1500, 1200), "counters include what was deleted");
    assert_eq!(world.captures(), files, "objects are deleted later: a reader may have found their chunks just before");

    // The rest of the third day, and one row after it that closes the window.
    world.predictions(&replica.log(evening, 0)).await;
    world
        .predictions(&replica.log(&rows(9, 60, START + 3 * DAY, START + 3 * DAY + DAY / 4, Distribution::Reference), 0))
        .await;
    let reports = world.reported(3, 2).await;
    assert_eq!(reports[0].window.rows, 600, "{reports:?}");
    let drift = |reports: &[WindowReport]| reports.iter().map(|report| report.drift.verdict).collect::<Vec<_>>();
    assert_eq!(drift(&reports[1..]), drift(&before));

    let refused = world.client.export_labelled(&export("at")).await.expect_err("nothing labelled is left");
    assert_eq!(refused.reason(), "DELETED_BY_RETENTION", "{refused}");
    let message = refused.status().expect("an answer").message();
    assert!(message.contains(&format!("rows until {} were deleted", timestamp(until))), "{message}");
    let later = ExportRequest { from: Some(timestamp(START + 3 * DAY)), ..export("at") };
    assert_eq!(world.client.export_labelled(&later).await.expect("an empty export").rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_reported_and_open_windows_stay_on_sqlite() {
    deleted_rows_are_reported_and_open_windows_stay(World::on_sqlite_with(&SETTINGS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_reported_and_open_windows_stay_on_postgres() {
    deleted_rows_are_reported_and_open_windows_stay(World::on_postgres_with(&SETTINGS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_without_a_measured_quality_keep_their_rows() {
    let mut world = World::on_sqlite_with(&SETTINGS).await;
    world.watch().await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let first = day(0);
    world.predictions(&replica.log(&first, 0)).await;
    world.captured(600, 0).await;
    world.predictions(&replica.log(&day(1)[..300], 0)).await;
    world.reported(1, 0).await;
    world.kill_and_restart().await;
    // Its labels arrive after the pass that follows the restart: every row is there to be measured.
    world.outcomes("day-0", labels(&first)).await;
    let reports = world.reported(1, 1).await;
    assert_eq!(reports[0].quality.as_ref().expect("measured").labelled_rows, 600);
    assert_eq!(world.status().await.deleted, None);
}
