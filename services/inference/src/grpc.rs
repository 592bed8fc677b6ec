//! The Open Inference Protocol over gRPC: decodes a message into a request for the [`Engine`], and encodes its answer.
//!
//! Wire messages are named here and in the modules below only. Another protocol stands beside this one, on the same engine.

pub(crate) mod decode;
mod encode;
mod repository;
mod status;
mod stream;

use std::{mem, sync::Arc};

use chrono::Utc;
use rekindle_client::NAMESPACE;
use rekindle_domain::{Namespace, PredictionId, name::InvalidName};
use rekindle_proto::{
    error::invalid_argument,
    inference::{
        CudaSharedMemoryRegisterRequest, CudaSharedMemoryRegisterResponse, CudaSharedMemoryStatusRequest,
        CudaSharedMemoryStatusResponse, CudaSharedMemoryUnregisterRequest, CudaSharedMemoryUnregisterResponse,
        LogSettingsRequest, LogSettingsResponse, ModelConfigRequest, ModelConfigResponse, ModelInferRequest,
        ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
        ModelStatisticsRequest, ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse,
        RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
        RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
        ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, SystemSharedMemoryRegisterRequest,
        SystemSharedMemoryRegisterResponse, SystemSharedMemoryStatusRequest, SystemSharedMemoryStatusResponse,
        SystemSharedMemoryUnregisterRequest, SystemSharedMemoryUnregisterResponse, TraceSettingRequest,
        TraceSettingResponse,
        grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    },
    replica::inference_server::{Inference, InferenceServer},
};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use self::{decode::Decoded, stream::Answers};
use crate::{
    config::Limits,
    infer::{Arrival, Engine, Target},
    readiness::Readiness,
};

/// The protocol's extensions that both protocols of this replica implement.
pub(crate) const EXTENSIONS: [&str; 5] =
    ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"];

/// The gRPC service of one replica.
pub(crate) fn service(
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
    limits: &Limits,
) -> GrpcInferenceServiceServer<Service> {
    // Answers have at most the rows of their requests, which are bounded.
    GrpcInferenceServiceServer::new(Service { engine, readiness })
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

/// Answers one prediction request.
async fn infer(
    engine: &Engine,
    namespace: &Namespace,
    mut message: ModelInferRequest,
    explain: bool,
) -> Result<ModelInferResponse, Status> {
    let arrival = Arrival { id: PredictionId::new(Uuid::now_v7()), at: Utc::now() };
    let (model, version) = (mem::take(&mut message.model_name), mem::take(&mut message.model_version));
    let model = qualified(namespace, model);
    let target = Target { model: &model, version: &version };
    engine
        .infer(target, arrival, &Decoded { model: &model, message: &message, explain })
        .await
        .map_err(status::from_error)
}

/// A request for something that servers of this protocol need not have.
fn unimplemented<T>(what: &str, instead: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{what} is not supported: {instead}")))
}

const SHARED_MEMORY: &str = "send tensors in the message";

/// The protocol's calls.
pub(crate) struct Service {
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
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
        let (namespace, message) = opened(request)?;
        infer(&self.engine, &namespace, message, false).await.map(Response::new)
    }

    type ModelStreamInferStream = Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (namespace, requests) = opened(request)?;
        Ok(Response::new(stream::answers(Arc::clone(&self.engine), namespace, requests)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let (namespace, ModelConfigRequest { name, version }) = opened(request)?;
        let name = qualified(&namespace, name);
        let loaded = self.engine.find(Target { model: &name, version: &version }).map_err(status::from_error)?;
        let config = repository::config(name, &loaded, self.engine.limits());
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let (namespace, ModelStatisticsRequest { name, version }) = opened(request)?;
        let name = if name.is_empty() { name } else { qualified(&namespace, name) };
        let versions = self.engine.versions(Target { model: &name, version: &version }).map_err(status::from_error)?;
        let model_stats = versions.iter().map(|version| repository::statistics(version)).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let (_, RepositoryIndexRequest { repository_name: _, ready }) = opened(request)?;
        Ok(Response::new(RepositoryIndexResponse { models: repository::index(&self.engine, ready) }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let (namespace, RepositoryModelLoadRequest { repository_name, model_name, parameters }) = opened(request)?;
        // In KServe's layout of this message the first field is the model.
        let name = if model_name.is_empty() { repository_name } else { model_name };
        let name = qualified(&namespace, name);
        let parameters = parameters.keys().map(String::as_str);
        self.engine.load(&name, parameters).map_err(status::from_error)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let (namespace, RepositoryModelUnloadRequest { repository_name, model_name, parameters: _ }) = opened(request)?;
        let name = if model_name.is_empty() { repository_name } else { model_name };
        Err(status::from_error(self.engine.unload(&qualified(&namespace, name))))
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<SystemSharedMemoryStatusResponse>, Status> {
        unimplemented("shared memory", SHARED_MEMORY)
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<SystemSharedMemoryRegisterResponse>, Status> {
        unimplemented("shared memory", SHARED_MEMORY)
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<SystemSharedMemoryUnregisterResponse>, Status> {
        unimplemented("shared memory", SHARED_MEMORY)
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<CudaSharedMemoryStatusResponse>, Status> {
        unimplemented("CUDA shared memory", SHARED_MEMORY)
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<CudaSharedMemoryRegisterResponse>, Status> {
        unimplemented("CUDA shared memory", SHARED_MEMORY)
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<CudaSharedMemoryUnregisterResponse>, Status> {
        unimplemented("CUDA shared memory", SHARED_MEMORY)
    }

    async fn trace_setting(&self, _: Request<TraceSettingRequest>) -> Result<Response<TraceSettingResponse>, Status> {
        unimplemented("setting traces", "set telemetry.otlp_endpoint in the settings of the process")
    }

    async fn log_settings(&self, _: Request<LogSettingsRequest>) -> Result<Response<LogSettingsResponse>, Status> {
        unimplemented("setting logs", "set telemetry.log in the settings of the process")
    }
}

/// The gRPC service for what the protocol does not have.
pub(crate) fn extension(engine: Arc<Engine>, limits: &Limits) -> InferenceServer<Extension> {
    InferenceServer::new(Extension { engine })
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(usize::MAX)
}

/// The calls beyond the protocol.
pub(crate) struct Extension {
    engine: Arc<Engine>,
}

#[tonic::async_trait]
impl Inference for Extension {
    async fn explain(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let (namespace, message) = opened(request)?;
        infer(&self.engine, &namespace, message, true).await.map(Response::new)
    }
}
