//! The response body: its end determines the status that is recorded for the call.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status, body::Body};

use super::{calls::Call, status::bound};

/// A body that keeps its call open until its last frame.
pub(super) struct CallBody {
    inner: Body,
    call: Option<Call>,
    ends_with: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl CallBody {
    pub(super) fn plain(inner: Body) -> Self {
        Self { inner, call: None, ends_with: None }
    }

    pub(super) fn watched(inner: Body, call: Call) -> Self {
        let ends_with = call.end_of_watch().map(|end| Box::pin(end.cancelled_owned()));
        Self { inner, call: Some(call), ends_with }
    }

    fn finish(&mut self, status: Result<(), &Status>) {
        if let Some(mut call) = self.call.take() {
            call.record(status);
        }
    }

    fn observe(&mut self, frame: &mut Frame<Bytes>) {
        let Some(trailers) = frame.trailers_mut() else { return };
        bound(trailers);
        match Status::from_header_map(trailers) {
            Some(status) if status.code() != Code::Ok => self.finish(Err(&status)),
            _ => self.finish(Ok(())),
        }
    }

    /// Ends the response with `status` in the trailers.
    fn break_off(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.finish(Err(&status));
        self.inner = Body::empty();
        self.ends_with = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut polled = match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.inner).poll_frame(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                let status = this.call.as_ref().map(|call| call.panicked(panic.as_ref()));
                return this.break_off(status.unwrap_or_else(|| Status::internal("internal error")));
            }
        };
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => this.observe(frame),
            Poll::Ready(Some(Err(status))) => this.finish(Err(status)),
            Poll::Ready(None) => this.finish(Ok(())),
            Poll::Pending => {
                if this.ends_with.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
                    return this.break_off(Status::unavailable("the server is shutting down"));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
