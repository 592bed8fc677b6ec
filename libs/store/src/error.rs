//! Why a database cannot be used. Errors of single statements stay `DbErr`, for the services to name.

use sea_orm::DbErr;

/// Why a database cannot be opened or brought up to date. Credentials in the URL are never shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is for no database that is supported.
    #[error(
        "{url:?} is not a database: expected sqlite:///path/to/file.db, sqlite::memory: or postgres://host/database"
    )]
    UnknownDatabase {
        /// The URL without its credentials.
        url: String,
    },
    /// The folder of an SQLite file cannot be made.
    #[error("cannot make the folder {folder:?} for an SQLite database")]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The database does not answer.
    #[error("cannot connect to the database {url:?}")]
    Connect {
        /// The URL without its credentials.
        url: String,
        /// What the driver said.
        source: DbErr,
    },
    /// The schema cannot be brought up to date; nothing of the attempt remains.
    #[error("cannot migrate the database")]
    Migrate {
        /// What the driver said.
        #[from]
        source: DbErr,
    },
}
