//! Errors of the orchestrator.

use rekindle_client as client;
use rekindle_domain::validation::Violations;
use rekindle_service::{Fault, RequestError, fault, internal};
use rekindle_store::is_transient;
use sea_orm::DbErr;
use tonic::{Code, Status};

/// Why a call or a step fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A record changed between being read and being written; it must be read again.
    #[error("{what} changed concurrently")]
    Raced {
        /// The record.
        what: String,
    },
    /// Another service refused a call, or was not reached.
    #[error("{}", peer(.0))]
    Peer(#[from] client::Error),
    /// A workflow cannot go on, and no retry can help.
    #[error("{0}")]
    Unrecoverable(String),
    /// The object store failed.
    #[error("object store failed")]
    Artifacts(#[from] rekindle_artifacts::Error),
    /// The configuration is not valid.
    #[error("invalid configuration: {0}")]
    Configuration(Violations),
    /// The database could not be opened.
    #[error("database is not usable")]
    Store(#[from] rekindle_store::Error),
    /// A statement failed.
    #[error("database failed")]
    Database(#[from] DbErr),
    /// A write under the lease is refused.
    #[error("this instance is not the leader")]
    Lease(#[from] rekindle_store::LeaseError),
    /// The bus failed.
    #[error("bus failed")]
    Bus(#[from] rekindle_bus::Error),
    /// A task was aborted.
    #[error("task aborted")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl ToString) -> Self {
        RequestError::invalid(field, description).into()
    }

    pub(crate) fn not_found(resource: &'static str, name: impl ToString) -> Self {
        RequestError::not_found(resource, name).into()
    }

    pub(crate) fn refused(
        reason: &'static str,
        message: impl Into<String>,
        metadata: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        RequestError::failed_precondition(reason, message, metadata).into()
    }

    pub(crate) fn unrecoverable(reason: impl Into<String>) -> Self {
        Self::Unrecoverable(reason.into())
    }

    /// Whether another writer was first: the record was changed, or another instance has become the leader.
    pub(crate) fn is_overtaken(&self) -> bool {
        matches!(self, Self::Raced { .. } | Self::Lease(rekindle_store::LeaseError::Lost { .. }))
    }
}

/// What was called and, if the other service answered, its message: reasons of workflows repeat it.
fn peer(error: &client::Error) -> String {
    match error.status() {
        Some(status) => format!("{error}: {} ({:?})", status.message(), status.code()),
        None => error.to_string(),
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        RequestError::Invalid(violations).into()
    }
}

impl Fault for Error {
    /// Whether the same step or call may succeed if it is repeated.
    fn is_transient(&self) -> bool {
        match self {
            // An internal error of another service, such as a full disk, may pass; the deadline of the workflow bounds the retries.
            Self::Peer(error) => error.is_transient() || matches!(error.code(), Code::Unknown | Code::Internal),
            Self::Database(source) => is_transient(source),
            Self::Bus(source) => source.is_transient(),
            Self::Raced { .. } | Self::Lease(_) | Self::Task(_) => true,
            Self::Artifacts(source) => !matches!(
                source,
                rekindle_artifacts::Error::Corrupt { .. } | rekindle_artifacts::Error::NotFound { .. }
            ),
            Self::Request(_) | Self::Unrecoverable(_) | Self::Configuration(_) | Self::Store(_) => false,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Request(error) => error.into(),
            // What another service refuses about the request is as useful to our caller.
            Error::Peer(client::Error::Call { status, .. })
                if matches!(
                    status.code(),
                    Code::NotFound | Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition
                ) =>
            {
                *status
            }
            Error::Unrecoverable(reason) => RequestError::failed_precondition("NOT_POSSIBLE", reason, []).into(),
            // A workflow is worth another attempt after any failure of a peer; a call is worth another only if that can help.
            Error::Peer(source) if !source.is_transient() => internal("orchestrator", &source),
            error => fault("orchestrator", &error),
        }
    }
}
