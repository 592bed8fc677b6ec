//! The bus against a real nats-server: what is promised holds while servers die, handlers fail and messages come twice.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_nats::{HeaderMap, jetstream::stream::DirectGetErrorKind};
use chrono::Utc;
use rekindle_bus::{
    Bus, Config, Delivery, Error,
    cloudevent::{self, CloudEvent},
    consumer::{self, Backoff, Consumer, Outcome, Puller},
    relay,
    streams::{self, Progress},
};
use rekindle_domain::event::EventKind;
use rekindle_proto::client::Context;
use rekindle_store::{
    in_transaction, inbox, outbox,
    sea_orm::{DatabaseConnection, DbErr},
    sea_orm_migration::{MigrationTrait, MigratorTrait},
};
use rekindle_testkit::{NatsServer, eventually};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Shared;

impl MigratorTrait for Shared {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        rekindle_store::migrations::shared()
    }
}

async fn bus(server: &NatsServer) -> Bus {
    let config = Config { publish_timeout: Duration::from_secs(2), ..Config::at(server.url()) };
    Bus::connect(&config).await.expect("the server is up")
}

async fn database() -> DatabaseConnection {
    let config = rekindle_store::Config { url: "sqlite::memory:".into(), max_connections: 1 };
    let db = rekindle_store::connect(&config).await.expect("it opens");
    rekindle_store::migrate::<Shared>(&db).await.expect("an empty database");
    db
}

/// A task under test, ended with its token; what it returned is checked.
struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn spawn(run: impl FnOnce(CancellationToken) -> JoinHandle<Result<(), Error>>) -> Self {
        let shutdown = CancellationToken::new();
        Self { task: run(shutdown.clone()), shutdown }
    }

    fn relay(db: &DatabaseConnection, bus: &Bus, source: &str) -> Self {
        let (db, bus, source) = (db.clone(), bus.clone(), source.to_owned());
        Self::spawn(|shutdown| tokio::spawn(relay::run(db, bus, source, shutdown)))
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.expect("it did not panic").expect("it ended in order");
    }
}

fn event(n: u32) -> outbox::NewEvent {
    outbox::NewEvent {
        id: Uuid::now_v7(),
        kind: EventKind::ALIAS_MOVED,
        name: "flight-delay".into(),
        data: json!({ "revision": n.to_string() }),
        context: Context::correlated("trip"),
        partition_key: "flight-delay".into(),
        time: Utc::now(),
    }
}

async fn commit(db: &DatabaseConnection, n: u32) {
    let event = event(n);
    in_transaction::<_, DbErr, _>(db, async move |txn| outbox::enqueue(txn, event.clone()).await)
        .await
        .expect("commits");
}

async fn all_published(db: &DatabaseConnection) {
    eventually("the outbox to be empty", async || match outbox::pending(db).await {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?} pending")),
    })
    .await;
}

/// Everything in the event stream, in order.
async fn events(bus: &Bus) -> Vec<CloudEvent> {
    let mut stream = bus.jetstream().get_stream(streams::EVENTS).await.expect("it exists");
    let count = stream.info().await.expect("it answers").state.messages as usize;
    let mut puller = Puller::new(bus.clone(), Consumer::new(format!("all-{}", Uuid::new_v4()), streams::EVENTS, []));
    let mut events = Vec::new();
    while events.len() < count {
        for delivery in puller.next_batch(count, Duration::from_secs(1)).await.expect("the server is up") {
            events.push(cloudevent::from_message(&delivery).expect("a CloudEvent"));
            delivery.ack().await.expect("acknowledged");
        }
    }
    events
}

fn revisions(events: &[CloudEvent]) -> Vec<u32> {
    events.iter().map(|event| event.data["revision"].as_str().expect("text").parse().expect("a number")).collect()
}

fn quick(name: &str, stream: &'static str) -> Consumer {
    Consumer {
        backoff: Backoff { first: Duration::from_millis(10), last: Duration::from_millis(40) },
        ..Consumer::new(name, stream, [])
    }
}

