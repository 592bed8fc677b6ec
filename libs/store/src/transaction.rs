//! Transactions with the same behaviour on both databases: serializable, and retried on a conflict with another one.

use std::{cell::Cell, error::Error as StdError, time::Duration};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, RuntimeErr,
    SqliteTransactionMode, SqlxError, StatementBuilder, TransactionOptions, TransactionTrait,
};

use crate::{
    group::{Ended, Turn},
    outbox,
};

/// Attempts before the error is returned to the caller.
const ATTEMPTS: u32 = 12;

/// Attempts after a duplicate key. PostgreSQL may report a conflict as such, when the transaction that wrote the key committed after
/// this one had searched for it: the next attempt sees the row. A duplicate that stays is returned to the caller.
const DUPLICATE_ATTEMPTS: u32 = 3;

/// An error that a transaction may end with: it can be made from the database's error, and has it as its source.
pub trait RetryableError: StdError + From<DbErr> + 'static {}
impl<E: StdError + From<DbErr> + 'static> RetryableError for E {}

/// Runs `work` in a transaction and commits it; an error of `work` rolls everything back.
///
/// On SQLite the transaction is the only writer from its beginning (`BEGIN IMMEDIATE`), and waits up to 30 s for that; transactions of one
/// process take turns, and are committed together where they wait for each other. On PostgreSQL it is serializable. If the database reports a conflict, `work` runs again, up to 12 times with growing pauses, so it must have no effect outside of
/// `txn`. Every statement in it must use `txn`: one on the pool could wait for this transaction.
///
/// Write `work` as an `async move` closure that owns what it uses: where it holds references, the compiler cannot prove that the
/// future is `Send`, as a server requires.
pub async fn in_transaction<T, E, F>(db: &DatabaseConnection, work: F) -> Result<T, E>
where
    E: RetryableError,
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    let mut attempt = 1;
    loop {
        let done = match db.get_database_backend() {
            // After an attempt that failed with others, alone: its own error decides.
            DbBackend::Sqlite => attempt_in_turn(db, &work, attempt > 1).await,
            _ => match begin(db).await {
                Ok(txn) => attempt_once(txn, &work).await.map(Some),
                Err(error) => Err(error.into()),
            },
        };
        match done {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => attempt += 1,
            Err(error)
                if attempt < ATTEMPTS
                    && (is_conflict(&error) || (attempt <= DUPLICATE_ATTEMPTS && is_duplicate(&error))) =>
            {
                tracing::debug!(attempt, %error, "transaction conflicted with another, retrying");
                tokio::time::sleep(pause(attempt)).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs `work` in a transaction whose statements see everything that was committed before each of them, and commits it. For work that waits for a lock
/// and has to see what the former holder has written: on PostgreSQL, a serializable transaction sees the state of its beginning, which is before
/// it waits. It is not repeated.
pub async fn in_read_committed<T, E, F>(db: &DatabaseConnection, work: F) -> Result<T, E>
where
    E: RetryableError,
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    match db.get_database_backend() {
        DbBackend::Sqlite => in_transaction(db, work).await,
        _ => attempt_once(begin_exclusive(db).await?, &work).await,
    }
}

/// Runs `work` with a flag for enqueued events.
async fn attended<T, E, F>(txn: &DatabaseTransaction, work: &F) -> (Result<T, E>, bool)
where
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    let attended = async {
        let result = work(txn).await;
        (result, outbox::ENQUEUED.with(Cell::get))
    };
    outbox::ENQUEUED.scope(Cell::new(false), attended).await
}

/// An attempt on SQLite; `None` if the transaction that it was a part of was not committed.
async fn attempt_in_turn<T, E, F>(db: &DatabaseConnection, work: &F, alone: bool) -> Result<Option<T>, E>
where
    E: RetryableError,
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    if outbox::ENQUEUED.try_with(|_| ()).is_ok() {
        let problem = "a transaction began within another one, and would wait for it for ever";
        return Err(DbErr::Custom(problem.to_owned()).into());
    }
    let turn = Turn::begin(db, alone).await?;
    let (result, enqueued) = attended(turn.txn(), work).await;
    match result {
        Ok(value) => match turn.commit(alone).await? {
            Ended::Committed => {
                if enqueued {
                    outbox::wake();
                }
                Ok(Some(value))
            }
            Ended::NotCommitted => Ok(None),
        },
        Err(error) => match turn.roll_back(ends_transaction(&error), alone).await {
            // The error may come from what others have written, of which nothing is there.
            Ok(Ended::NotCommitted) => Ok(None),
            Ok(Ended::Committed) | Err(_) => Err(error),
        },
    }
}

