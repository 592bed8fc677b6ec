//! What is found of the blobs of a store.

use crate::Digest;

/// The blobs of a store after a collection of those that nothing refers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Blobs in the store before, and their bytes.
    pub blobs: u64,
    /// In bytes.
    pub bytes: u64,
    /// Those that something refers to.
    pub referenced: u64,
    /// Those that nothing refers to, within the grace period.
    pub recent: u64,
    /// Those that were deleted, or would be.
    pub deleted: u64,
    /// In bytes.
    pub deleted_bytes: u64,
}

/// Blobs that were read and compared with their digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blobs that were read.
    pub blobs: u64,
    /// In bytes.
    pub bytes: u64,
    /// Those that do not match.
    pub corrupt: Vec<Digest>,
}
