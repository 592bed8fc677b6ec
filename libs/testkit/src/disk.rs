//! A small disk that a test can fill.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

/// A mounted file system in memory; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a disk of so many bytes. `None`, with a line on standard error, where the process may not mount: not root, or in a container
    /// without the capability.
    pub fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            failed => {
                eprintln!("SKIPPED: cannot mount a small disk: {failed:?}");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes until nothing fits any more.
    pub fn fill(&self) {
        let file = fs::File::create(self.filling()).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while std::io::Write::write(&mut &file, &vec![0; size]).is_ok_and(|written| written > 0) {}
        }
    }

    /// Frees what [`fill`](Self::fill) wrote.
    pub fn free(&self) {
        fs::remove_file(self.filling()).expect("it was filled");
    }

    fn filling(&self) -> std::path::PathBuf {
        self.path().join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.path().display());
        }
    }
}
