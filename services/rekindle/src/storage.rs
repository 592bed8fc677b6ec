//! Whether the platform can write: free space of the data folder's disk, and streams that the NATS server cannot write. While there is
//! room, it keeps the ballast with which the platform starts on a full disk.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use rekindle_bus::Bus;
use rekindle_runtime::{
    disk::{self, Ballast},
    shutdown::Shutdown,
};
use tokio::{sync::Notify, sync::watch, time::MissedTickBehavior};

/// Interval between two checks.
const EVERY: Duration = Duration::from_secs(1);

/// The result of the last check. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// The folder whose disk is checked, if it is local.
    folder: Option<PathBuf>,
    problem: Arc<watch::Sender<Option<String>>>,
    /// Notified when streams are frozen although the disk has room: only a restart of the NATS server ends that.
    frozen: Arc<Notify>,
}

impl Storage {
    /// Without a problem until the first check.
    pub(crate) fn new(folder: Option<PathBuf>, frozen: Arc<Notify>) -> Self {
        Self { folder, problem: Arc::default(), frozen }
    }

    /// Why the platform cannot write; `None` if it can.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Checks every second until shutdown begins.
    pub(crate) async fn run(self, bus: Bus, shutdown: Shutdown) -> Result<()> {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.intake().cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let shortage = self.folder.as_deref().and_then(disk::shortage);
            if let (None, Some(ballast)) = (&shortage, self.folder.as_deref().map(Ballast::in_folder)) {
                // Off the threads that serve: it may write 8 MiB.
                let restored = tokio::task::spawn_blocking(move || ballast.restore()).await;
                if let Err(error) = restored.map_err(anyhow::Error::from).and_then(|restored| Ok(restored?)) {
                    tracing::debug!(%error, "the ballast is not restored");
                }
            }
            let frozen = bus.frozen_streams().await;
            if !frozen.is_empty() && shortage.is_none() {
                self.frozen.notify_one();
            }
            let frozen = frozen.first().map(ToString::to_string);
            self.problem.send_replace(shortage.or(frozen));
        }
    }
}
