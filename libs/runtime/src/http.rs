//! HTTP: the admin port, with metrics and probes, and the ports of REST interfaces.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

pub use axum::Router;
use axum::{http::StatusCode, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    connections::{self, Activity},
    grpc,
    shutdown::Shutdown,
    telemetry,
};

/// Limits of a REST interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones wait, and connections without a request are closed to make room.
    pub max_connections: usize,
    /// Bytes of memory for the bodies of the requests that are being received or handled.
    pub max_pending_bytes: usize,
    /// Time within which the first request of a connection must begin, and within which the headers, and then the body, of a request
    /// must be received.
    pub receive_timeout: Duration,
    /// Time without a request after which a connection is closed.
    pub idle_timeout: Duration,
    /// How long requests are still accepted after shutdown has begun.
    pub linger: Duration,
    /// How long requests in flight may take to complete once no more are accepted.
    pub drain: Duration,
}

impl Limits {
    fn of_connections(&self) -> connections::Limits {
        connections::Limits { open: self.max_connections, first_call: self.receive_timeout, idle: self.idle_timeout }
    }
}

impl From<&grpc::Config> for Limits {
    /// Those of a gRPC server.
    fn from(config: &grpc::Config) -> Self {
        let &grpc::Config { max_connections, max_pending_bytes, receive_timeout, idle_timeout, linger, drain, .. } =
            config;
        Self { max_connections, max_pending_bytes, receive_timeout, idle_timeout, linger, drain }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&grpc::Config::default())
    }
}

/// Limits of the connections of the admin port. A connection serves a minute of requests: a client that does not read its response ends too.
const CONNECTIONS: connections::Limits =
    connections::Limits { open: 64, first_call: Duration::from_secs(60), idle: Duration::from_secs(60) };
/// Time within which the next request of a connection must be received.
const RECEIVE: Duration = Duration::from_secs(5);

/// Interval at which the recorder folds new samples into its histograms, which bounds memory between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Routes of the admin port: `/metrics` in the Prometheus text format, `/healthz/live`, which is always 200, and
/// `/healthz/ready`, which is 200 while there is no problem and 503 with the problem otherwise.
pub fn admin(problem: watch::Receiver<Option<String>>) -> Router {
    probes(problem, process_metrics)
}

/// The metrics of this process, in the Prometheus text format.
pub fn process_metrics() -> String {
    telemetry::prometheus().render()
}

/// Routes of an admin port with the metrics that `metrics` renders.
pub fn probes(
    problem: watch::Receiver<Option<String>>,
    metrics: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Router {
    let text = move || std::future::ready(([("content-type", "text/plain; version=0.0.4; charset=utf-8")], metrics()));
    Router::new()
        .route("/metrics", get(text))
        .route("/healthz/live", get(|| async { "live\n" }))
        .route("/healthz/ready", get(move || std::future::ready(readiness(problem.borrow().as_deref()))))
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

/// Serves the admin port with a REST interface on it, whose requests may take as long as `limits` say, until shutdown enters its last phase.
pub async fn serve_with_api(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mut transport = http1::Builder::new();
    transport.timer(TokioTimer::new()).header_read_timeout(limits.receive_timeout.max(limits.idle_timeout));
    let of_connections = limits.of_connections();
    let server = connections::serve(listener, of_connections, shutdown.work().clone(), move |stream, activity| {
        let service = Counted { service: router.clone(), activity };
        transport.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
    });
    tokio::select! {
        () = server => Ok(()),
        never = upkeep() => match never {},
    }
}

/// Serves a REST interface until shutdown begins, then lingers, and lets the requests in flight complete.
pub async fn serve_rest(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mut transport = http1::Builder::new();
    transport.timer(TokioTimer::new()).header_read_timeout(limits.receive_timeout.max(limits.idle_timeout));
    let of_connections = limits.of_connections();
    let draining = CancellationToken::new();
    let server = connections::serve(listener, of_connections, draining.clone(), move |stream, activity| {
        let service = Counted { service: router.clone(), activity };
        transport.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
    });
    let end = async {
        shutdown.intake().cancelled().await;
        tokio::time::sleep(limits.linger).await;
        draining.cancel();
        tokio::time::sleep(limits.drain).await;
    };
    tokio::select! {
        () = server => Ok(()),
        () = end => {
            tracing::warn!(drain = ?limits.drain, "drain deadline exceeded with requests in flight");
            Ok(())
        }
        () = shutdown.work().cancelled() => Ok(()),
    }
}

/// A service whose calls count as activity of their connection until the response has begun.
#[derive(Clone)]
struct Counted<S> {
    service: S,
    activity: Arc<Activity>,
}

/// One call; it ends when this is dropped.
struct InProgress(Arc<Activity>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<R, S: tower::Service<R>> tower::Service<R> for Counted<S>
where
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.activity.enter();
        let (call, in_progress) = (self.service.call(request), InProgress(Arc::clone(&self.activity)));
        Box::pin(async move {
            let _in_progress = in_progress;
            call.await
        })
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

fn readiness(problem: Option<&str>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {problem}\n")),
    }
}
