//! The relay and publishing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::HeaderMap;
use rekindle_bus::{
    Error, cloudevent,
    consumer::{self, Disposition},
    streams,
};
use rekindle_store::{in_transaction, outbox, sea_orm::DbErr};
use rekindle_testkit::{NatsServer, eventually};

use crate::world::{Running, all_published, bus, commit, database, event, events, publish, quick, revisions};

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_publishes_exactly_what_was_committed_in_order() {
    let server = NatsServer::start().await;
    let (bus, db) = (bus(&server).await, database().await);
    let relay = Running::relay(&db, &bus, "/rekindle/test/1");
    for n in 0..300 {
        commit(&db, n).await;
    }
    let rolled_back: Result<(), DbErr> = in_transaction(&db, async move |txn| {
        outbox::enqueue(txn, event(999)).await?;
        Err(DbErr::Custom("no".into()))
    })
    .await;
    assert!(rolled_back.is_err());
    all_published(&db).await;
    relay.end().await;
    let events = events(&bus).await;
    assert_eq!(revisions(&events), (0..300).collect::<Vec<_>>());
    assert_eq!(outbox::history(&db).await.expect("readable").published, 300);
    let first = &events[0];
    assert_eq!((first.source.as_str(), first.context.correlation_id.as_str()), ("/rekindle/test/1", "workflow"));
    assert!((first.recorded_time - first.time).abs().num_seconds() < 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_publish_each_event_once() {
    let server = NatsServer::start().await;
    let (bus, db) = (bus(&server).await, database().await);
    for n in 0..200 {
        commit(&db, n).await;
    }
    let relays = ["/rekindle/test/1", "/rekindle/test/2"].map(|source| Running::relay(&db, &bus, source));
    all_published(&db).await;
    for relay in relays {
        relay.end().await;
    }
    let events = events(&bus).await;
    assert_eq!(revisions(&events), (0..200).collect::<Vec<_>>());
    let positions: Vec<_> = events.iter().map(|event| event.position.expect("numbered").sequence).collect();
    assert_eq!(positions, (1..=200).collect::<Vec<_>>());
    assert_eq!(outbox::history(&db).await.expect("readable").published, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_and_consumers_survive_a_killed_server() {
    let mut server = NatsServer::start().await;
    let (bus, db) = (bus(&server).await, database().await);
    let relay = Running::relay(&db, &bus, "/rekindle/test/1");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let (bus, seen) = (bus.clone(), Arc::clone(&seen));
        Running::spawn(|shutdown| {
            tokio::spawn(consumer::run(
                bus,
                quick("reader", streams::EVENTS),
                async move |message: rekindle_bus::Message| {
                    let event = cloudevent::from_message(&message).expect("a CloudEvent");
                    let mut seen = seen.lock().expect("no panic");
                    if !seen.contains(&event) {
                        seen.push(event);
                    }
                    Disposition::Ack
                },
                shutdown,
            ))
        })
    };
    for round in 0..3 {
        for n in 0..20 {
            commit(&db, round * 20 + n).await;
        }
        if round < 2 {
            server.kill();
            commit(&db, 1000 + round).await;
            server.restart().await;
        }
    }
    all_published(&db).await;
    eventually("the reader to have seen all", async || {
        let seen = seen.lock().expect("no panic").len();
        if seen == 62 { Ok(()) } else { Err(format!("{seen} seen")) }
    })
    .await;
    relay.end().await;
    reader.end().await;
    bus.bucket(streams::REPLICAS).await.expect("still there").put("a", &"alive".to_owned()).await.expect("put");
    let published = revisions(&events(&bus).await);
    let mut once = published.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!((published.len(), once.len()), (62, 62), "each event once: {published:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_while_the_bus_is_unreachable_fails_within_its_deadline() {
    let mut server = NatsServer::start().await;
    let bus = bus(&server).await;
    publish(&bus, "rekindle.jobs.cpu", "before").await;
    server.kill();
    let start = std::time::Instant::now();
    let refused = bus.publish("rekindle.jobs.cpu".into(), "during", HeaderMap::new(), "x".into()).await;
    let error = refused.expect_err("the server is down");
    assert!(error.is_transient() && matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    server.restart().await;
    publish(&bus, "rekindle.jobs.cpu", "after").await;
    let nowhere = bus.publish("nobody.listens".into(), "x", HeaderMap::new(), "x".into()).await;
    assert!(matches!(nowhere, Err(Error::Refused { .. })), "{nowhere:?}");
}
