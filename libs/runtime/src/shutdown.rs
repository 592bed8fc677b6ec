//! Shutdown in phases: stop intake, drain work in flight, then close.

use std::sync::Arc;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// The two phases of a shutdown. Clones share them.
///
/// `intake` is cancelled first: servers stop accepting, consumers stop fetching, and both complete what they have accepted.
/// `work` is cancelled when they are done or the drain deadline has passed: relays, reporters and pools close.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    intake: CancellationToken,
    work: CancellationToken,
    /// Aborts the signal task when the last clone is dropped.
    listener: Option<Arc<Listener>>,
}

impl Shutdown {
    /// A shutdown that starts only with [`begin`](Self::begin).
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that begins on SIGTERM or SIGINT. A second signal closes immediately.
    pub fn on_signals() -> Result<Self, Error> {
        let terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let mut shutdown = Self::new();
        let task = tokio::spawn(listen(shutdown.clone(), terminate, interrupt));
        shutdown.listener = Some(Arc::new(Listener(task)));
        Ok(shutdown)
    }

    /// Starts the first phase. Idempotent.
    pub fn begin(&self) {
        self.intake.cancel();
    }

    /// Starts the last phase, and the first if it has not started. Idempotent.
    pub fn close(&self) {
        self.intake.cancel();
        self.work.cancel();
    }

    /// Cancelled when new work may no longer be accepted.
    pub fn intake(&self) -> &CancellationToken {
        &self.intake
    }

    /// Cancelled when work in flight is complete or the drain deadline has passed.
    pub fn work(&self) -> &CancellationToken {
        &self.work
    }

    /// Whether the first phase has started.
    pub fn has_begun(&self) -> bool {
        self.intake.is_cancelled()
    }
}

#[derive(Debug)]
struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    for phase in [Shutdown::begin, Shutdown::close] {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        phase(&shutdown);
    }
}
