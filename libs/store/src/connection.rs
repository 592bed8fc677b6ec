//! Opening and migrating a database: what differs between SQLite and PostgreSQL is here.

use std::{path::Path, time::Duration};

use rekindle_domain::validation::{Checks, Violations};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqlxError,
    Statement,
    sqlx::{
        Connection as _, Executor as _,
        sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous},
    },
};
use sea_orm_migration::MigratorTrait;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::{Error, transaction};

/// Address and limits of a service's database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:///absolute/path/file.db` (created with its folder if missing), `sqlite::memory:` or
    /// `postgres://user:password@host:5432/database`. Empty: not set, and cannot be opened.
    pub url: String,
    /// Largest number of connections, at least 1. A database in memory always has one.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
    /// Whether the service starts although the database lacks changes whose events are on the bus.
    #[serde(default)]
    pub accept_data_loss: bool,
}

fn default_connections() -> u32 {
    8
}

impl Config {
    /// The default configuration with a URL.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), max_connections: default_connections(), accept_data_loss: false }
    }

    /// Whether the database is lost when it is closed.
    pub fn is_in_memory(&self) -> bool {
        is_in_memory(&self.url)
    }

    /// The URL, without user and password.
    pub fn without_credentials(&self) -> String {
        without_credentials(&self.url)
    }

    /// Validates every field and reports all violations. An empty `url` is valid, but cannot be opened.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require(
            self.url.is_empty() || is_supported(&self.url),
            "url",
            without_credentials(&self.url),
            "sqlite:///path/to/file.db, sqlite::memory: or postgres://user:password@host:5432/database",
        );
        checks.at_least("max_connections", self.max_connections, 1);
        checks.finish()
    }
}

fn is_supported(url: &str) -> bool {
    ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

/// How long a write waits for another writer on SQLite, and a call for a free connection on either.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time of a check of a database's structure from which it is logged: it reads the whole file.
const NOTABLE: Duration = Duration::from_secs(1);

/// Pause between two attempts to open a database that another process is creating.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Opens the database. While PostgreSQL refuses connections, retries for up to 30 s.
pub async fn connect(config: &Config) -> Result<DatabaseConnection, Error> {
    let url = config.url.as_str();
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(config.max_connections)
        .acquire_timeout(PATIENCE)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    if url.starts_with("sqlite:") {
        prepare_sqlite(url, &mut options)?;
    } else if is_supported(url) {
        prepare_postgres(&mut options);
    } else {
        return Err(Error::UnknownDatabase { url: without_credentials(url) });
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Boxed, since the driver's future is large and would be part of every caller's.
        match Box::pin(Database::connect(options.clone())).await {
            // Of several processes that open a new SQLite file at once, one switches it to the write-ahead log, for which the others do
            // not wait by themselves.
            Err(error) if transaction::is_conflict(&error) && Instant::now() < deadline => sleep(BUSY_PAUSE).await,
            Err(source) if transaction::is_damaged(&source) => {
                return Err(Error::Damaged { url: without_credentials(url), finding: source.to_string() });
            }
            opened => {
                let db = opened.map_err(|source| Error::Connect { url: without_credentials(url), source })?;
                check_structure(&db, url).await?;
                return Ok(db);
            }
        }
    }
}

/// SQLite finds damaged pages only when it reads them: a service would run until then, and write. PostgreSQL has checksums of its own.
async fn check_structure(db: &DatabaseConnection, url: &str) -> Result<(), Error> {
    if db.get_database_backend() != DbBackend::Sqlite {
        return Ok(());
    }
    let damaged = |finding: String| Error::Damaged { url: without_credentials(url), finding };
    let (check, began) = (Statement::from_string(DbBackend::Sqlite, "PRAGMA quick_check(1)"), Instant::now());
    let finding = match db.query_one_raw(check).await {
        Ok(row) => {
            let text = row.and_then(|row| row.try_get_by_index::<String>(0).ok()).unwrap_or_default();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        Err(error) if transaction::is_damaged(&error) => error.to_string(),
        Err(source) => return Err(Error::Connect { url: without_credentials(url), source }),
    };
    let took = began.elapsed();
    if took > NOTABLE {
        tracing::info!(url = without_credentials(url), ?took, "the structure of the database is checked");
    }
    if finding == "ok" { Ok(()) } else { Err(damaged(finding)) }
}

/// The transaction of a process that is stopped would keep its locks for ever: no other instance could take over its leases.
fn prepare_postgres(options: &mut ConnectOptions) {
    const END_IDLE_TRANSACTIONS: &str = "SET idle_in_transaction_session_timeout = '30s'";
    options.map_sqlx_postgres_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move { connection.execute(END_IDLE_TRANSACTIONS).await.map(drop) })
        })
    });
}

