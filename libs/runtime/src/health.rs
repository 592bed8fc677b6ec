//! Readiness of the process, reported by the gRPC health service and by the HTTP probe.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Readiness of this process. Clones share it.
///
/// Every registered service, and the empty name for the whole server, is NOT_SERVING until [`set_ready`](Self::set_ready), and while there
/// is a problem. Responses of the gRPC health service carry the problem as metadata, see [`rekindle_proto::health`].
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    problem: Arc<watch::Sender<Option<String>>>,
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
        let problem = Arc::new(watch::Sender::new(Some("it is starting".to_owned())));
        Self { reporter: HealthReporter::new(), problem, names: Arc::default() }
    }

    /// A receiver of why this process is not ready, e.g. for HTTP probes; `None` while it is ready.
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.subscribe()
    }

    /// Makes this process ready. Idempotent.
    pub async fn set_ready(&self) {
        self.set_problem(None).await;
    }

    /// Sets why this process is not ready; `None` makes it ready. Idempotent.
    pub async fn set_problem(&self, problem: Option<String>) {
        let before = self.problem.send_replace(problem.clone());
        match problem {
            Some(problem) if before.as_ref() != Some(&problem) => tracing::warn!(problem, "not ready"),
            None if before.is_some() => tracing::info!("ready"),
            _ => {}
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
        let status = if self.problem.borrow().is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in std::iter::once("").chain(names.iter().map(String::as_str)) {
            self.reporter.set_service_status(name, status).await;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
