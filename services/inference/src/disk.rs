//! Files of the local cache: written atomically and durably, off the threads that answer requests.

use std::{fs, io, io::Write as _, path::Path};

use tempfile::NamedTempFile;
use tokio::task;

use crate::Error;

/// Writes a file that has either all of `bytes` or does not exist, also after a crash.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write(path, bytes).map_err(failed("write", path))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    // A crash after the rename must not leave the new name on content that never reached the disk.
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself is durable only once the folder is.
    fs::File::open(folder)?.sync_all()
}

/// Runs disk work on a thread that answers no requests.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Adds the operation and the path to an I/O error.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write_file(&path, b"first").expect("writes");
        write_file(&path, b"second").expect("replaces");
        assert_eq!(fs::read(&path).expect("reads"), b"second");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1);

        let nowhere = folder.path().join("missing/file");
        let error = write_file(&nowhere, b"").expect_err("no folder");
        assert!(error.to_string().starts_with("cannot write"), "{error}");
    }
}
