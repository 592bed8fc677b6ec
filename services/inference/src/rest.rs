//! The Open Inference Protocol over REST: decodes a body into a request for the [`Engine`], and encodes its answer.
//!
//! JSON and the binary tensor extension, compressed or not. Every error has a JSON body, `{"error": "..."}`.

mod body;
mod data;
mod error;
mod repository;
pub(crate) mod request;
mod response;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::Response,
    routing::{any, get, post},
};
use chrono::Utc;
use rekindle_bundle::{Datatype, Input, Output};
use rekindle_client::NAMESPACE;
use rekindle_domain::{ColumnKind, Namespace, PredictionId, name::InvalidName};
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
    exposition,
    grpc::EXTENSIONS,
    infer::{Arrival, Engine, Target},
    readiness::Readiness,
    serving::{LoadedVersion, Seen},
};

/// The routes of one replica, whose requests are received within `bodies`.
pub(crate) fn router(
    engine: Arc<Engine>,
    readiness: Arc<Readiness>,
    limits: &Limits,
    bodies: rekindle_runtime::http::Limits,
) -> Router {
    let bodies = Bodies::new(limits.max_message_bytes, bodies);
    let service = Arc::new(Service { engine, readiness, bodies });
    let model = |router: Router<Arc<Service>>, path: &str| {
        router
            .route(path, get(model_metadata))
            .route(&format!("{path}/ready"), get(model_ready))
            .route(&format!("{path}/config"), get(model_config))
            .route(&format!("{path}/stats"), get(model_statistics))
            .route(&format!("{path}/infer"), post(model_infer))
            .route(&format!("{path}/explain"), post(model_explain))
    };
    let routes = Router::new()
        .route("/v2", get(server_metadata))
        .route("/v2/health/live", get(server_live))
        .route("/v2/health/ready", get(server_ready))
        .route("/v2/models", get(models))
        .route("/v2/models/stats", get(statistics))
        .route("/v2/repository/index", post(repository_index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route("/v2/systemsharedmemory/{*rest}", any(shared_memory))
        .route("/v2/cudasharedmemory/{*rest}", any(shared_memory))
        .route("/metrics", get(metrics));
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

/// The metadata of a version. The parameters of a tensor say what its elements mean, which the messages of gRPC have no place for.
fn metadata(name: &str, version: &LoadedVersion) -> Value {
    let tensor = |name: &str, datatype: Datatype, shape: &[i64], parameters: Value| json!({ "name": name, "datatype": datatype.as_str(), "shape": shape, "parameters": parameters });
    let signature = version.model.signature();
    let input = |(input, seen): (&Input, &Seen)| {
        let mut parameters = json!({ "kind": input.kind.name(), "nullable": input.nullable });
        if let Some((min, max)) = seen.range {
            (parameters["min"], parameters["max"]) = (min.into(), max.into());
        }
        if let Some(example) = &seen.example {
            parameters["example"] = example.clone();
        }
        if input.kind == ColumnKind::Timestamp {
            parameters["unit"] = "milliseconds since 1970 UTC".into();
        }
        tensor(&input.name, input.datatype, &[-1, 1], parameters)
    };
    let classes = version.model.manifest().classes.as_ref();
    let parameters = classes.map_or_else(|| json!({}), |classes| json!({ "classes": classes }));
    let output = |output: &Output| tensor(&output.name, output.datatype, &output.shape, parameters.clone());
    json!({
        "name": name,
        "versions": [version.number],
        "platform": version.platform(),
        "inputs": signature.inputs.iter().zip(&version.reference.inputs).map(input).collect::<Vec<_>>(),
        "outputs": signature.outputs.iter().map(output).collect::<Vec<_>>(),
    })
}

async fn model_infer(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    answer(&service, named, &headers, request, false).await
}

async fn model_explain(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    answer(&service, named, &headers, request, true).await
}

/// Answers a prediction request.
async fn answer(
    service: &Service,
    named: Named,
    headers: &HeaderMap,
    request: Request,
    explain: bool,
) -> Result<Response<Body>, Refusal> {
    let arrival = Arrival { id: PredictionId::new(Uuid::now_v7()), at: Utc::now() };
    let named = named.within(headers)?;
    let body = service.bodies.receive(request).await?;
    match request::parse(&named.model, explain, headers, &body.bytes) {
        Ok(message) => Ok(service.engine.infer(named.target(), arrival, &message).await?),
        Err(invalid) => Err(service.engine.refuse(named.target(), arrival, invalid).into()),
    }
}

async fn model_config(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let named = named.within(&headers)?;
    let loaded = service.engine.find(named.target())?;
    Ok(json(StatusCode::OK, &repository::config(&named.model, &loaded, service.engine.limits())))
}

async fn model_statistics(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let versions = service.engine.versions(named.within(&headers)?.target())?;
    Ok(json(StatusCode::OK, &repository::statistics(versions.iter().map(AsRef::as_ref))))
}

async fn statistics(State(service): State<Arc<Service>>) -> Result<Response<Body>, Refusal> {
    let versions = service.engine.versions(Target { model: "", version: "" })?;
    Ok(json(StatusCode::OK, &repository::statistics(versions.iter().map(AsRef::as_ref))))
}

/// The body of a request for the index.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

/// The JSON in the body of a request; the default for an empty body.
async fn optional_json<T: Default + serde::de::DeserializeOwned>(
    service: &Service,
    request: Request,
) -> Result<T, Refusal> {
    let body = service.bodies.receive(request).await?;
    if body.bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body.bytes)
        .map_err(|error| refused(StatusCode::BAD_REQUEST, format!("the JSON is no request: {error}")))
}

async fn repository_index(State(service): State<Arc<Service>>, request: Request) -> Result<Response<Body>, Refusal> {
    let IndexRequest { ready } = optional_json(&service, request).await?;
    Ok(json(StatusCode::OK, &repository::index(&service.engine.slots(), ready)))
}

/// The body of a request to load a model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadRequest {
    parameters: BTreeMap<String, Value>,
}

async fn load(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let model = named.within(&headers)?.model;
    let LoadRequest { parameters } = optional_json(&service, request).await?;
    service.engine.load(&model, parameters.keys().map(String::as_str))?;
    Ok(json(StatusCode::OK, &json!({ "name": model, "load": true })))
}

async fn unload(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    Err(service.engine.unload(&named.within(&headers)?.model).into())
}

async fn shared_memory() -> Refusal {
    refused(StatusCode::NOT_IMPLEMENTED, "shared memory is not supported: send tensors in the body")
}

async fn metrics(State(service): State<Arc<Service>>) -> Response<Body> {
    let mut response = Response::new(Body::from(exposition::render(&service.engine.slots())));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

async fn unknown_route(request: Request) -> Refusal {
    refused(StatusCode::NOT_FOUND, format!("no route {}: see /v2 and /v2/models", request.uri().path()))
}
