//! Errors of the registry.

use rekindle_domain::{Digest, validation::Violations};
use rekindle_service::{Fault, RequestError, fault};
use sea_orm::DbErr;
use tonic::{Code, Status};

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A request names a blob that is not stored.
    #[error("{field}: blob {digest} is not stored: upload it first")]
    NoBlob {
        /// The field.
        field: String,
        /// The digest.
        digest: Digest,
    },
    /// Rows that cannot be registered.
    #[error("{field}: not a dataset")]
    Dataset {
        /// The field that names them.
        field: String,
        /// Why.
        #[source]
        source: rekindle_dataset::Error,
    },
    /// A bundle that cannot be registered.
    #[error("bundle {digest} cannot be registered")]
    Bundle {
        /// The digest of the bundle.
        digest: rekindle_domain::Digest,
        /// Why.
        #[source]
        source: rekindle_bundle::Error,
    },
    /// A model in the ONNX format cannot be checked, for want of ONNX Runtime.
    #[error("{0}")]
    NoOnnxRuntime(String),
    /// The process that checks a model in the ONNX format, or one of its files.
    #[error("cannot {operation} the process that checks a model")]
    Isolation {
        /// The operation that failed.
        operation: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A temporary file of a registration could not be written or read.
    #[error("temporary files are not usable")]
    Scratch(#[source] rekindle_dataset::Error),
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
    /// A task was aborted or panicked.
    #[error("reading rows ended unexpectedly")]
    Computation(#[from] tokio::task::JoinError),
    /// The bus failed.
    #[error("publishing events failed")]
    Bus(#[from] rekindle_bus::Error),
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

    /// For reading the blob that `field` names.
    pub(crate) fn of_blob(field: impl Into<String>, digest: Digest) -> impl FnOnce(rekindle_artifacts::Error) -> Self {
        move |error| match error {
            rekindle_artifacts::Error::NotFound { .. } => Self::NoBlob { field: field.into(), digest },
            error => Self::Artifacts(error),
        }
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
            Self::Artifacts(source) => source.is_transient(),
            Self::Bus(source) => source.is_transient(),
            // A statement that still fails after the retries of its transaction: the database is restarting or overloaded.
            Self::Database(source) => rekindle_store::is_transient(source),
            _ => false,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Request(error) => error.into(),
            Error::Dataset { field, source } => RequestError::invalid(field, source).into(),
            Error::NoBlob { digest, .. } => no_blob("BLOB_NOT_FOUND", message, &digest),
            Error::Bundle { digest, source } => refused_bundle(&digest, source),
            Error::Artifacts(source) => failed_blob(source),
            Error::NoOnnxRuntime(message) => {
                RequestError::failed_precondition("ONNX_RUNTIME_MISSING", message, []).into()
            }
            error => fault("registry", &error),
        }
    }
}

/// NOT_FOUND with a reason of its own, so that a client can upload the blob and retry.
fn no_blob(reason: &'static str, message: String, digest: &Digest) -> Status {
    rekindle_service::status(Code::NotFound, reason, message, [("digest", digest.to_string())])
}

fn failed_blob(source: rekindle_artifacts::Error) -> Status {
    use rekindle_artifacts::Error as E;
    let message = source.to_string();
    match source {
        E::NotFound { key } => rekindle_service::status(Code::NotFound, "BLOB_NOT_FOUND", message, [("key", key)]),
        E::Corrupt { key, .. } => {
            tracing::error!(key, error = message, "a stored blob is corrupt");
            rekindle_service::status(Code::DataLoss, "BLOB_CORRUPT", message, [("key", key)])
        }
        E::TooLarge { limit, .. } => {
            RequestError::Exhausted { reason: "BLOB_TOO_LARGE", message, metadata: vec![("limit", limit.to_string())] }
                .into()
        }
        source => fault("registry", &Error::Artifacts(source)),
    }
}

/// A missing blob can be uploaded, an invalid bundle cannot be repaired by the caller, and a corrupt one is for the operator.
fn refused_bundle(digest: &Digest, source: rekindle_bundle::Error) -> Status {
    use rekindle_bundle::Error as E;
    match source {
        E::Fetch { digest: blob, source } => match source.downcast::<rekindle_artifacts::Error>() {
            Ok(missing) if matches!(*missing, rekindle_artifacts::Error::NotFound { .. }) && blob == *digest => {
                no_blob(
                    "BUNDLE_NOT_FOUND",
                    format!("bundle_digest: blob {digest} is not stored: upload it first"),
                    digest,
                )
            }
            Ok(missing) if matches!(*missing, rekindle_artifacts::Error::NotFound { .. }) => {
                let message =
                    format!("bundle_digest: bundle {digest} names blob {blob}, which is not stored: upload it first");
                let metadata = [("bundle_digest", digest.to_string()), ("blob", blob.to_string())];
                RequestError::failed_precondition("BUNDLE_INCOMPLETE", message, metadata).into()
            }
            Ok(oversized) if matches!(*oversized, rekindle_artifacts::Error::Unexpected { .. }) => {
                RequestError::invalid("bundle_digest", oversized).into()
            }
            Ok(other) => failed_blob(*other),
            Err(source) => {
                fault("registry", &Error::Bundle { digest: *digest, source: E::Fetch { digest: blob, source } })
            }
        },
        corrupt @ E::Corrupt { .. } => {
            let metadata = [("bundle_digest", digest.to_string())];
            rekindle_service::status(Code::DataLoss, "BLOB_CORRUPT", corrupt.to_string(), metadata)
        }
        other => RequestError::invalid("bundle_digest", other).into(),
    }
}
