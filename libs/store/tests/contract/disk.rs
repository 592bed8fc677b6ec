//! Transactions that the database ends by itself: a full disk, a failed commit. What was acknowledged is there, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use rekindle_store::{
    Config, connect, in_transaction,
    sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement},
};
use rekindle_testkit::{Postgres, SmallDisk};
use uuid::Uuid;

async fn open(folder: &Path) -> DatabaseConnection {
    let url = format!("sqlite://{}/test.db", folder.display());
    connect(&Config { max_connections: 2, ..Config::at(url) }).await.expect("it opens")
}

async fn insert(db: &DatabaseConnection, id: i64) -> Result<(), DbErr> {
    in_transaction(db, async move |txn| {
        let insert = "INSERT INTO entries (id, text) VALUES ($1, $2)";
        // Random, since PostgreSQL compresses.
        let text: String = (0..60).map(|_| Uuid::new_v4().simple().to_string()).collect();
        let values = [id.into(), text.into()];
        txn.execute_raw(Statement::from_sql_and_values(txn.get_database_backend(), insert, values)).await.map(drop)
    })
    .await
}

async fn ids(db: &DatabaseConnection) -> BTreeSet<i64> {
    let select = Statement::from_string(db.get_database_backend(), "SELECT id FROM entries");
    let rows = db.query_all_raw(select).await.expect("readable");
    rows.iter().map(|row| row.try_get::<i64>("", "id").expect("an id")).collect()
}

/// What another process finds if this one is killed now.
async fn ids_after_a_kill(folder: &Path) -> BTreeSet<i64> {
    let copy = tempfile::tempdir().expect("a folder");
    for name in ["test.db", "test.db-wal"] {
        fs::copy(folder.join(name), copy.path().join(name)).expect("a file of the database");
    }
    ids(&open(copy.path()).await).await
}

const CREATE: &str = "CREATE TABLE entries (id BIGINT PRIMARY KEY, text TEXT NOT NULL)";

/// A database on a small disk.
trait OnSmallDisk {
    /// Its connections.
    fn db(&self) -> &DatabaseConnection;
    /// What is stored after a crash.
    async fn ids_after_a_crash(&mut self) -> BTreeSet<i64>;
}

struct Sqlite<'a> {
    db: DatabaseConnection,
    folder: &'a Path,
}

impl OnSmallDisk for Sqlite<'_> {
    fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    async fn ids_after_a_crash(&mut self) -> BTreeSet<i64> {
        ids_after_a_kill(self.folder).await
    }
}

struct OnPostgres {
    server: Postgres,
    db: DatabaseConnection,
}

impl OnSmallDisk for OnPostgres {
    fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    async fn ids_after_a_crash(&mut self) -> BTreeSet<i64> {
        self.server.crash_and_restart().await;
        ids(&self.db).await
    }
}

/// Fills and frees the disk three times while it writes.
async fn nothing_acknowledged_is_lost(disk: &SmallDisk, mut database: impl OnSmallDisk) {
    database.db().execute_unprepared(CREATE).await.expect("created");
    let (mut acknowledged, mut next) = (BTreeSet::new(), 0);
    for round in 0..3 {
        let mut write = async |db: &DatabaseConnection| {
            let mut failures = Vec::new();
            for _ in 0..50 {
                next += 1;
                match insert(db, next).await {
                    Ok(()) => _ = acknowledged.insert(next),
                    Err(error) => failures.push(error),
                }
            }
            failures
        };
        let failures = write(database.db()).await;
        assert!(failures.is_empty(), "round {round}: {failures:?}");
        disk.fill();
        let failures = write(database.db()).await;
        assert!(!failures.is_empty(), "round {round}: the disk is full");
        assert!(failures.iter().all(rekindle_store::is_transient), "round {round}: {failures:?}");
        disk.free();
        let failures = write(database.db()).await;
        assert!(failures.is_empty(), "round {round}, with room again: {failures:?}");
        assert_eq!(database.ids_after_a_crash().await, acknowledged, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_no_acknowledged_write_or_skipped() {
    let Some(disk) = SmallDisk::mount(8 << 20) else { return };
    let db = open(disk.path()).await;
    nothing_acknowledged_is_lost(&disk, Sqlite { db, folder: disk.path() }).await;
}

/// On PostgreSQL the tables are on the small disk, and the write-ahead log is not: without room for that the server stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_tablespace_loses_no_acknowledged_write_or_skipped() {
    let Some(disk) = SmallDisk::mount(32 << 20) else { return };
    let server = Postgres::start().await;
    let folder = disk.path().join("tablespace");
    fs::create_dir(&folder).expect("a folder");
    let url = server.fresh_database_in(&folder).await;
    let db = connect(&Config { max_connections: 2, ..Config::at(url) }).await.expect("it opens");
    nothing_acknowledged_is_lost(&disk, OnPostgres { server, db }).await;
}

/// The connection that failed is the only one: later transactions would run inside of one that nobody commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_database_ended_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let db = connect(&Config { max_connections: 1, ..Config::at(url) }).await.expect("it opens");
    db.execute_unprepared(
        "CREATE TABLE entries (id BIGINT PRIMARY KEY, text TEXT NOT NULL);
         CREATE TABLE children (parent BIGINT REFERENCES entries (id) DEFERRABLE INITIALLY DEFERRED)",
    )
    .await
    .expect("created");
    let rolled_back = in_transaction(&db, async |txn| {
        txn.execute_unprepared("INSERT INTO entries VALUES (1, 'rolled back')").await?;
        // As SQLite does by itself when the disk is full.
        txn.execute_unprepared("ROLLBACK").await?;
        Err::<(), _>(DbErr::Custom("full".to_owned()))
    });
    rolled_back.await.expect_err("an error of the work");
    insert(&db, 2).await.expect("on another connection");
    let refused =
        in_transaction(&db, async |txn| txn.execute_unprepared("INSERT INTO children VALUES (77)").await.map(drop));
    let refused: Result<(), DbErr> = refused.await;
    refused.expect_err("the commit fails: there is no such parent");
    insert(&db, 3).await.expect("on another connection");
    let lost = in_transaction(&db, async |txn| {
        txn.execute_unprepared("ROLLBACK").await?;
        txn.execute_unprepared("INSERT INTO entries VALUES (4, 'outside of any transaction')").await.map(drop)
    });
    let lost: Result<(), DbErr> = lost.await;
    lost.expect_err("there is nothing to commit");
    insert(&db, 5).await.expect("on another connection");
    let found = ids_after_a_kill(folder.path()).await;
    assert!(found.is_superset(&[2, 3, 5].into()) && !found.contains(&1), "{found:?}");
}
