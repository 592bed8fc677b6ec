//! The Open Inference Protocol over gRPC: decodes a message into a request for the [`Engine`], and encodes its answer.
//!
//! Wire messages are named here and in the modules below only. Another protocol stands beside this one, on the same engine.

mod decode;
mod encode;
mod status;

use std::{mem, sync::Arc};

use chrono::Utc;
use rekindle_client::NAMESPACE;
use rekindle_domain::{Namespace, PredictionId, name::InvalidName};
use rekindle_proto::{
    error::invalid_argument,
    inference::{
        ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
        ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
        ServerReadyRequest, ServerReadyResponse,
        grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    },
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    config::Limits,
    infer::{Arrival, Engine, Target},
    readiness::Readiness,
};

/// The protocol's extensions that this replica implements.
const EXTENSIONS: [&str; 1] = ["parameters"];

/// The gRPC service of one replica.
pub(crate) fn service(
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
    limits: &Limits,
) -> GrpcInferenceServiceServer<Service> {
    let service = Service { engine, readiness, max_rows: limits.max_rows_per_request };
    // Answers have at most the rows of their requests, which are bounded.
    GrpcInferenceServiceServer::new(service)
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(usize::MAX)
}

/// A request's namespace and message.
fn opened<M>(request: Request<M>) -> Result<(Namespace, M), Status> {
    let namespace = match request.metadata().get(NAMESPACE) {
        None => Namespace::default(),
        Some(text) => {
            let parsed = text.to_str().map_err(|error| error.to_string());
            let parsed = parsed.and_then(|text| text.parse().map_err(|error: InvalidName| error.to_string()));
            parsed.map_err(|problem| invalid_argument(NAMESPACE, problem))?
        }
    };
    Ok((namespace, request.into_inner()))
}

/// The qualified name of a model. Clients of the protocol that send no metadata write `<namespace>.<name>` themselves.
fn qualified(namespace: &Namespace, name: String) -> String {
    if namespace.is_default() || name.contains('.') { name } else { namespace.qualify(&name) }
}

/// The protocol's calls.
pub(crate) struct Service {
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
    max_rows: usize,
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.readiness.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let (namespace, ModelReadyRequest { name, version }) = opened(request)?;
        let name = qualified(&namespace, name);
        let ready = self.engine.find(Target { model: &name, version: &version }).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "rekindle".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let (namespace, ModelMetadataRequest { name, version }) = opened(request)?;
        let name = qualified(&namespace, name);
        let loaded = self.engine.find(Target { model: &name, version: &version }).map_err(status::from_error)?;
        Ok(Response::new(encode::metadata(name, &loaded)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let arrival = Arrival { id: PredictionId::new(Uuid::now_v7()), at: Utc::now() };
        let (namespace, mut message) = opened(request)?;
        let (model, version) = (mem::take(&mut message.model_name), mem::take(&mut message.model_version));
        let model = qualified(&namespace, model);
        let target = Target { model: &model, version: &version };
        let answer = self
            .engine
            .infer(target, arrival, |version| decode::request(message, version, self.max_rows))
            .await
            .map_err(status::from_error)?;
        Ok(Response::new(encode::answer(model, answer)))
    }
}
