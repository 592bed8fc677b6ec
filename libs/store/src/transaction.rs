//! Transactions that behave alike on both databases: serializable, and run again when another one got in between.

use std::{cell::Cell, error::Error as StdError, time::Duration};

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, RuntimeErr, SqliteTransactionMode,
    SqlxError, TransactionOptions, TransactionTrait,
};

use crate::outbox;

/// How often a transaction is tried before its error is the caller's.
const ATTEMPTS: u32 = 12;

/// How often one that met a duplicate key is. PostgreSQL may tell a lost race so, when the rival that wrote the key committed after
/// this transaction had looked for it: run again, it sees the rival's row. A duplicate that stays is the caller's error.
const COLLISIONS: u32 = 3;

/// An error that a transaction may end with: anything that can hold, and show as its source, what the database said.
pub trait RetryableError: StdError + From<DbErr> + 'static {}
impl<E: StdError + From<DbErr> + 'static> RetryableError for E {}

/// Runs `work` in a transaction and commits it; an error of `work` rolls everything back.
///
/// On SQLite the transaction is the only writer from its beginning (`BEGIN IMMEDIATE`), waiting its turn for 30 s; on PostgreSQL it
/// is serializable. `work` runs again, up to 12 times with growing pauses, when the database says that it lost a
/// race, so it must have no effect outside of `txn`. Inside of it every statement must go through `txn`: one on the
/// pool might wait for this very transaction.
///
/// Write `work` as an `async move` closure that owns what it uses: where it holds references, today's compiler cannot see that
/// the future may move between threads, as calls in a server do.
pub async fn in_transaction<T, E, F>(db: &DatabaseConnection, work: F) -> Result<T, E>
where
    E: RetryableError,
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    let mut attempt = 1;
    loop {
        match attempt_once(db, &work).await {
            Err(error)
                if attempt < ATTEMPTS && (lost_a_race(&error) || (attempt <= COLLISIONS && collided(&error))) =>
            {
                tracing::debug!(attempt, %error, "transaction lost a race, running it again");
                tokio::time::sleep(pause(attempt)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn attempt_once<T, E, F>(db: &DatabaseConnection, work: &F) -> Result<T, E>
where
    E: RetryableError,
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    let txn = begin(db).await?;
    let (result, told) = outbox::TOLD
        .scope(Cell::new(false), async {
            let result = work(&txn).await;
            (result, outbox::TOLD.with(Cell::get))
        })
        .await;
    match result {
        Ok(value) => {
            txn.commit().await?;
            if told {
                outbox::wake();
            }
            Ok(value)
        }
        Err(error) => {
            if let Err(rollback) = txn.rollback().await {
                tracing::debug!(error = %rollback, "rollback failed; the connection is discarded");
            }
            Err(error)
        }
    }
}

async fn begin(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let isolation = (db.get_database_backend() == DbBackend::Postgres).then_some(IsolationLevel::Serializable);
    db.begin_with_options(TransactionOptions {
        isolation_level: isolation,
        access_mode: None,
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
    })
    .await
}

/// A transaction for migrations: the only writer on SQLite; on PostgreSQL it sees what others committed while it waited for a lock.
pub(crate) async fn begin_exclusive(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    db.begin_with_options(TransactionOptions {
        isolation_level: None,
        access_mode: None,
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
    })
    .await
}

/// 2 ms doubling to 128 ms, with jitter so that rivals do not meet again.
fn pause(attempt: u32) -> Duration {
    let ceiling = 2_u64 << attempt.min(6);
    Duration::from_millis(ceiling / 2 + u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * ceiling / 512)
}

/// Whether a key was there already.
fn collided(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let told = error.downcast_ref::<DbErr>().and_then(DbErr::sql_err);
        if matches!(told, Some(sea_orm::SqlErr::UniqueConstraintViolation(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether the database refused because of another transaction: PostgreSQL's serialization failure (40001) and deadlock (40P01),
/// SQLite's busy (5, with its extended codes).
fn lost_a_race(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = driver_code(error) {
            return match code.parse::<u32>() {
                Ok(sqlite) if code.len() < 5 => sqlite & 0xff == 5,
                _ => code == "40001" || code == "40P01",
            };
        }
        next = error.source();
    }
    false
}

fn driver_code(error: &(dyn StdError + 'static)) -> Option<String> {
    let runtime = match error.downcast_ref::<DbErr>() {
        Some(DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime)) => runtime,
        _ => error.downcast_ref::<RuntimeErr>()?,
    };
    match runtime {
        RuntimeErr::SqlxError(error) => match error.as_ref() {
            SqlxError::Database(error) => error.code().map(|code| code.into_owned()),
            _ => None,
        },
        RuntimeErr::Internal(_) => None,
    }
}
