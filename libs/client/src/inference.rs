//! Inference: the Open Inference Protocol of one replica, with tensors as values.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_domain::PredictionId;
use rekindle_proto::inference::{self as proto, grpc_inference_service_client::GrpcInferenceServiceClient};
use tonic::{Code, service::interceptor::InterceptedService, transport::Channel};

pub use crate::wire::tensor::{Datatype, Elements, Tensor};
use crate::{
    Connection, Error, Identity,
    wire::{field, inference},
};

/// A client of one replica; clones share the connection.
#[derive(Debug, Clone)]
pub struct Inference {
    connection: Connection,
    stub: GrpcInferenceServiceClient<InterceptedService<Channel, Identity>>,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerMetadata {
    /// The product, e.g. `rekindle` or `triton`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The extensions of the protocol that it implements.
    pub extensions: Vec<String>,
}

/// The tensors that a model takes and returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMetadata {
    /// The model.
    pub name: String,
    /// The versions that answer.
    pub versions: Vec<String>,
    /// The backend.
    pub platform: String,
    /// One tensor per feature.
    pub inputs: Vec<TensorMetadata>,
    /// The tensors returned.
    pub outputs: Vec<TensorMetadata>,
}

/// Name, type and shape of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMetadata {
    /// The name.
    pub name: String,
    /// The type as the protocol spells it, e.g. `FP64`.
    pub datatype: String,
    /// -1 is a size that varies: the number of rows.
    pub shape: Vec<i64>,
}

/// A prediction request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferRequest {
    /// The model.
    pub model: String,
    /// The version that must answer; `None` is the one that the routes choose.
    pub version: Option<u32>,
    /// Returned with the response.
    pub id: String,
    /// Parameters, e.g. `event_time` in milliseconds since 1970-01-01 UTC.
    pub parameters: BTreeMap<String, Parameter>,
    /// The inputs.
    pub inputs: Vec<Tensor>,
    /// The outputs to return; empty is all.
    pub outputs: Vec<String>,
}

/// A prediction request whose elements are in their raw form already, of any datatype and for any server of the protocol.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawRequest {
    /// The model.
    pub model: String,
    /// The version as the server spells it; empty is the one that the server chooses.
    pub version: String,
    /// Parameters of the request.
    pub parameters: BTreeMap<String, Parameter>,
    /// The inputs.
    pub inputs: Vec<RawTensor>,
}

/// A named tensor in its raw form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTensor {
    /// The name.
    pub name: String,
    /// The type as the protocol spells it, e.g. `INT32`.
    pub datatype: String,
    /// The sizes; their product is the number of elements.
    pub shape: Vec<i64>,
    /// The elements: little-endian, row-major; a BYTES element follows its length in four bytes.
    pub contents: Bytes,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// A boolean.
    Boolean(bool),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// The response to a prediction request.
#[derive(Debug, Clone, PartialEq)]
pub struct InferResponse {
    /// The model.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The id of the request.
    pub id: String,
    /// Parameters: `prediction_id`, `bundle_digest`, `run_id`, `dataset_digests`, `code_revision`, `replica`.
    pub parameters: BTreeMap<String, Parameter>,
    /// The outputs.
    pub outputs: Vec<Tensor>,
}

impl InferResponse {
    /// A text parameter; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        match self.parameters.get(name) {
            Some(Parameter::Text(text)) => text,
            _ => "",
        }
    }

    /// The id of the prediction, by which its outcome is reported.
    pub fn prediction(&self) -> Result<PredictionId, Error> {
        field::parse("parameters[prediction_id]", self.text("prediction_id")).map_err(Error::response("predict"))
    }

    /// An output by name.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.iter().find(|output| output.name == name)
    }
}

impl Inference {
    /// A client on a connection.
    pub fn new(connection: Connection) -> Self {
        let stub = GrpcInferenceServiceClient::new(connection.stub()).max_decoding_message_size(usize::MAX);
        Self { connection, stub }
    }

    /// Whether the address answers predictions: that of a replica, or of a proxy before replicas. That of the control plane alone does not.
    pub async fn is_served(&self) -> Result<bool, Error> {
        let mut stub = self.stub.clone();
        let answer = stub.server_live(proto::ServerLiveRequest {});
        match self.connection.call_once("look for replicas", answer).await {
            Err(error) if error.code() == Code::Unimplemented => Ok(false),
            // A proxy without a healthy replica answers in their place.
            Err(error) if error.code() == Code::Unavailable && !error.is_unreachable() => Ok(true),
            answer => answer.map(|_| true),
        }
    }

    /// Whether the replica accepts requests.
    pub async fn server_ready(&self) -> Result<bool, Error> {
        let call = || async { self.stub.clone().server_ready(proto::ServerReadyRequest {}).await };
        Ok(self.connection.call("check the readiness of the replica", call).await?.ready)
    }

    /// Whether a model, or one version of it, answers.
    pub async fn model_ready(&self, model: &str, version: Option<u32>) -> Result<bool, Error> {
        let version = version.map(|version| version.to_string()).unwrap_or_default();
        let request = proto::ModelReadyRequest { name: model.to_owned(), version };
        let call = || async { self.stub.clone().model_ready(request.clone()).await };
        Ok(self.connection.call("check the readiness of the model", call).await?.ready)
    }

    /// What the server says of itself.
    pub async fn server_metadata(&self) -> Result<ServerMetadata, Error> {
        let call = || async { self.stub.clone().server_metadata(proto::ServerMetadataRequest {}).await };
        Ok(inference::server_from_wire(self.connection.call("read the metadata of the server", call).await?))
    }

    /// The tensors of a model.
    pub async fn model_metadata(&self, model: &str) -> Result<ModelMetadata, Error> {
        self.version_metadata(model, "").await
    }

    /// The tensors of a version of a model, as the server spells the version; empty is the one that the server chooses.
    pub async fn version_metadata(&self, model: &str, version: &str) -> Result<ModelMetadata, Error> {
        let request = proto::ModelMetadataRequest { name: model.to_owned(), version: version.to_owned() };
        let call = || async { self.stub.clone().model_metadata(request.clone()).await };
        Ok(inference::metadata_from_wire(self.connection.call("read the metadata of the model", call).await?))
    }

    /// Predicts. The call is made once: a repetition would be a second prediction in the log.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse, Error> {
        let operation = "predict";
        let request = inference::request_to_wire(request);
        let answer = self.connection.call_once(operation, self.stub.clone().model_infer(request)).await?;
        inference::response_from_wire(answer).map_err(Error::response(operation))
    }
}
