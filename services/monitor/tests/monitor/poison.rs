//! Whatever is published to the bus, the next good messages are captured and evaluated.

use rekindle_testkit::Poison;

use crate::{
    rows::{DAY, Distribution, Replica, START, labels, rows},
    three_days,
    world::{MODEL, World, bundle},
};

async fn nothing_on_the_bus_stops_the_monitor(world: World) {
    world.watch().await;
    let mut poison = Poison::of(&world.nats.url(), "poisoned").await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    let mut captured = 0;
    for (round, day) in three_days().into_iter().enumerate() {
        poison.publish(25).await;
        world.predictions(&replica.log(&day, 0)).await;
        world.outcomes(&format!("round-{round}"), labels(&day)).await;
        captured += day.len() as u64;
        world.captured(captured, captured).await;
    }
    // The windows of this model are reported, whatever those of the others contain.
    world.reported(2, 2).await;
    let later = rows(7, 30, START + 2 * DAY, START + 3 * DAY, Distribution::Reference);
    poison.publish(5).await;
    world.predictions(&replica.log(&later, 0)).await;
    world.captured(captured + 30, captured).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_the_bus_stops_a_monitor_on_sqlite() {
    nothing_on_the_bus_stops_the_monitor(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_the_bus_stops_a_monitor_on_postgres() {
    nothing_on_the_bus_stops_the_monitor(World::on_postgres().await).await;
}
