//! What must neither stop the monitor nor fill anything: wrong clocks, lost objects, streams that are full, exports that are too large.

use rekindle_bus::streams;
use rekindle_dataset::read_parquet;
use rekindle_proto::monitor::{ExportLabelledRequest, Verdict};

use crate::{
    rows::{DAY, Replica, Row, START, World, rows, truths},
    stage::{MODEL, Stage, bundle},
    three_days, time,
};

const YEAR: i64 = 365 * DAY;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_a_year_ahead_closes_no_window() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch().await;
    let [usual, turned, last] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    stage.predictions(&replica.log(&usual, 0)).await;
    let ahead: Vec<Row> =
        usual[..1].iter().map(|row| Row { time: row.time + YEAR, ahead: YEAR, ..row.clone() }).collect();
    stage.predictions(&replica.log(&ahead, 0)).await;
    stage.captured(1501, 0).await;
    stage.predictions(&replica.log(&turned, 0)).await;
    stage.captured(3001, 0).await;
    stage.predictions(&replica.log(&last, 0)).await;
    let reports = stage.reported(2, 1).await;
    assert!(reports.iter().all(|report| report.rows == 1500), "{reports:?}");
    assert_eq!(stage.captured(3301, 0).await.open_windows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_rows_are_gone_is_told_and_the_next_is_judged() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch().await;
    let [usual, turned, last] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    stage.predictions(&replica.log(&usual, 0)).await;
    stage.captured(1500, 0).await;
    let captures = stage.captures();
    std::fs::write(&captures[0], b"not what was written").expect("overwritten");
    captures[1..].iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
    stage.outcomes("day-1", truths(&usual)).await;
    stage.outcomes("day-2", truths(&turned)).await;
    stage.predictions(&replica.log(&turned, 0)).await;
    stage.predictions(&replica.log(&last, 0)).await;
    let reports = stage.reported(2, 2).await;
    let [next, gone] = reports.as_slice() else { panic!("two reports") };
    assert_eq!((gone.rows, gone.drift(), gone.from), (1500, Verdict::Unknown, Some(time(START))), "{gone:?}");
    assert!(gone.reason.contains("cannot be read") && gone.reason.contains("quality cannot be told"), "{gone:?}");
    assert_eq!(gone.quality.as_ref().map(|quality| quality.verdict()), Some(Verdict::Unknown));
    assert_eq!((next.rows, next.drift()), (1500, Verdict::Drifted), "{next:?}");
    assert_eq!(next.quality.as_ref().map(|quality| quality.labelled_rows), Some(1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_not_judged_before_the_outcomes_that_lie_on_the_bus_are_captured() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch().await;
    let [usual, turned, last] = three_days();
    stage.keep_outcomes_out();
    stage.outcomes("day-1", truths(&usual)).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    stage.predictions(&replica.log(&[usual, turned].concat(), 0)).await;
    stage.predictions(&replica.log(&last, 0)).await;
    // The first day is due as soon as the second has closed; once a third has, the look that came upon that is over.
    stage.reported(2, 0).await;
    let next = rows(4, 300, START + 3 * DAY, START + 3 * DAY + DAY / 8, World::Usual);
    stage.predictions(&replica.log(&next, 0)).await;
    stage.reported(3, 0).await;
    // As after a pause: predictions are captured, and outcomes are about to be.
    stage.kill().await;
    stage.let_outcomes_in();
    stage.start().await;
    let reports = stage.reported(3, 2).await;
    let judged: Vec<(Option<_>, u64)> =
        reports.iter().filter_map(|report| Some((report.from, report.quality.as_ref()?.labelled_rows))).collect();
    assert_eq!(judged, [(Some(time(START + DAY)), 0), (Some(time(START)), 1500)], "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_outcomes_leave_the_bus_and_no_others() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch().await;
    let day = rows(1, 40, START, START + DAY, World::Usual);
    for (place, row) in day.iter().enumerate() {
        stage.outcomes(&format!("row-{place}"), truths(std::slice::from_ref(row))).await;
    }
    stage.captured(0, 40).await;
    stage.emptied(streams::OUTCOMES).await;
    // What comes while nobody captures waits, and is captured once.
    stage.kill().await;
    stage.outcomes("while-away", truths(&day[..7])).await;
    assert_eq!(stage.stream(streams::OUTCOMES, 1).await.len(), 1);
    stage.start().await;
    stage.captured(0, 47).await;
    stage.emptied(streams::OUTCOMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_came_are_counted_until_they_do() {
    let mut stage = Stage::on_sqlite().await;
    stage.watch().await;
    let [day, ..] = three_days();
    let messages = Replica::new(bundle(), MODEL, 1).log(&day, 0);
    let [first, second, third, fourth, fifth, sixth] = messages.as_slice() else { panic!("six messages") };
    stage.predictions(&[second.clone(), fifth.clone()]).await;
    assert_eq!(stage.captured(500, 0).await.lost_messages, 3);
    stage.kill_and_restart().await;
    stage.predictions(&[sixth.clone(), third.clone()]).await;
    assert_eq!(stage.captured(1000, 0).await.lost_messages, 2);
    // Those of another life are numbered anew.
    stage.predictions(&Replica::new(bundle(), MODEL, 1).log(&day[..250], 0)).await;
    stage.predictions(&[first.clone(), fourth.clone()]).await;
    let status = stage.captured(1750, 0).await;
    assert_eq!((status.lost_messages, status.lost), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_too_large_holds_the_latest_rows() {
    let mut stage = Stage::on_sqlite_with(&[("export_rows", "1000")]).await;
    stage.watch().await;
    let [day, ..] = three_days();
    stage.predictions(&Replica::new(bundle(), MODEL, 1).log(&day, 0)).await;
    stage.outcomes("all", truths(&day)).await;
    stage.captured(1500, 1500).await;
    let request = ExportLabelledRequest {
        model: MODEL.into(),
        target: "late".into(),
        time_column: "at".into(),
        ..ExportLabelledRequest::default()
    };
    let done = stage.client.export_labelled(request).await.expect("exported").into_inner();
    assert_eq!((done.rows, done.rows_left_out), (1000, 500));
    let bytes = stage.artifacts.get(&done.blob_digest.parse().expect("a digest")).await.expect("stored");
    let table = read_parquet(bytes).expect("canonical");
    let latest: Vec<i64> = day[500..].iter().map(|row| row.time).collect();
    assert_eq!(table.times("at").expect("sorted"), latest);
}
