//! Errors of the trainer.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use rekindle_client as client;
use rekindle_domain::validation::Violations;
use rekindle_service::{Fault, RequestError, chain, fault, internal};
use tonic::{Code, Status};

/// Why a call or a job fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The configuration is not valid.
    #[error("invalid configuration: {0}")]
    Configuration(Violations),
    /// The registry refused a call, or was not reached.
    #[error("call to the registry failed")]
    Registry(#[from] client::Error),
    /// The object store failed.
    #[error("object store failed")]
    Artifacts(#[from] rekindle_artifacts::Error),
    /// The work queue is not reached.
    #[error("the job could not be enqueued")]
    Bus(#[from] rekindle_bus::Error),
    /// The rows cannot be read.
    #[error("the dataset cannot be read: {0}")]
    Dataset(#[from] rekindle_dataset::Error),
    /// The rows cannot be stored while they are used.
    #[error("temporary file failed")]
    Scratch(#[source] std::io::Error),
    /// The disk has too little room for the rows.
    #[error(
        "{dataset} takes {needed} bytes of temporary files, and half of the {free} free bytes in {scratch} may be used: set trainer.scratch to a folder with more room"
    )]
    NoRoom {
        /// The dataset version.
        dataset: String,
        /// Bytes of its file, and of its rows if they are not held in memory.
        needed: u64,
        /// Free bytes.
        free: u64,
        /// The folder.
        scratch: String,
    },
    /// The rows cannot be trained on.
    #[error(transparent)]
    Training(#[from] rekindle_training::Error),
    /// A bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] rekindle_bundle::Error),
    /// Two models cannot be compared on these rows.
    #[error("cannot be evaluated: {0}")]
    Evaluation(String),
    /// A caller ended the run.
    #[error("the run was cancelled")]
    Killed,
    /// The run has taken longer than it may.
    #[error("the training exceeded its time limit of {}", format_duration(*.0))]
    TimeLimit(Duration),
    /// This trainer is shutting down; the job is redelivered to another one.
    #[error("the trainer is shutting down")]
    Stopping,
    /// The worker thread panicked, or could not be started.
    #[error("worker thread failed: {0}")]
    Thread(String),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl ToString) -> Self {
        RequestError::invalid(field, description).into()
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        RequestError::Invalid(violations).into()
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            // An overloaded registry may answer INTERNAL or UNKNOWN and recover; a job is worth another delivery.
            Self::Registry(error) => error.is_transient() || matches!(error.code(), Code::Unknown | Code::Internal),
            Self::Artifacts(source) => source.is_transient(),
            Self::Bus(source) => source.is_transient(),
            Self::Bundle(rekindle_bundle::Error::Fetch { source, .. }) => {
                source.downcast_ref::<rekindle_artifacts::Error>().is_some_and(rekindle_artifacts::Error::is_transient)
            }
            Self::Stopping => true,
            _ => false,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Request(error) => error.into(),
            // What the registry refuses about datasets and runs is as useful to our caller.
            Error::Registry(client::Error::Call { status, .. }) if is_refusal(status.code()) => *status,
            Error::Artifacts(rekindle_artifacts::Error::NotFound { .. }) => {
                RequestError::not_found("blob", chain(&error)).into()
            }
            // A job is worth another delivery after any failure of the registry; a call is worth another only if that can help.
            Error::Registry(source) if !source.is_transient() => internal("trainer", &source),
            error => fault("trainer", &error),
        }
    }
}

/// Whether a code is about the request, and not about the server.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::OutOfRange
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(code: Code) -> Error {
        client::Error::Call { operation: "read the run", status: Box::new(Status::new(code, "no flights")) }.into()
    }

    #[test]
    fn only_transient_failures_are_retried() {
        assert!(registry(Code::Unavailable).is_transient());
        assert!(!registry(Code::NotFound).is_transient());
        assert!(Error::Stopping.is_transient());
        assert!(!Error::Killed.is_transient());
    }

    #[test]
    fn a_refusal_of_the_registry_reaches_the_caller_unchanged() {
        let status = Status::from(registry(Code::NotFound));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no flights"));
        assert_eq!(Status::from(registry(Code::Unavailable)).code(), Code::Unavailable);
    }
}
