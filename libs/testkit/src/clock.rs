//! The system clock of child processes, which a test can set. Clocks that only advance are not affected.

use std::{env, fs, path::PathBuf};

use tempfile::TempDir;

/// Where Debian's package libfaketime has the library.
const FOLDERS: &str = "/usr/lib";

/// A clock that differs from that of the machine by an offset.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// A clock without an offset. Prints that its use is skipped, and returns `None`, where libfaketime is not installed.
    ///
    /// # Panics
    /// When no file can be written.
    pub fn find_or_say_skipped() -> Option<Self> {
        let library = format!("{FOLDERS}/{}-linux-gnu/faketime/libfaketimeMT.so.1", env::consts::ARCH);
        if !PathBuf::from(&library).is_file() {
            println!("skipped: jumps of the clock need libfaketime, which is not installed");
            return None;
        }
        let clock = Self { library: library.into(), folder: tempfile::tempdir().expect("a folder") };
        clock.set(0);
        Some(clock)
    }

    /// The environment of processes with this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Sets the offset in seconds; processes take it within a second.
    ///
    /// # Panics
    /// When no file can be written.
    pub fn set(&self, offset: i32) {
        let next = self.folder.path().join("next");
        fs::write(&next, format!("{offset:+}")).expect("a file");
        fs::rename(next, self.file()).expect("the same folder");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

impl Drop for Clock {
    /// Removes what the library leaves behind for processes that were killed.
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name.rsplit_once('_').filter(|(kind, _)| kind.contains("faketime")).map(|(_, id)| id);
            if process.is_some_and(|id| !PathBuf::from(format!("/proc/{id}")).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
