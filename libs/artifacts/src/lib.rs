//! Large bytes, kept by what they hold: content-addressed blobs and named log segments on the local file
//! system or on any S3-compatible store.
//!
//! It refuses to overwrite, to hold more than a configured size, and to hand out bytes that do not match the
//! digest they were asked for by. It makes no bucket, keeps no index, and deletes nothing but its own staging.
//!
//! Invariants:
//! - a key under `blobs/sha256/` holds bytes of that digest or is reported as [`Error::Corrupt`];
//! - every create is create-only, which [`Artifacts::open`] proves by trying: stores differ in this;
//! - when a put returns, its bytes are durable: on the local file system the file and its folders are synced.

mod backend;
mod config;
mod error;
mod object;
mod writer;

pub use backend::Artifacts;
pub use config::Config;
pub use error::Error;
pub use writer::BlobWriter;
