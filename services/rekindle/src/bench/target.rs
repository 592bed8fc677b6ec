//! The servers under load, and one prepared request at a time to them.
//!
//! Requests are encoded once and sent many times. Of a response only the status is read, and its bytes are counted: the generator is to
//! cost little beside the server.

mod grpc;
mod rest;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Uri, uri::Scheme};
use tokio::net::TcpStream;

use super::failure::Failure;

pub(crate) use self::rest::get;

/// A binding of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    Grpc,
    Rest,
}

/// A request that is sent many times.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub headers: HeaderMap,
    /// For gRPC with the prefix of a frame.
    pub body: Bytes,
}

/// Where requests go to: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Uri);

/// The servers with their connections, and the requests that they get in turn.
#[derive(Debug)]
pub(crate) struct Target {
    routes: Vec<Route>,
    messages: Vec<Message>,
}

#[derive(Debug)]
enum Route {
    /// One connection, which all requests share.
    Grpc(grpc::Channel),
    /// Connections to one server, each with one request at a time.
    Rest(rest::Pool),
}

impl Address {
    /// Parses `http://host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected e.g. http://127.0.0.1:8001";
        let uri: Uri = text.parse().map_err(|error| format!("{error}: {expected}"))?;
        if uri.scheme() != Some(&Scheme::HTTP) || uri.host().is_none() {
            return Err(format!("{expected}; TLS is not supported"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(format!("has a path: {expected}"));
        }
        Ok(Self(uri))
    }

    /// `host:port`.
    fn authority(&self) -> &str {
        self.0.authority().map_or("", http::uri::Authority::as_str)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.0.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl Target {
    /// gRPC servers with `connections` over all of them, at least one to each.
    pub(crate) fn grpc(addresses: &[Address], connections: usize, messages: Vec<Message>) -> Result<Arc<Self>> {
        let count = connections.max(addresses.len());
        let routes = addresses.iter().cycle().take(count).map(|address| Ok(Route::Grpc(grpc::Channel::to(address)?)));
        Self::of(routes.collect::<Result<_>>()?, messages)
    }

    /// REST servers, the requests going to `path`. Connections are opened as requests need them.
    pub(crate) fn rest(addresses: &[Address], path: &str, messages: Vec<Message>) -> Result<Arc<Self>> {
        let routes = addresses.iter().map(|address| Ok(Route::Rest(rest::Pool::to(address, path)?)));
        Self::of(routes.collect::<Result<_>>()?, messages)
    }

    fn of(routes: Vec<Route>, messages: Vec<Message>) -> Result<Arc<Self>> {
        if routes.is_empty() || messages.is_empty() {
            bail!("no server or no request");
        }
        Ok(Arc::new(Self { routes, messages }))
    }

    /// Sends the request that is due as number `index`, from 0. Returns the bytes of the response.
    pub(crate) async fn send(&self, index: usize) -> Result<usize, Failure> {
        let message = &self.messages[index % self.messages.len()];
        match &self.routes[index % self.routes.len()] {
            Route::Grpc(channel) => channel.send(message).await,
            Route::Rest(pool) => pool.send(message).await,
        }
    }
}
