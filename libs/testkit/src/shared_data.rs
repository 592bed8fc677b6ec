//! Real data sets outside of the repository, whose licences do not allow copying.
//!
//! They are read from the folder `REKINDLE_SHARED_DATA`, or from `shared/data` beside the checkout. A test that needs one has a name that ends
//! with `or_skipped`. Without its file it prints that it was skipped, and fails if the environment variable `CI` is `true`, because CI must
//! have the files.

use std::{
    fs,
    path::{Path, PathBuf},
};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// What the environment requires of files outside of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    Required,
    Optional,
}

impl Shared {
    fn of_ci(variable: Option<&str>) -> Self {
        if variable == Some("true") { Self::Required } else { Self::Optional }
    }
}

/// A file outside of the repository; `None` if it may be absent, and is.
fn find(folder: &Path, name: &str, shared: Shared) -> Result<Option<Vec<u8>>, String> {
    match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if shared == Shared::Required => {
            let folder = folder.display();
            Err(format!("{name} in {folder}: {error}; CI must have it: set REKINDLE_SHARED_DATA to its folder"))
        }
        Err(_) => Ok(None),
    }
}

/// A file outside of the repository. Says so if the test is skipped without it.
///
/// # Panics
/// When CI does not have it.
pub fn shared_data(name: &str) -> Option<Vec<u8>> {
    let beside = || PathBuf::from(MANIFEST).join("../../../shared/data");
    let folder = std::env::var_os("REKINDLE_SHARED_DATA").map_or_else(beside, PathBuf::from);
    let found = find(&folder, name, Shared::of_ci(std::env::var("CI").ok().as_deref()));
    let bytes = found.unwrap_or_else(|missing| panic!("{missing}"));
    if bytes.is_none() {
        println!("SKIPPED: {name} is not in {}", folder.display());
    }
    bytes
}

/// The flights of 2013, which are part of the repository.
///
/// # Panics
/// When they are not.
pub fn flights() -> Vec<u8> {
    let path = PathBuf::from(MANIFEST).join("../../deploy/demo/flights_2013.parquet");
    fs::read(path).expect("the flights are in the repository")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_skips_a_test_but_fails_it_in_ci() {
        assert_eq!(
            [None, Some("false"), Some("true")].map(Shared::of_ci),
            [Shared::Optional, Shared::Optional, Shared::Required]
        );
        let absent = Path::new(MANIFEST).join("absent");
        assert_eq!(find(&absent, "file.parquet", Shared::Optional), Ok(None));
        let failed = find(&absent, "file.parquet", Shared::Required).expect_err("it is required");
        assert!(failed.contains("file.parquet") && failed.contains("REKINDLE_SHARED_DATA"), "{failed}");
        let present = find(Path::new(MANIFEST), "Cargo.toml", Shared::Required).expect("it is in the repository");
        assert!(present.is_some());
    }
}
