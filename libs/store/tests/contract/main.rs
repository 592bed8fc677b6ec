//! One contract, two databases: every test runs on SQLite and on PostgreSQL.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{
    Digest,
    event::{EventContext, EventKind},
};
use rekindle_store::{
    Config, connect, idempotency,
    idempotency::Seen,
    in_transaction, inbox, migrate, outbox, retention,
    sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement},
    sea_orm_migration::{MigrationTrait, MigratorTrait},
};
use serde_json::json;
use uuid::Uuid;

mod audit;
mod disk;
mod dropped;
mod leases;

struct Shared;

impl MigratorTrait for Shared {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        rekindle_store::migrations::shared()
    }
}

/// Runs a test of the contract on both databases.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let folder = tempfile::tempdir().expect("a folder");
                let url = format!("sqlite://{}/new/folder/test.db", folder.path().display());
                super::$test(crate::Store { url }).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let server = rekindle_testkit::Postgres::start().await;
                super::$test(crate::Store { url: server.fresh_database().await }).await;
            })*
        }
    };
}
use on_both;

on_both! {
    a_committed_event_is_published_and_a_rolled_back_one_is_not
    events_leave_in_order_and_are_counted_once
    a_second_relay_keeps_the_source_of_the_first
    a_message_has_one_effect_per_consumer
    a_key_answers_its_own_request_only
    writers_from_many_tasks_lose_no_update
    calls_with_one_key_at_once_have_one_effect
    migrations_may_start_everywhere_at_once
    what_was_committed_is_there_after_reopening
    old_rows_are_forgotten
    oversized_events_are_refused
}

struct Store {
    url: String,
}

impl Store {
    async fn open(&self) -> DatabaseConnection {
        connect(&Config { max_connections: 8, ..Config::at(self.url.clone()) }).await.expect("it opens")
    }

    async fn migrated(&self) -> DatabaseConnection {
        let db = self.open().await;
        migrate::<Shared>(&db).await.expect("an empty database");
        db
    }
}

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00.123456Z".parse().expect("a time")
}

fn event(n: u32) -> outbox::NewEvent {
    outbox::NewEvent {
        id: Uuid::from_u128(n.into()),
        kind: EventKind::ALIAS_MOVED,
        name: "flight-delay".into(),
        data: json!({ "n": n, "text": "ä" }),
        context: EventContext { correlation_id: "workflow".into(), causation_id: "cause".into() },
        partition_key: "flight-delay".into(),
        time: now(),
    }
}

async fn enqueue(db: &DatabaseConnection, n: u32) {
    in_transaction::<_, DbErr, _>(db, async move |txn| outbox::enqueue(txn, event(n)).await).await.expect("it commits");
}

async fn a_committed_event_is_published_and_a_rolled_back_one_is_not(store: Store) {
    let db = store.migrated().await;
    let woken = outbox::woken();
    enqueue(&db, 1).await;
    woken.await;
    let refused: Result<(), DbErr> = in_transaction(&db, async |txn| {
        outbox::enqueue(txn, event(2)).await?;
        Err(DbErr::Custom("rolled back".into()))
    })
    .await;
    assert!(refused.is_err());
    let rows = outbox::claim(&db, "/rekindle/test/1", 10).await.expect("rows");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].event, event(1));
    assert_eq!(rows[0].source, "/rekindle/test/1");
}

async fn events_leave_in_order_and_are_counted_once(store: Store) {
    let db = store.migrated().await;
    for n in 1..=5 {
        enqueue(&db, n).await;
    }
    let rows = outbox::claim(&db, "/rekindle/test/1", 3).await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.event.id).collect::<Vec<_>>(), [1_u128, 2, 3].map(Uuid::from_u128));
    let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
    outbox::mark_published(&db, &sequences).await.expect("marked");
    outbox::mark_published(&db, &sequences).await.expect("marked again, by another relay");
    assert_eq!(outbox::history(&db).await.expect("a history").published, 3);
    assert_eq!(outbox::pending(&db).await.expect("a count"), 2);
    // A sequence is never used twice, though the rows before it are deleted.
    let rest = outbox::claim(&db, "/rekindle/test/1", 10).await.expect("rows");
    outbox::mark_published(&db, &rest.iter().map(|row| row.sequence).collect::<Vec<_>>()).await.expect("marked");
    enqueue(&db, 6).await;
    let last = outbox::claim(&db, "/rekindle/test/1", 10).await.expect("rows");
    assert!(last[0].sequence > rest[1].sequence);
}

async fn a_second_relay_keeps_the_source_of_the_first(store: Store) {
    let db = store.migrated().await;
    enqueue(&db, 1).await;
    let first = outbox::claim(&db, "/rekindle/test/1", 10).await.expect("rows");
    let second = outbox::claim(&db, "/rekindle/test/2", 10).await.expect("rows");
    assert_eq!(first, second);
}

async fn a_message_has_one_effect_per_consumer(store: Store) {
    let db = store.migrated().await;
    let first = async |consumer: &str, id: &str| {
        in_transaction::<_, DbErr, _>(&db, async |txn| inbox::first_time(txn, consumer, id, now()).await).await
    };
    assert_eq!(first("a", "1").await, Ok(true));
    assert_eq!(first("a", "1").await, Ok(false));
    assert_eq!(first("a", "2").await, Ok(true));
    assert_eq!(first("b", "1").await, Ok(true));
}

