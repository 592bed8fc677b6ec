//! Output files, written completely or not at all, and never over an input.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;

/// A file to write. Prepared before the work, so that an unwritable path fails early.
pub(super) struct OutputFile {
    path: PathBuf,
    /// `None` if the path is a pipe or a terminal.
    unfinished: Option<NamedTempFile>,
}

impl OutputFile {
    /// Prepares to write `path`.
    ///
    /// # Errors
    /// The path is one of the `inputs`, or its folder is not writable.
    pub(super) fn prepare<'a>(path: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        if let Some(input) = inputs.into_iter().find(|input| is_same(path, input)) {
            bail!("{} would replace {}, which is an input; choose another name", path.display(), input.display());
        }
        let is_plain = fs::metadata(path).map_or(true, |metadata| metadata.is_file());
        let unfinished = is_plain.then(|| unfinished(path)).transpose();
        Ok(Self { path: path.to_owned(), unfinished: unfinished.with_context(|| cannot_write(path))? })
    }

    /// Writes the file.
    pub(super) fn write(self, bytes: &[u8]) -> Result<()> {
        let written = match self.unfinished {
            Some(mut file) => {
                file.write_all(bytes).and_then(|()| file.persist(&self.path).map(drop).map_err(|error| error.error))
            }
            None => OpenOptions::new().write(true).open(&self.path).and_then(|mut file| file.write_all(bytes)),
        };
        written.with_context(|| cannot_write(&self.path))
    }
}

/// A temporary file in the folder of the target, so that it can be renamed to it, with the permissions of a new file.
fn unfinished(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
