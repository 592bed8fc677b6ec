//! The folder that a task and its process share. It vanishes with its value.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use rekindle_artifacts::{Artifacts, BlobReader};
use rekindle_domain::Digest;
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;
use tokio::{
    fs,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use crate::Error;

/// The task.
pub(super) const REQUEST: &str = "request.json";
/// How it ended.
pub(super) const OUTCOME: &str = "outcome.json";
/// The manifest of a bundle, whose blobs are the files with the names of their roles.
pub(crate) const MANIFEST: &str = "manifest";
/// The rows of a dataset, as Parquet.
pub(crate) const ROWS: &str = "rows.parquet";
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;
/// What the process has written is read up to this size.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(super) fn create(scratch: &Path) -> Result<Self, Error> {
        let created = tempfile::Builder::new().prefix("onnx-").tempdir_in(scratch);
        created.map(Self).map_err(failed("create a folder for"))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub(crate) async fn write(&self, name: &str, bytes: &Bytes) -> Result<(), Error> {
        fs::write(self.file(name), bytes).await.map_err(failed("write a file of"))
    }

    /// Copies a blob to a file, chunk by chunk; its digest is verified.
    pub(crate) async fn copy(&self, name: &str, mut blob: BlobReader) -> Result<(), Error> {
        let mut file = fs::File::create(self.file(name)).await.map_err(failed("write a file of"))?;
        while let Some(chunk) = blob.chunk().await? {
            file.write_all(&chunk).await.map_err(failed("write a file of"))?;
        }
        file.flush().await.map_err(failed("write a file of"))
    }

    /// Reads a file that the process has written.
    pub(crate) async fn read(&self, name: &str) -> Result<Bytes, Error> {
        let path = self.file(name);
        let size = fs::metadata(&path).await.map_err(failed("read a file of"))?.len();
        if size > MAX_BYTES {
            return Err(failed("read a file of")(io::Error::other(format!("{name} has {size} bytes"))));
        }
        fs::read(&path).await.map(Bytes::from).map_err(failed("read a file of"))
    }

    /// Stores a file that the process has written, chunk by chunk; returns its digest.
    pub(crate) async fn store(&self, name: &str, artifacts: &Artifacts) -> Result<Digest, Error> {
        let mut file = fs::File::open(self.file(name)).await.map_err(failed("read a file of"))?;
        let mut writer = artifacts.writer().await?;
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            if file.read_buf(&mut chunk).await.map_err(failed("read a file of"))? == 0 {
                return Ok(writer.finish().await?.0);
            }
            writer.write(chunk.freeze()).await?;
        }
    }

    pub(super) async fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let json = serde_json::to_vec(value).map_err(|error| failed("write a file of")(error.into()))?;
        self.write(name, &json.into()).await
    }

    pub(super) async fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let json = self.read(name).await?;
        serde_json::from_slice(&json).map_err(|error| failed("read a file of")(error.into()))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Isolation { operation, source }
}
