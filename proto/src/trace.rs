//! W3C trace context between processes: in gRPC metadata, and as the one header that messages carry.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{
    codegen::http::{HeaderMap, HeaderName},
    metadata::{AsciiMetadataKey, MetadataMap},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header that names a trace and the span within it (W3C Trace Context, section 3.2).
pub const TRACEPARENT: &str = "traceparent";

/// The current span as the value of [`TRACEPARENT`], for messages; `None` where nothing is traced.
pub fn traceparent() -> Option<String> {
    let mut value = Single(String::new());
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut value);
    Some(value.0).filter(|value| !value.is_empty())
}

/// Makes a span that has not been entered yet a child of the one that a message's [`TRACEPARENT`] names. A malformed value
/// is ignored.
pub fn continue_message(span: &Span, traceparent: &str) {
    set_parent(span, &Single(traceparent.to_owned()));
}

/// Makes a span that has not been entered yet a child of the one that the headers of a call name, if they do.
pub fn continue_call(span: &Span, headers: &HeaderMap) {
    set_parent(span, &Headers(headers));
}

/// Writes the current span into the metadata of a call that is about to be made. Without traces it writes nothing.
pub fn inject(metadata: &mut MetadataMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Metadata(metadata));
}

fn set_parent(span: &Span, carrier: &dyn Extractor) {
    if let Err(error) = span.set_parent(TraceContextPropagator::new().extract(carrier)) {
        tracing::trace!(%error, "this span is not traced");
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (false, Ok(key), Ok(value)) = (value.is_empty(), key.parse::<AsciiMetadataKey>(), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct Single(String);

impl Injector for Single {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}

impl Extractor for Single {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
