//! Blobs and staged objects read in chunks.

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, path::Path};
use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};

use crate::{Artifacts, Error};

/// Bytes of a chunk.
const CHUNK: u64 = 4 << 20;

/// A blob or staged object that is read in chunks of 4 MiB, one of which it holds in memory.
///
/// Bytes are hashed while they are read. The last chunk is returned only if all bytes match the digest.
#[derive(Debug)]
pub struct BlobReader {
    artifacts: Artifacts,
    key: Path,
    expected: Digest,
    hasher: Sha256,
    size: u64,
    at: u64,
}

impl Artifacts {
    /// Opens a blob.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`], and the errors of the store.
    pub async fn reader(&self, digest: &Digest) -> Result<BlobReader, Error> {
        BlobReader::open(self, self.blob_key(digest)?, digest).await
    }

    /// Opens a staged object ([`BlobWriter::finish_staged`](crate::BlobWriter::finish_staged)).
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    pub async fn staged_reader(&self, digest: &Digest) -> Result<BlobReader, Error> {
        BlobReader::open(self, self.staged_key(digest)?, digest).await
    }

    /// Reads a blob to its end without keeping it, and returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the bytes do not match the digest, and those of [`reader`](Self::reader).
    pub async fn verify(&self, digest: &Digest) -> Result<u64, Error> {
        let mut reader = self.reader(digest).await?;
        while reader.chunk().await?.is_some() {}
        Ok(reader.size())
    }

    /// Removes a staged object. One that does not exist is no error.
    pub async fn discard_staged(&self, digest: &Digest) -> Result<(), Error> {
        let key = self.staged_key(digest)?;
        match self.store.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::store("delete", &key, source)),
        }
    }
}

impl BlobReader {
    pub(crate) async fn open(artifacts: &Artifacts, key: Path, expected: &Digest) -> Result<Self, Error> {
        let found = artifacts.store.head(&key).await.map_err(|source| Error::store("look up", &key, source))?;
        artifacts.check_size(&key, found.size)?;
        let artifacts = artifacts.clone();
        Ok(Self { artifacts, key, expected: *expected, hasher: Sha256::new(), size: found.size, at: 0 })
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] instead of the last chunk if the bytes do not match the digest; the errors of the store.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let end = self.size.min(self.at + CHUNK);
        let chunk = if self.at < end {
            let read = self.artifacts.store.get_range(&self.key, self.at..end).await;
            Some(read.map_err(|source| Error::store("read", &self.key, source))?)
        } else {
            None
        };
        self.hasher.update(chunk.as_deref().unwrap_or_default());
        // A second call after the end finds nothing left to verify.
        if end == self.size && (chunk.is_some() || self.size == 0) {
            let actual = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
            if actual != self.expected {
                return Err(Error::Corrupt { key: self.key.to_string(), expected: self.expected, actual });
            }
        }
        self.at = end;
        Ok(chunk)
    }
}
