//! Bounds, and input that must not stop the monitor: wrong clocks, lost objects, full streams, exports that are too large.

use rekindle_bus::streams;
use rekindle_dataset::read_parquet;
use rekindle_domain::{
    Digest, event_time,
    report::{Verdict, WindowReport},
};

use crate::{
    export,
    rows::{DAY, Distribution, Replica, Row, START, labels, rows},
    three_days,
    world::{MODEL, World, bundle, timestamp},
};

const YEAR: i64 = 365 * DAY;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_a_year_ahead_closes_no_window() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let [reference, shifted, last] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&reference, 0)).await;
    let ahead: Vec<Row> =
        reference[..1].iter().map(|row| Row { time: row.time + YEAR, ahead: YEAR, ..row.clone() }).collect();
    world.predictions(&replica.log(&ahead, 0)).await;
    world.captured(1501, 0).await;
    world.predictions(&replica.log(&shifted, 0)).await;
    world.captured(3001, 0).await;
    world.predictions(&replica.log(&last, 0)).await;
    let reports = world.reported(2, 1).await;
    assert!(reports.iter().all(|report| report.window.rows == 1500), "{reports:?}");
    assert_eq!(world.captured(3301, 0).await.open_windows, 1);
}

/// A trial before a replay of the past, and times in a wrong unit, which former builds accepted.
#[tokio::test(flavor = "multi_thread")]
async fn requests_with_other_event_times_delay_no_window() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let [reference, shifted, last] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let at = |time: i64| Row { time, ahead: 0, ..rows(9, 1, START, START + DAY, Distribution::Reference).remove(0) };
    let (first, after) = (event_time::RANGE.start(), event_time::RANGE.end() + 1);
    let trial: Vec<Row> = [START + 2 * YEAR, after, first - 1, 0].map(at).into();
    world.predictions(&replica.log(&trial, 0)).await;
    world.captured(4, 0).await;
    world.outcomes("trial", labels(&trial)).await;
    let far: Vec<Row> = [START + 3 * YEAR, after].map(at).into();
    for (messages, captured) in [(&reference, 1504), (&far, 1506), (&shifted, 3006), (&last, 3306)] {
        world.predictions(&replica.log(messages, 0)).await;
        world.captured(captured, 4).await;
    }
    world.outcomes("day-1", labels(&reference)).await;
    let mut reports = world.reported(3, 2).await;
    reports.retain(|report| report.window.rows > 1);
    assert!(reports.iter().all(|report| report.window.rows == 1500) && reports.len() == 2, "{reports:?}");
    let status = world.captured(3306, 1504).await;
    assert_eq!((status.late, status.open_windows), (0, 1), "{status:?}");
    assert_eq!(status.ahead.map(|ahead| ahead.requests), None, "{status:?}");

    let exported = world.client.export_labelled(&export("time")).await.expect("exported");
    assert_eq!(exported.rows, 1502, "the rows in the range, {exported:?}");
}

