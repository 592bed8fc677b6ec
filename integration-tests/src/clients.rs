//! Clients of a running platform, however it was started.

use std::time::Duration;

use rekindle_client::{Connection, Inference, Monitor, Orchestrator, Registry, Trainer};
use rekindle_domain::Namespace;

/// The principal of every call.
pub const PRINCIPAL: &str = "tester";

/// The addresses of a platform.
#[derive(Debug, Clone)]
pub struct Clients {
    /// `http://host:port` of the registry.
    pub registry: String,
    /// That of the trainer.
    pub trainer: String,
    /// That of the monitor.
    pub monitor: String,
    /// That of the orchestrator.
    pub orchestrator: String,
    /// `host:port` of each replica.
    pub inference: Vec<String>,
    /// `host:port` of the REST interface of each replica; empty where a test does not need it.
    pub rest: Vec<String>,
    /// `nats://host:port`.
    pub nats: String,
    /// The namespace of every call.
    pub namespace: Namespace,
}

/// A connection to one of the addresses.
pub fn open(address: &str) -> Connection {
    let connection = Connection::open(address, Duration::from_secs(60)).expect("an address of the platform");
    connection.with_principal(PRINCIPAL.parse().expect("a principal"))
}

impl Clients {
    /// The same platform, in a namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.parse().expect("a name"), ..self.clone() }
    }

    fn open(&self, address: &str) -> Connection {
        open(address).with_namespace(self.namespace.clone())
    }

    /// Blobs, datasets, runs and models.
    pub fn registry(&self) -> Registry {
        Registry::new(self.open(&self.registry))
    }

    /// Jobs.
    pub fn trainer(&self) -> Trainer {
        Trainer::new(self.open(&self.trainer))
    }

    /// Reports and outcomes.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(self.open(&self.monitor))
    }

    /// Policies, workflows and deployments.
    pub fn orchestrator(&self) -> Orchestrator {
        Orchestrator::new(self.open(&self.orchestrator))
    }

    /// One replica.
    pub fn replica(&self, index: usize) -> Inference {
        Inference::new(self.open(&format!("http://{}", self.inference[index])))
    }
}
