//! The lock of a data folder: one platform works in it at a time.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};

/// How long to wait for a platform that was killed a moment ago: its nats-server holds the lock until it has written its last state.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Locks the folder until the file, and every copy of it that a child process has, is closed.
pub(crate) async fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL).await,
            Err(TryLockError::WouldBlock) => {
                bail!("another platform works in {}: stop it, or choose another folder with --data-dir", data.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock {}", path.display())),
        }
    }
}