/// Numbers and sizes at their bounds become dead letters, which the bus accepts, and the next good message is captured.
#[tokio::test(flavor = "multi_thread")]
async fn no_message_stops_the_capture() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let day = rows(1, 30, START, START + DAY, Distribution::Reference);
    let mut replica = Replica::new(bundle(), MODEL, 1);
    for lost in [u64::MAX, i64::MAX as u64, 1 << 40] {
        world.predictions(&[replica.log_lost(&day, lost)]).await;
    }
    let binary = vec![0xff; 600_000];
    world.publish("outcomes", "binary", binary.clone().into()).await;
    world.publish("outcomes", "lines", binary.chunks(3_000).collect::<Vec<_>>().join(&b'\n').into()).await;
    world.publish("predictions", "binary", binary.clone().into()).await;
    world.predictions(&replica.log(&day, 0)).await;
    world.outcomes("good", labels(&day)).await;
    let status = world.captured(30, 30).await;
    assert_eq!((status.lost, status.lost_messages), (0, 3), "{status:?}");
    let dead = world.stream(streams::DEAD_LETTERS, 6).await;
    assert!(dead.iter().all(|letter| letter.payload.len() <= 256 << 10), "as the bus accepts them");
    let header = |letter: &async_nats::Message, name: &str| {
        letter.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str().to_owned())
    };
    let cut = dead.iter().filter_map(|letter| header(letter, "Rekindle-Dead-Body-Digest"));
    let cut: Vec<Digest> = cut.map(|digest| digest.parse().expect("a digest")).collect();
    assert!(cut.contains(&Digest::of(&binary)), "{cut:?}");
    for digest in cut {
        world.artifacts.get(&digest).await.expect("the whole body is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_rows_are_lost_is_inconclusive_and_the_next_is_measured() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let [reference, shifted, last] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&reference, 0)).await;
    world.captured(1500, 0).await;
    let captures = world.captures();
    std::fs::write(&captures[0], b"not what was written").expect("overwritten");
    captures[1..].iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
    world.outcomes("day-1", labels(&reference)).await;
    world.outcomes("day-2", labels(&shifted)).await;
    world.predictions(&replica.log(&shifted, 0)).await;
    world.predictions(&replica.log(&last, 0)).await;
    let reports = world.reported(2, 2).await;
    let [next, lost] = reports.as_slice() else { panic!("two reports") };
    assert_eq!(
        (lost.window.rows, lost.drift.verdict, lost.window.from),
        (1500, Verdict::Inconclusive, timestamp(START)),
        "{lost:?}"
    );
    assert!(
        lost.reason.contains("cannot be read") && lost.reason.contains("the quality cannot be measured"),
        "{lost:?}"
    );
    assert_eq!(lost.quality.as_ref().map(|quality| quality.verdict), Some(Verdict::Inconclusive));
    assert_eq!((next.window.rows, next.drift.verdict), (1500, Verdict::Drifted), "{next:?}");
    assert_eq!(next.quality.as_ref().map(|quality| quality.labelled_rows), Some(1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_not_measured_before_the_outcomes_on_the_bus_are_captured() {
    let mut world = World::on_sqlite().await;
    world.watch().await;
    let [reference, shifted, last] = three_days();
    world.block_outcomes();
    world.outcomes("day-1", labels(&reference)).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&[reference, shifted].concat(), 0)).await;
    world.predictions(&replica.log(&last, 0)).await;
    // The first day is due as soon as the second is closed; once a third is closed, the step that found the first due is over.
    world.reported(2, 0).await;
    let next = rows(4, 300, START + 3 * DAY, START + 3 * DAY + DAY / 8, Distribution::Reference);
    world.predictions(&replica.log(&next, 0)).await;
    world.reported(3, 0).await;
    // As after a pause: predictions are captured, and outcomes are not yet.
    world.kill().await;
    world.unblock_outcomes();
    world.restart().await;
    let reports = world.reported(3, 2).await;
    let labelled = |report: &WindowReport| Some((report.window.from, report.quality.as_ref()?.labelled_rows));
    let measured: Vec<_> = reports.iter().filter_map(labelled).collect();
    assert_eq!(measured, [(timestamp(START + DAY), 0), (timestamp(START), 1500)], "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_captured_outcomes_are_purged_from_the_bus() {
    let mut world = World::on_sqlite().await;
    world.watch().await;
    let day = rows(1, 40, START, START + DAY, Distribution::Reference);
    for (index, row) in day.iter().enumerate() {
        world.outcomes(&format!("row-{index}"), labels(std::slice::from_ref(row))).await;
    }
    world.captured(0, 40).await;
    world.emptied(streams::OUTCOMES).await;
    // Outcomes published while no instance captures wait, and are captured once.
    world.kill().await;
    world.outcomes("while-away", labels(&day[..7])).await;
    assert_eq!(world.stream(streams::OUTCOMES, 1).await.len(), 1);
    world.restart().await;
    world.captured(0, 47).await;
    world.emptied(streams::OUTCOMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_messages_are_counted_until_they_arrive() {
    let mut world = World::on_sqlite().await;
    world.watch().await;
    let [day, ..] = three_days();
    let messages = Replica::new(bundle(), MODEL, 1).log(&day, 0);
    let [first, second, third, fourth, fifth, sixth] = messages.as_slice() else { panic!("six messages") };
    world.predictions(&[second.clone(), fifth.clone()]).await;
    assert_eq!(world.captured(500, 0).await.lost_messages, 3);
    world.kill_and_restart().await;
    world.predictions(&[sixth.clone(), third.clone()]).await;
    assert_eq!(world.captured(1000, 0).await.lost_messages, 2);
    // Another incarnation numbers its messages from 1 again.
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&day[..250], 0)).await;
    world.predictions(&[first.clone(), fourth.clone()]).await;
    let status = world.captured(1750, 0).await;
    assert_eq!((status.lost_messages, status.lost), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_exceeds_the_limit_has_the_latest_rows() {
    let world = World::on_sqlite_with(&[("export_rows", "1000")]).await;
    world.watch().await;
    let [day, ..] = three_days();
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&day, 0)).await;
    world.outcomes("all", labels(&day)).await;
    world.captured(1500, 1500).await;
    let done = world.client.export_labelled(&export("at")).await.expect("exported");
    assert_eq!((done.rows, done.rows_left_out), (1000, 500));
    let bytes = world.artifacts.get(&done.blob.expect("one")).await.expect("stored");
    let table = read_parquet(bytes).expect("canonical");
    let latest: Vec<i64> = day[500..].iter().map(|row| row.time).collect();
    assert_eq!(table.times("at").expect("sorted"), latest);
}
