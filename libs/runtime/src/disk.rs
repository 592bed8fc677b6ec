//! Free space of the disk that holds a folder.

use std::{io, path::Path};

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
    fn an_absent_folder_is_named() {
        let problem = shortage(Path::new("/no/such/folder")).expect("absent");
        assert!(problem.contains("/no/such/folder"), "{problem}");
    }
}
