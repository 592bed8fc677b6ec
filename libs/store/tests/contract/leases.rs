//! Leases of instances that run, and the migration from the orchestrator's former table of leases.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use rekindle_store::{
    Fence, LeaseError, Leases, in_transaction, migrate,
    sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement},
    sea_orm_migration::{
        MigrationName, MigrationTrait, MigratorTrait, SchemaManager,
        prelude::{Table, async_trait},
        schema::{big_integer, string, timestamp_with_time_zone},
    },
};
use rekindle_testkit::eventually;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Store, on_both};

on_both! {
    an_instance_that_ends_hands_over_at_once
    a_new_holder_sees_every_write_of_the_old_one
    epochs_of_the_former_table_go_on
}

const NAME: &str = "flight-delay";
/// Longer than a test: a lease changes hands by being released.
const LONG: Duration = Duration::from_secs(3600);

/// An instance that runs.
struct Instance {
    leases: Leases,
    stop: CancellationToken,
    running: JoinHandle<Result<(), std::convert::Infallible>>,
}

impl Instance {
    fn start(db: &DatabaseConnection, name: &str, length: Duration) -> Self {
        let leases = Leases::new(db.clone(), name.to_owned(), length);
        leases.claim(NAME);
        let stop = CancellationToken::new();
        let running = tokio::spawn(leases.clone().run(stop.clone()));
        Self { leases, stop, running }
    }

    async fn fence(&self) -> Fence {
        eventually("the lease to be held", async || self.leases.fence(NAME).ok_or_else(|| "not held".to_owned())).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("never fails");
    }
}

async fn check(db: &DatabaseConnection, fence: Fence) -> Result<(), LeaseError> {
    in_transaction(db, async move |txn| fence.check(txn).await).await
}

async fn an_instance_that_ends_hands_over_at_once(store: Store) {
    let db = store.migrated().await;
    let a = Instance::start(&db, "a", LONG);
    let old = a.fence().await;
    let b = Instance::start(&db, "b", LONG);
    check(&db, old.clone()).await.expect("the holder may write");
    assert!(!b.leases.is_held(NAME));
    a.end().await;
    let refused = check(&db, old.clone()).await.expect_err("released");
    assert!(matches!(refused, LeaseError::Lost { .. }), "{refused}");
    let new = b.fence().await;
    assert_eq!((old.epoch(), new.epoch()), (1, 2));
    check(&db, new).await.expect("the new holder may write");
    b.end().await;
}

/// Instances write under the lease without pause while it changes hands again and again. In the table, epochs must never go back, and each
/// must have one writer.
async fn a_new_holder_sees_every_write_of_the_old_one(store: Store) {
    const EPOCHS: i64 = 30;
    let db = store.migrated().await;
    db.execute_unprepared("CREATE TABLE effects (n INTEGER PRIMARY KEY, epoch BIGINT NOT NULL, writer TEXT NOT NULL)")
        .await
        .expect("created");
    let latest = AtomicI64::new(0);
    tokio::join!(
        write_until(&store, "a", &latest, EPOCHS),
        write_until(&store, "b", &latest, EPOCHS),
        write_until(&store, "c", &latest, EPOCHS),
    );
    let mut writer_of = BTreeMap::new();
    let mut last = 0;
    for (epoch, writer) in effects(&db).await.expect("rows") {
        assert!(epoch >= last, "epoch {epoch} wrote after epoch {last}");
        last = epoch;
        assert_eq!(writer_of.entry(epoch).or_insert_with(|| writer.clone()), &writer, "two writers in epoch {epoch}");
    }
    assert!(writer_of.len() > 3, "the lease changed hands: {writer_of:?}");
}

/// Writes under every fence that it gets, and releases the lease after a few writes.
async fn write_until(store: &Store, name: &'static str, latest: &AtomicI64, epochs: i64) {
    const WRITES: usize = 3;
    let db = store.open().await;
    let instance = Instance::start(&db, name, LONG);
    let mut changes = instance.leases.subscribe();
    while latest.load(Ordering::Relaxed) < epochs {
        let Some(fence) = instance.leases.fence(NAME) else {
            // Bounded, since another writer may reach the last epoch.
            tokio::time::timeout(Duration::from_millis(50), changes.changed()).await.ok();
            continue;
        };
        for _ in 0..WRITES {
            match write(&db, fence.clone(), name).await {
                Ok(()) => drop(latest.fetch_max(fence.epoch(), Ordering::Relaxed)),
                Err(LeaseError::Lost { .. }) => break,
                Err(LeaseError::Database(error)) => {
                    assert!(error.to_string().contains("serialize"), "{name}: {error}");
                }
            }
        }
        // The writes of a stale fence go on while the lease is handed over.
        instance.leases.release(NAME);
        while write(&db, fence.clone(), name).await.is_ok() {}
        instance.leases.claim(NAME);
    }
    instance.end().await;
}

async fn write(db: &DatabaseConnection, fence: Fence, writer: &'static str) -> Result<(), LeaseError> {
    in_transaction(db, async move |txn| {
        fence.check(txn).await?;
        let rows = effects(txn).await?;
        let sql = format!(
            "INSERT INTO effects (n, epoch, writer) VALUES ({}, {}, '{writer}')",
            rows.len() + 1,
            fence.epoch()
        );
        txn.execute_unprepared(&sql).await?;
        Ok(())
    })
    .await
}

async fn effects(db: &impl ConnectionTrait) -> Result<Vec<(i64, String)>, DbErr> {
    let select = Statement::from_string(db.get_database_backend(), "SELECT epoch, writer FROM effects ORDER BY n");
    let rows = db.query_all_raw(select).await?;
    rows.into_iter().map(|row| Ok((row.try_get("", "epoch")?, row.try_get("", "writer")?))).collect()
}

/// The orchestrator's database before leases were shared.
struct Former;

impl MigratorTrait for Former {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations: Vec<_> = rekindle_store::migrations::shared().into_iter().take(1).collect();
        migrations.push(Box::new(FormerLeases));
        migrations
    }
}

/// The same database afterwards: the shared migrations come first.
struct Present;

impl MigratorTrait for Present {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = rekindle_store::migrations::shared();
        migrations.push(Box::new(FormerLeases));
        migrations
    }
}

struct FormerLeases;

impl MigrationName for FormerLeases {
    fn name(&self) -> &'static str {
        "m20260101_000002_orchestrator"
    }
}

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "async_trait's expansion of the trait allows no named lifetime here")]
impl MigrationTrait for FormerLeases {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("leases")
            .col(string("name").primary_key())
            .col(string("holder"))
            .col(big_integer("epoch"))
            .col(timestamp_with_time_zone("until"))
            .take();
        manager.create_table(table).await
    }
}

async fn epochs_of_the_former_table_go_on(store: Store) {
    let db = store.open().await;
    migrate::<Former>(&db).await.expect("an empty database");
    db.execute_unprepared(&format!(
        "INSERT INTO leases (name, holder, epoch, until) VALUES ('{NAME}', 'before', 7, '2026-01-01 00:00:00+00:00')"
    ))
    .await
    .expect("inserted");
    migrate::<Present>(&db).await.expect("a filled database");
    migrate::<Present>(&db).await.expect("nothing to do");
    // The former holder may still act, so it is waited for.
    let instance = Instance::start(&db, "after", Duration::from_millis(200));
    assert_eq!(instance.fence().await.epoch(), 8);
    instance.end().await;
}
