//! The addresses of a platform, and typed clients of its services.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rekindle_client::{Connection, Inference, Monitor, Orchestrator, Registry, Trainer};
use rekindle_domain::{Principal, ReplicaState};
use tokio::time::{Instant, sleep};

use super::{exit, page::Limit};

/// Deadline of a call to the control plane. Registrations of large files and exports take longest.
const CALL_DEADLINE: Duration = Duration::from_secs(300);
/// Deadline of a prediction request.
const PREDICTION_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Clients of one platform. Connections open at the first call; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Platform {
    control: Connection,
    nats: String,
    /// Empty: those that the orchestrator lists.
    replicas: Vec<String>,
}

impl Platform {
    /// The platform whose control plane is at `control` (`http://host:port`).
    pub(crate) fn open(control: &str, nats: &str, replicas: Vec<String>) -> Result<Self> {
        Ok(Self { control: Connection::open(control, CALL_DEADLINE)?, nats: nats.to_owned(), replicas })
    }

    /// The same platform, called by `principal`.
    pub(crate) fn called_by(self, principal: Principal) -> Self {
        Self { control: self.control.with_principal(principal), ..self }
    }

    /// The address of NATS.
    pub(crate) fn nats(&self) -> &str {
        &self.nats
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry::new(self.control.clone())
    }

    pub(crate) fn trainer(&self) -> Trainer {
        Trainer::new(self.control.clone())
    }

    pub(crate) fn monitor(&self) -> Monitor {
        Monitor::new(self.control.clone())
    }

    pub(crate) fn orchestrator(&self) -> Orchestrator {
        Orchestrator::new(self.control.clone())
    }

    /// Every replica that the orchestrator lists.
    pub(crate) async fn replica_states(&self) -> Result<Vec<ReplicaState>> {
        let orchestrator = self.orchestrator();
        Ok(Limit::NONE.fetch(async |page| orchestrator.replicas(page).await).await?)
    }

    /// `host:port` of every replica; at least one.
    pub(crate) async fn replica_addresses(&self) -> Result<Vec<String>> {
        if !self.replicas.is_empty() {
            return Ok(self.replicas.clone());
        }
        let listed = self.replica_states().await?;
        if listed.is_empty() {
            bail!("no inference replica is running: start one, or give its address with --inference HOST:PORT");
        }
        Ok(listed.into_iter().map(|replica| replica.address).collect())
    }

    /// A client of the first replica.
    pub(crate) async fn first_replica(&self) -> Result<Inference> {
        let addresses = self.replica_addresses().await?;
        replica(addresses.first().context("no inference replica is known")?)
    }

    /// Waits until the control plane and every replica are ready. The error names what is not.
    pub(crate) async fn wait_ready(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let problem = match self.ready().await {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            if Instant::now() > deadline {
                return Err(problem.context(format!("not ready within {}", humantime::format_duration(patience))));
            }
            sleep(POLL).await;
        }
    }

    /// Whether the control plane and every replica are ready. The error names what is not.
    pub(crate) async fn ready(&self) -> Result<()> {
        if !self.control.is_serving().await? {
            bail!("the control plane is not ready");
        }
        for address in self.replica_addresses().await? {
            match replica(&address)?.server_ready().await {
                Ok(true) => {}
                Ok(false) => bail!("replica {address} is not ready"),
                // The control plane is reachable, so the platform is: the replica alone is not ready.
                Err(error) => bail!("replica {address} is not ready: {}", exit::message(&error.into())),
            }
        }
        Ok(())
    }
}

/// A client of the replica at `host:port`.
pub(crate) fn replica(address: &str) -> Result<Inference> {
    Ok(Inference::new(Connection::open(&format!("http://{address}"), PREDICTION_DEADLINE)?))
}