async fn a_key_answers_its_own_request_only(store: Store) {
    let db = store.migrated().await;
    let (request, other) = (Digest::of(b"request"), Digest::of(b"other"));
    let answer = json!({ "version": 3 });
    assert_eq!(idempotency::look_up(&db, "Create", "k", &request).await, Ok(Seen::New));
    idempotency::record(&db, "Create", "k", &request, &answer, now()).await.expect("recorded");
    assert_eq!(idempotency::look_up(&db, "Create", "k", &request).await, Ok(Seen::Same(answer)));
    assert_eq!(idempotency::look_up(&db, "Create", "k", &other).await, Ok(Seen::Different));
    assert_eq!(idempotency::look_up(&db, "Delete", "k", &request).await, Ok(Seen::New));
}

/// Read, compute, write: on either database, a conflict leads to a retry and never to a lost update.
async fn writers_from_many_tasks_lose_no_update(store: Store) {
    const TASKS: u32 = 16;
    const EACH: u32 = 10;
    let db = store.migrated().await;
    db.execute_unprepared("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)").await.expect("made");
    db.execute_unprepared("INSERT INTO counter VALUES (1, 0)").await.expect("inserted");
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment_patiently(&db).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no writer failed");
    }
    assert_eq!(counter(&db).await, Ok(i64::from(TASKS * EACH)));
}

/// Sixteen tasks write one row, more than in any service, so a writer that had twelve conflicts in a row starts again.
async fn increment_patiently(db: &DatabaseConnection) {
    for _ in 0..20 {
        match in_transaction::<_, DbErr, _>(db, async |txn| {
            let n = counter(txn).await?;
            txn.execute_unprepared(&format!("UPDATE counter SET n = {} WHERE id = 1", n + 1)).await.map(drop)
        })
        .await
        {
            Ok(()) => return,
            Err(error) => assert!(error.to_string().contains("serialize"), "{error}"),
        }
    }
    panic!("a writer had conflicts only");
}

async fn counter(db: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let select = Statement::from_string(db.get_database_backend(), "SELECT CAST(n AS BIGINT) AS n FROM counter");
    db.query_one_raw(select).await?.expect("one row").try_get("", "n")
}

async fn calls_with_one_key_at_once_have_one_effect(store: Store) {
    let db = store.migrated().await;
    let effects = Arc::new(AtomicU32::new(0));
    let calls: Vec<_> = (0..8)
        .map(|caller| {
            let (db, effects) = (db.clone(), Arc::clone(&effects));
            tokio::spawn(async move {
                let (answer, fresh) = create(&db, caller).await.expect("answered");
                effects.fetch_add(u32::from(fresh), Ordering::Relaxed);
                answer
            })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("no call failed"));
    }
    assert_eq!(effects.load(Ordering::Relaxed), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

async fn create(db: &DatabaseConnection, caller: u32) -> Result<(serde_json::Value, bool), DbErr> {
    let request = Digest::of(b"the same for all");
    in_transaction(db, async move |txn| match idempotency::look_up(txn, "Create", "k", &request).await? {
        Seen::Same(answer) => Ok((answer, false)),
        Seen::Different => Err(DbErr::Custom("the request is the same".into())),
        Seen::New => {
            let answer = json!({ "created_by": caller });
            outbox::enqueue(txn, event(1)).await?;
            idempotency::record(txn, "Create", "k", &request, &answer, now()).await?;
            Ok((answer, true))
        }
    })
    .await
}

async fn migrations_may_start_everywhere_at_once(store: Store) {
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let url = store.url.clone();
            tokio::spawn(async move {
                let db = connect(&Config { max_connections: 2, ..Config::at(url) }).await.expect("it opens");
                migrate::<Shared>(&db).await.expect("once, or not at all");
            })
        })
        .collect();
    for start in starts {
        start.await.expect("no start failed");
    }
    enqueue(&store.open().await, 1).await;
}

async fn what_was_committed_is_there_after_reopening(store: Store) {
    let db = store.migrated().await;
    enqueue(&db, 1).await;
    db.close().await.expect("it was open");
    assert_eq!(outbox::pending(&store.migrated().await).await, Ok(1));
}

async fn old_rows_are_forgotten(store: Store) {
    let db = store.migrated().await;
    for (id, age) in [("old", 40), ("new", 1)] {
        inbox::first_time(&db, "a", id, now() - TimeDelta::days(age)).await.expect("noted");
    }
    assert_eq!(retention::forget(&db, now() - TimeDelta::days(30)).await, Ok(1));
    assert_eq!(inbox::first_time(&db, "a", "old", now()).await, Ok(true));
    assert_eq!(inbox::first_time(&db, "a", "new", now()).await, Ok(false));
}

async fn oversized_events_are_refused(store: Store) {
    let db = store.migrated().await;
    let large = outbox::NewEvent { data: json!("x".repeat(outbox::MAX_DATA_BYTES)), ..event(1) };
    let refused = outbox::enqueue(&db, large).await.expect_err("too large").to_string();
    assert!(refused.contains("alias.moved") && refused.contains("at most"), "{refused}");
}

#[tokio::test]
async fn a_database_in_memory_serves_a_test() {
    let db = connect(&Config { max_connections: 8, ..Config::at("sqlite::memory:") }).await.expect("it opens");
    migrate::<Shared>(&db).await.expect("an empty database");
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            tokio::spawn({
                let db = db.clone();
                async move { enqueue(&db, n).await }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no writer failed");
    }
    assert_eq!(outbox::pending(&db).await, Ok(10));
}
