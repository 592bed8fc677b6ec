//! The layer around every call: admission, span, deadline, panics, metrics.
//!
//! It is on the path of every prediction: it allocates one future and one body per call, takes no lock, and looks up its
//! metrics by path.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use http::{Request, Response};
use rekindle_proto::{error::refusal, trace};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::{
    Config,
    body::CallBody,
    methods::{Method, Methods},
};
use crate::{supervise::panic_message, telemetry};

/// Limits and metrics that all calls of a server share.
pub(super) struct Limits {
    methods: Methods,
    max_calls: usize,
    max_request_bytes: usize,
    timeout: Option<Duration>,
    in_flight: AtomicUsize,
    /// Cancelled when calls without an end of their own must end: watches of health.
    pub(super) draining: CancellationToken,
}

impl Limits {
    pub(super) fn new(config: &Config, draining: CancellationToken) -> Self {
        Self {
            methods: Methods::new(),
            max_calls: config.max_concurrent_calls,
            max_request_bytes: config.max_request_bytes,
            timeout: config.timeout,
            in_flight: AtomicUsize::new(0),
            draining,
        }
    }

    fn reject(&self) -> Status {
        self.methods.rejected.increment(1);
        let limit = self.max_calls.to_string();
        let message =
            format!("too many concurrent calls: the limit is max_concurrent_calls = {limit}, retry with back-off");
        refusal(Code::ResourceExhausted, "TOO_MANY_CALLS", message, [("max_concurrent_calls", limit)])
    }

    fn deadline_exceeded(&self, limit: Duration) -> Status {
        let limit = format!("{limit:?}");
        let message =
            format!("deadline exceeded: the limit is timeout = {limit}, send a smaller request or retry later");
        refusal(Code::DeadlineExceeded, "TIMEOUT", message, [("timeout", limit)])
    }

    /// tonic's message names the size but not the setting that limits it.
    fn too_large(&self, status: &Status) -> Option<Status> {
        let is_size = status.code() == Code::OutOfRange && status.message().contains("message length too large");
        is_size.then(|| {
            let limit = self.max_request_bytes.to_string();
            let message =
                format!("{}: the limit is max_request_bytes = {limit}, send a smaller request", status.message());
            refusal(Code::OutOfRange, "REQUEST_TOO_LARGE", message, [("max_request_bytes", limit)])
        })
    }
}

/// A call from its admission to the end of its response. Dropped before that, the client has disconnected: CANCELLED.
pub(super) struct Call {
    limits: Arc<Limits>,
    method: Arc<Method>,
    span: Span,
    started: Instant,
    is_recorded: bool,
    is_admitted: bool,
}

impl Call {
    fn new(limits: &Arc<Limits>, request: &Request<Body>) -> Self {
        let method = limits.methods.find(request.uri().path());
        let span = span_of(&method, request);
        Self { limits: limits.clone(), method, span, started: Instant::now(), is_recorded: false, is_admitted: false }
    }

    fn admit(&mut self) -> bool {
        if self.method.is_infrastructure {
            return true;
        }
        let before = self.limits.in_flight.fetch_add(1, Ordering::AcqRel);
        self.is_admitted = true;
        self.limits.methods.in_flight.increment(1.0);
        before < self.limits.max_calls
    }

    /// Cancelled when a response without an end of its own must end.
    pub(super) fn end_of_watch(&self) -> Option<CancellationToken> {
        self.method.is_infrastructure.then(|| self.limits.draining.clone())
    }

    pub(super) fn record(&mut self, status: Result<(), &Status>) {
        if std::mem::replace(&mut self.is_recorded, true) {
            return;
        }
        let code = status.map_or_else(Status::code, |()| Code::Ok);
        self.method.record(code, self.started.elapsed());
        self.span.record("code", tracing::field::debug(code));
        if let (Code::Internal | Code::Unknown | Code::DataLoss, Err(status)) = (code, status) {
            let (service, method) = (&self.method.service, &self.method.name);
            tracing::error!(parent: &self.span, service, method, ?code, error = status.message(), "call failed");
        }
    }

    /// The status of a call that panicked. The panic's message is logged only.
    pub(super) fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Status {
        let (service, method) = (&self.method.service, &self.method.name);
        tracing::error!(parent: &self.span, service, method, panic = panic_message(panic), "call panicked");
        Status::internal("internal error: see the log of the server")
    }

    fn deadline(&self) -> Option<Duration> {
        self.limits.timeout.filter(|_| !self.method.is_infrastructure)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_admitted {
            self.limits.in_flight.fetch_sub(1, Ordering::AcqRel);
            self.limits.methods.in_flight.decrement(1.0);
        }
        if !self.is_recorded {
            self.record(Err(&Status::cancelled("the client disconnected")));
        }
    }
}

/// A span if the caller traces the call or all calls are exported, else only at debug level: a span costs more than the rest of the
/// layer.
fn span_of(method: &Method, request: &Request<Body>) -> Span {
    let (service, name, path) = (&method.service, &method.name, request.uri().path());
    let is_traced = request.headers().contains_key(trace::TRACEPARENT);
    if !is_traced && !telemetry::is_exporting() {
        return tracing::debug_span!("call", service, method = name, code = tracing::field::Empty);
    }
    let span = tracing::info_span!(
        "call",
        otel.name = path,
        otel.kind = "server",
        service,
        method = name,
        code = tracing::field::Empty
    );
    if is_traced && telemetry::is_exporting() {
        trace::continue_call(&span, request.headers());
    }
    span
}

#[derive(Clone)]
pub(super) struct CallLayer(Arc<Limits>);

impl CallLayer {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self(limits)
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, limits: self.0.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Calls<S> {
    inner: S,
    limits: Arc<Limits>,
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<CallBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = Call::new(&self.limits, &request);
        if !call.admit() {
            return Box::pin(std::future::ready(Ok(failed(call, self.limits.reject()))));
        }
        let span = call.span.clone();
        let response = span.in_scope(|| self.inner.call(request));
        Box::pin(run(call, response).instrument(span))
    }
}

async fn run<F>(call: Call, response: F) -> Result<Response<CallBody>, Infallible>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    let response = AssertUnwindSafe(response).catch_unwind();
    let response = match call.deadline() {
        None => response.await,
        Some(limit) => match tokio::time::timeout(limit, response).await {
            Ok(response) => response,
            Err(_) => {
                let status = call.limits.deadline_exceeded(limit);
                return Ok(failed(call, status));
            }
        },
    };
    Ok(match response {
        Ok(Ok(response)) => respond(call, response),
        Err(panic) => {
            let status = call.panicked(panic.as_ref());
            failed(call, status)
        }
    })
}

/// A status in the headers ends the call here; any other response is recorded when its body ends.
fn respond(mut call: Call, response: Response<Body>) -> Response<CallBody> {
    match Status::from_header_map(response.headers()) {
        None => response.map(|body| CallBody::watched(body, call)),
        Some(status) => match call.limits.too_large(&status) {
            Some(status) => failed(call, status),
            None => {
                call.record(if status.code() == Code::Ok { Ok(()) } else { Err(&status) });
                response.map(CallBody::plain)
            }
        },
    }
}

fn failed(mut call: Call, status: Status) -> Response<CallBody> {
    call.record(Err(&status));
    status.into_http::<Body>().map(CallBody::plain)
}
