//! Why a database cannot be opened or migrated. Errors of single statements stay `DbErr`, for the services to name.

use sea_orm::DbErr;

/// Why a database cannot be opened or migrated. Credentials in the URL are never shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names no supported database.
    #[error(
        "invalid database URL {url:?}: expected sqlite:///path/to/file.db, sqlite::memory: or postgres://host/database"
    )]
    UnknownDatabase {
        /// The URL without its credentials.
        url: String,
    },
    /// The folder of an SQLite file cannot be created.
    #[error("cannot create the folder {folder:?} for an SQLite database")]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// The error of the file system.
        source: std::io::Error,
    },
    /// The database cannot be reached.
    #[error("cannot connect to the database {url:?}")]
    Connect {
        /// The URL without its credentials.
        url: String,
        /// The error of the driver.
        source: DbErr,
    },
    /// The file of an SQLite database is damaged.
    #[error("the database {url:?} is damaged ({finding}): set its files aside, and restore it from a backup")]
    Damaged {
        /// The URL.
        url: String,
        /// The first damage that SQLite found.
        finding: String,
    },
    /// The schema cannot be migrated; the attempt is rolled back.
    #[error("cannot migrate the database")]
    Migrate {
        /// The error of the driver.
        #[from]
        source: DbErr,
    },
}
