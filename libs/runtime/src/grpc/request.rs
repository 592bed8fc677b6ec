//! The request body: its messages are received within a deadline and a budget, and measured before they are decoded.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use rekindle_proto::error::{invalid_argument, refusal};
use tokio::time::Sleep;
use tonic::{Code, Status};

use super::{
    calls::{Caller, Limits},
    methods::Method,
};

/// The flag and the length before each message.
const HEADER: usize = 5;
/// A message may take this many times its size once decoded, and this much more, which is room for messages of many small fields.
const DECODED_PER_BYTE: u64 = 6;
const DECODED_ALLOWANCE: u64 = 4 << 20;

/// The most memory that a request with a message of `length` bytes may take.
pub(super) fn most_bytes(length: usize) -> usize {
    let decoded = decoded_limit(length);
    usize::try_from(decoded).unwrap_or(usize::MAX).saturating_add(length).saturating_add(HEADER)
}

fn decoded_limit(length: usize) -> u64 {
    (length as u64).saturating_mul(DECODED_PER_BYTE).saturating_add(DECODED_ALLOWANCE)
}

/// The memory that the request of one call takes, as part of the budget of all. Returned when dropped.
pub(super) struct Receipt {
    caller: Arc<Caller>,
    bytes: AtomicUsize,
}

impl Receipt {
    pub(super) fn new(caller: Arc<Caller>) -> Arc<Self> {
        Arc::new(Self { caller, bytes: AtomicUsize::new(0) })
    }

    fn add(&self, bytes: usize) -> Result<(), Status> {
        let limits = &self.caller.limits;
        if !limits.bytes.take(&self.caller.bytes, bytes) {
            return Err(limits.too_many_bytes());
        }
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Ok(())
    }

    fn clear(&self) {
        self.caller.limits.bytes.give_back(&self.caller.bytes, self.bytes.swap(0, Ordering::AcqRel));
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A body that hands on whole messages, each of which is allowed.
pub(super) struct RequestBody {
    inner: Incoming,
    method: Arc<Method>,
    receipt: Arc<Receipt>,
    /// What has been received of the next message.
    partial: BytesMut,
    messages: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, method: Arc<Method>, receipt: Arc<Receipt>) -> Self {
        let partial = BytesMut::new();
        Self { inner, method, receipt, partial, messages: 0, deadline: None, is_over: false }
    }

    fn limits(&self) -> &Limits {
        &self.receipt.caller.limits
    }

    /// The messages that are complete with this chunk, if any.
    fn receive(&mut self, chunk: Bytes) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty() && self.method.is_client_streaming {
            self.receipt.clear();
        }
        self.receipt.add(chunk.len())?;
        if self.partial.is_empty() && self.complete(&chunk)? == chunk.len() {
            return self.hand_on(chunk).map(Some);
        }
        self.partial.extend_from_slice(&chunk);
        let complete = self.complete(&self.partial)?;
        if complete == 0 {
            return Ok(None);
        }
        let messages = self.partial.split_to(complete).freeze();
        self.hand_on(messages).map(Some)
    }

    /// The bytes of the complete messages at the start of `received`.
    fn complete(&self, received: &[u8]) -> Result<usize, Status> {
        let mut complete = 0;
        while let Some(length) = length(&received[complete..])? {
            let limit = self.limits().max_request_bytes;
            if length > limit {
                return Err(self.limits().too_large(length));
            }
            let end = complete + HEADER + length;
            if received.len() < end {
                break;
            }
            complete = end;
        }
        Ok(complete)
    }

    fn hand_on(&mut self, messages: Bytes) -> Result<Bytes, Status> {
        let mut rest = &messages[..];
        while let Some(length) = length(rest)? {
            self.measure(&rest[HEADER..HEADER + length])?;
            rest.advance(HEADER + length);
            self.messages += 1;
        }
        self.deadline = None;
        Ok(messages)
    }

    fn measure(&self, message: &[u8]) -> Result<(), Status> {
        let Some(shape) = self.method.request else { return Ok(()) };
        let limit = decoded_limit(message.len());
        let measured = self.limits().methods.shapes.measure(shape, message, limit);
        if let Some(field) = measured.nul {
            return Err(invalid_argument(field, "has a NUL character: expected text without it"));
        }
        if measured.bytes > limit {
            return Err(too_many_elements(message.len(), limit));
        }
        self.receipt.add(usize::try_from(measured.bytes).unwrap_or(usize::MAX))
    }

    /// Whether the body may end here.
    fn end(&self) -> Result<(), Status> {
        if !self.partial.is_empty() {
            return Err(malformed("the request ends within a message"));
        }
        if self.messages == 0 && !self.method.is_client_streaming {
            return Err(malformed("the request has no message"));
        }
        Ok(())
    }

    fn fail(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.is_over = true;
        self.partial = BytesMut::new();
        Poll::Ready(Some(Err(status)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        while !this.is_over {
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return this.fail(Status::from_error(error.into())),
                Poll::Ready(None) => match this.end() {
                    Ok(()) => break,
                    Err(status) => return this.fail(status),
                },
                Poll::Pending => {
                    let limit = this.limits().receive_timeout;
                    let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                    if deadline.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    let status = this.limits().not_received();
                    return this.fail(status);
                }
            };
            match frame.into_data().map(|chunk| this.receive(chunk)) {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(messages))) => return Poll::Ready(Some(Ok(Frame::data(messages)))),
                Ok(Err(status)) => return this.fail(status),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        Poll::Ready(None)
    }
}

/// The length of the message at the start of `received`, if its header has been received.
fn length(received: &[u8]) -> Result<Option<usize>, Status> {
    match received {
        [] => Ok(None),
        [0, a, b, c, d, ..] => Ok(Some(u32::from_be_bytes([*a, *b, *c, *d]) as usize)),
        [0, ..] => Ok(None),
        [flag, ..] => Err(malformed(&format!("a message has the compression flag {flag}: send it uncompressed"))),
    }
}

/// INVALID_ARGUMENT: not a request of this protocol.
pub(super) fn malformed(problem: &str) -> Status {
    refusal(Code::InvalidArgument, "MALFORMED_REQUEST", problem, [])
}

fn too_many_elements(length: usize, limit: u64) -> Status {
    let message = format!(
        "the request of {length} bytes takes more than {limit} bytes of memory, {DECODED_PER_BYTE} times its size and \
         {DECODED_ALLOWANCE} bytes: send fewer elements in one request"
    );
    refusal(Code::InvalidArgument, "TOO_MANY_ELEMENTS", message, [("limit", limit.to_string())])
}
