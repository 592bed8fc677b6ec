//! What can go wrong, and what a caller is told.

use rekindle_proto::error::{invalid_argument, refusal};
use sea_orm::DbErr;
use tonic::{Code, Status};

/// Everything that the registry refuses or fails at.
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
    /// Nothing has that name, number or digest.
    #[error("{noun} {name} does not exist")]
    NotFound {
        /// The kind of thing.
        noun: &'static str,
        /// What it was asked for by.
        name: String,
    },
    /// A request names bytes that were never uploaded.
    #[error("{field}: no blob {digest} is stored: upload it first")]
    NoBlob {
        /// The field, as the request spells it.
        field: String,
        /// What it names.
        digest: rekindle_domain::Digest,
    },
    /// A key that belongs to another request.
    #[error("idempotency_key {key:?} was used for another {scope}: take a new key for a new request")]
    KeyReused {
        /// The method.
        scope: &'static str,
        /// The key.
        key: String,
    },
    /// A run's id is taken.
    #[error("run {id} exists already: leave id empty, or read the run")]
    RunExists {
        /// The id.
        id: String,
    },
    /// Somebody else moved it first.
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
    /// Rows that make no dataset.
    #[error("{field}: not a dataset")]
    Dataset {
        /// The field that brought them.
        field: String,
        /// What is wrong with them.
        #[source]
        source: rekindle_dataset::Error,
    },
    /// A bundle that cannot be registered.
    #[error("bundle {digest} cannot be registered")]
    Bundle {
        /// The bundle's digest.
        digest: rekindle_domain::Digest,
        /// What is wrong with it.
        #[source]
        source: rekindle_model::Error,
    },
    /// The store of blobs failed.
    #[error("the store of blobs failed")]
    Artifacts(#[from] rekindle_artifacts::Error),
    /// The database could not be opened.
    #[error("the registry's database is not usable")]
    Store(#[from] rekindle_store::Error),
    /// A statement failed.
    #[error("the registry's database failed")]
    Database(#[from] DbErr),
    /// A computation ended without a result.
    #[error("reading rows ended unexpectedly")]
    Computation(#[from] tokio::task::JoinError),
    /// The bus could not be used.
    #[error("telling events failed")]
    Bus(#[from] rekindle_bus::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Invalid { field: field.into(), problem: problem.to_string() }
    }

    pub(crate) fn not_found(noun: &'static str, name: impl ToString) -> Self {
        Self::NotFound { noun, name: name.to_string() }
    }

    /// For reading the blob that `field` names.
    pub(crate) fn of_blob(
        field: impl Into<String>,
        digest: rekindle_domain::Digest,
    ) -> impl FnOnce(rekindle_artifacts::Error) -> Self {
        move |error| match error {
            rekindle_artifacts::Error::NotFound { .. } => Self::NoBlob { field: field.into(), digest },
            error => Self::Artifacts(error),
        }
    }
}

impl From<Error> for Status {
    /// The one place where an error becomes a status. What the caller cannot mend is logged here and told without its inner workings.
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid { field, problem } => invalid_argument(field, problem),
            Error::Dataset { field, source } => invalid_argument(field, source.to_string()),
            Error::NotFound { noun, name } => {
                refusal(Code::NotFound, "NOT_FOUND", message, [("noun", noun.to_owned()), ("name", name)])
            }
            Error::NoBlob { digest, .. } => {
                refusal(Code::NotFound, "BLOB_NOT_FOUND", message, [("digest", digest.to_string())])
            }
            Error::KeyReused { key, .. } => {
                refusal(Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED", message, [("idempotency_key", key)])
            }
            Error::RunExists { id } => refusal(Code::AlreadyExists, "RUN_EXISTS", message, [("id", id)]),
            Error::Stale { expected, actual, .. } => {
                let facts = [("expected", expected.to_string()), ("actual", actual.to_string())];
                refusal(Code::Aborted, "STALE_REVISION", message, facts)
            }
            Error::Refused { reason, facts, .. } => refusal(Code::FailedPrecondition, reason, message, facts),
            Error::Bundle { digest, source } => refused_bundle(&digest, source),
            Error::Artifacts(source) => failed_blob(source),
            Error::Database(source) => internal("a statement failed", &source),
            Error::Store(source) => internal("the database is not usable", &source),
            Error::Computation(source) => internal("a computation ended without a result", &source),
            Error::Bus(source) => internal("the bus failed", &source),
        }
    }
}

/// What is wrong inside is for the log; the caller is told that trying again later is all there is to do.
fn internal(what: &'static str, source: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error = source, what, "call failed inside the registry");
    refusal(Code::Unavailable, "REGISTRY_FAILED", "the registry could not carry this out: try again a little later", [])
}

fn failed_blob(source: rekindle_artifacts::Error) -> Status {
    use rekindle_artifacts::Error as E;
    let message = source.to_string();
    match source {
        E::NotFound { key } => refusal(Code::NotFound, "BLOB_NOT_FOUND", message, [("key", key)]),
        E::Corrupt { key, .. } => {
            tracing::error!(key, error = message, "a stored blob is corrupt");
            refusal(Code::DataLoss, "BLOB_CORRUPT", message, [("key", key)])
        }
        E::TooLarge { limit, .. } => {
            refusal(Code::ResourceExhausted, "BLOB_TOO_LARGE", message, [("limit", limit.to_string())])
        }
        source => internal("the store of blobs failed", &source),
    }
}

/// A missing blob can be uploaded, a bundle that is none cannot be mended, and a corrupt one is the operator's concern.
fn refused_bundle(digest: &rekindle_domain::Digest, source: rekindle_model::Error) -> Status {
    use rekindle_model::Error as E;
    let facts = [("bundle_digest", digest.to_string())];
    match source {
        E::Fetch { digest: blob, source } => match source.downcast::<rekindle_artifacts::Error>() {
            Ok(missing) if matches!(*missing, rekindle_artifacts::Error::NotFound { .. }) && blob == *digest => {
                refusal(
                    Code::NotFound,
                    "BUNDLE_NOT_FOUND",
                    format!("bundle_digest: no blob {digest} is stored: upload it first"),
                    facts,
                )
            }
            Ok(missing) if matches!(*missing, rekindle_artifacts::Error::NotFound { .. }) => refusal(
                Code::FailedPrecondition,
                "BUNDLE_INCOMPLETE",
                format!("bundle_digest: bundle {digest} names blob {blob}, which is not stored: upload it first"),
                facts.into_iter().chain([("blob", blob.to_string())]),
            ),
            Ok(other) => failed_blob(*other),
            Err(other) => internal("fetching a bundle failed", other.as_ref()),
        },
        corrupt @ E::Corrupt { .. } => refusal(Code::DataLoss, "BLOB_CORRUPT", corrupt.to_string(), facts),
        other => invalid_argument("bundle_digest", other.to_string()),
    }
}
