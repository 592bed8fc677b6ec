//! Streams and buckets that are deleted while the services run.

use std::time::Duration;

use futures::StreamExt as _;

use rekindle_bus::{
    bucket::Change,
    consumer::{Consumer, Puller},
    keep, streams,
};
use rekindle_testkit::{NatsServer, eventually};

use crate::world::{Running, bus, publish, quick};

#[tokio::test(flavor = "multi_thread")]
async fn deleted_streams_are_created_again_and_everyone_continues() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let keeping = Running::spawn(|shutdown| tokio::spawn(keep::run(bus.clone(), shutdown)));
    let ordered = Consumer { in_order: true, ..quick("ordered", streams::OUTCOMES) };
    let mut readers = [quick("reader", streams::OUTCOMES), ordered].map(|consumer| Puller::new(bus.clone(), consumer));
    // More than will be published afterwards: a consumer that continued at its sequence would skip them.
    for n in 1..=3 {
        publish(&bus, "rekindle.outcomes.m", &format!("before-{n}")).await;
        for reader in &mut readers {
            reader.next(1).await.ack().await.expect("acknowledged");
        }
    }
    let bucket = bus.bucket::<u32>(streams::DEPLOYMENTS).await.expect("it exists");
    bucket.put("m", &1).await.expect("written");
    bucket.put("m", &2).await.expect("written");
    let mut watch = bucket.watch().await.expect("a watch");
    while watch.next().await.expect("a change") != Change::Complete {}

    for name in bus.jetstream().stream_names().collect::<Vec<_>>().await {
        bus.jetstream().delete_stream(name.expect("listed")).await.expect("deleted");
    }
    publish(&bus, "rekindle.outcomes.m", "after").await;
    for reader in &mut readers {
        let delivery = reader.next(1).await;
        assert_eq!(&delivery.payload[..], b"after");
        delivery.ack().await.expect("acknowledged");
    }
    eventually("the bucket to be written", async || bucket.put("m", &3).await.map_err(|error| error.to_string())).await;
    // It reports an error, so that its owner reads the new bucket.
    let change = tokio::time::timeout(Duration::from_secs(120), watch.next()).await.expect("it does not wait for ever");
    assert!(change.is_err(), "{change:?}");
    let mut watch = bucket.watch().await.expect("a watch");
    assert!(matches!(watch.next().await.expect("a change"), Change::Put(entry) if entry.value == 3));
    keeping.end().await;
}
