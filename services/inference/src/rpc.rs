//! The Open Inference Protocol's gRPC service over [`Engine`].

use std::{collections::BTreeMap, sync::Arc};

use chrono::Utc;
use rekindle_domain::PredictionId;
use rekindle_proto::{
    error::{invalid_argument, refusal},
    inference::{
        ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
        ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
        ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
        model_metadata_response::TensorMetadata,
    },
};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use crate::{
    assign::Assigner,
    infer::{Arrival, Engine, Refusal, serving_for},
    serving::Serving,
};

/// Extensions of the protocol that are served: response and request parameters, and nothing more.
const EXTENSIONS: [&str; 1] = ["parameters"];

/// The service.
pub(crate) struct Rpc {
    /// Answers.
    pub(crate) engine: Arc<Engine>,
    /// Knows what should be served.
    pub(crate) assigner: Arc<Assigner>,
}

#[tonic::async_trait]
impl GrpcInferenceService for Rpc {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.assigner.ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.serving(&name, &version).is_ok();
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
        let ModelMetadataRequest { name, version } = request.into_inner();
        let serving = self.serving(&name, &version)?;
        Ok(Response::new(metadata(name, &serving)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let arrival = Arrival { id: PredictionId::new(Uuid::now_v7()), at: Utc::now() };
        Ok(Response::new(self.engine.infer(request.into_inner(), arrival).await?))
    }
}

impl Rpc {
    fn serving(&self, model: &str, version: &str) -> Result<Arc<Serving>, Refusal> {
        serving_for(&*self.engine.find(model)?, version)
    }
}

fn metadata(name: String, serving: &Serving) -> ModelMetadataResponse {
    let signature = serving.model.signature();
    let tensor = |name: &str, datatype: rekindle_model::Datatype, shape: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.as_str().to_owned(),
        shape,
    };
    ModelMetadataResponse {
        name,
        versions: vec![serving.number.clone()],
        platform: "rekindle_burn".to_owned(),
        inputs: signature.inputs.iter().map(|input| tensor(&input.name, input.datatype, vec![-1, 1])).collect(),
        outputs: signature
            .outputs
            .iter()
            .map(|output| tensor(&output.name, output.datatype, output.shape.clone()))
            .collect(),
    }
}

impl From<Refusal> for Status {
    fn from(refused: Refusal) -> Self {
        let message = refused.to_string();
        let refuse = |code, reason, facts: BTreeMap<&'static str, String>| refusal(code, reason, message, facts);
        match refused {
            Refusal::BadInput(bad) => invalid_argument(bad.field, bad.problem),
            Refusal::UnknownModel { model, .. } => {
                refuse(Code::NotFound, "MODEL_NOT_SERVED", [("model", model)].into())
            }
            Refusal::VersionNotServed { model, asked, serving } => refuse(
                Code::NotFound,
                "VERSION_NOT_SERVED",
                [("model", model.to_string()), ("asked", asked), ("serving", serving.to_string())].into(),
            ),
            Refusal::NotLoaded { model } => {
                refuse(Code::Unavailable, "MODEL_LOADING", [("model", model.to_string())].into())
            }
            Refusal::Overloaded { limit } => refuse(
                Code::ResourceExhausted,
                "TOO_MANY_REQUESTS",
                [("max_concurrent_requests", limit.to_string())].into(),
            ),
            Refusal::Failed { model, version, .. } => refuse(
                Code::Internal,
                "PREDICTION_FAILED",
                [("model", model.to_string()), ("version", version.to_string())].into(),
            ),
        }
    }
}
