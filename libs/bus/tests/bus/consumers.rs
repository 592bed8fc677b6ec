//! Consumers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_nats::HeaderMap;
use chrono::Utc;
use rekindle_bus::{
    consumer::{self, Consumer, Disposition, Puller},
    streams,
};
use rekindle_store::{in_transaction, inbox, sea_orm::DbErr};
use rekindle_testkit::{NatsServer, eventually};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::world::{Running, bus, database, publish, quick, sequences};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_published_again_has_one_effect() {
    let server = NatsServer::start().await;
    let (bus, db) = (bus(&server).await, database().await);
    // Other ids on the bus, as after the duplicate window, but the same event.
    let event = json!({ "event": "the same" }).to_string();
    for id in ["a", "b", "c"] {
        bus.publish("rekindle.outcomes.m".into(), id, HeaderMap::new(), event.clone().into()).await.expect("published");
    }
    let (handled, effects) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let reader = {
        let (bus, handled, effects) = (bus.clone(), Arc::clone(&handled), Arc::clone(&effects));
        let handler = async move |message: rekindle_bus::Message| {
            let identity = String::from_utf8_lossy(&message.payload).into_owned();
            let first = in_transaction::<_, DbErr, _>(&db, async move |txn| {
                inbox::first_time(txn, "reader", &identity, Utc::now()).await
            });
            effects.fetch_add(u32::from(first.await.expect("commits")), Ordering::SeqCst);
            handled.fetch_add(1, Ordering::SeqCst);
            Disposition::Ack
        };
        let spec = quick("reader", streams::OUTCOMES);
        Running::spawn(|shutdown| tokio::spawn(consumer::run(bus, spec, handler, shutdown)))
    };
    eventually("three deliveries", async || match handled.load(Ordering::SeqCst) {
        3 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    reader.end().await;
    assert_eq!(effects.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_messages_become_dead_letters_and_the_others_are_processed() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    // The stream that the server is to check.
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Stream", streams::JOBS);
    for id in ["good-1", "dead", "never", "panics", "good-2"] {
        bus.publish("rekindle.jobs.cpu".into(), id, headers.clone(), id.into()).await.expect("published");
    }
    let tries = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let worker = {
        let (bus, tries) = (bus.clone(), Arc::clone(&tries));
        let spec = Consumer { max_deliveries: 3, concurrency: 4, ..quick("worker", streams::JOBS) };
        let handler = async move |message: rekindle_bus::Message| {
            let body = String::from_utf8_lossy(&message.payload).into_owned();
            *tries.lock().expect("no panic").entry(body.clone()).or_default() += 1;
            match body.as_str() {
                "dead" => Disposition::DeadLetter("not a job".into()),
                "never" => Disposition::Nak("no room".into()),
                "panics" => panic!("on purpose"),
                _ => Disposition::Ack,
            }
        };
        Running::spawn(|shutdown| tokio::spawn(consumer::run(bus, spec, handler, shutdown)))
    };
    let mut jobs = bus.jetstream().get_stream(streams::JOBS).await.expect("it exists");
    eventually("the work queue to be empty", async || match jobs.info().await {
        Ok(info) if info.state.messages == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    worker.end().await;
    let tries = tries.lock().expect("no panic").clone();
    let of = ["good-1", "dead", "never", "panics", "good-2"].map(|id| tries[id]);
    assert_eq!(of, [1, 1, 3, 1, 1]);
    let mut letters = Puller::new(bus.clone(), quick("letters", streams::DEAD_LETTERS));
    let letters = letters.next_batch(3, Duration::from_secs(5)).await.expect("the server is up");
    let mut reasons: Vec<_> = letters
        .iter()
        .map(|letter| {
            let headers = letter.headers.as_ref().expect("headers");
            assert_eq!(letter.subject.as_str(), "rekindle.dead.worker");
            assert_eq!(headers.get("Rekindle-Dead-Subject").map(|v| v.as_str()), Some("rekindle.jobs.cpu"));
            let reason = headers.get("Rekindle-Dead-Reason").expect("a reason").as_str().to_owned();
            (String::from_utf8_lossy(&letter.payload).into_owned(), reason)
        })
        .collect();
    reasons.sort();
    let expected = [
        ("dead", "not a job"),
        ("never", "after 3 deliveries: no room"),
        ("panics", "processing it panicked: on purpose"),
    ];
    assert_eq!(reasons, expected.map(|(body, reason)| (body.to_owned(), reason.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_progress_is_not_redelivered() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    publish(&bus, "rekindle.jobs.cpu", "long").await;
    let starts = Arc::new(AtomicU32::new(0));
    let release = CancellationToken::new();
    let spec = Consumer { ack_wait: Duration::from_millis(300), ..quick("worker", streams::JOBS) };
    let workers = [(), ()].map(|()| {
        let (bus, spec, starts, release) = (bus.clone(), spec.clone(), Arc::clone(&starts), release.clone());
        let handler = async move |_: rekindle_bus::Message| {
            starts.fetch_add(1, Ordering::SeqCst);
            release.cancelled().await;
            Disposition::Ack
        };
        Running::spawn(|shutdown| tokio::spawn(consumer::run(bus, spec, handler, shutdown)))
    });
    // By the server's own clock, the time for the acknowledgement would have expired several times.
    let mut jobs = bus.jetstream().get_stream(streams::JOBS).await.expect("it exists");
    let begun = eventually("the work to begin", async || match starts.load(Ordering::SeqCst) {
        0 => Err("not begun".into()),
        _ => jobs.info().await.cloned().map_err(|error| error.to_string()),
    })
    .await;
    assert_eq!(begun.state.messages, 1);
    let start = std::time::Instant::now();
    eventually("five times the patience of the server", async || {
        let passed = start.elapsed();
        if passed > spec.ack_wait * 5 { Ok(()) } else { Err(format!("{passed:?}")) }
    })
    .await;
    assert_eq!(starts.load(Ordering::SeqCst), 1);
    release.cancel();
    eventually("the work queue to be empty", async || match jobs.info().await {
        Ok(info) if info.state.messages == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for worker in workers {
        worker.end().await;
    }
    assert_eq!(starts.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_a_crashed_worker_is_redelivered() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    publish(&bus, "rekindle.jobs.cpu", "job").await;
    let spec = Consumer { ack_wait: Duration::from_millis(300), ..quick("worker", streams::JOBS) };
    let mut dying = Puller::new(bus.clone(), spec.clone());
    assert_eq!(dying.next(1).await.deliveries, 1);
    drop(dying);
    let again = Puller::new(bus.clone(), spec).next(1).await;
    assert_eq!((again.deliveries, &again.payload[..]), (2, &b"job"[..]));
    again.ack().await.expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_crashed_reader_are_redelivered_before_newer_ones() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    for n in 1..=3 {
        publish(&bus, "rekindle.outcomes.flights", &format!("o-{n}")).await;
    }
    // Redelivery must not depend on the time for the acknowledgement.
    let spec = Consumer { in_order: true, ack_wait: Duration::from_secs(3600), ..quick("reader", streams::OUTCOMES) };
    let mut crashed = Puller::new(bus.clone(), spec.clone());
    let taken = crashed.next_batch(3, Duration::from_secs(5)).await.expect("asked");
    assert_eq!(sequences(&taken), [1, 2, 3]);
    taken[0].ack().await.expect("acknowledged");
    taken[2].ack().await.expect("acknowledged");
    drop(crashed);
    publish(&bus, "rekindle.outcomes.flights", "o-4").await;
    let mut next = Puller::new(bus.clone(), spec);
    assert_eq!(sequences(&next.next_batch(3, Duration::from_secs(5)).await.expect("asked")), [2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_consumer_is_created_again() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut puller = Puller::new(bus.clone(), quick("reader", streams::OUTCOMES));
    publish(&bus, "rekindle.outcomes.m", "1").await;
    puller.next(1).await.ack().await.expect("acknowledged");
    bus.jetstream().delete_consumer_from_stream("reader", streams::OUTCOMES).await.expect("deleted");
    publish(&bus, "rekindle.outcomes.m", "2").await;
    // A new consumer begins at the beginning of the stream: the inbox detects what is redelivered.
    let again = puller.next(1).await;
    assert_eq!(&again.payload[..], b"1");
}
