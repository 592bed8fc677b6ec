//! Blobs written piece by piece: small ones in one create-only put, large ones by way of a staging key.

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload, path::Path};
use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};

use crate::{Artifacts, Error};

/// Size of an uploaded part: above the 5 MiB that S3 demands of all but the last.
const PART: usize = 8 << 20;

/// A blob in the making. Holds at most one part of 8 MiB and one written piece in memory.
///
/// Dropped before [`finish`](Self::finish), nothing becomes visible; what was staged is removed by
/// [`abort`](Self::abort), or later by [`Artifacts::sweep_staging`] and the bucket's own rule for incomplete uploads.
#[derive(Debug)]
pub struct BlobWriter {
    artifacts: Artifacts,
    staging: Path,
    upload: Option<Box<dyn MultipartUpload>>,
    buffer: BytesMut,
    hasher: Sha256,
    size: u64,
}

impl BlobWriter {
    pub(crate) fn new(artifacts: Artifacts) -> Result<Self, Error> {
        let staging = artifacts.staging_key()?;
        Ok(Self { artifacts, staging, upload: None, buffer: BytesMut::new(), hasher: Sha256::new(), size: 0 })
    }

    /// Adds bytes; [`Error::TooLarge`] beyond the configured size, after which the writer is good for nothing but dropping.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.size += bytes.len() as u64;
        self.artifacts.check_size(&self.staging, self.size)?;
        self.hasher.update(&bytes);
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() >= PART {
            let part = self.buffer.split_to(PART).freeze();
            self.upload_part(part).await?;
        }
        Ok(())
    }

    /// Makes the blob visible under its digest. Returns the digest and the size in bytes.
    pub async fn finish(mut self) -> Result<(Digest, u64), Error> {
        let rest = self.buffer.split().freeze();
        if self.upload.is_none() {
            return Ok((self.artifacts.put(rest).await?, self.size));
        }
        if !rest.is_empty() {
            self.upload_part(rest).await?;
        }
        let digest = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        self.publish(&digest).await?;
        Ok((digest, self.size))
    }

    /// Gives up and removes what was staged.
    pub async fn abort(mut self) -> Result<(), Error> {
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        upload.abort().await.map_err(|source| Error::store("abort", &self.staging, source))
    }

    async fn upload_part(&mut self, part: Bytes) -> Result<(), Error> {
        let failed = |source| Error::store("stage", &self.staging, source);
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => self.artifacts.store.put_multipart(&self.staging).await.map_err(failed)?,
        };
        upload.put_part(PutPayload::from_bytes(part)).await.map_err(failed)?;
        self.upload = Some(upload);
        Ok(())
    }

    /// Completes the staged upload and gives it its final name if nobody else has. A blob that is there is kept: equal digests are
    /// equal bytes, and every read verifies.
    async fn publish(&mut self, digest: &Digest) -> Result<(), Error> {
        let (staging, store) = (&self.staging, &self.artifacts.store);
        if let Some(mut upload) = self.upload.take() {
            upload.complete().await.map_err(|source| Error::store("complete", staging, source))?;
        }
        let key = self.artifacts.blob_key(digest)?;
        match store.copy_if_not_exists(staging, &key).await {
            Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(source) => return Err(Error::store("create", &key, source)),
        }
        self.artifacts.sync(&key).await?;
        if let Err(error) = store.delete(staging).await {
            tracing::warn!(key = %staging, %error, "left a staged upload behind");
        }
        Ok(())
    }
}
