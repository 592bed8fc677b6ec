//! The admin port: metrics and probes over HTTP.

use std::time::Duration;

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};

use crate::{Error, shutdown::Shutdown, telemetry};

/// Interval at which the recorder folds new samples into its histograms, which bounds memory between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Routes of the admin port: `/metrics` in the Prometheus text format, `/healthz/live`, which is always 200, and
/// `/healthz/ready`, which is 200 while there is no problem and 503 with the problem otherwise.
pub fn admin(problem: watch::Receiver<Option<String>>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz/live", get(|| async { "live\n" }))
        .route("/healthz/ready", get(move || std::future::ready(readiness(problem.borrow().as_deref()))))
}

/// Serves a router until shutdown enters its last phase, then completes the responses in flight.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> Result<(), Error> {
    let closing = shutdown.work().clone().cancelled_owned();
    let server = axum::serve(listener, router).with_graceful_shutdown(closing);
    tokio::select! {
        served = server => served.map_err(|source| Error::Serve { what: "HTTP", source: source.into() }),
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

fn readiness(problem: Option<&str>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {problem}\n")),
    }
}
