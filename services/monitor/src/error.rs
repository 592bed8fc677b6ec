//! The errors of the monitor, and their gRPC status.

use std::collections::HashSet;

use rekindle_domain::{ModelName, validation::Violations};
use rekindle_service::{Fault, RequestError, fault, internal};
use rekindle_store::LeaseError;
use sea_orm::DbErr;
use tonic::Status;

/// Why an operation of the monitor failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not valid.
    #[error("invalid configuration: {0}")]
    Configuration(Violations),
    /// The database.
    #[error("database failed")]
    Database(#[from] DbErr),
    /// Connecting to or migrating the database.
    #[error("database is not usable")]
    Open(#[from] rekindle_store::Error),
    /// A write under a lease.
    #[error("lease failed")]
    Lease(#[from] LeaseError),
    /// The object store.
    #[error("object store failed")]
    Artifacts(#[from] rekindle_artifacts::Error),
    /// The bus.
    #[error("bus failed")]
    Bus(#[from] rekindle_bus::Error),
    /// A bundle or its reference data.
    #[error("bundle is not usable")]
    Bundle(#[from] rekindle_bundle::Error),
    /// A request that the caller can correct.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A table to export.
    #[error("cannot write labelled rows")]
    Dataset(#[from] rekindle_dataset::Error),
    /// A statistic without a value.
    #[error("cannot compute a statistic")]
    Statistics(#[from] rekindle_statistics::Error),
    /// Encoding or decoding a chunk's Parquet.
    #[error("cannot read or write a chunk")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Assembling a chunk's columns.
    #[error("cannot assemble the columns of a chunk")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A chunk without a required column.
    #[error("chunk has no column {column} of type {expected}")]
    Column {
        /// The column.
        column: String,
        /// Its expected type.
        expected: &'static str,
    },
    /// Some messages of the batch were captured before: insert the batch again without them.
    #[error("{} messages were captured before", .0.len())]
    Duplicates(HashSet<String>),
    /// Another instance changed the same state first; this change is rolled back, and will be planned again from the current state.
    #[error("another instance changed {what} of {model} first")]
    LostRace {
        /// The state.
        what: &'static str,
        /// The model.
        model: ModelName,
    },
    /// Encoding the manifest of an export.
    #[error("cannot encode the manifest of an export")]
    Manifest(#[from] serde_json::Error),
    /// A client of a receiver cannot be built.
    #[error("cannot set up a receiver of alerts")]
    Receiver(#[from] reqwest::Error),
    /// A receiver has not accepted alerts.
    #[error("receiver {receiver} has not accepted the alerts: {error}")]
    Refused {
        /// The receiver.
        receiver: String,
        /// Why, in words.
        error: String,
    },
    /// A panic in a worker thread.
    #[error("task aborted")]
    Worker(#[from] tokio::task::JoinError),
    /// A panic while messages were captured.
    #[error(transparent)]
    Panicked(#[from] rekindle_bus::panics::Panicked),
}

impl Fault for Error {
    /// Whether a retry with the same rows and the same bundle can succeed.
    fn is_transient(&self) -> bool {
        use rekindle_artifacts::Error::{Corrupt, NotFound};
        match self {
            Self::Database(error) => !matches!(error, DbErr::Type(_) | DbErr::Json(_) | DbErr::Custom(_)),
            Self::Artifacts(error) => !matches!(error, Corrupt { .. } | NotFound { .. }),
            Self::Open(_)
            | Self::Lease(_)
            | Self::Bus(_)
            | Self::Duplicates(_)
            | Self::LostRace { .. }
            | Self::Refused { .. }
            | Self::Worker(_) => true,
            Self::Configuration(_)
            | Self::Bundle(_)
            | Self::Request(_)
            | Self::Dataset(_)
            | Self::Statistics(_)
            | Self::Parquet(_)
            | Self::Arrow(_)
            | Self::Column { .. }
            | Self::Panicked(_)
            | Self::Receiver(_)
            | Self::Manifest(_) => false,
        }
    }
}

impl Error {
    /// Whether captured messages are the cause, or stored state of their models: a retry with the same messages cannot succeed, and others
    /// are not affected.
    pub(crate) fn is_of_messages(&self) -> bool {
        match self {
            Self::Parquet(_) | Self::Arrow(_) | Self::Column { .. } | Self::Panicked(_) => true,
            Self::Worker(error) => error.is_panic(),
            Self::Database(error) => matches!(error, DbErr::Type(_) | DbErr::Json(_)),
            _ => false,
        }
    }

    /// Whether a write was refused because another instance holds the lease, or may hold it.
    pub(crate) fn is_lost_lease(&self) -> bool {
        matches!(self, Self::Lease(LeaseError::Lost { .. }))
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        RequestError::Invalid(violations).into()
    }
}

impl From<Error> for Status {
    /// The one mapping.
    fn from(error: Error) -> Self {
        match error {
            Error::Request(error) => error.into(),
            // A background task repeats what failed by an unknown cause; a caller is told to only if it can help.
            Error::Database(source) if !rekindle_store::is_transient(&source) => internal("monitor", &source),
            error => fault("monitor", &error),
        }
    }
}
