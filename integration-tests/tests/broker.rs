//! The bus of a platform is killed, loses its streams, and gets messages that no service wrote: the platform continues.

use futures::TryStreamExt as _;
use rekindle_bus::{Bus, Config};
use rekindle_integration_tests::{
    Clients, Platform, Wiring, scenario,
    table::{self, csv},
};
use rekindle_testkit::Poison;

const SHIFT: u64 = 1_000;

/// Sends the rows of two hours, the `round`-th of the model, and waits until they are captured with their outcomes.
async fn everything_works(clients: &Clients, round: u64) {
    let hours = |round: u64| table::rows(48 + 2 * round..50 + 2 * round, SHIFT);
    let sent: usize = (0..=round).map(|round| hours(round).len()).sum();
    scenario::send_hour_by_hour(clients, &hours(round)).await;
    scenario::captured(clients, sent as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_outlives_its_broker_its_streams_and_any_message() {
    let mut platform = Platform::start(Wiring::Embedded, 2).await;
    scenario::register(&platform.clients, csv(&table::rows(0..48, SHIFT)), "training rows").await;
    let (_, first) = scenario::train(&platform.clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(&platform.clients, first.version).await;
    everything_works(&platform.clients, 0).await;

    for round in 1..=3 {
        platform.kill_broker().await;
        everything_works(&platform.clients, round).await;
    }

    let bus = Bus::connect(&Config::at(&platform.clients.nats)).await.expect("the bus is up");
    let names: Vec<String> = bus.jetstream().stream_names().try_collect().await.expect("listed");
    for name in names {
        bus.jetstream().delete_stream(name).await.expect("deleted");
    }
    everything_works(&platform.clients, 4).await;
    scenario::deployed(&platform.clients, first.version).await;

    let mut poison = Poison::of(&platform.clients.nats, "poisoned").await;
    poison.publish(20).await;
    everything_works(&platform.clients, 5).await;
    scenario::train(&platform.clients, "01890000-0000-7000-8000-000000000002").await;
    let status = platform.json(&["status"]).await;
    assert_eq!(status["ready"], true, "{status}");

    for round in 6..=9 {
        platform.kill_and_restart().await;
        everything_works(&platform.clients, round).await;
    }
    scenario::deployed(&platform.clients, first.version).await;
}
