//! Serving gRPC: one way for every service, with health, reflection, limits, metrics and a drain.

mod body;
mod calls;
mod methods;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    codegen::{Service, http::Request},
    server::NamedService,
    service::Routes,
    transport::server::TcpIncoming,
};

use crate::{Error, health::Health, shutdown::Shutdown, telemetry};

/// Bounds of a gRPC server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Calls under way at once, over all connections; more are refused with RESOURCE_EXHAUSTED. Health and reflection are exempt.
    pub max_concurrent_calls: usize,
    /// Streams that one connection may have open at once.
    pub max_concurrent_streams: u32,
    /// Largest request in bytes. Services hand it to their generated servers.
    pub max_request_bytes: usize,
    /// Longest that a call may take from its arrival until its answer begins, so that a stream of requests counts in full and a
    /// stream of answers does not. Written as a duration, or as "none": as long as the client waits.
    #[serde(deserialize_with = "duration_or_none")]
    pub timeout: Option<Duration>,
    /// How often an idle connection is asked whether it still lives.
    #[serde(with = "humantime_serde")]
    pub keepalive: Duration,
    /// How long calls are still accepted after shutdown began and readiness was taken back: the time that routers need to notice.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// How long calls under way may take to finish once no more are accepted.
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

fn duration_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "none" {
        return Ok(None);
    }
    match humantime_serde::re::humantime::parse_duration(&text) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        Ok(_) => Err(D::Error::custom("a timeout must be above 0; \"none\" is no limit")),
        Err(error) => {
            Err(D::Error::custom(format!("{text:?} is neither a duration such as \"300s\" nor \"none\": {error}")))
        }
    }
}

/// Services to be served together, by name.
#[derive(Debug, Default)]
pub struct RoutesBuilder {
    routes: Routes,
    names: Vec<&'static str>,
}

impl RoutesBuilder {
    /// No services yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a generated server. Its own limits (`max_decoding_message_size`) are set by the caller.
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

    /// The full names of the services added so far.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

/// Binds a port; port 0 takes a free one, which `local_addr` tells.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until shutdown begins, then takes readiness back, lingers, tells clients to go (GOAWAY), and lets calls under way
/// finish. Health names the services, NOT_SERVING until `health` is set ready.
///
/// Calls that outlive `drain` are given up: this returns while their connections end with the runtime. A server that is to have
/// another one after it on the same port should therefore let its calls finish.
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
            tracing::warn!(drain = ?config.drain, "gave up waiting for calls under way");
            Ok(())
        }
    }
}

async fn wind_down(health: &Health, linger: Duration, shutdown: &Shutdown, draining: &CancellationToken) {
    shutdown.intake().cancelled().await;
    health.set_ready(false).await;
    tokio::select! {
        () = tokio::time::sleep(linger) => {}
        () = shutdown.work().cancelled() => {}
    }
    draining.cancel();
}

/// Flow-control windows in bytes: a batch of rows fits a stream's without waiting for an update, some dozens fit a connection's.
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

/// The services with health and reflection (v1 and v1alpha, which older tools speak) beside them.
async fn complete(builder: RoutesBuilder, health: &Health) -> Result<Routes, Error> {
    let RoutesBuilder { routes, names } = builder;
    health.add(names.iter().map(|name| (*name).to_owned())).await;
    let service = tonic_health::server::HealthService::from_health_reporter(health.reporter());
    let reflection = |version: &str, error: tonic_reflection::server::Error| Error::Reflection {
        reason: format!("{version}: {error}"),
    };
    Ok(routes
        .add_service(tonic_health::pb::health_server::HealthServer::new(service))
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
