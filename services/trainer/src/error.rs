//! What can go wrong with a job, and what a caller is told.

use rekindle_proto::error::{invalid_argument, is_transient, refusal};
use tonic::{Code, Status};

/// Everything that the trainer refuses or fails at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of a job or a setting does not hold what it should.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, as the request spells it.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A job's id that belongs to another job.
    #[error("job {id} was submitted before with other contents: take a new id for a new job")]
    JobReused {
        /// The id.
        id: String,
    },
    /// The registry refuses, or does not answer.
    #[error("the registry could not {operation}: {}", source.message())]
    Registry {
        /// What it was asked to do.
        operation: &'static str,
        /// Its answer.
        source: Box<Status>,
    },
    /// A blob cannot be read or stored.
    #[error("object storage failed")]
    Artifacts(#[from] rekindle_artifacts::Error),
    /// The work queue cannot be reached.
    #[error("the job could not be put on the work queue")]
    Bus(#[from] rekindle_bus::Error),
    /// The rows cannot be read.
    #[error("the dataset cannot be read: {0}")]
    Dataset(#[from] rekindle_dataset::Error),
    /// The rows cannot be learnt from, or a bundle cannot be used.
    #[error(transparent)]
    Model(#[from] rekindle_model::Error),
    /// Two models cannot be compared on these rows.
    #[error("cannot be evaluated: {0}")]
    Evaluation(String),
    /// The run was ended from outside.
    #[error("the run was ended by a caller")]
    Killed,
    /// This trainer is shutting down; another one will take the job.
    #[error("the trainer is shutting down")]
    Stopping,
    /// The thread that did the work panicked, or could not be started.
    #[error("the working thread was lost: {0}")]
    Thread(String),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Invalid { field: field.into(), problem: problem.to_string() }
    }

    /// Whether the same may succeed a little later, here or elsewhere.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            // A server that broke off says Unknown; one in trouble says Internal, and may have come out of it.
            Self::Registry { source, .. } => {
                is_transient(source) || matches!(source.code(), Code::Unknown | Code::Internal)
            }
            Self::Artifacts(source) => source.is_transient(),
            Self::Bus(source) => source.is_transient(),
            Self::Model(rekindle_model::Error::Fetch { source, .. }) => {
                source.downcast_ref::<rekindle_artifacts::Error>().is_some_and(rekindle_artifacts::Error::is_transient)
            }
            Self::Stopping => true,
            _ => false,
        }
    }

    /// The message with those of its sources, for a run's record.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        text
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { field, problem } => invalid_argument(field, problem),
            Error::JobReused { ref id } => {
                refusal(Code::AlreadyExists, "JOB_REUSED", error.to_string(), [("job_id", id.clone())])
            }
            // What the registry says of datasets and runs is as good for our caller.
            Error::Registry { source, .. } => *source,
            Error::Artifacts(rekindle_artifacts::Error::NotFound { ref key }) => {
                refusal(Code::NotFound, "BLOB_NOT_FOUND", error.chain(), [("key", key.clone())])
            }
            ref transient if transient.is_transient() => {
                tracing::warn!(error = error.chain(), "a call could not be answered for now");
                refusal(Code::Unavailable, "TRY_AGAIN", format!("{error}: try again in a moment"), [])
            }
            _ => {
                tracing::error!(error = error.chain(), "a call could not be answered");
                refusal(Code::Internal, "INTERNAL", "the trainer failed: its log says why", [])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passing_troubles_are_tried_again() {
        let registry = |code| Error::Registry { operation: "read the run", source: Box::new(Status::new(code, "x")) };
        assert!(registry(Code::Unavailable).is_transient());
        assert!(!registry(Code::NotFound).is_transient());
        assert!(Error::Stopping.is_transient());
        assert!(!Error::Killed.is_transient());
    }

    #[test]
    fn a_registry_refusal_reaches_the_caller_as_it_was() {
        let error =
            Error::Registry { operation: "find the dataset", source: Box::new(Status::not_found("no flights")) };
        let status = Status::from(error);
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no flights"));
    }
}
