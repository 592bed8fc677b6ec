//! Requests over one HTTP/2 connection.

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::RwLock;
use tonic::{Code, Status};

use super::{Address, Message};
use crate::bench::failure::{Failure, Kind};

const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A connection that opens when it is first used, and again after it was closed.
#[derive(Debug)]
pub(super) struct Channel {
    address: Address,
    uri: Uri,
    sender: RwLock<Option<SendRequest<Full<Bytes>>>>,
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
        let mut request = Request::new(Full::new(message.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = message.headers.clone();
        let mut sender = self.sender().await?;
        let response = sender.send_request(request).await.map_err(|error| Failure::connection(&error))?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(Failure::new(Kind::Http(head.status.as_u16()), "the response is not of a gRPC server"));
        }
        let (bytes, trailers) = read(body).await?;
        // A response without a message has its status in the headers.
        answered(trailers.as_ref().unwrap_or(&head.headers))?;
        if bytes == 0 {
            return Err(Failure::new(Kind::InvalidResponse, "the response is OK and has no message"));
        }
        Ok(bytes)
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let open = |sender: &Option<SendRequest<_>>| sender.as_ref().filter(|sender| !sender.is_closed()).cloned();
        if let Some(sender) = open(&*self.sender.read().await) {
            return Ok(sender);
        }
        let mut slot = self.sender.write().await;
        if let Some(sender) = open(&slot) {
            return Ok(sender);
        }
        let stream = self.address.connect().await.map_err(|error| Failure::connection(&error))?;
        let opened = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| Failure::connection(&error))?;
        // How it ends, its requests say.
        tokio::spawn(connection);
        Ok(slot.insert(sender).clone())
    }
}

/// Reads a body to its end. Returns its length and its trailers.
async fn read(mut body: Incoming) -> Result<(usize, Option<HeaderMap>), Failure> {
    let (mut bytes, mut trailers) = (0, None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| Failure::connection(&error))?.into_data() {
            Ok(data) => bytes += data.len(),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((bytes, trailers))
}

/// The status of a call.
fn answered(headers: &HeaderMap) -> Result<(), Failure> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() == Code::Ok => Ok(()),
        Some(status) => Err(Failure::grpc(&status)),
        None => Err(Failure::new(Kind::InvalidResponse, "the response has no gRPC status")),
    }
}
