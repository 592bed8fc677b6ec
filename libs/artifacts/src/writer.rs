//! Blobs written in chunks: small ones with one conditional put, large ones through a staging key.

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload, path::Path};
use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};

use crate::{Artifacts, Error, backend::ATTEMPTS};

/// Size of an uploaded part in bytes: above the 5 MiB that S3 requires of all parts but the last.
const PART: usize = 8 << 20;

/// An incomplete blob. Buffers at most one part of 8 MiB and one chunk in memory.
///
/// If it is dropped before [`finish`](Self::finish), the blob does not exist. Staged parts are removed by [`abort`](Self::abort), or
/// later by [`Artifacts::sweep_staging`] and the bucket's lifecycle rule for incomplete uploads.
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

    /// Appends bytes. Above the configured size it fails with [`Error::TooLarge`], after which the writer must be dropped or aborted.
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

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(self.hasher.clone().finalize().into())
    }

    /// Publishes the blob under its digest. Returns the digest and the size in bytes.
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

    /// Stages the bytes under their digest, apart from the blobs, for [`Artifacts::staged_reader`]. They exist until
    /// [`Artifacts::discard_staged`], or until [`Artifacts::sweep_staging`] finds them too old. Staging the same bytes again
    /// renews them. Returns the digest and the size in bytes.
    pub async fn finish_staged(mut self) -> Result<(Digest, u64), Error> {
        let rest = self.buffer.split().freeze();
        let digest = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        let key = self.artifacts.staged_key(&digest)?;
        if self.upload.is_none() {
            let put = self.artifacts.store.put(&key, PutPayload::from_bytes(rest)).await;
            put.map_err(|source| Error::store("stage", &key, source))?;
        } else {
            if !rest.is_empty() {
                self.upload_part(rest).await?;
            }
            self.complete().await?;
            let renamed = self.artifacts.store.rename(&self.staging, &key).await;
            renamed.map_err(|source| Error::store("stage", &key, source))?;
        }
        self.artifacts.sync(&key).await?;
        Ok((digest, self.size))
    }

    /// Discards the blob and removes its staged parts.
    pub async fn abort(mut self) -> Result<(), Error> {
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        upload.abort().await.map_err(|source| Error::store("abort", &self.staging, source))
    }

    async fn upload_part(&mut self, part: Bytes) -> Result<(), Error> {
        let failed = |source| Error::store("stage", &self.staging, source);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.artifacts.store.put_multipart(&self.staging).await.map_err(failed)?),
        };
        upload.put_part(PutPayload::from_bytes(part)).await.map_err(failed)
    }

    async fn complete(&mut self) -> Result<(), Error> {
        if let Some(mut upload) = self.upload.take() {
            upload.complete().await.map_err(|source| Error::store("complete", &self.staging, source))?;
        }
        Ok(())
    }

    /// Completes the staged upload and copies it to its final key. An existing blob is kept, unless it is corrupt: then it is replaced.
    async fn publish(&mut self, digest: &Digest) -> Result<(), Error> {
        self.complete().await?;
        let key = self.artifacts.blob_key(digest)?;
        let mut published = self.copy_staged(&key, digest).await;
        for _ in 1..ATTEMPTS {
            if !published.as_ref().is_err_and(Error::is_deleted_meanwhile) {
                break;
            }
            published = self.copy_staged(&key, digest).await;
        }
        published?;
        if let Err(error) = self.artifacts.store.delete(&self.staging).await {
            tracing::warn!(key = %self.staging, %error, "failed to delete a staged upload");
        }
        Ok(())
    }

    async fn copy_staged(&mut self, key: &Path, digest: &Digest) -> Result<(), Error> {
        let (staging, store) = (&self.staging, &self.artifacts.store);
        match store.copy_if_not_exists(staging, key).await {
            Ok(()) => {}
            Err(object_store::Error::AlreadyExists { .. }) => {
                let is_whole = match self.artifacts.verify(digest).await {
                    Ok(_) => true,
                    Err(Error::Corrupt { actual, .. }) => {
                        tracing::warn!(%key, %actual, "repairing a corrupt blob");
                        false
                    }
                    // It was deleted meanwhile.
                    Err(Error::NotFound { .. }) => false,
                    Err(error) => return Err(error),
                };
                if !is_whole || !self.artifacts.is_recent(key).await? {
                    store.copy(staging, key).await.map_err(|source| Error::store("repair", key, source))?;
                }
            }
            Err(source) => return Err(Error::store("create", key, source)),
        }
        self.artifacts.sync(key).await
    }
}
