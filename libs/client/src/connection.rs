//! Channels: address, TLS, deadlines and keep-alive.

use std::{future::Future, time::Duration};

use rekindle_domain::{Namespace, Principal, event::EventContext};
use tonic::{
    Request, Response, Status,
    metadata::MetadataValue,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{Error, Identity, Retry};

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not an address of a gRPC service: expected e.g. http://127.0.0.1:7000")]
pub struct InvalidAddress {
    /// The address as given.
    pub address: String,
    source: Option<tonic::transport::Error>,
}

/// TLS settings of a connection, in PEM.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The certificate authorities to trust.
    pub ca: Vec<u8>,
    /// The name expected in the certificate of the server; `None` takes it from the address.
    pub server_name: Option<String>,
    /// Certificate chain and key of the client, for mutual TLS.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// The header by which a proxy routes a health check: the name of a service.
pub const SERVICE_HEADER: &str = "rekindle-service";

/// The services of the control plane.
pub const CONTROL_PLANE: [&str; 4] = ["registry", "trainer", "monitor", "orchestrator"];

/// A connection to one address. It connects when first used and reconnects by itself; clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
    identity: Identity,
    retry: Retry,
}

impl Connection {
    /// A connection to `address` (`http://host:port`), each call with at most `timeout`.
    pub fn open(address: &str, timeout: Duration) -> Result<Self, InvalidAddress> {
        Ok(Self::of(endpoint(address, timeout)?))
    }

    /// A connection over TLS (`https://host:port`).
    pub fn open_tls(address: &str, timeout: Duration, tls: &Tls) -> Result<Self, InvalidAddress> {
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name);
        }
        if let Some((chain, key)) = &tls.identity {
            config = config.identity(TlsIdentity::from_pem(chain, key));
        }
        let secured = endpoint(address, timeout)?.tls_config(config);
        Ok(Self::of(secured.map_err(|source| invalid(address, Some(source)))?))
    }

    fn of(endpoint: Endpoint) -> Self {
        Self { channel: endpoint.connect_lazy(), identity: Identity::default(), retry: Retry::default() }
    }

    /// The same connection on behalf of `principal`.
    #[must_use]
    pub fn with_principal(mut self, principal: Principal) -> Self {
        self.identity.principal = Some(principal);
        self
    }

    /// The same connection within `namespace`.
    #[must_use]
    pub fn with_namespace(mut self, namespace: Namespace) -> Self {
        self.identity.namespace = namespace;
        self
    }

    /// The same connection, its calls correlated with a workflow.
    #[must_use]
    pub fn with_context(mut self, context: EventContext) -> Self {
        self.identity.context = context;
        self
    }

    /// The same connection with a deadline for each call, if it is shorter than that of the connection.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.identity.deadline = Some(deadline);
        self
    }

    /// The same connection with another retry policy.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Why the server is not ready; `None` if it reports that it is serving.
    pub async fn problem(&self) -> Result<Option<String>, Error> {
        self.problem_by(None).await
    }

    /// Why a service of the control plane is not ready, if a proxy is between; `None` if it reports that it is serving. A server that all
    /// services share answers for all of them.
    pub async fn problem_of(&self, service: &'static str) -> Result<Option<String>, Error> {
        self.problem_by(Some(service)).await
    }

    async fn problem_by(&self, service: Option<&'static str>) -> Result<Option<String>, Error> {
        let check = || async {
            let mut request = Request::new(HealthCheckRequest { service: String::new() });
            if let Some(service) = service {
                request.metadata_mut().insert(SERVICE_HEADER, MetadataValue::from_static(service));
            }
            let answer = HealthClient::new(self.stub()).check(request).await?;
            let problem = rekindle_proto::health::problem(answer.metadata());
            Ok(answer.map(|answer| (answer.status() == ServingStatus::Serving, problem)))
        };
        match self.call("check the health", check).await? {
            (true, _) => Ok(None),
            (false, problem) => Ok(Some(problem.unwrap_or_else(|| "it gives no reason".to_owned()))),
        }
    }

    /// The transport of generated clients: the channel with the metadata of every call.
    pub(crate) fn stub(&self) -> InterceptedService<Channel, Identity> {
        InterceptedService::new(self.channel.clone(), self.identity.clone())
    }

    /// Makes a call, and repeats it by the retry policy. For calls whose repetition has no second effect.
    pub(crate) async fn call<T, F>(&self, operation: &'static str, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = self.retry.run(call).await;
        answer.map(Response::into_inner).map_err(|status| Error::call(operation, status))
    }

    /// Makes a call once.
    pub(crate) async fn call_once<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        call.await.map(Response::into_inner).map_err(|status| Error::call(operation, status))
    }
}

fn endpoint(address: &str, timeout: Duration) -> Result<Endpoint, InvalidAddress> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|source| invalid(address, Some(source)))?;
    if !matches!(endpoint.uri().scheme_str(), Some("http" | "https")) {
        return Err(invalid(address, None));
    }
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10)))
}

fn invalid(address: &str, source: Option<tonic::transport::Error>) -> InvalidAddress {
    InvalidAddress { address: address.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_requires_a_scheme() {
        for address in ["http://127.0.0.1:7000", "https://rekindle.example"] {
            assert!(Connection::open(address, Duration::from_secs(1)).is_ok(), "{address}");
        }
        for address in ["", "nowhere", "127.0.0.1:7000", "ftp://127.0.0.1", "http://"] {
            let refused = Connection::open(address, Duration::from_secs(1)).expect_err(address);
            assert!(refused.to_string().contains("expected e.g. http://127.0.0.1:7000"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_reached_is_unreachable() {
        let connection = Connection::open("http://127.0.0.1:1", Duration::from_secs(5)).expect("an address");
        let error = connection.problem().await.expect_err("no server");
        assert!(error.is_unreachable() && error.is_unavailable() && error.is_transient(), "{error:?}");
        let answered = Error::call("test", Status::unavailable("the model is loading"));
        assert!(answered.is_unavailable() && !answered.is_unreachable());
    }
}
