//! What can go wrong: in a replica ([`Error`]), and in one prediction request ([`RequestError`]).

use std::{io, path::PathBuf};

use rekindle_domain::{Digest, ModelName, PredictionId, validation::Violations};

use crate::{guardrails::RefusedOutput, tensor::InvalidInput};

/// An error of the replica, apart from errors of a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not valid.
    #[error("invalid configuration: {0}")]
    Configuration(Violations),
    /// A file of the local cache cannot be used.
    #[error("cannot {operation} {path}")]
    Cache {
        /// The operation that failed.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        source: io::Error,
    },
    /// A blob is neither in the local cache nor available from the object store.
    #[error("cannot fetch blob {digest}, which is not in the local cache")]
    Fetch {
        /// The blob.
        digest: Digest,
        source: Box<rekindle_artifacts::Error>,
    },
    /// A blob is not in the local cache, and the object store is not connected.
    #[error("blob {digest} is not in the local cache, and the object store is not connected")]
    NoArtifacts {
        /// The blob.
        digest: Digest,
    },
    /// The bundle is corrupt or malformed, or its warm-up failed.
    #[error("cannot serve bundle {bundle}")]
    Bundle {
        /// The bundle.
        bundle: Digest,
        source: Box<rekindle_bundle::Error>,
    },
    /// The protocol's tensors cannot represent the bundle's signature.
    #[error("cannot serve bundle {bundle}: {problem}")]
    Signature {
        /// The bundle.
        bundle: Digest,
        /// The part of the signature.
        problem: String,
    },
    /// The model does not fit the memory for models.
    #[error(
        "cannot serve bundle {bundle}: it takes about {needed} bytes of memory, and loaded models take {used} of {limit}, the limit \
         inference.max_loaded_bytes: delete deployments, or raise the limit"
    )]
    OverBudget {
        /// The bundle.
        bundle: Digest,
        /// What it takes.
        needed: u64,
        /// What loaded models take.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// Building or warming up the model panicked.
    #[error("loading bundle {bundle} panicked")]
    LoadPanicked {
        /// The bundle.
        bundle: Digest,
    },
    /// A bucket of the bus cannot be read or written.
    #[error(transparent)]
    Bus(Box<rekindle_bus::Error>),
    /// The bus is not connected.
    #[error("the bus is not connected")]
    Disconnected,
    /// Saved routes cannot be read or written.
    #[error("cannot {operation} the routes in {path}")]
    SavedRoutes {
        /// The operation that failed.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        source: serde_json::Error,
    },
    /// Stored routes are those of another model.
    #[error("the routes in {key:?} belong to model {model}")]
    MisplacedRoutes {
        /// The key in the bucket.
        key: String,
        /// The model that the routes name.
        model: ModelName,
    },
    /// Rows cannot be encoded as a message of the prediction log.
    #[error("cannot encode {rows} rows of {model} for the prediction log")]
    LogEncoding {
        /// The model.
        model: ModelName,
        /// The number of rows.
        rows: usize,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => source.is_transient(),
            Self::NoArtifacts { .. } | Self::Bus(_) | Self::Disconnected => true,
            Self::Bundle { source, .. } => match &**source {
                rekindle_bundle::Error::Fetch { source, .. } => {
                    source.downcast_ref::<Self>().is_some_and(Self::is_transient)
                }
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<rekindle_bus::Error> for Error {
    fn from(source: rekindle_bus::Error) -> Self {
        Self::Bus(source.into())
    }
}

/// Why a prediction request has no answer. Names no protocol: each protocol maps it to its own status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The model is not assigned to this replica.
    #[error("model {model:?} is not served by this replica: it serves {served}")]
    ModelNotServed {
        /// The name in the request, shortened.
        model: String,
        /// The models that are.
        served: String,
    },
    /// The model is served, but not the requested version of it.
    #[error("version {requested:?} of {model} is not served by this replica: request version {served}, or no version")]
    VersionNotServed {
        /// The model.
        model: ModelName,
        /// The version in the request, shortened.
        requested: String,
        /// The loaded versions.
        served: String,
    },
    /// No version of the model is loaded yet.
    #[error("model {model} is loading: retry later")]
    ModelLoading {
        /// The model.
        model: ModelName,
    },
    /// A call to load or unload a model, which its deployment decides.
    #[error(
        "{model}: {problem}: deployments decide what a replica loads, so deploy a version or delete the deployment"
    )]
    NotLoadable {
        /// The name in the request, shortened.
        model: String,
        /// Why not.
        problem: String,
    },
    /// Too many requests are in flight.
    #[error(
        "{limit} requests are in flight, which is the limit max_concurrent_requests: retry with back-off, or raise the limit"
    )]
    TooManyRequests {
        /// The limit.
        limit: usize,
    },
    /// Too many rows wait for the model.
    #[error(
        "{limit} rows are queued for {model}, which is the limit max_queued_rows: retry with back-off, add replicas, or raise the limit"
    )]
    QueueFull {
        /// The model.
        model: ModelName,
        /// The limit.
        limit: usize,
    },
    /// The request does not match the model's signature.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// A guardrail of the model refuses what it predicts.
    #[error("{model} version {version}: {refused}")]
    OutputRefused {
        /// The model.
        model: ModelName,
        /// The version.
        version: u32,
        /// The output, its value and what is allowed.
        refused: RefusedOutput,
    },
    /// The model failed on rows that its signature allows.
    #[error("prediction {prediction} by {model} version {version} failed: search the log of the replica for this id")]
    PredictionFailed {
        /// The prediction.
        prediction: PredictionId,
        /// The model.
        model: ModelName,
        /// The version.
        version: u32,
    },
}

impl RequestError {
    /// The reason as an identifier, which does not change with the wording of the message.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::ModelNotServed { .. } => "MODEL_NOT_SERVED",
            Self::VersionNotServed { .. } => "VERSION_NOT_SERVED",
            Self::ModelLoading { .. } => "MODEL_LOADING",
            Self::NotLoadable { .. } => "DEPLOYMENT_DECIDES",
            Self::TooManyRequests { .. } => "TOO_MANY_REQUESTS",
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::InvalidInput(_) => "INVALID_INPUT",
            Self::OutputRefused { .. } => "OUTPUT_REFUSED",
            Self::PredictionFailed { .. } => "PREDICTION_FAILED",
        }
    }
}
