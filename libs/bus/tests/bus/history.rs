//! Databases that lack what they have published, and streams that lack messages.

use rekindle_bus::{Bus, Error, history, streams::EVENTS};
use rekindle_store::{Config, outbox, sea_orm::DatabaseConnection};
use rekindle_testkit::NatsServer;
use tempfile::TempDir;

use crate::world::{Running, Tables, all_published, bus, commit};

const SERVICE: &str = "registry";

struct File {
    _folder: TempDir,
    config: Config,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config::at(format!("sqlite://{}/test.db", folder.path().display()));
        Self { _folder: folder, config }
    }

    async fn open(&self) -> DatabaseConnection {
        let db = rekindle_store::connect(&self.config).await.expect("it opens");
        rekindle_store::migrate::<Tables>(&db).await.expect("migrated");
        db
    }
}

async fn publish(bus: &Bus, db: &DatabaseConnection, events: std::ops::Range<u32>) {
    let relay = Running::relay(db, bus, "/rekindle/registry/1");
    for n in events {
        commit(db, n).await;
    }
    all_published(db).await;
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_events_that_are_on_the_bus_is_refused_unless_the_loss_is_accepted() {
    let server = NatsServer::start().await;
    let (bus, file) = (bus(&server).await, File::new());
    let db = file.open().await;
    history::verify(&bus, &db, SERVICE, &file.config).await.expect("both are empty");
    publish(&bus, &db, 0..40).await;
    history::verify(&bus, &db, SERVICE, &file.config).await.expect("they agree");

    // As a backup of an earlier time would have it.
    let own = outbox::history(&db).await.expect("readable");
    let other = File::new();
    let empty = other.open().await;
    let refused = history::verify(&bus, &empty, SERVICE, &other.config).await.expect_err("another database");
    assert!(matches!(&refused, Error::DataLoss { published: 40, .. }), "{refused}");
    assert!(refused.to_string().contains("emptied or replaced"), "{refused}");
    commit(&empty, 90).await;
    let claimed = outbox::claim(&empty, "/rekindle/registry/1", 10).await.expect("claimed");
    assert_eq!(claimed[0].position, 1);
    let accepting = Config { accept_data_loss: true, ..other.config.clone() };
    for _ in 0..2 {
        history::verify(&bus, &empty, SERVICE, &accepting).await.expect("accepted");
    }
    let continued = outbox::history(&empty).await.expect("readable");
    assert_eq!((continued.database, continued.claimed, continued.published), (own.database, 40, 40));
    // The event that was claimed before has a new position.
    publish(&bus, &empty, 91..95).await;
    assert_eq!(outbox::history(&empty).await.expect("readable").claimed, 45);
    history::verify(&bus, &empty, SERVICE, &other.config).await.expect("they agree again");

    let refused = history::verify(&bus, &db, SERVICE, &file.config).await.expect_err("the first one is older now");
    assert!(refused.to_string().contains("last transactions are lost"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_position_counts_not_that_of_the_last_message() {
    let server = NatsServer::start().await;
    let (bus, file) = (bus(&server).await, File::new());
    let db = file.open().await;
    publish(&bus, &db, 0..10).await;
    // Event 5 is published again after the others, as by a relay whose confirmation was lost.
    let stream = bus.jetstream().get_stream(EVENTS).await.expect("a stream");
    let again = stream.get_raw_message(5).await.expect("stored");
    let mut headers = again.headers.clone();
    headers.insert("Nats-Msg-Id", "again");
    bus.publish(again.subject.to_string(), "again", headers, again.payload).await.expect("stored");
    history::verify(&bus, &db, SERVICE, &file.config).await.expect("nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_the_messages_that_a_stream_has_lost() {
    let server = NatsServer::start().await;
    let (bus, file) = (bus(&server).await, File::new());
    let db = file.open().await;
    assert_eq!(bus.gaps(EVENTS).await.expect("read"), []);
    publish(&bus, &db, 0..30).await;
    assert_eq!(bus.gaps(EVENTS).await.expect("read"), []);
    let stream = bus.jetstream().get_stream(EVENTS).await.expect("a stream");
    // Messages that are deleted one by one look to readers as those that the server cannot read.
    for sequence in [3, 7, 8, 9, 29] {
        stream.delete_message(sequence).await.expect("deleted");
    }
    assert_eq!(bus.gaps(EVENTS).await.expect("read"), [3..=3, 7..=9, 29..=29]);
    stream.purge().sequence(8).await.expect("purged");
    assert_eq!(bus.gaps(EVENTS).await.expect("read"), [29..=29], "the oldest are discarded, not lost");
}
