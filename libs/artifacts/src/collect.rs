//! What a collection of unreferenced blobs and a check of stored ones need: lists, deletion, and quarantine.

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{ObjectStoreExt as _, path::Path};
use rekindle_domain::Digest;
use uuid::Uuid;

use crate::{Artifacts, BlobReader, Error};

/// Prefix of the blobs.
const BLOBS: &str = "blobs/sha256";
/// Prefix of blobs that do not match their digests.
const QUARANTINE: &str = "quarantine/sha256";

/// A blob as the store lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// The digest in its key.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// When it was written, or written again.
    pub modified: DateTime<Utc>,
}

impl Artifacts {
    /// Every blob, in no order. Objects below the prefix whose keys have no digest are left out.
    pub fn blobs(&self) -> Result<BoxStream<'static, Result<StoredBlob, Error>>, Error> {
        let folder = self.key(BLOBS)?;
        let listed = self.store.list(Some(&folder));
        let listed = listed.map_err(move |source| Error::store("list", &folder, source));
        let blobs = listed.try_filter_map(|meta| {
            let digest = meta.location.filename().and_then(|name| format!("sha256:{name}").parse().ok());
            let blob = digest.map(|digest| StoredBlob { digest, size: meta.size, modified: meta.last_modified });
            std::future::ready(Ok(blob))
        });
        Ok(blobs.boxed())
    }

    /// When a blob was written, or written again; `None` if it does not exist.
    pub async fn blob_modified(&self, digest: &Digest) -> Result<Option<DateTime<Utc>>, Error> {
        let key = self.blob_key(digest)?;
        match self.store.head(&key).await {
            Ok(found) => Ok(Some(found.last_modified)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::store("look up", &key, source)),
        }
    }

    /// Deletes a blob. Idempotent.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<(), Error> {
        let key = self.blob_key(digest)?;
        match self.store.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::store("delete", &key, source)),
        }
    }

    /// Moves a blob that does not match its digest out of the way, so that it can be uploaded again and the bytes can be examined. Returns
    /// the key that it has then; `None` if it matches after all, since a client has stored it again meanwhile, and is back.
    pub async fn quarantine(&self, digest: &Digest) -> Result<Option<String>, Error> {
        // Each damaged copy of a blob is kept.
        let to = self.key(&format!("{QUARANTINE}/{}-{}", digest.hex(), Uuid::now_v7()))?;
        let from = self.blob_key(digest)?;
        self.store.rename(&from, &to).await.map_err(|source| Error::store("quarantine", &from, source))?;
        self.sync(&to).await?;
        if !self.matches(&to, digest).await? {
            return Ok(Some(to.to_string()));
        }
        match self.store.rename_if_not_exists(&to, &from).await {
            Ok(()) => self.sync(&from).await?,
            Err(object_store::Error::AlreadyExists { .. }) => {
                self.store.delete(&to).await.map_err(|source| Error::store("delete", &to, source))?;
            }
            Err(source) => return Err(Error::store("restore", &from, source)),
        }
        Ok(None)
    }

    async fn matches(&self, key: &Path, digest: &Digest) -> Result<bool, Error> {
        let mut reader = BlobReader::open(self, key.clone(), digest).await?;
        loop {
            match reader.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(true),
                Err(Error::Corrupt { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}
