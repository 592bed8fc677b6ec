//! The Open Inference Protocol over REST: decodes a body into a request for the [`Engine`], and encodes its answer.
//!
//! JSON and the binary tensor extension, compressed or not. Every error has a JSON body, `{"error": "..."}`.

mod body;
mod data;
mod error;
mod request;
mod response;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    middleware,
    response::Response,
    routing::{get, post},
};
use chrono::Utc;
use rekindle_bundle::Datatype;
use rekindle_client::NAMESPACE;
use rekindle_domain::{Namespace, PredictionId, name::InvalidName};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_http::{compression::CompressionLayer, decompression::RequestDecompressionLayer};
use uuid::Uuid;

use self::{
    body::Bodies,
    error::{Refusal, refused},
    response::json,
};
use crate::{
    config::Limits,
    infer::{Arrival, Engine, PLATFORM, Target},
    readiness::Readiness,
    serving::LoadedVersion,
};

/// The protocol's extensions that the REST interface implements.
const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "parameters"];

/// The routes of one replica, whose requests are received within `bodies`.
pub(crate) fn router(
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
    limits: &Limits,
    bodies: rekindle_runtime::http::Limits,
) -> Router {
    let bodies = Bodies::new(limits.max_message_bytes, bodies);
    let service = Arc::new(Service { engine, readiness, max_rows: limits.max_rows_per_request, bodies });
    let model = |router: Router<Arc<Service>>, path: &str| {
        router
            .route(path, get(model_metadata))
            .route(&format!("{path}/ready"), get(model_ready))
            .route(&format!("{path}/infer"), post(model_infer))
    };
    let routes = Router::new()
        .route("/v2", get(server_metadata))
        .route("/v2/health/live", get(server_live))
        .route("/v2/health/ready", get(server_ready))
        .route("/v2/models", get(models));
    let routes = model(routes, "/v2/models/{model}");
    model(routes, "/v2/models/{model}/versions/{version}")
        .fallback(unknown_route)
        .with_state(service)
        .layer(RequestDecompressionLayer::new())
        .layer(CompressionLayer::new())
        .layer(middleware::map_response(error::with_json_body))
}

/// What every handler works with.
struct Service {
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
    max_rows: usize,
    bodies: Bodies,
}

/// The model and the version in a path.
#[derive(Debug, Deserialize)]
struct Named {
    model: String,
    #[serde(default)]
    version: String,
}

impl Named {
    /// The same, qualified by the namespace of the request.
    fn within(self, headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(header) = headers.get(NAMESPACE) else { return Ok(self) };
        let namespace = header.to_str().map_err(|error| error.to_string());
        let namespace = namespace.and_then(|text| text.parse().map_err(|error: InvalidName| error.to_string()));
        let namespace: Namespace =
            namespace.map_err(|problem| refused(StatusCode::BAD_REQUEST, format!("{NAMESPACE}: {problem}")))?;
        if namespace.is_default() || self.model.contains('.') {
            return Ok(self);
        }
        Ok(Self { model: namespace.qualify(&self.model), ..self })
    }

    fn target(&self) -> Target<'_> {
        Target { model: &self.model, version: &self.version }
    }
}

async fn server_metadata() -> Response<Body> {
    json(StatusCode::OK, &json!({ "name": "rekindle", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

async fn server_live() -> Response<Body> {
    json(StatusCode::OK, &json!({ "live": true }))
}

async fn server_ready(State(service): State<Arc<Service>>) -> Response<Body> {
    ready(json!({}), service.readiness.is_ready())
}

async fn models(State(service): State<Arc<Service>>) -> Response<Body> {
    json(StatusCode::OK, &json!({ "models": service.engine.models() }))
}

async fn model_ready(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let named = named.within(&headers)?;
    let is_ready = service.engine.find(named.target()).is_ok();
    Ok(ready(json!({ "name": named.model }), is_ready))
}

/// 200 with `"ready": true`, or 503 with `"ready": false`.
fn ready(mut body: Value, is_ready: bool) -> Response<Body> {
    body["ready"] = is_ready.into();
    json(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

async fn model_metadata(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let named = named.within(&headers)?;
    let loaded = service.engine.find(named.target())?;
    Ok(json(StatusCode::OK, &metadata(&named.model, &loaded)))
}

fn metadata(name: &str, version: &LoadedVersion) -> Value {
    let tensor = |name: &str, datatype: Datatype, shape: &[i64]| json!({ "name": name, "datatype": datatype.as_str(), "shape": shape });
    let signature = version.model.signature();
    let inputs: Vec<_> = signature.inputs.iter().map(|input| tensor(&input.name, input.datatype, &[-1, 1])).collect();
    let outputs: Vec<_> =
        signature.outputs.iter().map(|output| tensor(&output.name, output.datatype, &output.shape)).collect();
    json!({
        "name": name,
        "versions": [version.number],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    })
}

async fn model_infer(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let arrival = Arrival { id: PredictionId::new(Uuid::now_v7()), at: Utc::now() };
    let named = named.within(&headers)?;
    let body = service.bodies.receive(request).await?;
    let message = request::parse(&headers, &body.bytes)?;
    let answer =
        service.engine.infer(named.target(), arrival, |version| message.decode(version, service.max_rows)).await?;
    Ok(response::encode(&named.model, &answer, &message))
}

async fn unknown_route(request: Request) -> Refusal {
    refused(StatusCode::NOT_FOUND, format!("no route {}: see /v2 and /v2/models", request.uri().path()))
}
