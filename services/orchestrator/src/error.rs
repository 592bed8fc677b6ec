//! What can go wrong, and what a caller is told.

use rekindle_proto::error::{invalid_argument, is_transient, refusal};
use sea_orm::DbErr;
use tonic::{Code, Status};

/// Everything that the orchestrator refuses or fails at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of a request does not hold what it should.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, as the request spells it.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Nothing has that name or id.
    #[error("{noun} {name} does not exist")]
    NotFound {
        /// The kind of thing.
        noun: &'static str,
        /// What it was asked for by.
        name: String,
    },
    /// A key that belongs to another request.
    #[error("idempotency_key {key:?} was used for another {scope}: take a new key for a new request")]
    KeyReused {
        /// The method.
        scope: &'static str,
        /// The key.
        key: String,
    },
    /// Somebody else changed it first.
    #[error("{what} has revision {actual}, the request expects {expected}: read it again and decide anew")]
    Stale {
        /// What was to be changed.
        what: String,
        /// The revision that the caller had read; 0 is none.
        expected: u64,
        /// The revision it has; 0 is none.
        actual: u64,
    },
    /// The state of things does not allow it.
    #[error("{message}")]
    Refused {
        /// Constant for programs.
        reason: &'static str,
        /// For people, with the way out.
        message: String,
        /// What the message names, for programs.
        facts: Vec<(&'static str, String)>,
    },
    /// A record changed between being read and being written; reading it again helps.
    #[error("{what} changed meanwhile")]
    Raced {
        /// The record.
        what: String,
    },
    /// Another service refused a call or could not be reached.
    #[error("cannot {operation}: {} ({:?})", status.message(), status.code())]
    Call {
        /// What was to be done, as a verb.
        operation: &'static str,
        /// What the other service said.
        status: Box<Status>,
    },
    /// Another service answered something that cannot be.
    #[error("cannot {operation}: the answer {problem}")]
    Answer {
        /// What was to be done, as a verb.
        operation: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A workflow cannot go on, for a reason that will not pass.
    #[error("{0}")]
    Hopeless(String),
    /// The store of blobs failed.
    #[error("the store of blobs failed")]
    Artifacts(#[from] rekindle_artifacts::Error),
    /// The database could not be opened.
    #[error("the orchestrator's database is not usable")]
    Store(#[from] rekindle_store::Error),
    /// A statement failed.
    #[error("the orchestrator's database failed")]
    Database(#[from] DbErr),
    /// The bus could not be used.
    #[error("the bus failed")]
    Bus(#[from] rekindle_bus::Error),
    /// A bucket on the bus could not be read or written.
    #[error("cannot {operation}")]
    Bucket {
        /// What was to be done, as a verb.
        operation: String,
        /// What the bus said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The work was running on a task that was cut off.
    #[error("a task ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Invalid { field: field.into(), problem: problem.to_string() }
    }

    pub(crate) fn not_found(noun: &'static str, name: impl ToString) -> Self {
        Self::NotFound { noun, name: name.to_string() }
    }

    pub(crate) fn call(operation: &'static str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Call { operation, status: Box::new(status) }
    }

    pub(crate) fn answer(operation: &'static str, problem: impl ToString) -> Self {
        Self::Answer { operation, problem: problem.to_string() }
    }

    /// Whether a workflow's step that ended so may succeed if it is simply tried again.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Call { status, .. } => is_transient(status),
            Self::Bus(source) => source.is_transient(),
            Self::Raced { .. } | Self::Database(_) | Self::Bucket { .. } | Self::Task(_) => true,
            Self::Artifacts(source) => !matches!(
                source,
                rekindle_artifacts::Error::Corrupt { .. } | rekindle_artifacts::Error::NotFound { .. }
            ),
            Self::Invalid { .. }
            | Self::NotFound { .. }
            | Self::KeyReused { .. }
            | Self::Stale { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::Hopeless(_)
            | Self::Store(_) => false,
        }
    }
}

impl From<Error> for Status {
    /// The one mapping. What the caller cannot mend is logged here, once, and told without its inner workings.
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid { field, problem } => invalid_argument(field, problem),
            Error::NotFound { noun, name } => {
                refusal(Code::NotFound, "NOT_FOUND", message, [("noun", noun.to_owned()), ("name", name)])
            }
            Error::KeyReused { key, .. } => {
                refusal(Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED", message, [("idempotency_key", key)])
            }
            Error::Stale { expected, actual, .. } => {
                let facts = [("expected", expected.to_string()), ("actual", actual.to_string())];
                refusal(Code::Aborted, "STALE_REVISION", message, facts)
            }
            Error::Raced { what } => refusal(Code::Aborted, "CHANGED_MEANWHILE", message, [("what", what)]),
            Error::Refused { reason, facts, .. } => refusal(Code::FailedPrecondition, reason, message, facts),
            Error::Call { status, .. } if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => *status,
            Error::Hopeless(_) => refusal(Code::FailedPrecondition, "NOT_POSSIBLE", message, []),
            inner => {
                tracing::error!(error = chain(&inner), "call failed inside the orchestrator");
                let told = "the orchestrator could not carry this out: try again a little later";
                refusal(Code::Unavailable, "ORCHESTRATOR_FAILED", told, [])
            }
        }
    }
}

/// The error and its sources, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
