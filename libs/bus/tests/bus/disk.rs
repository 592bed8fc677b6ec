//! The bus on a small disk that is filled and freed.

use std::{error::Error as _, time::Duration};

use async_nats::{HeaderMap, jetstream::stream};
use rekindle_bus::{
    Bus, Config,
    streams::{self, Limits},
};
use rekindle_testkit::{NatsServer, SmallDisk, eventually};

use crate::world::{bus, publish};

const MIB: i64 = 1 << 20;

async fn sizes(bus: &Bus) -> Vec<i64> {
    let mut sizes = Vec::new();
    for name in [
        streams::EVENTS,
        streams::JOBS,
        streams::PREDICTIONS,
        streams::FAILURES,
        streams::OUTCOMES,
        streams::DEAD_LETTERS,
    ] {
        let stream = bus.jetstream().get_stream(name).await.expect("it exists");
        sizes.push(stream.cached_info().config.max_bytes);
    }
    sizes
}

/// Publishes until the server does not answer, and returns the ids that were acknowledged.
async fn publish_until_refused(bus: &Bus, subject: &str, round: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        let id = format!("{subject}-{round}-{}", acknowledged.len());
        let published = bus.publish(subject.to_owned(), &id, HeaderMap::new(), vec![b'x'; 1000].into()).await;
        if published.is_err() {
            return acknowledged;
        }
        acknowledged.push(id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_freezes_streams_which_is_reported_and_ends_with_a_restart_of_the_server() {
    let Some(disk) = SmallDisk::mount(64 << 20) else { return };
    let mut server = NatsServer::start_in(disk.path()).await;
    let config = Config { publish_timeout: Duration::from_millis(500), ..Config::at(server.url()) };
    let bus = Bus::connect(&config).await.expect("the server is up");
    assert_eq!(bus.frozen_streams().await, []);
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        disk.fill();
        acknowledged.extend(publish_until_refused(&bus, "rekindle.outcomes.m", round).await);
        let frozen = bus.frozen_streams().await;
        assert_eq!(frozen.len(), 1, "{frozen:?}");
        assert_eq!(frozen[0].stream, streams::OUTCOMES);
        assert!(frozen[0].reason.contains("no space left on device"), "{frozen:?}");
        let refused =
            bus.publish("rekindle.outcomes.m".to_owned(), "again", HeaderMap::new(), Default::default()).await;
        let cause = refused.expect_err("frozen").source().expect("a cause").to_string();
        assert!(cause.contains("no space left on device"), "{cause}");
        disk.free();
        assert_eq!(bus.frozen_streams().await, frozen, "room alone does not end it");
        server.kill();
        server.restart().await;
        eventually("the streams to be written", async || match bus.frozen_streams().await {
            frozen if frozen.is_empty() && bus.is_connected() => Ok(()),
            frozen => Err(format!("{frozen:?}")),
        })
        .await;
        let id = format!("after-{round}");
        publish(&bus, "rekindle.outcomes.m", &id).await;
        acknowledged.push(id);
    }
    let stream = bus.jetstream().get_stream(streams::OUTCOMES).await.expect("it exists");
    assert_eq!(stored_ids(&stream).await, acknowledged, "what was acknowledged is stored, in its order, once");
}

async fn stored_ids(stream: &stream::Stream) -> Vec<String> {
    let state = &stream.cached_info().state;
    let mut ids = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("stored");
        ids.push(message.headers.get("Nats-Msg-Id").expect("an id").to_string());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_sized_to_the_disk_and_a_fuller_disk_deletes_nothing() {
    let server = NatsServer::start().await;
    let at = |free_bytes| Config { free_bytes, ..Config::at(server.url()) };
    let full = sizes(&Bus::connect(&at(None)).await.expect("set up")).await;
    let bus = Bus::connect(&at(Some(64 << 20))).await.expect("set up");
    let small = sizes(&bus).await;
    assert!(small.iter().sum::<i64>() <= 32 * MIB + MIB, "half of the disk, and the least of the smallest: {small:?}");
    assert!(small.iter().zip(&full).all(|(small, full)| small < full), "{small:?}");
    for n in 0..3000 {
        let id = format!("p-{n}");
        let payload = vec![b'x'; 1000].into();
        bus.publish("rekindle.predictions.m".to_owned(), &id, HeaderMap::new(), payload).await.expect("published");
    }
    let least = Bus::connect(&at(Some(0))).await.expect("set up");
    let stream = least.jetstream().get_stream(streams::PREDICTIONS).await.expect("it exists");
    assert_eq!(stream.cached_info().state.messages, 3000);
    assert_eq!(sizes(&least).await[1], MIB);
    assert_eq!(sizes(&Bus::connect(&at(None)).await.expect("set up")).await, full, "sizes grow again with the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_reserve_the_sizes_gets_smaller_streams() {
    let Some(disk) = SmallDisk::mount(128 << 20) else { return };
    // Without a configured limit, the server reserves three quarters of its disk at most.
    let server = NatsServer::start_in(disk.path()).await;
    let bus = bus(&server).await;
    let reserved = sizes(&bus).await;
    assert!(reserved.iter().sum::<i64>() < 96 * MIB, "{reserved:?}");
    let configured = Limits::default();
    assert_eq!(reserved[2] / reserved[0], configured.predictions_bytes / configured.events_bytes, "in proportion");
    publish(&bus, "rekindle.outcomes.m", "o-1").await;
}
