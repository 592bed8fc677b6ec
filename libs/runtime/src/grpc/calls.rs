//! What happens around every call, in one layer: admission, a span, a time limit, panics, metrics.
//!
//! This is on the path of every prediction, so it allocates one future and one body per call, takes no lock,
//! and looks its meters up by path.

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

/// Bounds that all calls of a server share, and its meters.
pub(super) struct Limits {
    methods: Methods,
    max_calls: usize,
    max_request_bytes: usize,
    timeout: Option<Duration>,
    under_way: AtomicUsize,
    /// Cancelled when calls that would never end by themselves must: watches of health.
    pub(super) draining: CancellationToken,
}

impl Limits {
    pub(super) fn new(config: &Config, draining: CancellationToken) -> Self {
        Self {
            methods: Methods::new(),
            max_calls: config.max_concurrent_calls,
            max_request_bytes: config.max_request_bytes,
            timeout: config.timeout,
            under_way: AtomicUsize::new(0),
            draining,
        }
    }

    fn refuse(&self) -> Status {
        self.methods.refused.increment(1);
        let limit = self.max_calls.to_string();
        let message =
            format!("{limit} calls are under way, the limit is max_concurrent_calls = {limit}: try again later");
        refusal(Code::ResourceExhausted, "TOO_MANY_CALLS", message, [("max_concurrent_calls", limit)])
    }

    fn too_slow(&self, limit: Duration) -> Status {
        let limit = format!("{limit:?}");
        let message = format!("no answer within the limit timeout = {limit}: ask for less at once or try again later");
        refusal(Code::DeadlineExceeded, "TIMEOUT", message, [("timeout", limit)])
    }

    /// The library names the size but not the setting that bounds it.
    fn too_large(&self, status: &Status) -> Option<Status> {
        let is_size = status.code() == Code::OutOfRange && status.message().contains("message length too large");
        is_size.then(|| {
            let limit = self.max_request_bytes.to_string();
            let message = format!(
                "{}; this is bounded by max_request_bytes, {limit} by default: send less at once",
                status.message()
            );
            refusal(Code::OutOfRange, "REQUEST_TOO_LARGE", message, [("max_request_bytes", limit)])
        })
    }
}

/// A call from its admission to the end of its answer. Dropped before that, the client has left: CANCELLED.
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
        let before = self.limits.under_way.fetch_add(1, Ordering::AcqRel);
        self.is_admitted = true;
        self.limits.methods.under_way.increment(1.0);
        before < self.limits.max_calls
    }

    /// Cancelled when an answer that never ends by itself must end.
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

    /// The status of a call that panicked. The panic's words stay in the log.
    pub(super) fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Status {
        let (service, method) = (&self.method.service, &self.method.name);
        tracing::error!(parent: &self.span, service, method, panic = panic_message(panic), "call panicked");
        Status::internal("this is a bug; the server's log has the details")
    }

    fn time_limit(&self) -> Option<Duration> {
        self.limits.timeout.filter(|_| !self.method.is_infrastructure)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_admitted {
            self.limits.under_way.fetch_sub(1, Ordering::AcqRel);
            self.limits.methods.under_way.decrement(1.0);
        }
        if !self.is_recorded {
            self.record(Err(&Status::cancelled("the client left")));
        }
    }
}

/// A span when the caller traces this call or all are exported, else only when debugging: it costs more than the rest together.
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
            return Box::pin(std::future::ready(Ok(failed(call, self.limits.refuse()))));
        }
        let span = call.span.clone();
        let answer = span.in_scope(|| self.inner.call(request));
        Box::pin(run(call, answer).instrument(span))
    }
}

async fn run<F>(call: Call, answer: F) -> Result<Response<CallBody>, Infallible>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let answer = match call.time_limit() {
        None => answer.await,
        Some(limit) => match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let status = call.limits.too_slow(limit);
                return Ok(failed(call, status));
            }
        },
    };
    Ok(match answer {
        Ok(Ok(response)) => answered(call, response),
        Err(panic) => {
            let status = call.panicked(panic.as_ref());
            failed(call, status)
        }
    })
}

/// A refusal is known from the headers at once; of any other answer the end is watched.
fn answered(mut call: Call, response: Response<Body>) -> Response<CallBody> {
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
