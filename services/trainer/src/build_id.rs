//! The identity of this program. A checkpoint continues to the same bits only in the program that took it: the revision of the source does not tell
//! two builds of a changed checkout apart, and is unknown outside of one.

use std::{io::Read as _, sync::LazyLock};

use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The digest of the executable; where it cannot be read, a text that no other process has.
pub(crate) fn get() -> &'static str {
    static ID: LazyLock<String> = LazyLock::new(|| {
        digest().map_or_else(
            |error| {
                tracing::warn!(%error, "the executable cannot be read: checkpoints are used by this process only");
                Uuid::now_v7().to_string()
            },
            |digest| digest.to_string(),
        )
    });
    &ID
}

fn digest() -> std::io::Result<Digest> {
    let mut file = std::fs::File::open(std::env::current_exe()?)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_digest_of_the_executable() {
        let bytes = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
        assert_eq!(get(), Digest::of(&bytes).to_string());
    }
}
