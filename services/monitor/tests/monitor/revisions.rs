//! Outcomes that arrive, or are corrected, after the quality of their window was measured.

use rekindle_client::wire::event;
use rekindle_domain::{
    event::EventKind,
    report::{Quality, Verdict, WindowReport},
};
use rekindle_testkit::eventually;

use crate::{
    comparable, header,
    rows::{Replica, Row, labels},
    three_days,
    world::{MODEL, World, bundle},
};

/// The same rows with the other label.
fn flipped(rows: &[Row]) -> Vec<Row> {
    rows.iter().cloned().map(|row| Row { late: !row.late, ..row }).collect()
}

/// The report of the first day, once its quality is as expected.
async fn first_day(world: &World, expected: impl Fn(&Quality) -> bool) -> WindowReport {
    eventually("the quality of the first day", async || {
        let report = world.reports().await.pop().ok_or("no report")?;
        let is_expected = report.quality.as_ref().is_some_and(&expected);
        if is_expected { Ok(report) } else { Err(format!("{:?}", report.quality)) }
    })
    .await
}

async fn later_outcomes_revise_a_quality(world: World, at_once: World) {
    let days = three_days();
    let (day, messages) = (&days[0], Replica::new(bundle(), MODEL, 1).log(&days.concat(), 1));
    let (first, rest) = day.split_at(700);
    let corrected = flipped(day);
    world.watch().await;
    world.outcomes("first", labels(first)).await;
    world.predictions(&messages).await;
    let report = first_day(&world, |quality| quality.labelled_rows == 700).await;
    assert_eq!((report.revision, report.changes.as_str()), (1, ""));
    let verdict = |report: &WindowReport| report.quality.as_ref().map(|quality| quality.verdict);
    assert_eq!(verdict(&report), Some(Verdict::Stable));

    world.outcomes("rest", labels(rest)).await;
    let report = first_day(&world, |quality| quality.labelled_rows == 1500).await;
    assert!(report.revision >= 2 && report.changes.contains("more rows have an outcome"), "{report:?}");
    let stable = report.revision;
    world.outcomes("corrected", labels(&corrected)).await;
    let report = first_day(&world, |quality| quality.metrics["accuracy"] < 0.4).await;
    assert!(report.revision > stable && report.changes.contains("outcomes were corrected"), "{report:?}");
    assert_eq!(verdict(&report), Some(Verdict::Drifted), "{report:?}");
    // One of them was right at first.
    world.outcomes("corrected again", labels(&day[..1])).await;

    // The same outcomes in the same order before anything is measured.
    at_once.watch().await;
    for (name, rows) in [("first", first), ("rest", rest), ("corrected", &corrected), ("again", &day[..1])] {
        at_once.outcomes(name, labels(rows)).await;
    }
    at_once.captured(0, 3001).await;
    at_once.predictions(&messages).await;
    let expected = at_once.reported(2, 1).await.pop().expect("the first day").quality.expect("measured");
    let last = first_day(&world, |quality| *quality == expected).await;

    // Two windows were closed, one of them has drifted, and two alerts were opened.
    let events = world.events(6 + last.revision as usize).await;
    let of = |kind: EventKind| {
        events.iter().filter(move |event| header(event, "ce-type") == format!("dev.rekindle.{kind}.v1"))
    };
    assert_eq!(of(EventKind::DEGRADATION_DETECTED).count(), 1, "it is announced once");
    let revisions: Vec<u64> = of(EventKind::WINDOW_REPORTED)
        .map(|event| serde_json::from_slice::<serde_json::Value>(&event.payload).expect("json"))
        .filter(|data| {
            data["window"]["report_id"] == last.window.report.to_string() && data["metrics"] != serde_json::json!({})
        })
        .map(|data| data["revision"].as_u64().expect("a number"))
        .collect();
    assert_eq!(revisions, (1..=u64::from(last.revision)).collect::<Vec<_>>());
    let detected = of(EventKind::DEGRADATION_DETECTED).next().expect("one");
    let data = serde_json::from_slice(&detected.payload).expect("json");
    assert!(event::detection(EventKind::DEGRADATION_DETECTED, &data).expect("it reads").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn later_outcomes_on_sqlite() {
    let world = World::on_sqlite_with(&[("revise_after", "1s")]).await;
    Box::pin(later_outcomes_revise_a_quality(world, World::on_sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_outcomes_on_postgres() {
    let world = World::on_postgres_with(&[("revise_after", "0s")]).await;
    Box::pin(later_outcomes_revise_a_quality(world, World::on_sqlite().await)).await;
}

/// Items in an order that follows from the seed.
fn shuffled<T>(items: Vec<T>, seed: u64) -> Vec<T> {
    let mut keyed: Vec<(u64, T)> = (0..).map(|at: u64| (at + 1) * (seed + 7919) % 10_007).zip(items).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// The reports of two days that several replicas answered, once every row has its outcome. The messages of a day, and all outcomes, arrive in an
/// order of the seed, some outcomes before their predictions and some after the quality was measured; everything arrives twice, and the
/// monitor is killed between.
async fn in_disorder(days: &[Vec<Row>; 3], replicas: usize, seed: u64) -> Vec<WindowReport> {
    let mut world = World::on_sqlite_with(&[("revise_after", "0s")]).await;
    world.watch().await;
    let mut replicas: Vec<Replica> = (0..replicas).map(|_| Replica::new(bundle(), MODEL, 1)).collect();
    let count = replicas.len();
    let mut outcomes: Vec<(usize, String)> =
        shuffled(days[..2].concat(), seed).chunks(200).map(labels).enumerate().collect();
    let (later, mut rounds) = (outcomes.split_off(outcomes.len() / 2), 0);
    let mut report = async |world: &World, some: &[(usize, String)]| {
        rounds += 1;
        for (at, lines) in some {
            world.outcomes(&format!("{at}/{rounds}"), lines.clone()).await;
        }
    };
    report(&world, &outcomes).await;
    for (day, rows) in days.iter().enumerate() {
        let of_replica = |(at, replica): (usize, &mut Replica)| {
            let rows: Vec<Row> = rows.iter().skip(at).step_by(count).cloned().collect();
            replica.log(&rows, 0)
        };
        let messages: Vec<_> = replicas.iter_mut().enumerate().flat_map(of_replica).collect();
        let messages = shuffled(messages, seed);
        world.predictions(&messages).await;
        for (id, bytes) in &messages {
            world.publish("predictions", &format!("again/{id}"), bytes.clone()).await;
        }
        if day == 1 {
            world.kill_and_restart().await;
            report(&world, &outcomes).await;
        }
    }
    world.windows(2).await;
    report(&world, &later).await;
    report(&world, &later).await;
    let reports = eventually("every row to have its outcome", async || {
        let reports = world.reports().await;
        let labelled = |report: &WindowReport| report.quality.as_ref().map_or(0, |quality| quality.labelled_rows);
        let labelled: Vec<u64> = reports.iter().map(labelled).collect();
        if labelled == [1500, 1500] { Ok(reports) } else { Err(format!("{labelled:?} rows have their outcome")) }
    });
    comparable(reports.await)
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_do_not_depend_on_order_repetition_sharding_and_kills() {
    let days = three_days();
    let expected = in_disorder(&days, 1, 0).await;
    for (replicas, seed) in [(2, 1), (3, 2), (5, 3)] {
        let found = in_disorder(&days, replicas, seed).await;
        assert_eq!(found, expected, "{replicas} replicas, seed {seed}");
    }
}
