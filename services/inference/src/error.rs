//! What can go wrong in a replica outside of answering; refusals of requests are [`crate::infer::Refusal`].

use std::{io, path::PathBuf};

use rekindle_domain::{Digest, ModelName};

/// Everything that can go wrong besides a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is out of bounds.
    #[error("configuration: {problems}")]
    Config {
        /// Every bound that does not hold.
        problems: String,
    },
    /// A file of the local cache cannot be used.
    #[error("cannot {operation} {path}")]
    Cache {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        source: io::Error,
    },
    /// A blob is neither in the local cache nor to be had.
    #[error("blob {digest} is not in the local cache and cannot be fetched")]
    Fetch {
        /// Which blob.
        digest: Digest,
        source: Box<rekindle_artifacts::Error>,
    },
    /// A blob is not in the local cache, and there is no object store yet.
    #[error("blob {digest} is not in the local cache and the object store is not connected")]
    NoArtifacts {
        /// Which blob.
        digest: Digest,
    },
    /// The bundle cannot be loaded: corrupt, malformed, or failing its warm-up.
    #[error("bundle {bundle} cannot be served")]
    Bundle {
        /// Which bundle.
        bundle: Digest,
        source: Box<rekindle_model::Error>,
    },
    /// The bundle's signature has something that the protocol's tensors cannot carry.
    #[error("bundle {bundle} cannot be served: {problem}")]
    Signature {
        /// Which bundle.
        bundle: Digest,
        /// What cannot be carried.
        problem: String,
    },
    /// Building or warming up a model panicked.
    #[error("loading bundle {bundle} panicked")]
    LoadPanicked {
        /// Which bundle.
        bundle: Digest,
    },
    /// The bus refused or could not be reached.
    #[error("cannot {operation} on the bus")]
    Bus {
        /// What was tried.
        operation: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A desired state is not readable.
    #[error("desired state of {key:?} is not readable")]
    DesiredState {
        /// The key in the bucket, or the file.
        key: String,
        source: serde_json::Error,
    },
    /// Rows could not be written as a message of the prediction log.
    #[error("cannot encode {rows} rows of {model} for the prediction log")]
    LogEncoding {
        /// The model that answered.
        model: ModelName,
        /// How many rows.
        rows: usize,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    pub(crate) fn bus(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Bus { operation, source: source.into() }
    }

    /// Whether the same may succeed if tried again a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => source.is_transient(),
            Self::NoArtifacts { .. } | Self::Bus { .. } => true,
            Self::Bundle { source, .. } => match &**source {
                rekindle_model::Error::Fetch { source, .. } => {
                    source.downcast_ref::<Self>().is_some_and(Self::is_transient)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The error and what led to it, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
