//! Two instances on one PostgreSQL: one acts, the other takes over, and everything happens once.

use std::collections::BTreeMap;

use rekindle_client::PageRequest;
use rekindle_domain::report::{Verdict, WindowReport};
use rekindle_store::sea_orm::{ConnectionTrait as _, DatabaseConnection};
use rekindle_testkit::eventually;

use crate::{
    header,
    rows::{Replica, Row, labels},
    three_days,
    world::{MODEL, World, bundle, captured, count, model, reported},
};

/// Two windows, each reported once: the second has drifted and is degraded.
fn assert_reported_once(reports: &[WindowReport]) {
    let [shifted, reference] = reports else { panic!("two reports: {reports:?}") };
    let verdicts = |report: &WindowReport| {
        (report.window.rows, report.drift.verdict, report.quality.as_ref().map(|quality| quality.verdict))
    };
    assert_eq!(verdicts(reference), (1500, Verdict::Stable, Some(Verdict::Stable)), "{reference:?}");
    assert_eq!(verdicts(shifted), (1500, Verdict::Drifted, Some(Verdict::Drifted)), "{shifted:?}");
}

/// Four reports of windows, one of drift and one of degradation, each with its alert.
async fn assert_events_once(world: &World) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for event in world.events(8).await {
        *kinds.entry(header(&event, "ce-type").to_owned()).or_default() += 1;
    }
    let counts: Vec<usize> = kinds.values().copied().collect();
    assert_eq!(counts, [2, 1, 1, 4], "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_takes_over_from_one_that_is_killed() {
    let mut world = World::on_postgres().await;
    world.watch().await;
    let second = world.second().await;
    let [reference, shifted, last] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&reference, 0)).await;
    world.captured(1500, 0).await;
    // Every instance serves calls, whichever of them captures.
    let outcomes: Vec<_> = reference.iter().map(Row::outcome).collect();
    assert_eq!(second.client.report_outcomes(&model(), &outcomes, "day-1").await.expect("accepted").accepted, 1500);
    captured(&second.client, &model(), 1500, 1500).await;
    world.kill().await;
    world.outcomes("day-2", labels(&shifted)).await;
    world.predictions(&replica.log(&[shifted, last].concat(), 0)).await;
    let status = captured(&second.client, &model(), 3300, 3000).await;
    assert_eq!((status.lost_messages, status.lost), (0, 0));
    assert_reported_once(&reported(&second.client, &model(), 2, 2).await);
    assert_events_once(&world).await;
    let page = second.client.predictions(&model(), PageRequest::first(10)).await.expect("listed");
    assert_eq!(page.items.len(), 10);
}

/// Frees the leases of the first instance until the second one holds all of them.
async fn take_over(database: &DatabaseConnection) {
    eventually("the second instance to hold the leases", async || {
        let freed = database.execute_unprepared("UPDATE leases SET holder = '' WHERE holder LIKE '1/%'").await;
        freed.map_err(|error| error.to_string())?;
        let (held, all) = (count(database, "leases WHERE holder LIKE '2/%'").await, count(database, "leases").await);
        if held == all { Ok(()) } else { Err(format!("{held} of {all}")) }
    })
    .await;
}

/// The first instance believes in its leases for a minute, as after it was stopped and continued.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_holder_writes_nothing_and_loses_nothing() {
    let world = World::on_postgres_with(&[("lease", "60s")]).await;
    world.watch().await;
    let [reference, shifted, last] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let database = world.database().await;
    let [first_half, second_half] = [&reference[..750], &reference[750..]];
    world.predictions(&replica.log(first_half, 0)).await;
    world.captured(750, 0).await;
    eventually("the first instance to hold the leases of capture, the model and alerts", async || {
        match count(&database, "leases WHERE holder LIKE '1/%'").await {
            3 => Ok(()),
            held => Err(format!("{held} leases")),
        }
    })
    .await;
    let second = world.second().await;
    take_over(&database).await;
    world.predictions(&replica.log(second_half, 0)).await;
    world.outcomes("all", labels(&[reference, shifted.clone()].concat())).await;
    world.predictions(&replica.log(&[shifted, last].concat(), 0)).await;
    let status = captured(&second.client, &model(), 3300, 3000).await;
    assert_eq!((status.lost_messages, status.lost), (0, 0));
    // No row was late for its window: the messages that the former holder took were captured in order.
    assert_eq!(count(&database, "logs WHERE late > 0").await, 0);
    assert_reported_once(&reported(&second.client, &model(), 2, 2).await);
    assert_events_once(&world).await;
    assert_eq!(count(&database, "reports").await, 2);
    assert_eq!(world.reports().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_released_at_shutdown() {
    let mut world = World::on_postgres_with(&[("lease", "10m")]).await;
    world.watch().await;
    let [reference, ..] = three_days();
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&reference[..250], 0)).await;
    world.captured(250, 0).await;
    let second = world.second().await;
    world.shut_down().await;
    world.predictions(&replica.log(&reference[250..], 0)).await;
    captured(&second.client, &model(), 1500, 0).await;
}
