//! Readiness, told in two languages: the gRPC health service and a flag for HTTP probes.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Whether this process is ready; clones tell the same.
///
/// Every name known to it, and the empty one that stands for the whole server, is NOT_SERVING until
/// [`set_ready`](Self::set_ready) says otherwise.
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
    /// Not ready, and of no services yet: a server adds the names of those it serves.
    pub fn new() -> Self {
        Self { reporter: HealthReporter::new(), ready: Arc::new(watch::Sender::new(false)), names: Arc::default() }
    }

    /// Follows readiness, e.g. for HTTP probes.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Says whether calls should come here. Repeating it changes nothing.
    pub async fn set_ready(&self, ready: bool) {
        if self.ready.send_replace(ready) != ready {
            tracing::info!(ready, "readiness changed");
        }
        self.announce().await;
    }

    /// Adds services, at the present readiness.
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
