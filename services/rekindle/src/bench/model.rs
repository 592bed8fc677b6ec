//! What a server says of itself and of a model, over either binding.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rekindle_client::{
    Connection, Error, Inference,
    inference::{ModelMetadata, TensorMetadata},
};
use serde::Deserialize;

use super::{
    failure::{Failure, Kind},
    target::{Address, Protocol, get},
};
use crate::client::exit::Unreachable;

/// Deadline of a call for metadata.
const DEADLINE: Duration = Duration::from_secs(10);

/// A server, and the model that it serves.
#[derive(Debug)]
pub(crate) struct Served {
    /// The product, e.g. `rekindle`; empty if the server does not say.
    pub server: String,
    /// The tensors of the model.
    pub model: ModelMetadata,
}

/// The metadata as REST has it.
#[derive(Debug, Deserialize)]
struct RestMetadata {
    name: String,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    platform: String,
    inputs: Vec<RestTensor>,
}

#[derive(Debug, Deserialize)]
struct RestTensor {
    name: String,
    datatype: String,
    #[serde(default)]
    shape: Vec<i64>,
}

#[derive(Debug, Deserialize)]
struct RestServer {
    name: String,
}

/// Asks a server for a model; an empty version is the one that the server chooses.
pub(crate) async fn describe(protocol: Protocol, address: &Address, model: &str, version: &str) -> Result<Served> {
    match protocol {
        Protocol::Grpc => over_grpc(address, model, version).await,
        Protocol::Rest => over_rest(address, model, version).await,
    }
}

/// The path of a model below a REST address.
pub(crate) fn path(model: &str, version: &str) -> String {
    let version = if version.is_empty() { String::new() } else { format!("/versions/{version}") };
    format!("/v2/models/{model}{version}")
}

async fn over_grpc(address: &Address, model: &str, version: &str) -> Result<Served> {
    let client = Inference::new(Connection::open(&address.to_string(), DEADLINE)?);
    let metadata = client.version_metadata(model, version).await.map_err(|error| unreached(address, error))?;
    // Not every server has it.
    let server = client.server_metadata().await.map(|server| server.name).unwrap_or_default();
    Ok(Served { server, model: metadata })
}

/// An error that does not blame the control plane, which need not exist.
fn unreached(address: &Address, error: Error) -> anyhow::Error {
    if error.is_unreachable() {
        return Unreachable(format!("no server is reached at {address}")).into();
    }
    error.into()
}

async fn over_rest(address: &Address, model: &str, version: &str) -> Result<Served> {
    let path = path(model, version);
    let body = get(address, &path).await.map_err(|failure| refused(address, &path, &failure))?;
    let metadata: RestMetadata = serde_json::from_slice(&body).with_context(|| format!("{address}{path}"))?;
    let tensor =
        |tensor: RestTensor| TensorMetadata { name: tensor.name, datatype: tensor.datatype, shape: tensor.shape };
    let model = ModelMetadata {
        name: metadata.name,
        versions: metadata.versions,
        platform: metadata.platform,
        inputs: metadata.inputs.into_iter().map(tensor).collect(),
        outputs: Vec::new(),
    };
    let server = get(address, "/v2").await.ok().and_then(|body| serde_json::from_slice::<RestServer>(&body).ok());
    Ok(Served { server: server.map(|server| server.name).unwrap_or_default(), model })
}

fn refused(address: &Address, path: &str, failure: &Failure) -> anyhow::Error {
    if failure.kind == Kind::Connection {
        return Unreachable(format!("no server is reached at {address}: {}", failure.message)).into();
    }
    anyhow::anyhow!("{address}{path}: {}: {}", failure.kind, failure.message)
}
