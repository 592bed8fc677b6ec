//! Blobs on the local disk: verified when written, verified again on every read, bounded.
//!
//! A damaged file is the same as none. Files appear whole or not at all: they are written beside and renamed.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use rekindle_domain::Digest;
use tokio::task;

use crate::Error;

/// A folder of blobs, named by their digests.
#[derive(Debug, Clone)]
pub(crate) struct BlobCache {
    folder: PathBuf,
    max_bytes: u64,
}

impl BlobCache {
    /// The cache in `folder`, which is made if need be.
    pub(crate) fn open(folder: PathBuf, max_bytes: u64) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        Ok(Self { folder, max_bytes })
    }

    /// The blob, if it is here and intact. A damaged file is deleted.
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
            tracing::warn!(%digest, "a cached blob was damaged");
            fs::remove_file(&path).map_err(failed("delete", &path))?;
            Ok(None)
        })
        .await
    }

    /// Keeps bytes that were verified to have this digest.
    pub(crate) async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), Error> {
        let path = self.path(&digest);
        off_thread(move || write_whole(&path, &bytes)).await
    }

    /// Deletes what is not in `keep`, longest unused first, until the rest fits.
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

/// The time of change is the time of last use. Not knowing it only makes pruning less apt.
fn mark_used(path: &Path) {
    let marked = fs::File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = marked {
        tracing::debug!(%error, path = %path.display(), "cannot mark a cached blob as used");
    }
}

/// Writes a file that is there whole, and durably, or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = path.with_extension("partial");
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&beside)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(failed("write", path))
}

/// Runs disk work where it holds up no request.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache { operation, path, source }
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
    async fn a_damaged_blob_is_the_same_as_none() {
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
    async fn pruning_keeps_what_is_served_and_what_was_used_last() {
        let (_folder, cache) = cache(8);
        let blobs: Vec<_> = [b"aaaa", b"bbbb", b"cccc"].map(|bytes| (Digest::of(bytes), bytes)).into();
        for (age, (digest, bytes)) in (0..3).rev().zip(&blobs) {
            cache.put(*digest, Bytes::copy_from_slice(*bytes)).await.expect("writes");
            let used = SystemTime::now() - std::time::Duration::from_secs(60 * age);
            let file = fs::File::options().append(true).open(cache.path(digest)).expect("opens");
            file.set_modified(used).expect("sets");
        }
        cache.prune(HashSet::from([blobs[0].0])).await.expect("prunes");
        let here: Vec<_> = blobs.iter().map(|(digest, _)| cache.path(digest).exists()).collect();
        assert_eq!(here, [true, false, true]);
    }
}