async fn publish(bus: &Bus, subject: &str, id: &str) {
    bus.publish(subject.into(), id, HeaderMap::new(), id.to_owned().into()).await.expect("published");
}

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
    assert_eq!(outbox::published_total(&db).await, Ok(300));
    let first = &events[0];
    assert_eq!((first.source.as_str(), first.context.correlation_id.as_str()), ("/rekindle/test/1", "trip"));
    assert!((first.recorded_time - first.time).abs().num_seconds() < 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_tell_each_event_once() {
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
    assert_eq!(revisions(&events(&bus).await), (0..200).collect::<Vec<_>>());
    assert_eq!(outbox::published_total(&db).await, Ok(200));
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
                    Outcome::Ack
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
    bus.replicas().await.expect("still there").put("a", "alive".into()).await.expect("put");
    let told = revisions(&events(&bus).await);
    let mut once = told.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!((told.len(), once.len()), (62, 62), "each event once: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_while_the_bus_is_away_fails_clearly_within_the_bound() {
    let mut server = NatsServer::start().await;
    let bus = bus(&server).await;
    publish(&bus, "rekindle.jobs.cpu", "before").await;
    server.kill();
    let start = std::time::Instant::now();
    let refused = bus.publish("rekindle.jobs.cpu".into(), "during", HeaderMap::new(), "x".into()).await;
    let error = refused.expect_err("nobody is there");
    assert!(error.is_transient() && matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    server.restart().await;
    publish(&bus, "rekindle.jobs.cpu", "after").await;
    let nowhere = bus.publish("nobody.listens".into(), "x", HeaderMap::new(), "x".into()).await;
    assert!(matches!(nowhere, Err(Error::Refused { .. })), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_twice_has_one_effect() {
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
            Outcome::Ack
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
async fn poison_is_set_aside_with_its_reason_and_the_rest_goes_on() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    for id in ["good-1", "dead", "never", "good-2"] {
        publish(&bus, "rekindle.jobs.cpu", id).await;
    }
    let tries = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let worker = {
        let (bus, tries) = (bus.clone(), Arc::clone(&tries));
        let spec = Consumer { max_deliveries: 3, concurrency: 4, ..quick("worker", streams::JOBS) };
        let handler = async move |message: rekindle_bus::Message| {
            let body = String::from_utf8_lossy(&message.payload).into_owned();
            *tries.lock().expect("no panic").entry(body.clone()).or_default() += 1;
            match body.as_str() {
                "dead" => Outcome::Dead("not a job".into()),
                "never" => Outcome::Retry("no room".into()),
                _ => Outcome::Ack,
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
    assert_eq!([tries["good-1"], tries["dead"], tries["never"], tries["good-2"]], [1, 1, 3, 1]);
    let mut letters = Puller::new(bus.clone(), quick("letters", streams::DEAD_LETTERS));
    let letters = letters.next_batch(2, Duration::from_secs(5)).await.expect("the server is up");
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
    let expected = [("dead", "not a job"), ("never", "after 3 deliveries: no room")];
    assert_eq!(reasons, expected.map(|(body, reason)| (body.to_owned(), reason.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_work_is_not_delivered_to_anybody_else() {
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
            Outcome::Ack
        };
        Running::spawn(|shutdown| tokio::spawn(consumer::run(bus, spec, handler, shutdown)))
    });
    // The server's own clock tells when the time without a sign of life would have run out several times.
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
async fn work_of_a_dead_worker_is_delivered_again() {
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
async fn what_a_dead_reader_left_comes_again_before_what_is_newer() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    for n in 1..=3 {
        publish(&bus, "rekindle.outcomes.flights", &format!("o-{n}")).await;
    }
    // Nothing is to wait for the patience that the server has with the dead.
    let spec = Consumer { in_order: true, ack_wait: Duration::from_secs(3600), ..quick("reader", streams::OUTCOMES) };
    let mut dead = Puller::new(bus.clone(), spec.clone());
    let taken = dead.next_batch(3, Duration::from_secs(5)).await.expect("asked");
    assert_eq!(sequences(&taken), [1, 2, 3]);
    taken[0].ack().await.expect("acknowledged");
    taken[2].ack().await.expect("acknowledged");
    drop(dead);
    publish(&bus, "rekindle.outcomes.flights", "o-4").await;
    let mut next = Puller::new(bus.clone(), spec);
    assert_eq!(sequences(&next.next_batch(3, Duration::from_secs(5)).await.expect("asked")), [2, 3, 4]);
}

fn sequences(taken: &[Delivery]) -> Vec<u64> {
    taken.iter().map(|delivery| delivery.sequence).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_passes_what_was_acknowledged_and_what_is_gone() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let spec = Consumer { in_order: true, ..quick("reader", streams::OUTCOMES) };
    let progress = async |last, done| {
        eventually("the reader's progress", async || match bus.progress(streams::OUTCOMES, "reader").await {
            Ok(is) if is == (Progress { last, done }) => Ok(is),
            other => Err(format!("{other:?}")),
        })
        .await
    };
    assert!(progress(0, 0).await.has_passed(0), "nobody reads, but nothing is there to be read");
    for n in 1..=4 {
        publish(&bus, "rekindle.outcomes.m", &format!("o-{n}")).await;
    }
    assert!(!progress(4, 0).await.has_passed(1));
    let mut puller = Puller::new(bus.clone(), spec.clone());
    let taken = puller.next_batch(4, Duration::from_secs(5)).await.expect("asked");
    assert!(!progress(4, 0).await.has_passed(1), "delivered is not done");
    taken[1].ack().await.expect("acknowledged");
    taken[0].ack().await.expect("acknowledged");
    let half = progress(4, 2).await;
    assert!(half.has_passed(2) && !half.has_passed(3));
    // One that goes on where the other ended has come as far, and so has what left the stream unread.
    let mut next = Puller::new(bus.clone(), spec);
    assert_eq!(sequences(&next.next_batch(2, Duration::from_secs(5)).await.expect("asked")), [3, 4]);
    progress(4, 2).await;
    let stream = bus.jetstream().get_stream(streams::OUTCOMES).await.expect("it exists");
    stream.purge().await.expect("purged");
    let all = progress(4, 4).await;
    assert!(all.has_passed(4) && all.has_passed(9), "it waits for nothing that the stream never had");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_deleted_is_made_again() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut puller = Puller::new(bus.clone(), quick("reader", streams::OUTCOMES));
    publish(&bus, "rekindle.outcomes.m", "1").await;
    puller.next(1).await.ack().await.expect("acknowledged");
    bus.jetstream().delete_consumer_from_stream("reader", streams::OUTCOMES).await.expect("deleted");
    publish(&bus, "rekindle.outcomes.m", "2").await;
    // A new consumer begins at the beginning: what it is told again, the inbox knows.
    let again = puller.next(1).await;
    assert_eq!(&again.payload[..], b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_up_twice_changes_nothing_and_leases_run_out() {
    let server = NatsServer::start().await;
    let limits = streams::Limits { replica_lease: Duration::from_secs(1), ..Default::default() };
    let config = Config { limits, ..Config::at(server.url()) };
    let first = Bus::connect(&config).await.expect("the server is up");
    publish(&first, "rekindle.jobs.cpu", "job").await;
    let second = Bus::connect(&config).await.expect("again");
    let jobs = second.jetstream().get_stream(streams::JOBS).await.expect("it exists");
    assert_eq!(jobs.cached_info().state.messages, 1);
    assert!(jobs.direct_get(2).await.is_err_and(|error| error.kind() == DirectGetErrorKind::NotFound));
    let (replicas, deployments) =
        (second.replicas().await.expect("bucket"), second.deployments().await.expect("bucket"));
    replicas.put("a", "alive".into()).await.expect("put");
    deployments.put("flight-delay", "desired".into()).await.expect("put");
    eventually("the lease to run out", async || match replicas.get("a").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(deployments.get("flight-delay").await.expect("it answers").is_some());
}
