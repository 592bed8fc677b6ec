//! Errors of the object store.

use rekindle_domain::{Digest, validation::Violations};

/// Errors of an operation on blobs and objects.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stored bytes do not match the digest.
    #[error("{key} is corrupt: expected {expected}, read {actual}")]
    Corrupt {
        /// The object's key.
        key: String,
        /// The requested digest.
        expected: Digest,
        /// The digest of the stored bytes.
        actual: Digest,
    },
    /// No object has the key.
    #[error("{key} does not exist")]
    NotFound {
        /// The object's key.
        key: String,
    },
    /// The key has an object with other bytes; objects are never overwritten.
    #[error("{key} already exists with different content: {existing} instead of {offered}")]
    Exists {
        /// The object's key.
        key: String,
        /// The digest of the stored bytes.
        existing: Digest,
        /// The digest of the given bytes.
        offered: Digest,
    },
    /// More bytes than `artifacts.max_blob_bytes` allows.
    #[error("{key} is too large: {size} bytes or more, the limit is artifacts.max_blob_bytes = {limit}")]
    TooLarge {
        /// The object's key, or its staging key.
        key: String,
        /// The size so far in bytes.
        size: u64,
        /// The configured limit in bytes.
        limit: u64,
    },
    /// More bytes than the caller of [`Artifacts::get_at_most`](crate::Artifacts::get_at_most) expects.
    #[error("{key} has {size} bytes, expected at most {at_most}")]
    Unexpected {
        /// The object's key.
        key: String,
        /// The size in bytes.
        size: u64,
        /// The largest expected size in bytes.
        at_most: u64,
    },
    /// A key that is not a plain relative path, or that is reserved.
    #[error("invalid object key {key:?}: {reason}")]
    InvalidKey {
        /// The key as given.
        key: String,
        /// The cause.
        reason: String,
    },
    /// The configuration is not valid.
    #[error("invalid configuration: {0}")]
    Configuration(Violations),
    /// The store overwrote an object although the put was conditional on its absence.
    #[error("the store at {url} ignores conditional puts (If-None-Match), which rekindle requires")]
    NoConditionalCreate {
        /// The store's address.
        url: String,
    },
    /// A file or folder of the local store could not be created or synced.
    #[error("cannot {operation} {path}")]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file or folder.
        path: String,
        source: std::io::Error,
    },
    /// The store failed or was unreachable, after the configured retries.
    #[error("cannot {operation} {key}")]
    Store {
        /// The operation.
        operation: &'static str,
        /// The object's key.
        key: String,
        source: object_store::Error,
    },
}

impl Error {
    /// Whether the same call may succeed when it is retried later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
            || matches!(self, Self::Store { source, .. } if matches!(source, object_store::Error::Generic { .. }))
    }

    /// Whether an object that was just written has been deleted.
    pub(crate) fn is_deleted_meanwhile(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    pub(crate) fn store(operation: &'static str, key: &object_store::path::Path, source: object_store::Error) -> Self {
        match source {
            object_store::Error::NotFound { .. } => Self::NotFound { key: key.to_string() },
            source => Self::Store { operation, key: key.to_string(), source },
        }
    }
}
