//! The audit trails of the services with a database.

use rekindle_domain::audit::{Filter, Sealed, Verification};
use rekindle_proto::{
    audit as proto, monitor::audit_client::AuditClient as MonitorAudit,
    orchestrator::audit_client::AuditClient as OrchestratorAudit, registry::audit_client::AuditClient as RegistryAudit,
};

use crate::{
    Connection, Error, Page, PageRequest,
    registry::page_of,
    wire::{audit, field},
};

/// The service that an audit trail belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The registry.
    Registry,
    /// The monitor.
    Monitor,
    /// The orchestrator.
    Orchestrator,
}

impl Service {
    /// Every service with an audit trail.
    pub const ALL: [Self; 3] = [Self::Registry, Self::Monitor, Self::Orchestrator];

    /// The name, e.g. `registry`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Monitor => "monitor",
            Self::Orchestrator => "orchestrator",
        }
    }
}

/// A client of one audit trail; clones share the connection.
#[derive(Debug, Clone)]
pub struct Audit {
    service: Service,
    connection: Connection,
}

impl Audit {
    /// A client on a connection.
    pub fn new(service: Service, connection: Connection) -> Self {
        Self { service, connection }
    }

    /// A page of the entries.
    pub async fn entries(&self, filter: &Filter, page: PageRequest) -> Result<Page<Sealed>, Error> {
        let operation = "list the audit trail";
        let request = audit::filter_to_wire(filter, page.size, page.token);
        let stub = || self.connection.stub();
        let call = || async {
            match self.service {
                Service::Registry => RegistryAudit::new(stub()).list_entries(request.clone()).await,
                Service::Monitor => MonitorAudit::new(stub()).list_entries(request.clone()).await,
                Service::Orchestrator => OrchestratorAudit::new(stub()).list_entries(request.clone()).await,
            }
        };
        let answer = self.connection.call(operation, call).await?;
        page_of(operation, field::each("entries", answer.entries, audit::from_wire), answer.next_page_token)
    }

    /// Checks the whole trail.
    pub async fn verify(&self) -> Result<Verification, Error> {
        let stub = || self.connection.stub();
        let request = proto::VerifyRequest {};
        let call = || async {
            match self.service {
                Service::Registry => RegistryAudit::new(stub()).verify(request).await,
                Service::Monitor => MonitorAudit::new(stub()).verify(request).await,
                Service::Orchestrator => OrchestratorAudit::new(stub()).verify(request).await,
            }
        };
        Ok(audit::verification_from_wire(self.connection.call("verify the audit trail", call).await?))
    }
}
