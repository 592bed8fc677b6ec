//! What the tests share.

use std::time::Duration;

use async_nats::HeaderMap;
use chrono::Utc;
use rekindle_bus::{
    Bus, Config, Delivery, Error,
    cloudevent::{self, CloudEvent},
    consumer::{Backoff, Consumer, Puller},
    relay, streams,
};
use rekindle_domain::event::{EventContext, EventKind};
use rekindle_store::{
    in_transaction, outbox,
    sea_orm::{DatabaseConnection, DbErr},
    sea_orm_migration::{MigrationTrait, MigratorTrait},
};
use rekindle_testkit::{NatsServer, eventually};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) struct Tables;

impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        rekindle_store::migrations::shared()
    }
}

pub(crate) async fn bus(server: &NatsServer) -> Bus {
    let config = Config { publish_timeout: Duration::from_secs(2), ..Config::at(server.url()) };
    Bus::connect(&config).await.expect("the server is up")
}

pub(crate) async fn database() -> DatabaseConnection {
    let config = rekindle_store::Config { max_connections: 1, ..rekindle_store::Config::at("sqlite::memory:") };
    let db = rekindle_store::connect(&config).await.expect("it opens");
    rekindle_store::migrate::<Tables>(&db).await.expect("an empty database");
    db
}

/// A task under test, ended with its token; what it returned is checked.
pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) fn spawn(run: impl FnOnce(CancellationToken) -> JoinHandle<Result<(), Error>>) -> Self {
        let shutdown = CancellationToken::new();
        Self { task: run(shutdown.clone()), shutdown }
    }

    pub(crate) fn relay(db: &DatabaseConnection, bus: &Bus, source: &str) -> Self {
        let (db, bus, source) = (db.clone(), bus.clone(), source.to_owned());
        Self::spawn(|shutdown| tokio::spawn(relay::run(db, bus, source, relay::RETENTION, shutdown)))
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.task.await.expect("it did not panic").expect("it ended in order");
    }
}

pub(crate) fn event(n: u32) -> outbox::NewEvent {
    outbox::NewEvent {
        id: Uuid::now_v7(),
        kind: EventKind::ALIAS_MOVED,
        name: "flight-delay".into(),
        data: json!({ "revision": n.to_string() }),
        context: EventContext::correlated("workflow"),
        partition_key: "flight-delay".into(),
        time: Utc::now(),
    }
}

pub(crate) async fn commit(db: &DatabaseConnection, n: u32) {
    let event = event(n);
    in_transaction::<_, DbErr, _>(db, async move |txn| outbox::enqueue(txn, event.clone()).await)
        .await
        .expect("commits");
}

pub(crate) async fn all_published(db: &DatabaseConnection) {
    eventually("the outbox to be empty", async || match outbox::pending(db).await {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?} pending")),
    })
    .await;
}

/// Everything in the event stream, in order.
pub(crate) async fn events(bus: &Bus) -> Vec<CloudEvent> {
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

pub(crate) fn revisions(events: &[CloudEvent]) -> Vec<u32> {
    events.iter().map(|event| event.data["revision"].as_str().expect("text").parse().expect("a number")).collect()
}

pub(crate) fn quick(name: &str, stream: &'static str) -> Consumer {
    Consumer {
        backoff: Backoff { first: Duration::from_millis(10), last: Duration::from_millis(40) },
        ..Consumer::new(name, stream, [])
    }
}

pub(crate) async fn publish(bus: &Bus, subject: &str, id: &str) {
    bus.publish(subject.into(), id, HeaderMap::new(), id.to_owned().into()).await.expect("published");
}

pub(crate) fn sequences(taken: &[Delivery]) -> Vec<u64> {
    taken.iter().map(|delivery| delivery.sequence).collect()
}
