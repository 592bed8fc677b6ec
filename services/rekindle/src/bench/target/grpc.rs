//! Requests over one HTTP/2 connection, without the layers of a client for all purposes: those start a task for each request.

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use tokio::sync::RwLock;
use tonic::{Code, Status};

use super::{Address, Message};
use crate::bench::failure::{Failure, Kind};

/// Bytes of responses that the server may send before they are read, on a stream and on the connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A connection that opens when it is first used, and again after it was closed.
#[derive(Debug)]
pub(super) struct Channel {
    address: Address,
    uri: Uri,
    sender: RwLock<Option<SendRequest<Bytes>>>,
}

impl Message {
    /// A gRPC request: the bytes of its message, not compressed.
    pub(crate) fn grpc(message: &[u8]) -> Self {
        let mut body = BytesMut::with_capacity(5 + message.len());
        body.put_u8(0);
        // A message of 4 GiB is accepted by no server.
        body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        body.put_slice(message);
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (header::TE, HeaderValue::from_static("trailers")),
        ];
        Self { headers: headers.into_iter().collect(), body: body.freeze() }
    }
}

impl Channel {
    pub(super) fn to(address: &Address) -> Result<Self> {
        let uri = Uri::builder().scheme("http").authority(address.authority()).path_and_query(METHOD);
        let uri = uri.build().with_context(|| format!("{address} is no address of a server"))?;
        Ok(Self { address: address.clone(), uri, sender: RwLock::new(None) })
    }

    /// Sends a request and returns the bytes of the response.
    pub(super) async fn send(&self, message: &Message) -> Result<usize, Failure> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = message.headers.clone();
        let (response, mut body) = self.sender().await?.send_request(request, false).map_err(broken)?;
        body.send_data(message.body.clone(), true).map_err(broken)?;
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Failure::new(Kind::Http(head.status.as_u16()), "the response is not of a gRPC server"));
        }
        let mut bytes = 0;
        while let Some(data) = body.data().await {
            let length = data.map_err(broken)?.len();
            body.flow_control().release_capacity(length).map_err(broken)?;
            bytes += length;
        }
        // A response without a message has its status in the headers.
        answered(body.trailers().await.map_err(broken)?.as_ref().unwrap_or(&head.headers))?;
        if bytes == 0 {
            return Err(Failure::new(Kind::InvalidResponse, "the response is OK and has no message"));
        }
        Ok(bytes)
    }

    /// A handle of the connection that can send a request.
    async fn sender(&self) -> Result<SendRequest<Bytes>, Failure> {
        let current = self.sender.read().await.clone();
        if let Some(sender) = ready(current).await {
            return Ok(sender);
        }
        let mut slot = self.sender.write().await;
        if let Some(sender) = ready(slot.clone()).await {
            return Ok(sender);
        }
        let stream = self.address.connect().await.map_err(|error| Failure::connection(&error))?;
        let mut builder = Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(stream).await.map_err(broken)?;
        tokio::spawn(async move {
            // How it ends, its requests say.
            let _ = connection.await;
        });
        *slot = Some(sender.clone());
        sender.ready().await.map_err(broken)
    }
}

/// The handle, unless its connection is closed.
async fn ready(sender: Option<SendRequest<Bytes>>) -> Option<SendRequest<Bytes>> {
    sender?.ready().await.ok()
}

fn broken(error: h2::Error) -> Failure {
    Failure::connection(&error)
}

/// The status of a call.
fn answered(headers: &HeaderMap) -> Result<(), Failure> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() == Code::Ok => Ok(()),
        Some(status) => Err(Failure::grpc(&status)),
        None => Err(Failure::new(Kind::InvalidResponse, "the response has no gRPC status")),
    }
}