fn prepare_sqlite(url: &str, options: &mut ConnectOptions) -> Result<(), Error> {
    if is_in_memory(url) {
        // Every connection would have its own database, which is lost when the connection is closed.
        options.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    } else {
        create_folder(url)?;
        options.map_sqlx_sqlite_pool_opts(|pool| pool.after_release(|connection, _| Box::pin(is_usable(connection))));
    }
    options.map_sqlx_sqlite_opts(durable);
    Ok(())
}

/// Whether the last transaction of a connection has ended. SQLite rolls back by itself, e.g. when the disk is full: the rollback that
/// follows then fails, and transactions that run on the connection later would be part of one that is never committed. Such a connection is
/// closed.
async fn is_usable(connection: &mut SqliteConnection) -> Result<bool, SqlxError> {
    // A rollback may still be queued behind a dropped transaction.
    connection.ping().await?;
    if connection.is_in_transaction() {
        tracing::warn!("a transaction did not end as it was asked to: its connection is closed");
        return Ok(false);
    }
    Ok(true)
}

/// Write-ahead log with a sync at every commit: readers never wait for the writer, and a committed transaction survives a power loss.
fn durable(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
}

fn is_in_memory(url: &str) -> bool {
    url.starts_with("sqlite:") && (url.contains(":memory:") || url.contains("mode=memory"))
}

fn create_folder(url: &str) -> Result<(), Error> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or_default();
    let Some(folder) = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| Error::Folder { folder: folder.to_owned(), source })
}

fn without_credentials(url: &str) -> String {
    match (url.split_once("://").filter(|(scheme, _)| *scheme != "sqlite"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://{}", &url[at + 1..]),
        _ => url.to_owned(),
    }
}

/// Applies the migrations of `M` that the database does not have yet, in one transaction, and in one process at a time.
pub async fn migrate<M: MigratorTrait>(db: &DatabaseConnection) -> Result<(), Error> {
    let txn = transaction::begin_exclusive(db).await?;
    exclude_others(&txn).await?;
    M::up(&txn, None).await?;
    txn.commit().await?;
    Ok(())
}

/// SQLite has one writer at a time; on PostgreSQL an advisory lock, held to the end of the transaction, has the same effect.
async fn exclude_others(txn: &DatabaseTransaction) -> Result<(), DbErr> {
    const MIGRATIONS: i64 = 0x7265_6b69_6e64_6c65;
    if txn.get_database_backend() == DbBackend::Postgres {
        let lock = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_advisory_xact_lock($1)",
            [MIGRATIONS.into()],
        );
        txn.execute_raw(lock).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        assert_eq!(without_credentials("postgres://me:p@ss@db:5432/x"), "postgres://db:5432/x");
        assert_eq!(without_credentials("sqlite:///var/a@b/x.db"), "sqlite:///var/a@b/x.db");
    }

    #[tokio::test]
    async fn an_unsupported_database_is_refused_without_its_password() {
        let config = Config { max_connections: 1, ..Config::at("mysql://root:secret@db/x") };
        let error = connect(&config).await.expect_err("not supported").to_string();
        assert!(error.contains("mysql://db/x") && !error.contains("secret"), "{error}");
    }
}
