//! Whatever is published to the bus, the replica answers, and carries out the next routes.

use rekindle_testkit::Poison;

use crate::world::{MODEL, World, request};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_the_bus_stops_a_replica() {
    let world = World::start().await;
    let versions = [world.publish(1).await.0, world.publish(2).await.0];
    world.route(1, versions[0]).await;
    let replica = world.replica().await;
    replica.ready().await;
    let mut poison = Poison::of(&world.nats.url(), MODEL).await;
    for generation in 2..=4 {
        poison.publish(25).await;
        let answered = replica.infer(request(1)).await.map(|answer| answer.model_version);
        assert!(answered.is_ok(), "{answered:?}");
        let version = versions[usize::try_from(generation % 2).expect("0 or 1")];
        world.route(generation, version).await;
        let served = world.reports("the routes", |served| served.generation == generation).await;
        assert_eq!(served.serving(), Some(version));
    }
}
