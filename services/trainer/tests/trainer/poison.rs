//! Whatever is published to the bus, the next job is worked on.

use rekindle_testkit::Poison;

use crate::world::{World, rows, train};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_the_bus_stops_the_trainer() {
    let world = World::start().await;
    world.dataset("flights", rows(0, 200, false)).await;
    let mut poison = Poison::of(&world.nats.url(), "cpu").await;
    for _ in 0..2 {
        poison.publish(25).await;
        world.finished(&train("flights")).await;
    }
}
