//! The addresses of a platform, and typed clients of its services.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use rekindle_client::{
    Alerts, Audit, CONTROL_PLANE, Connection, Inference, Monitor, Orchestrator, Registry, Trainer, audit::Service,
};
use rekindle_domain::{Namespace, Principal, ReplicaState};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

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
    /// `host:port` of the control plane.
    address: String,
    nats: String,
    namespace: Namespace,
    /// Empty: those that the orchestrator lists, or the proxy before them.
    replicas: Vec<String>,
    /// Whether the control plane is reached through a proxy that routes predictions too.
    is_proxied: Arc<OnceCell<bool>>,
}

impl Platform {
    /// The platform whose control plane is at `control` (`http://host:port`).
    pub(crate) fn open(control: &str, nats: &str, replicas: Vec<String>) -> Result<Self> {
        let address =
            control.split_once("://").map_or(control, |(_, address)| address).trim_end_matches('/').to_owned();
        let control = Connection::open(control, CALL_DEADLINE)?;
        let (nats, namespace, is_proxied) = (nats.to_owned(), Namespace::default(), Arc::default());
        Ok(Self { control, address, nats, namespace, replicas, is_proxied })
    }

    /// The same platform, its unqualified names in `namespace`.
    pub(crate) fn within(self, namespace: Namespace) -> Self {
        Self { control: self.control.with_namespace(namespace.clone()), namespace, ..self }
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

    pub(crate) fn audit(&self, service: Service) -> Audit {
        Audit::new(service, self.control.clone())
    }

    pub(crate) fn trainer(&self) -> Trainer {
        Trainer::new(self.control.clone())
    }

    pub(crate) fn monitor(&self) -> Monitor {
        Monitor::new(self.control.clone())
    }

    pub(crate) fn alerts(&self) -> Alerts {
        Alerts::new(self.control.clone())
    }

    pub(crate) fn orchestrator(&self) -> Orchestrator {
        Orchestrator::new(self.control.clone())
    }

    /// Every replica that the orchestrator lists.
    pub(crate) async fn replica_states(&self) -> Result<Vec<ReplicaState>> {
        let orchestrator = self.orchestrator();
        Ok(Limit::NONE.fetch(async |page| orchestrator.replicas(page).await).await?)
    }

    /// `host:port` of every replica, or of the proxy before them; at least one.
    pub(crate) async fn replica_addresses(&self) -> Result<Vec<String>> {
        if !self.replicas.is_empty() {
            return Ok(self.replicas.clone());
        }
        // Behind a proxy, replicas have addresses that only it can reach.
        let behind = Inference::new(self.control.clone());
        if *self.is_proxied.get_or_try_init(|| behind.is_served()).await? {
            return Ok(vec![self.address.clone()]);
        }
        let listed = self.replica_states().await?;
        if listed.is_empty() {
            bail!("no inference replica is running: start one, or give its address with --inference HOST:PORT");
        }
        Ok(listed.into_iter().map(|replica| replica.address).collect())
    }

    /// A client of each replica; at least one.
    pub(crate) async fn replicas(&self) -> Result<Vec<Inference>> {
        self.replica_addresses().await?.iter().map(|address| self.replica(address)).collect()
    }

    /// A client of the replica at `host:port`.
    fn replica(&self, address: &str) -> Result<Inference> {
        let connection = Connection::open(&format!("http://{address}"), PREDICTION_DEADLINE)?;
        Ok(Inference::new(connection.with_namespace(self.namespace.clone())))
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

    /// Whether the control plane answers, in whatever state it is.
    pub(crate) async fn is_reachable(&self) -> bool {
        !self.control.problem().await.is_err_and(|error| error.is_unreachable())
    }

    /// Whether the control plane and every replica are ready; behind a proxy, any replica that it chooses. The error names what is not.
    pub(crate) async fn ready(&self) -> Result<()> {
        for service in CONTROL_PLANE {
            match self.control.problem_of(service).await {
                Ok(None) => {}
                Ok(Some(problem)) => bail!("the control plane is not ready: {problem}"),
                // A proxy answers for a service that it does not reach.
                Err(error) if !error.is_unreachable() => {
                    bail!("the {service} is not ready: {}", exit::message(&error.into()))
                }
                Err(error) => return Err(error.into()),
            }
        }
        for address in self.replica_addresses().await? {
            match self.replica(&address)?.server_ready().await {
                Ok(true) => {}
                Ok(false) => bail!("replica {address} is not ready"),
                // The control plane is reachable, so the platform is: the replica alone is not ready.
                Err(error) => bail!("replica {address} is not ready: {}", exit::message(&error.into())),
            }
        }
        Ok(())
    }
}
