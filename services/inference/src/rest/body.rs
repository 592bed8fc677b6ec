//! Receives the bodies of requests: in bounded memory, and within a bounded time.

use std::sync::Arc;

use axum::{
    body::to_bytes,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::error::{Refusal, refused};

/// Bytes of one permit.
const UNIT: usize = 1024;

/// The memory of the bodies of all connections.
pub(super) struct Bodies {
    max_bytes: usize,
    limits: rekindle_runtime::http::Limits,
    memory: Arc<Semaphore>,
}

/// A body, and its share of the memory.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl Bodies {
    /// Bodies of at most `max_bytes` each.
    pub(super) fn new(max_bytes: usize, limits: rekindle_runtime::http::Limits) -> Self {
        let units = (limits.max_pending_bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self { max_bytes, limits, memory: Arc::new(Semaphore::new(units)) }
    }

    /// Receives a body. A compressed one counts with the bytes that it may have.
    pub(super) async fn receive(&self, request: Request) -> Result<Received, Refusal> {
        let declared = declared_length(request.headers()).unwrap_or(self.max_bytes);
        if declared > self.max_bytes {
            return Err(self.too_large());
        }
        let units = u32::try_from(declared.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(units).map_err(|_| {
            let limit = self.limits.max_pending_bytes;
            let message = format!("too many requests are being received: the limit is max_pending_bytes = {limit}");
            refused(StatusCode::TOO_MANY_REQUESTS, message)
        })?;
        let received = timeout(self.limits.receive_timeout, to_bytes(request.into_body(), self.max_bytes)).await;
        match received {
            Ok(Ok(bytes)) => Ok(Received { bytes, _memory: memory }),
            Ok(Err(error)) if is_too_large(&error) => Err(self.too_large()),
            Ok(Err(error)) => Err(refused(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
            Err(_) => {
                let limit = self.limits.receive_timeout;
                let message = format!("the body was not received within receive_timeout = {limit:?}");
                Err(refused(StatusCode::REQUEST_TIMEOUT, message))
            }
        }
    }

    fn too_large(&self) -> Refusal {
        let limit = self.max_bytes;
        let message = format!("the body is too large: the limit is inference.limits.max_message_bytes = {limit}");
        refused(StatusCode::PAYLOAD_TOO_LARGE, message)
    }
}

/// The length of the body, as far as it is known before it is received and decompressed.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let is_compressed = headers.contains_key(header::CONTENT_ENCODING);
    let length = headers.get(header::CONTENT_LENGTH).filter(|_| !is_compressed)?;
    length.to_str().ok()?.parse().ok()
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    std::iter::from_fn(|| {
        let current = source?;
        source = current.source();
        Some(current)
    })
    .any(|error| error.is::<http_body_util::LengthLimitError>())
}
