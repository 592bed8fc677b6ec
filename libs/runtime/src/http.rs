//! The admin port: metrics and probes over HTTP.

use std::time::Duration;

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    Error,
    connections::{self, Limits},
    shutdown::Shutdown,
    telemetry,
};

/// Limits of the connections. A connection serves a minute of requests: a client that does not read its response ends too.
const CONNECTIONS: Limits = Limits { open: 64, first_call: Duration::from_secs(60), idle: Duration::from_secs(60) };
/// Time within which the next request of a connection must be received.
const RECEIVE: Duration = Duration::from_secs(5);

/// Interval at which the recorder folds new samples into its histograms, which bounds memory between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Routes of the admin port: `/metrics` in the Prometheus text format, `/healthz/live`, which is always 200, and
/// `/healthz/ready`, which is 200 while `ready` and 503 otherwise.
pub fn admin(ready: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz/live", get(|| async { "live\n" }))
        .route("/healthz/ready", get(move || std::future::ready(readiness(*ready.borrow()))))
}

/// Serves a router until shutdown enters its last phase, then completes the responses in flight.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> Result<(), Error> {
    let mut transport = http1::Builder::new();
    transport.timer(TokioTimer::new()).header_read_timeout(RECEIVE);
    let server = connections::serve(listener, CONNECTIONS, shutdown.work().clone(), move |stream, _| {
        transport.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()))
    });
    tokio::select! {
        () = server => Ok(()),
        never = upkeep() => match never {},
    }
}

async fn upkeep() -> std::convert::Infallible {
    let handle = telemetry::prometheus();
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

async fn metrics() -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], telemetry::prometheus().render())
}

fn readiness(ready: bool) -> (StatusCode, &'static str) {
    match ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}
