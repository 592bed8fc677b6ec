//! Requests over HTTP/1.1 connections that are kept alive, one request at a time on each.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;

use super::{Address, Message};
use crate::bench::failure::Failure;

/// The header with the number of bytes of JSON, before the binary elements.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

type Sender = SendRequest<Full<Bytes>>;

/// Connections to one server, opened as requests need them.
#[derive(Debug)]
pub(super) struct Pool {
    address: Address,
    uri: Uri,
    host: HeaderValue,
    /// The one used last comes first: no more are kept in use than are needed.
    idle: Mutex<Vec<Sender>>,
}

impl Message {
    /// A REST request with a body of JSON.
    pub(crate) fn json(body: Vec<u8>) -> Self {
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Self { headers: headers.into_iter().collect(), body: body.into() }
    }

    /// A REST request with JSON and binary elements after it.
    pub(crate) fn binary(json: Vec<u8>, elements: &[u8]) -> Self {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (JSON_LENGTH, HeaderValue::from(json.len())),
        ];
        Self { headers: headers.into_iter().collect(), body: [&json, elements].concat().into() }
    }
}

impl Pool {
    pub(super) fn to(address: &Address, path: &str) -> Result<Self> {
        let uri = path.parse().with_context(|| format!("{path:?} is no path of a URL"))?;
        let host = HeaderValue::from_str(address.authority())?;
        Ok(Self { address: address.clone(), uri, host, idle: Mutex::default() })
    }

    /// Sends a request and returns the bytes of the response.
    pub(super) async fn send(&self, message: &Message) -> Result<usize, Failure> {
        let mut request = Request::new(Full::new(message.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = message.headers.clone();
        request.headers_mut().insert(header::HOST, self.host.clone());
        let mut sender = self.sender().await?;
        let result = count(&mut sender, request).await;
        // After an error of its own, a server may close the connection without announcing it.
        if result.as_ref().err().is_none_or(|failure| failure.kind.is_refusal()) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
        result
    }

    async fn sender(&self) -> Result<Sender, Failure> {
        while let Some(mut idle) = self.take_idle() {
            // One that the server closed in the meantime is not ready.
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        open(&self.address).await
    }

    fn take_idle(&self) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The body of the response to a GET request.
pub(crate) async fn get(address: &Address, path: &str) -> Result<Bytes, Failure> {
    let request = Request::get(path).header(header::HOST, address.authority()).body(Full::default());
    let request = request.map_err(|error| Failure::connection(&error))?;
    collect(exchange(&mut open(address).await?, request).await?).await
}

/// Sends a request, and returns the bytes of the body of the response once it is complete.
async fn count(sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<usize, Failure> {
    let (mut body, mut bytes) = (exchange(sender, request).await?, 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::connection(&error))?;
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    Ok(bytes)
}

/// Sends a request, and returns the body of a response that is no error.
async fn exchange(sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<Incoming, Failure> {
    let response = sender.send_request(request).await.map_err(|error| Failure::connection(&error))?;
    let (status, body) = (response.status(), response.into_body());
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(Failure::http(status, &collect(body).await?))
}

async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    Ok(body.collect().await.map_err(|error| Failure::connection(&error))?.to_bytes())
}

async fn open(address: &Address) -> Result<Sender, Failure> {
    let stream = address.connect().await.map_err(|error| Failure::connection(&error))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| Failure::connection(&error))?;
    // How it ends, its requests say.
    tokio::spawn(connection);
    Ok(sender)
}
