//! Blobs on the local disk: bounded in size, and verified on every read.
//!
//! A corrupt file is treated as absent. Files are written atomically.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use rekindle_domain::Digest;

use crate::{
    Error,
    disk::{failed, off_thread, write_file},
};

/// A folder of blobs, named by their digests.
#[derive(Debug, Clone)]
pub(crate) struct BlobCache {
    folder: PathBuf,
    max_bytes: u64,
}

impl BlobCache {
    /// The cache in `folder`, which is created if it does not exist.
    pub(crate) fn open(folder: PathBuf, max_bytes: u64) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        Ok(Self { folder, max_bytes })
    }

    /// The blob, if it is cached and intact. A corrupt file is deleted.
    pub(crate) async fn get(&self, digest: Digest) -> Result<Option<Bytes>, Error> {
        let path = self.path(&digest);
        off_thread(move || {
            let bytes = match fs::read(&path) {
                Ok(bytes) => Bytes::from(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed("read", &path)(error)),
            };
            if Digest::of(&bytes) == digest {
                mark_used(&path);
                return Ok(Some(bytes));
            }
            tracing::warn!(%digest, "corrupt blob in the cache deleted");
            fs::remove_file(&path).map_err(failed("delete", &path))?;
            Ok(None)
        })
        .await
    }

    /// Caches bytes that were verified to have this digest.
    pub(crate) async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), Error> {
        let path = self.path(&digest);
        off_thread(move || write_file(&path, &bytes)).await
    }

    /// Deletes blobs that are not in `keep`, least recently used first, until the cache is within its size.
    pub(crate) async fn prune(&self, keep: HashSet<Digest>) -> Result<(), Error> {
        let (folder, max_bytes) = (self.folder.clone(), self.max_bytes);
        off_thread(move || {
            let keep: HashSet<String> = keep.iter().map(Digest::hex).collect();
            let mut files = files(&folder).map_err(failed("list", &folder))?;
            files.sort_by_key(|file| file.used);
            let mut total: u64 = files.iter().map(|file| file.size).sum();
            for file in files {
                if total <= max_bytes {
                    break;
                }
                if !keep.contains(&file.name) {
                    fs::remove_file(folder.join(&file.name)).map_err(failed("delete", &folder))?;
                    total -= file.size;
                }
            }
            Ok(())
        })
        .await
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }
}

struct File {
    name: String,
    size: u64,
    used: SystemTime,
}

fn files(folder: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            files.push(File { name, size: metadata.len(), used: metadata.modified()? });
        }
    }
    Ok(files)
}

/// The modification time of a file is the time of its last use, so that the order of use survives a restart. An unmarked file is only
/// deleted earlier than it should be.
fn mark_used(path: &Path) {
    let marked = fs::File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = marked {
        tracing::debug!(%error, path = %path.display(), "failed to mark a cached blob as used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(max_bytes: u64) -> (tempfile::TempDir, BlobCache) {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = BlobCache::open(folder.path().join("blobs"), max_bytes).expect("opens");
        (folder, cache)
    }

    #[tokio::test]
    async fn a_corrupt_blob_is_treated_as_absent() {
        let (_folder, cache) = cache(1000);
        let digest = Digest::of(b"whole");
        assert_eq!(cache.get(digest).await.expect("reads"), None);
        cache.put(digest, Bytes::from_static(b"whole")).await.expect("writes");
        assert_eq!(cache.get(digest).await.expect("reads"), Some(Bytes::from_static(b"whole")));
        fs::write(cache.path(&digest), b"hole").expect("damages");
        assert_eq!(cache.get(digest).await.expect("reads"), None);
        assert!(!cache.path(&digest).exists());
    }

    #[tokio::test]
    async fn pruning_keeps_served_blobs_and_the_most_recently_used() {
        let (_folder, cache) = cache(8);
        let blobs: Vec<_> = [b"aaaa", b"bbbb", b"cccc"].map(|bytes| (Digest::of(bytes), bytes)).into();
        for (age, (digest, bytes)) in (0..3).rev().zip(&blobs) {
            cache.put(*digest, Bytes::copy_from_slice(*bytes)).await.expect("writes");
            let used = SystemTime::now() - std::time::Duration::from_secs(60 * age);
            let file = fs::File::options().append(true).open(cache.path(digest)).expect("opens");
            file.set_modified(used).expect("sets");
        }
        cache.prune(HashSet::from([blobs[0].0])).await.expect("prunes");
        let kept: Vec<_> = blobs.iter().map(|(digest, _)| cache.path(digest).exists()).collect();
        assert_eq!(kept, [true, false, true]);
    }
}
