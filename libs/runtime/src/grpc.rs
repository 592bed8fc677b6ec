//! The gRPC server of every service, with health, reflection, limits, metrics and draining.

mod body;
mod calls;
mod measure;
mod methods;
mod places;
mod request;
mod status;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rekindle_domain::validation::{Checks, Violations};
use rekindle_proto::health::put_problem;
use serde::Deserialize;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{
    codegen::{
        Service,
        http::{Request, Response},
    },
    server::NamedService,
    service::{LayerExt as _, Routes},
};
use tonic_health::pb::health_server::HealthServer;
use tower::util::MapResponseLayer;

use crate::{Error, config::duration_or_none, connections, health::Health, shutdown::Shutdown, telemetry};

/// Limits of a gRPC server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Open connections; further ones wait, and connections without a call are closed to make room.
    pub max_connections: usize,
    /// Concurrent calls over all connections, for each kind of call: predictions, control, watches, health. One connection has at most
    /// as many as are free. Further calls fail with RESOURCE_EXHAUSTED.
    pub max_concurrent_calls: usize,
    /// The same for uploads and downloads, each of which takes some 6 MiB of memory, also while its client stalls.
    pub max_concurrent_transfers: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub max_concurrent_streams: u32,
    /// Largest request message in bytes.
    pub max_request_bytes: usize,
    /// Bytes of memory for the requests that are being received or handled, as sent and as decoded. One connection has at most as many
    /// as are free. Further requests fail with RESOURCE_EXHAUSTED.
    pub max_pending_bytes: usize,
    /// Time within which a request must be received: the first of a connection once it is open, and a message once its call has begun
    /// or, in a stream of requests, after the previous one.
    #[serde(with = "humantime_serde")]
    pub receive_timeout: Duration,
    /// Time without a call after which a connection is closed.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
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
            max_connections: 512,
            max_concurrent_calls: 4096,
            max_concurrent_transfers: 64,
            max_concurrent_streams: 1024,
            max_request_bytes: 4 << 20,
            max_pending_bytes: 512 << 20,
            receive_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(600),
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
        let (connections, most) = (self.max_connections, Semaphore::MAX_PERMITS);
        checks.require((1..=most).contains(&connections), "max_connections", connections, &format!("1 to {most}"));
        checks.at_least("max_concurrent_calls", self.max_concurrent_calls, 1);
        checks.at_least("max_concurrent_transfers", self.max_concurrent_transfers, 1);
        checks.at_least("max_concurrent_streams", self.max_concurrent_streams, 1);
        checks.at_least("max_request_bytes", self.max_request_bytes, 1);
        let least = request::most_bytes(self.max_request_bytes);
        let expected = format!("at least {least}, for one request of max_request_bytes = {}", self.max_request_bytes);
        checks.require(self.max_pending_bytes >= least, "max_pending_bytes", self.max_pending_bytes, &expected);
        checks.positive("receive_timeout", self.receive_timeout);
        checks.positive("idle_timeout", self.idle_timeout);
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
/// Calls that exceed `drain` are abandoned: this function returns, and their connections close.
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
    let limits = Arc::new(calls::Limits::new(&config, draining.clone()));
    let transport = transport(&config);
    let of_connections = connections::Limits {
        open: config.max_connections,
        first_call: config.receive_timeout,
        idle: config.idle_timeout,
    };
    let server = connections::serve(listener, of_connections, draining.clone(), move |stream, activity| {
        let calls = calls::Calls::new(routes.clone(), calls::Caller::new(limits.clone(), activity));
        transport.serve_connection(TokioIo::new(stream), TowerToHyperService::new(calls)).into_owned()
    });
    let end = async {
        wind_down(&health, config.linger, &shutdown, &draining).await;
        tokio::select! {
            () = tokio::time::sleep(config.drain) => {}
            () = shutdown.work().cancelled() => {}
        }
    };
    tokio::select! {
        () = server => Ok(()),
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

/// Bytes of a response that are buffered while its client does not read it.
const SEND_BUFFER: usize = 256 << 10;
/// Bytes of the headers of a request.
const HEADERS: u32 = 16 << 10;

/// HTTP/2, and HTTP/1 as far as it takes to tell its clients that this is not their port.
fn transport(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(config.receive_timeout).keep_alive(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(Some(config.keepalive))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
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