async fn attempt_once<T, E, F>(txn: DatabaseTransaction, work: &F) -> Result<T, E>
where
    E: RetryableError,
    F: AsyncFn(&DatabaseTransaction) -> Result<T, E>,
{
    let (result, enqueued) = attended(&txn, work).await;
    match result {
        Ok(value) => {
            txn.commit().await?;
            if enqueued {
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

/// Executes one statement that writes. On SQLite it takes its turn with the transactions of the process: it would wait by polling, and could wait for
/// as long as these come one after the other.
pub(crate) async fn write<S>(db: &DatabaseConnection, statement: S) -> Result<(), DbErr>
where
    S: StatementBuilder + Clone + Send + Sync,
{
    if db.get_database_backend() == DbBackend::Sqlite {
        let execute = async move |txn: &DatabaseTransaction| {
            txn.execute(&statement.clone()).await?;
            Ok::<_, DbErr>(())
        };
        return in_transaction(db, execute).await;
    }
    db.execute(&statement).await?;
    Ok(())
}

pub(crate) async fn begin(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let isolation = (db.get_database_backend() == DbBackend::Postgres).then_some(IsolationLevel::Serializable);
    db.begin_with_options(TransactionOptions {
        isolation_level: isolation,
        access_mode: None,
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
    })
    .await
}

/// A transaction for migrations: the only writer on SQLite; on PostgreSQL it sees what was committed while it waited for a lock.
pub(crate) async fn begin_exclusive(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    db.begin_with_options(TransactionOptions {
        isolation_level: None,
        access_mode: None,
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
    })
    .await
}

/// 2 ms doubling to 128 ms, with jitter so that the same transactions do not conflict again.
fn pause(attempt: u32) -> Duration {
    let ceiling = 2_u64 << attempt.min(6);
    Duration::from_millis(ceiling / 2 + u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * ceiling / 512)
}

/// Whether a unique key exists already.
fn is_duplicate(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let sql_error = error.downcast_ref::<DbErr>().and_then(DbErr::sql_err);
        if matches!(sql_error, Some(sea_orm::SqlErr::UniqueConstraintViolation(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether the database reports a conflict with another transaction: PostgreSQL's serialization failure (40001) and deadlock (40P01),
/// SQLite's busy (5, with its extended codes).
pub(crate) fn is_conflict(error: &(dyn StdError + 'static)) -> bool {
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

/// Whether the same statement or transaction may succeed if it is repeated a little later: a conflict with another transaction, or a
/// database that is not reached, is shutting down, is read-only during a failover, is out of resources, or has no free connection.
pub fn is_transient(error: &DbErr) -> bool {
    let runtime = match error {
        DbErr::ConnectionAcquire(_) => return true,
        DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime) => runtime,
        _ => return false,
    };
    let RuntimeErr::SqlxError(driver) = runtime else { return false };
    match driver.as_ref() {
        SqlxError::Io(_) | SqlxError::Tls(_) | SqlxError::PoolTimedOut | SqlxError::PoolClosed => true,
        SqlxError::Database(database) => database.code().is_some_and(|code| is_outage(&code)) || is_conflict(error),
        _ => false,
    }
}

/// Whether an error code is about the state of the server. PostgreSQL: the server shuts down or does not accept connections yet (57P), a
/// statement is cancelled (57014), resources such as disk are insufficient (class 53), or the server is a standby (25006). SQLite: the disk
/// fails (10) or is full (13), with their extended codes.
fn is_outage(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(sqlite) if code.len() < 5 => matches!(sqlite & 0xff, 10 | 13),
        _ => code.starts_with("57P") || code.starts_with("53") || code == "57014" || code == "25006",
    }
}

/// Whether SQLite has found its file to be damaged: SQLITE_CORRUPT (11, with its extended codes) or SQLITE_NOTADB (26).
pub fn is_damaged(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = driver_code(error) {
            return code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 11 | 26));
        }
        next = error.source();
    }
    false
}

/// Whether SQLite has undone the whole transaction after an error, or may have: no memory (7), interrupted (9), the disk fails (10), the
/// file is damaged (11), the disk is full (13), each with its extended codes.
fn ends_transaction(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = driver_code(error) {
            return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 7 | 9 | 10 | 11 | 13));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_of_the_server_are_known_by_their_codes() {
        for code in ["57P01", "57P03", "53100", "53300", "57014", "25006", "13", "10", "522", "1034"] {
            assert!(is_outage(code), "{code}");
        }
        for code in ["23505", "42P01", "25P02", "1", "19", "2067", "5"] {
            assert!(!is_outage(code), "{code}");
        }
    }

    #[test]
    fn an_unreachable_database_is_transient_and_a_wrong_statement_is_not() {
        let of = |error: SqlxError| DbErr::Exec(RuntimeErr::SqlxError(error.into()));
        assert!(is_transient(&of(SqlxError::PoolTimedOut)));
        assert!(is_transient(&of(SqlxError::Io(std::io::ErrorKind::ConnectionReset.into()))));
        assert!(!is_transient(&of(SqlxError::RowNotFound)));
        assert!(!is_transient(&DbErr::Type("column revision".to_owned())));
    }
}
