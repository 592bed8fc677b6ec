//! What can go wrong with a blob.

use rekindle_domain::Digest;

/// Why an operation on stored bytes failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes under the key are not those that the digest names.
    #[error("{key} is corrupt: expected {expected}, read {actual}")]
    Corrupt {
        /// The object's key.
        key: String,
        /// What was asked for.
        expected: Digest,
        /// What is stored.
        actual: Digest,
    },
    /// Nothing is stored under the key.
    #[error("{key} does not exist")]
    NotFound {
        /// The object's key.
        key: String,
    },
    /// Something else is stored under the key, and nothing is ever overwritten.
    #[error("{key} already holds other bytes: {existing} instead of {offered}")]
    Exists {
        /// The object's key.
        key: String,
        /// What is stored.
        existing: Digest,
        /// What was offered.
        offered: Digest,
    },
    /// More bytes than `artifacts.max_blob_bytes` allows.
    #[error("{key} has {size} bytes or more, the limit artifacts.max_blob_bytes is {limit}")]
    TooLarge {
        /// The object's key, or what it was to become.
        key: String,
        /// Bytes seen so far.
        size: u64,
        /// The configured limit in bytes.
        limit: u64,
    },
    /// A key that is not a plain relative path, or one inside the space of blobs.
    #[error("{key:?} cannot be an object's key: {reason}")]
    InvalidKey {
        /// The key as given.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address cannot be used.
    #[error("artifacts.url {url:?}: {reason}")]
    InvalidUrl {
        /// The address as given.
        url: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The store accepted a create-only put of a key that was there: it cannot be trusted with rekindle's data.
    #[error(
        "the store at {url} overwrites although asked to create only; rekindle needs conditional puts (If-None-Match)"
    )]
    NoConditionalCreate {
        /// The store's address.
        url: String,
    },
    /// A file or folder of the local store could not be made or synced.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: String,
        source: std::io::Error,
    },
    /// The store failed or could not be reached, after the configured retries.
    #[error("cannot {operation} {key}")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// On which key.
        key: String,
        source: object_store::Error,
    },
}

impl Error {
    /// Whether the same call may succeed if made again a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
            || matches!(self, Self::Store { source, .. } if matches!(source, object_store::Error::Generic { .. }))
    }

    pub(crate) fn store(operation: &'static str, key: &object_store::path::Path, source: object_store::Error) -> Self {
        match source {
            object_store::Error::NotFound { .. } => Self::NotFound { key: key.to_string() },
            source => Self::Store { operation, key: key.to_string(), source },
        }
    }
}
