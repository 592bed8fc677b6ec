//! Channels to other services, and the context that a call carries along.

use std::time::Duration;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::trace;

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not an address of a gRPC service: expected e.g. http://127.0.0.1:7000")]
pub struct InvalidAddress {
    /// The address as given.
    pub address: String,
    source: tonic::transport::Error,
}

/// A channel that connects when first used and reconnects by itself. Each call has at most `timeout`.
pub fn channel(address: &str, timeout: Duration) -> Result<Channel, InvalidAddress> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|source| InvalidAddress { address: address.to_owned(), source })?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect_lazy())
}

/// Metadata key of the correlation id: the workflow on whose behalf a call is made.
pub const CORRELATION_ID: &str = "rekindle-correlation-id";
/// Metadata key of the id of the event that led to a call.
pub const CAUSATION_ID: &str = "rekindle-causation-id";

/// On whose behalf something is done; carried through calls into the events that they cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The workflow, or whatever else the caller groups by; empty where there is none.
    pub correlation_id: String,
    /// The event that led here; empty where there is none.
    pub causation_id: String,
}

impl Context {
    /// The context of a call that arrived. Values that are not plain text are taken as absent.
    pub fn of(metadata: &MetadataMap) -> Self {
        let text = |key| metadata.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Self { correlation_id: text(CORRELATION_ID), causation_id: text(CAUSATION_ID) }
    }

    /// The context of a workflow.
    pub fn correlated(correlation_id: impl Into<String>) -> Self {
        Self { correlation_id: correlation_id.into(), causation_id: String::new() }
    }
}

impl Interceptor for Context {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, value) in [(CORRELATION_ID, &self.correlation_id), (CAUSATION_ID, &self.causation_id)] {
            if let (false, Ok(value)) = (value.is_empty(), MetadataValue::<Ascii>::try_from(value.as_str())) {
                request.metadata_mut().insert(key, value);
            }
        }
        trace::inject(request.metadata_mut());
        Ok(request)
    }
}

/// A channel whose calls carry a context and the trace of the span in which they are made: `RunsClient::new(with_context(channel, context))`.
pub fn with_context(channel: Channel, context: Context) -> InterceptedService<Channel, Context> {
    InterceptedService::new(channel, context)
}
