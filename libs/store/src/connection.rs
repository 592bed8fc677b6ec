//! Opening a database, and bringing its schema up to date: the one place that knows SQLite from PostgreSQL.

use std::{path::Path, time::Duration};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, Statement,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use sea_orm_migration::MigratorTrait;
use serde::Deserialize;

use crate::{Error, transaction};

/// Where a service keeps its state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:///absolute/path/file.db` (made when missing, with its folder), `sqlite::memory:` or
    /// `postgres://user:password@host:5432/database`.
    pub url: String,
    /// Connections at most, at least 1. A database in memory has always one.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
}

fn default_connections() -> u32 {
    8
}

/// How long a write waits for the writer before it on SQLite, and a call for a free connection on either.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the database. While PostgreSQL refuses connections it is tried again, for 30 s at most.
pub async fn connect(config: &Config) -> Result<DatabaseConnection, Error> {
    let url = config.url.as_str();
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(config.max_connections.max(1))
        .acquire_timeout(PATIENCE)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    if url.starts_with("sqlite:") {
        prepare_sqlite(url, &mut options)?;
    } else if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(Error::UnknownDatabase { url: without_credentials(url) });
    }
    // Boxed, since the driver's future is large and would sit in every caller's.
    Box::pin(Database::connect(options))
        .await
        .map_err(|source| Error::Connect { url: without_credentials(url), source })
}

fn prepare_sqlite(url: &str, options: &mut ConnectOptions) -> Result<(), Error> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        // Every connection would be a database of its own, and closing the last one empties it.
        options.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    } else {
        make_folder(url)?;
    }
    options.map_sqlx_sqlite_opts(durable);
    Ok(())
}

/// Write-ahead log with a sync at every commit: readers never wait for the writer, and what was committed survives a power loss.
fn durable(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
}

fn make_folder(url: &str) -> Result<(), Error> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or_default();
    let Some(folder) = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| Error::Folder { folder: folder.to_owned(), source })
}

fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://{}", &url[at + 1..]),
        _ => url.to_owned(),
    }
}

/// Carries out what `M` has and the database has not, in one transaction: all or nothing, and one process at a time.
pub async fn migrate<M: MigratorTrait>(db: &DatabaseConnection) -> Result<(), Error> {
    let txn = transaction::begin_exclusive(db).await?;
    lock_out_others(&txn).await?;
    M::up(&txn, None).await?;
    txn.commit().await?;
    Ok(())
}

/// SQLite's writer is alone anyway; on PostgreSQL an advisory lock, held to the end of the transaction, stands for it.
async fn lock_out_others(txn: &DatabaseTransaction) -> Result<(), DbErr> {
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
        assert_eq!(without_credentials("sqlite:///var/lib/x.db"), "sqlite:///var/lib/x.db");
    }

    #[tokio::test]
    async fn another_database_is_refused_by_name() {
        let config = Config { url: "mysql://root:secret@db/x".into(), max_connections: 1 };
        let error = connect(&config).await.expect_err("not supported").to_string();
        assert!(error.contains("mysql://db/x") && !error.contains("secret"), "{error}");
    }
}
