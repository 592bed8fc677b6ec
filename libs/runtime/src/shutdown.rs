//! Ending in phases: take nothing new in, finish what is in flight, then close.

use std::sync::Arc;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// The two moments of an end; clones are the same end.
///
/// `intake` is cancelled first: servers stop accepting, consumers stop fetching, and both finish what they hold. `work` is
/// cancelled when they are done or their time is up: relays, reporters and pools close.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    intake: CancellationToken,
    work: CancellationToken,
    /// The task that waits for signals ends with the last clone.
    listener: Option<Arc<Listener>>,
}

impl Shutdown {
    /// An end that comes only when [`begin`](Self::begin) is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// An end that begins upon SIGTERM or SIGINT. A second signal closes at once.
    pub fn on_signals() -> Result<Self, Error> {
        let terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let mut shutdown = Self::new();
        let task = tokio::spawn(listen(shutdown.clone(), terminate, interrupt));
        shutdown.listener = Some(Arc::new(Listener(task)));
        Ok(shutdown)
    }

    /// Starts the first phase. Repeating it changes nothing.
    pub fn begin(&self) {
        self.intake.cancel();
    }

    /// Starts the last phase, and the first if that was left out.
    pub fn close(&self) {
        self.intake.cancel();
        self.work.cancel();
    }

    /// Cancelled when nothing new may be taken in.
    pub fn intake(&self) -> &CancellationToken {
        &self.intake
    }

    /// Cancelled when what is in flight is finished, or had its time.
    pub fn work(&self) -> &CancellationToken {
        &self.work
    }

    /// Whether the end has begun.
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
