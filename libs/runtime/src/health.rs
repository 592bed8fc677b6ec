//! Readiness of the process, reported by the gRPC health service and by the HTTP probe.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Readiness of this process. Clones share it.
///
/// Every registered service, and the empty name for the whole server, is NOT_SERVING until [`set_ready`](Self::set_ready).
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    ready: Arc<watch::Sender<bool>>,
    names: Arc<Mutex<Vec<String>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Not ready, and without services: a server adds the names of those that it serves.
    pub fn new() -> Self {
        Self { reporter: HealthReporter::new(), ready: Arc::new(watch::Sender::new(false)), names: Arc::default() }
    }

    /// A receiver of readiness, e.g. for HTTP probes.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Sets readiness. Idempotent.
    pub async fn set_ready(&self, ready: bool) {
        if self.ready.send_replace(ready) != ready {
            tracing::info!(ready, "readiness changed");
        }
        self.announce().await;
    }

    /// Adds services with the current readiness.
    pub(crate) async fn add(&self, names: impl IntoIterator<Item = String>) {
        self.known().extend(names);
        self.announce().await;
    }

    pub(crate) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    async fn announce(&self) {
        let names = self.known().clone();
        let status = if *self.ready.borrow() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in std::iter::once("").chain(names.iter().map(String::as_str)) {
            self.reporter.set_service_status(name, status).await;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
