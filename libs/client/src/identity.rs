//! The metadata of a call: who calls, within which namespace, on behalf of which workflow, in which trace.

use std::time::Duration;

use rekindle_domain::{Namespace, Principal, event::EventContext};
use rekindle_proto::trace;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// Metadata key of the principal. A principal outside of ASCII is percent-encoded by neither side: it is not sent.
pub const PRINCIPAL: &str = "rekindle-principal";
/// Metadata key of the namespace of unqualified names, and of what a list returns; absent is `default`.
pub const NAMESPACE: &str = "rekindle-namespace";
/// Metadata key of the correlation id: the workflow on whose behalf a call is made.
pub const CORRELATION_ID: &str = "rekindle-correlation-id";
/// Metadata key of the id of the event that led to a call.
pub const CAUSATION_ID: &str = "rekindle-causation-id";

/// What every call of a connection carries.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// `None` calls anonymously.
    pub principal: Option<Principal>,
    /// The namespace of every unqualified name in the call.
    pub namespace: Namespace,
    /// Correlation of the events that the call causes.
    pub context: EventContext,
    /// The deadline of each call (`grpc-timeout`); `None` is that of the connection. The shorter one applies.
    pub deadline: Option<Duration>,
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let principal = self.principal.as_ref().map_or("", Principal::as_str);
        let namespace = if self.namespace.is_default() { "" } else { self.namespace.as_str() };
        let EventContext { correlation_id, causation_id } = &self.context;
        let pairs = [
            (PRINCIPAL, principal),
            (NAMESPACE, namespace),
            (CORRELATION_ID, correlation_id),
            (CAUSATION_ID, causation_id),
        ];
        for (key, value) in pairs {
            if let (false, Ok(value)) = (value.is_empty(), MetadataValue::<Ascii>::try_from(value)) {
                request.metadata_mut().insert(key, value);
            }
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        trace::inject(request.metadata_mut());
        Ok(request)
    }
}
