//! The gRPC server of every service, with health, reflection, limits, metrics and draining.

mod body;
mod calls;
mod methods;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use rekindle_domain::validation::{Checks, Violations};
use rekindle_proto::health::put_problem;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    codegen::{
        Service,
        http::{Request, Response},
    },
    server::NamedService,
    service::{LayerExt as _, Routes},
    transport::server::TcpIncoming,
};
use tonic_health::pb::health_server::HealthServer;
use tower::util::MapResponseLayer;

use crate::{Error, config::duration_or_none, health::Health, shutdown::Shutdown, telemetry};

/// Limits of a gRPC server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Concurrent calls over all connections; further calls fail with RESOURCE_EXHAUSTED. Health and reflection are exempt.
    pub max_concurrent_calls: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub max_concurrent_streams: u32,
    /// Largest request message in bytes.
    pub max_request_bytes: usize,
    /// Deadline of a call, from its arrival to the start of its response: a stream of requests counts in full, a stream of
    /// responses does not. Written as a duration, or as "none" for no deadline but the client's.
    #[serde(deserialize_with = "duration_or_none")]
    pub timeout: Option<Duration>,
    /// Interval of keepalive pings on idle connections.
    #[serde(with = "humantime_serde")]
    pub keepalive: Duration,
    /// How long calls are still accepted after shutdown has begun and readiness is withdrawn, so that load balancers can react.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// How long calls in flight may take to complete once no more are accepted.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_concurrent_calls: 4096,
            max_concurrent_streams: 1024,
            max_request_bytes: 4 << 20,
            timeout: Some(Duration::from_secs(300)),
            keepalive: Duration::from_secs(60),
            linger: Duration::ZERO,
            drain: Duration::from_secs(15),
        }
    }
}

impl Config {
    /// Validates every field and reports all violations.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.at_least("max_concurrent_calls", self.max_concurrent_calls, 1);
        checks.at_least("max_concurrent_streams", self.max_concurrent_streams, 1);
        checks.at_least("max_request_bytes", self.max_request_bytes, 1);
        let has_time = self.timeout.is_none_or(|timeout| !timeout.is_zero());
        checks.require(has_time, "timeout", "0s", "greater than 0s, or \"none\"");
        checks.positive("keepalive", self.keepalive);
        checks.finish()
    }
}

/// The services of one server, by name.
#[derive(Debug)]
pub struct RoutesBuilder {
    routes: Routes,
    names: Vec<&'static str>,
    max_request_bytes: usize,
}

impl Default for RoutesBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RoutesBuilder {
    /// Without services, for requests of the default size.
    pub fn new() -> Self {
        Self::for_requests_of(Config::default().max_request_bytes)
    }

    /// Without services, for requests of at most `max_request_bytes`.
    pub fn for_requests_of(max_request_bytes: usize) -> Self {
        Self { routes: Routes::default(), names: Vec::new(), max_request_bytes }
    }

    /// The value for `max_decoding_message_size` of a generated server: only its own type has the setter.
    pub fn max_request_bytes(&self) -> usize {
        self.max_request_bytes
    }

    /// Adds a generated server, whose `max_decoding_message_size` the caller sets to [`max_request_bytes`](Self::max_request_bytes).
    pub fn add_service<S>(&mut self, service: S) -> &mut Self
    where
        S: Service<Request<tonic::body::Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = std::mem::take(&mut self.routes).add_service(service);
        self
    }

    /// The full names of the services.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

/// Binds an address. Port 0 selects a free port, see [`TcpListener::local_addr`].
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until shutdown begins, then withdraws readiness, lingers, sends GOAWAY to the clients, and lets calls in flight
/// complete. The health service reports every service as NOT_SERVING until `health` is set ready.
///
/// Calls that exceed `drain` are abandoned: this function returns, and their connections close with the runtime. A server that
/// is replaced on the same port should therefore let its calls complete.
pub async fn serve(
    listener: TcpListener,
    routes: RoutesBuilder,
    health: Health,
    config: Config,
    shutdown: Shutdown,
) -> Result<(), Error> {
    telemetry::prometheus();
    let draining = CancellationToken::new();
    let routes = complete(routes, &health).await?;
    let layer = calls::CallLayer::new(Arc::new(calls::Limits::new(&config, draining.clone())));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(config.keepalive));
    let server = transport(&config)
        .layer(layer)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, draining.clone().cancelled_owned());
    let end = async {
        wind_down(&health, config.linger, &shutdown, &draining).await;
        tokio::select! {
            () = tokio::time::sleep(config.drain) => {}
            () = shutdown.work().cancelled() => {}
        }
    };
    tokio::select! {
        served = server => served.map_err(|source| Error::Serve { what: "gRPC", source: source.into() }),
        () = end => {
            tracing::warn!(drain = ?config.drain, "drain deadline exceeded with calls in flight");
            Ok(())
        }
    }
}

async fn wind_down(health: &Health, linger: Duration, shutdown: &Shutdown, draining: &CancellationToken) {
    shutdown.intake().cancelled().await;
    health.set_problem(Some("it is shutting down".to_owned())).await;
    tokio::select! {
        () = tokio::time::sleep(linger) => {}
        () = shutdown.work().cancelled() => {}
    }
    draining.cancel();
}

/// HTTP/2 flow-control windows in bytes: a batch of rows fits into a stream's window without an update, dozens into a connection's.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

fn transport(config: &Config) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(config.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(config.keepalive))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
}

/// The services plus health and reflection. v1alpha of reflection serves older tools.
async fn complete(builder: RoutesBuilder, health: &Health) -> Result<Routes, Error> {
    let RoutesBuilder { routes, names, .. } = builder;
    health.add(names.iter().map(|name| (*name).to_owned())).await;
    let service = tonic_health::server::HealthService::from_health_reporter(health.reporter());
    let service = HealthServer::new(service);
    let problem = health.problem();
    let explained = MapResponseLayer::new(move |mut response: Response<tonic::body::Body>| {
        if let Some(problem) = problem.borrow().as_deref() {
            put_problem(response.headers_mut(), problem);
        }
        response
    });
    let reflection = |version: &str, error: tonic_reflection::server::Error| Error::Reflection {
        reason: format!("{version}: {error}"),
    };
    Ok(routes
        .add_service(explained.named_layer(service))
        .add_service(describe(&names).build_v1().map_err(|error| reflection("v1", error))?)
        .add_service(describe(&names).build_v1alpha().map_err(|error| reflection("v1alpha", error))?)
        .prepare())
}

fn describe<'a>(names: &[&'a str]) -> tonic_reflection::server::Builder<'a> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(rekindle_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
}
