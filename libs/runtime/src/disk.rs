//! Free space of the disk that holds a folder.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

/// The least free space in bytes. With less, a service is not ready: databases, objects and messages may be refused at any moment.
pub const LEAST_FREE: u64 = 16 << 20;

/// Bytes of the folder's disk that are free to this process.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    // The types differ between systems.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "u32 on some systems")]
    Ok(u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
}

/// Why the disk of a folder has too little room; `None` if it has at least [`LEAST_FREE`].
pub fn shortage(folder: &Path) -> Option<String> {
    match free_bytes(folder) {
        Ok(free) if free >= LEAST_FREE => None,
        Ok(free) => Some(format!(
            "the disk of {} has {free} bytes free: expected at least {LEAST_FREE}, free some space",
            folder.display()
        )),
        Err(error) => Some(format!("the free space of {} is unknown: {error}", folder.display())),
    }
}

/// A file that only takes room. It is deleted where the disk is full at a start, which needs some room: databases create their
/// write-ahead logs.
#[derive(Debug, Clone)]
pub struct Ballast {
    file: PathBuf,
}

impl Ballast {
    /// Bytes that it takes.
    pub const BYTES: u64 = 8 << 20;

    /// The ballast of a folder, which need not exist.
    pub fn in_folder(folder: &Path) -> Self {
        Self { file: folder.join("ballast") }
    }

    /// Deletes it if the disk has less room than it takes. Returns whether there is more room now.
    pub fn release_if_short(&self) -> io::Result<bool> {
        if !self.file.try_exists()? || free_bytes(&self.file)? >= Self::BYTES {
            return Ok(false);
        }
        fs::remove_file(&self.file)?;
        Ok(true)
    }

    /// Creates it if it is not complete, and the disk has more than [`LEAST_FREE`] besides.
    pub fn restore(&self) -> io::Result<()> {
        let Some(folder) = self.file.parent() else { return Ok(()) };
        let has = fs::metadata(&self.file).map_or(0, |file| file.len());
        if has >= Self::BYTES || free_bytes(folder)? < LEAST_FREE + Self::BYTES {
            return Ok(());
        }
        let mut file = File::create(&self.file)?;
        let zeros = vec![0; 1 << 16];
        let written = (0..Self::BYTES / zeros.len() as u64).try_for_each(|_| io::Write::write_all(&mut file, &zeros));
        if written.is_err() {
            fs::remove_file(&self.file)?;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use rekindle_testkit::SmallDisk;

    use super::*;

    #[test]
    fn a_full_disk_is_short_until_it_is_freed() {
        let Some(disk) = SmallDisk::mount(2 * LEAST_FREE) else { return };
        assert_eq!(shortage(disk.path()), None);
        disk.fill();
        let problem = shortage(disk.path()).expect("full");
        assert!(problem.contains("has 0 bytes free: expected at least 16777216"), "{problem}");
        disk.free();
        assert_eq!(shortage(disk.path()), None);
    }

    #[test]
    fn ballast_is_released_on_a_full_disk_and_restored_with_room() {
        let Some(disk) = SmallDisk::mount(2 * LEAST_FREE) else { return };
        let ballast = Ballast::in_folder(disk.path());
        assert!(!ballast.release_if_short().expect("no ballast"));
        ballast.restore().expect("there is room");
        assert_eq!(free_bytes(disk.path()).expect("a disk"), 2 * LEAST_FREE - Ballast::BYTES);
        assert!(!ballast.release_if_short().expect("kept"));
        disk.fill();
        assert!(ballast.release_if_short().expect("deleted"));
        assert_eq!(free_bytes(disk.path()).expect("a disk"), Ballast::BYTES);
        ballast.restore().expect("not restored");
        assert_eq!(free_bytes(disk.path()).expect("a disk"), Ballast::BYTES);
        disk.free();
        ballast.restore().expect("restored");
        assert_eq!(free_bytes(disk.path()).expect("a disk"), 2 * LEAST_FREE - Ballast::BYTES);
    }

    #[test]
    fn an_absent_folder_is_named() {
        let problem = shortage(Path::new("/no/such/folder")).expect("absent");
        assert!(problem.contains("/no/such/folder"), "{problem}");
    }
}
