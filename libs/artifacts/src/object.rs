//! Named objects, verified reads, and durability on the local file system.

use std::{path::PathBuf, time::SystemTime};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{ObjectStoreExt as _, path::Path};
use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};

use crate::{Artifacts, Error, backend::Created};

/// Prefix of incomplete uploads.
pub(crate) const STAGING: &str = "staging/";
/// Prefix of content-addressed blobs, reserved for them.
const BLOBS: &str = "blobs/";

impl Artifacts {
    /// Stores a named object. Idempotent for the same bytes; other bytes for an existing key fail with [`Error::Exists`].
    pub async fn put_object(&self, key: &str, bytes: Bytes) -> Result<Digest, Error> {
        let path = self.object_key(key)?;
        self.check_size(&path, bytes.len() as u64)?;
        let offered = Digest::of(&bytes);
        if self.create(&path, bytes).await? == Created::New {
            return Ok(offered);
        }
        match self.read_verified(&path, &offered).await {
            Ok(_) => Ok(offered),
            Err(Error::Corrupt { actual, .. }) => {
                Err(Error::Exists { key: path.to_string(), existing: actual, offered })
            }
            Err(error) => Err(error),
        }
    }

    /// A named object that must match `digest`.
    pub async fn get_object_verified(&self, key: &str, digest: &Digest) -> Result<Bytes, Error> {
        self.read_verified(&self.object_key(key)?, digest).await
    }

    /// Removes staged objects of abandoned uploads that were last modified before `before`. Returns their number.
    pub async fn sweep_staging(&self, before: DateTime<Utc>) -> Result<usize, Error> {
        let folder = self.key(STAGING.trim_end_matches('/'))?;
        let failed = |source| Error::store("list", &folder, source);
        let mut listed = self.store.list(Some(&folder));
        let mut removed = 0;
        while let Some(meta) = listed.try_next().await.map_err(failed)? {
            if meta.last_modified < before {
                let key = &meta.location;
                self.store.delete(key).await.map_err(|source| Error::store("delete", key, source))?;
                removed += 1;
            }
        }
        if let Some(store) = &self.folder {
            let path = store.path_to_filesystem(&folder).map_err(failed)?;
            let swept = tokio::task::spawn_blocking(move || sweep_partial(&path, before.into())).await;
            removed += swept.map_err(|error| Error::store("list", &folder, error.into()))??;
        }
        Ok(removed)
    }

    /// The keys of the named objects below a folder that were last modified before `before`, in no order.
    pub fn objects(
        &self,
        folder: &str,
        before: DateTime<Utc>,
    ) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        let folder = self.object_key(folder)?;
        let prefix = self.prefix.clone();
        let listed = self.store.list(Some(&folder));
        let listed = listed.map_err(move |source| Error::store("list", &folder, source));
        let old = listed.try_filter_map(move |meta| {
            let key = meta.location.as_ref();
            let key = key.strip_prefix(prefix.as_str()).unwrap_or(key);
            std::future::ready(Ok((meta.last_modified < before).then(|| key.to_owned())))
        });
        Ok(old.boxed())
    }

    /// Deletes a named object. Idempotent.
    pub async fn delete_object(&self, key: &str) -> Result<(), Error> {
        let path = self.object_key(key)?;
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::store("delete", &path, source)),
        }
    }

    fn object_key(&self, key: &str) -> Result<Path, Error> {
        if key.starts_with(BLOBS) || key.starts_with(STAGING) {
            let reason = format!("{BLOBS} and {STAGING} are reserved");
            return Err(Error::InvalidKey { key: key.to_owned(), reason });
        }
        self.key(key)
    }

    pub(crate) async fn read_verified(&self, key: &Path, expected: &Digest) -> Result<Bytes, Error> {
        let (bytes, actual) = self.read(key).await?;
        if actual == *expected {
            return Ok(bytes);
        }
        Err(Error::Corrupt { key: key.to_string(), expected: *expected, actual })
    }

    async fn read(&self, key: &Path) -> Result<(Bytes, Digest), Error> {
        let failed = |source| Error::store("read", key, source);
        let found = self.store.get(key).await.map_err(failed)?;
        self.check_size(key, found.meta.size)?;
        // The size from the store is checked above, so the allocation is bounded.
        let mut bytes = BytesMut::with_capacity(usize::try_from(found.meta.size).unwrap_or_default());
        let mut hasher = Sha256::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(failed)?;
            self.check_size(key, (bytes.len() + chunk.len()) as u64)?;
            hasher.update(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.freeze(), Digest::from_bytes(hasher.finalize().into())))
    }

    /// Syncs an object of the local file system: its file, then every folder up to the root, since each may be new. In other stores an
    /// acknowledged put is durable.
    pub(crate) async fn sync(&self, key: &Path) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let failed = |source| Error::store("find", key, source);
        let file = folder.path_to_filesystem(key).map_err(failed)?;
        let depth = key.parts().count();
        tokio::task::spawn_blocking(move || sync_up(file, depth))
            .await
            .map_err(|error| Error::store("sync", key, error.into()))?
    }
}

/// Removes the files of incomplete multipart uploads that a crash has left in a folder. The local store names them `KEY#NUMBER`, and
/// does not list them. Returns how many.
fn sweep_partial(folder: &std::path::Path, before: SystemTime) -> Result<usize, Error> {
    let failed = |operation, path: &std::path::Path| {
        let path = path.display().to_string();
        move |source| Error::Io { operation, path, source }
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed("list", folder))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(failed("inspect", &path))?;
        let is_partial = metadata.is_file() && entry.file_name().to_string_lossy().contains('#');
        if is_partial && metadata.modified().map_err(failed("inspect", &path))? < before {
            std::fs::remove_file(&path).map_err(failed("delete", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn sync_up(file: PathBuf, folders: usize) -> Result<(), Error> {
    for path in file.ancestors().take(folders + 1) {
        std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|source| Error::Io {
            operation: "sync",
            path: path.display().to_string(),
            source,
        })?;
    }
    Ok(())
}
