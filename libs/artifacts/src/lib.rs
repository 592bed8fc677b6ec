//! Object storage: content-addressed blobs and named objects on the local file system or on any S3-compatible store.
//!
//! The crate never overwrites an object with other bytes, stores nothing above a configured size, and returns no bytes that do not match the
//! requested digest. It creates no bucket, keeps no index, and deletes nothing by itself but its own staging objects.
//!
//! Invariants:
//! - the bytes under a key in `blobs/sha256/` match the digest in the key, or reads fail with [`Error::Corrupt`];
//! - every put is conditional on absence; [`Artifacts::open`] verifies this by trying, since stores differ;
//! - when a put returns, its bytes are durable: on the local file system the file and its folders are synced.

mod backend;
mod collect;
mod config;
mod error;
mod object;
mod reader;
mod writer;

pub use backend::Artifacts;
pub use collect::StoredBlob;
pub use config::Config;
pub use error::Error;
pub use reader::BlobReader;
pub use writer::BlobWriter;
