//! What surrounds every call: admission, span, deadline, panics, metrics.
//!
//! It is on the path of every prediction: it allocates one future, two bodies and one receipt per call, takes no lock, and looks up its
//! metrics by path.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use rekindle_proto::{error::refusal, trace};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::Service;
use tracing::{Instrument as _, Span};

use super::{
    Config,
    body::CallBody,
    methods::{KINDS, Kind, Method, Methods},
    places::Places,
    request::{Receipt, RequestBody, malformed},
    status::bound,
};
use crate::{connections::Activity, supervise::panic_message, telemetry};

/// Limits and metrics that all calls of a server share.
pub(super) struct Limits {
    pub(super) methods: Methods,
    /// The name of the limit of each kind of call, and its places.
    calls: [(&'static str, Places); KINDS],
    /// Bytes of memory for the requests of all calls.
    pub(super) bytes: Places,
    pub(super) max_request_bytes: usize,
    pub(super) receive_timeout: Duration,
    timeout: Option<Duration>,
    /// Cancelled when calls without an end of their own must end: watches of health.
    pub(super) draining: CancellationToken,
}

impl Limits {
    pub(super) fn new(config: &Config, draining: CancellationToken) -> Self {
        Self {
            methods: Methods::new(),
            calls: Kind::ALL.map(|kind| kind.limit(config)).map(|(name, limit)| (name, Places::new(limit))),
            bytes: Places::new(config.max_pending_bytes),
            max_request_bytes: config.max_request_bytes,
            receive_timeout: config.receive_timeout,
            timeout: config.timeout,
            draining,
        }
    }

    fn reject(&self, method: &Method) -> Status {
        self.methods.rejected.increment(1);
        let (name, places) = &self.calls[method.kind as usize];
        let limit = places.limit().to_string();
        let message = format!(
            "too many concurrent calls: the limit is {name} = {limit}, of which a connection has at most as many as are free, retry \
             with back-off"
        );
        refusal(Code::ResourceExhausted, "TOO_MANY_CALLS", message, [(*name, limit)])
    }

    pub(super) fn too_many_bytes(&self) -> Status {
        self.methods.rejected.increment(1);
        let limit = self.bytes.limit().to_string();
        let message = format!(
            "the requests in progress take too much memory: the limit is max_pending_bytes = {limit}, of which a connection has at \
             most as much as is free, retry with back-off"
        );
        refusal(Code::ResourceExhausted, "TOO_MANY_BYTES", message, [("max_pending_bytes", limit)])
    }

    pub(super) fn not_received(&self) -> Status {
        let limit = format!("{:?}", self.receive_timeout);
        let message = format!("the request was not received in time: the limit is receive_timeout = {limit}");
        refusal(Code::DeadlineExceeded, "NOT_RECEIVED", message, [("receive_timeout", limit)])
    }

    fn deadline_exceeded(&self, limit: Duration) -> Status {
        let limit = format!("{limit:?}");
        let message =
            format!("deadline exceeded: the limit is timeout = {limit}, send a smaller request or retry later");
        refusal(Code::DeadlineExceeded, "TIMEOUT", message, [("timeout", limit)])
    }

    pub(super) fn too_large(&self, length: usize) -> Status {
        let limit = self.max_request_bytes.to_string();
        let message =
            format!("the request has {length} bytes: the limit is max_request_bytes = {limit}, send a smaller request");
        refusal(Code::OutOfRange, "REQUEST_TOO_LARGE", message, [("max_request_bytes", limit)])
    }
}

/// One connection, and what it holds of the limits.
pub(super) struct Caller {
    pub(super) limits: Arc<Limits>,
    calls: [AtomicUsize; KINDS],
    pub(super) bytes: AtomicUsize,
    activity: Arc<Activity>,
}

impl Caller {
    pub(super) fn new(limits: Arc<Limits>, activity: Arc<Activity>) -> Self {
        Self { limits, calls: Default::default(), bytes: AtomicUsize::new(0), activity }
    }
}

/// A call from its admission to the end of its response. Dropped before that, the client has disconnected: CANCELLED.
pub(super) struct Call {
    caller: Arc<Caller>,
    method: Arc<Method>,
    span: Span,
    started: Instant,
    /// The deadline that the client states.
    client_timeout: Option<Duration>,
    is_recorded: bool,
    is_admitted: bool,
}

impl Call {
    fn new<B>(caller: &Arc<Caller>, request: &Request<B>) -> Self {
        caller.activity.enter();
        let method = caller.limits.methods.find(request.uri().path());
        let span = span_of(&method, request);
        Self {
            caller: caller.clone(),
            method,
            span,
            started: Instant::now(),
            client_timeout: client_timeout(request.headers()),
            is_recorded: false,
            is_admitted: false,
        }
    }

    fn admit(&mut self) -> bool {
        let kind = self.method.kind as usize;
        self.is_admitted = self.caller.limits.calls[kind].1.take(&self.caller.calls[kind], 1);
        if self.is_admitted {
            self.caller.limits.methods.in_flight.increment(1.0);
        }
        self.is_admitted
    }

    /// Cancelled when a response without an end of its own must end.
    pub(super) fn end_of_watch(&self) -> Option<CancellationToken> {
        self.method.is_infrastructure.then(|| self.caller.limits.draining.clone())
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

    /// The earlier deadline of the server's and the client's.
    fn deadline(&self) -> Option<Duration> {
        let own = self.caller.limits.timeout.filter(|_| !self.method.is_infrastructure);
        own.into_iter().chain(self.client_timeout).min()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_admitted {
            let kind = self.method.kind as usize;
            self.caller.limits.calls[kind].1.give_back(&self.caller.calls[kind], 1);
            self.caller.limits.methods.in_flight.decrement(1.0);
        }
        if !self.is_recorded {
            self.record(Err(&Status::cancelled("the client disconnected")));
        }
        self.caller.activity.leave();
    }
}

/// A span if the caller traces the call or all calls are exported, else only at debug level: a span costs more than the rest of the
/// layer.
fn span_of<B>(method: &Method, request: &Request<B>) -> Span {
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

/// The deadline in the header `grpc-timeout`: up to eight digits and a unit.
fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count = Some(digits).filter(|digits| digits.len() <= 8)?.parse::<u64>().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// The services as one connection calls them.
#[derive(Clone)]
pub(super) struct Calls<S> {
    inner: S,
    caller: Arc<Caller>,
}

impl<S> Calls<S> {
    pub(super) fn new(inner: S, caller: Caller) -> Self {
        Self { inner, caller: Arc::new(caller) }
    }
}

impl<S> Service<Request<Incoming>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<CallBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.version() != Version::HTTP_2 {
            return Box::pin(std::future::ready(Ok(not_http2())));
        }
        let mut call = Call::new(&self.caller, &request);
        if !call.admit() {
            let status = self.caller.limits.reject(&call.method);
            return Box::pin(std::future::ready(Ok(failed(call, status))));
        }
        let span = call.span.clone();
        let receipt = Receipt::new(self.caller.clone());
        let (method, received) = (call.method.clone(), receipt.clone());
        let request = request.map(|body| Body::new(RequestBody::new(body, method, received)));
        let response = span.in_scope(|| self.inner.call(request));
        Box::pin(run(call, receipt, response).instrument(span))
    }
}

/// The response to a client of HTTP/1, which does not call gRPC methods.
fn not_http2() -> Response<CallBody> {
    let message = "{\"error\": \"this port serves gRPC over HTTP/2: a replica serves REST at --rest-listen, port 8000 by default\"}\n";
    let mut response = Response::new(CallBody::plain(Body::new(Full::from(message))));
    *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The memory of the request counts until the response begins.
async fn run<F>(call: Call, _receipt: Arc<Receipt>, response: F) -> Result<Response<CallBody>, Infallible>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    let response = AssertUnwindSafe(response).catch_unwind();
    let response = match call.deadline() {
        None => response.await,
        Some(limit) => match tokio::time::timeout(limit, response).await {
            Ok(response) => response,
            Err(_) => {
                let status = call.caller.limits.deadline_exceeded(limit);
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
fn respond(mut call: Call, mut response: Response<Body>) -> Response<CallBody> {
    match Status::from_header_map(response.headers()) {
        None => response.map(|body| CallBody::watched(body, call)),
        Some(status) => match undecodable(&status) {
            Some(status) => failed(call, status),
            None => {
                call.record(if status.code() == Code::Ok { Ok(()) } else { Err(&status) });
                bound(response.headers_mut());
                response.map(CallBody::plain)
            }
        },
    }
}

/// A request that is no message of its type is the caller's error; tonic has it INTERNAL.
fn undecodable(status: &Status) -> Option<Status> {
    let is_decoding =
        status.code() == Code::Internal && status.message().starts_with("failed to decode Protobuf message");
    is_decoding.then(|| malformed(status.message()))
}

fn failed(mut call: Call, status: Status) -> Response<CallBody> {
    call.record(Err(&status));
    let mut response = status.into_http::<Body>();
    bound(response.headers_mut());
    response.map(CallBody::plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_the_client_is_read_in_every_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("30m", Some(Duration::from_millis(30))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("999999999S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("5\u{b5}", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_bytes(text.as_bytes()).expect("a value"));
            assert_eq!(client_timeout(&headers), expected, "{text:?}");
        }
    }
}
