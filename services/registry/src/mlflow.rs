//! The tracking and the model registry API of MLflow, so that its clients log here: `mlflow.set_tracking_uri("http://host:7001")`.
//!
//! Paths, fields, error codes and the form of errors are those of MLflow's REST API 2.0. An experiment of MLflow is one of the registry by its
//! number, and an MLflow run is a run of the registry without a lease. Numbers of 64 bits are JSON numbers, as MLflow's server writes them.

mod artifacts;
mod experiments;
mod fields;
mod logged_models;
mod models;
mod runs;
mod search;
mod versions;

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{any, delete, get, patch, post, put},
};
use chrono::{SubsecRound as _, Utc};
use rekindle_domain::{Namespace, Principal, event::EventContext};
use rekindle_service::Call;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use uuid::Uuid;

pub(crate) use self::runs::{RUN_NAME, USER};
use crate::{App, Error};

/// Bytes of a request, other than of an artifact: MLflow's clients send at most 1 MB.
const MAX_BODY: usize = 4 << 20;
/// Requests that are handled at the same time. Others wait.
const AT_ONCE: usize = 64;
/// Time without a byte of a body after which its request ends.
const STALLED: Duration = Duration::from_secs(30);

/// The routes of the API.
pub(crate) fn router(app: App) -> Router {
    let api = Router::new()
        .route("/experiments/create", post(experiments::create))
        .route("/experiments/get", get(experiments::get))
        .route("/experiments/get-by-name", get(experiments::get_by_name))
        .route("/experiments/search", post(experiments::search).get(experiments::search_by_query))
        .route("/experiments/update", post(experiments::update))
        .route("/experiments/delete", post(experiments::delete))
        .route("/experiments/restore", post(experiments::restore))
        .route("/experiments/set-experiment-tag", post(experiments::set_tag))
        .route("/experiments/delete-experiment-tag", post(experiments::delete_tag))
        .route("/runs/create", post(runs::create))
        .route("/runs/get", get(runs::get))
        .route("/runs/update", post(runs::update))
        .route("/runs/delete", post(runs::delete))
        .route("/runs/restore", post(runs::restore))
        .route("/runs/log-metric", post(runs::log_metric))
        .route("/runs/log-parameter", post(runs::log_param))
        .route("/runs/log-batch", post(runs::log_batch))
        .route("/runs/set-tag", post(runs::set_tag))
        .route("/runs/delete-tag", post(runs::delete_tag))
        .route("/runs/search", post(runs::search))
        .route("/metrics/get-history", get(runs::history))
        .route("/metrics/get-history-bulk-interval", get(runs::history_bulk_interval))
        .route("/artifacts/list", get(artifacts::list_of_run))
        .route("/runs/log-inputs", post(runs::log_inputs))
        .route("/runs/outputs", post(runs::log_outputs))
        .route("/runs/log-model", post(runs::log_model))
        .route("/logged-models", post(logged_models::create))
        .route("/logged-models/search", post(logged_models::search))
        .route(
            "/logged-models/{id}",
            get(logged_models::get).patch(logged_models::finalize).delete(logged_models::delete),
        )
        .route("/logged-models/{id}/tags", patch(logged_models::set_tags))
        .route("/logged-models/{id}/tags/{key}", delete(logged_models::delete_tag))
        .route("/logged-models/{id}/params", post(logged_models::log_params))
        .route("/logged-models/{id}/artifacts/directories", get(artifacts::list_of_model))
        .route("/registered-models/create", post(models::create))
        .route("/registered-models/get", get(models::get))
        .route("/registered-models/rename", post(models::rename))
        .route("/registered-models/update", patch(models::update))
        .route("/registered-models/delete", delete(models::delete))
        .route("/registered-models/search", get(models::search))
        .route("/registered-models/get-latest-versions", post(models::latest_versions))
        .route("/registered-models/set-tag", post(models::set_tag))
        .route("/registered-models/delete-tag", delete(models::delete_tag))
        .route(
            "/registered-models/alias",
            get(models::get_by_alias).post(models::set_alias).delete(models::delete_alias),
        )
        .route("/model-versions/create", post(versions::create))
        .route("/model-versions/get", get(versions::get))
        .route("/model-versions/update", patch(versions::update))
        .route("/model-versions/delete", delete(versions::delete))
        .route("/model-versions/search", get(versions::search))
        .route("/model-versions/get-download-uri", get(versions::download_uri))
        .route("/model-versions/transition-stage", post(versions::transition))
        .route("/model-versions/set-tag", post(versions::set_tag))
        .route("/model-versions/delete-tag", delete(versions::delete_tag))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let files = Router::new()
        .route("/artifacts", get(artifacts::list))
        .route("/artifacts/{*path}", put(artifacts::upload).get(artifacts::download).delete(artifacts::delete))
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .nest("/api/2.0/mlflow", api)
        .nest("/api/2.0/mlflow-artifacts", files)
        .route("/api/{*path}", any(unsupported))
        .route("/health", get(|| async { "OK" }))
        .layer(RequestBodyTimeoutLayer::new(STALLED))
        .layer(GlobalConcurrencyLimitLayer::new(AT_ONCE))
        .with_state(app)
}

async fn unsupported(request: Request) -> Refused {
    Refused {
        status: StatusCode::NOT_FOUND,
        code: "ENDPOINT_NOT_FOUND",
        message: format!(
            "{} {} is not supported: this server has MLflow's API of experiments, runs, metrics, artifacts, logged models, registered models and model versions",
            request.method(),
            request.uri().path()
        ),
    }
}

/// An error in MLflow's form.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "INVALID_PARAMETER_VALUE", message: message.into() }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "RESOURCE_DOES_NOT_EXIST", message: message.into() }
    }

    fn invalid_state(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "INVALID_STATE", message: message.into() }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = Status::from(error);
        let (http, code) = match status.code() {
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
                (StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE")
            }
            Code::NotFound => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
            Code::AlreadyExists => (StatusCode::BAD_REQUEST, "RESOURCE_ALREADY_EXISTS"),
            Code::Aborted | Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE"),
            Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "REQUEST_LIMIT_EXCEEDED"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        };
        Self { status: http, code, message: status.message().to_owned() }
    }
}

impl From<sea_orm::DbErr> for Refused {
    fn from(error: sea_orm::DbErr) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error_code": self.code, "message": self.message }))).into_response()
    }
}

type Answer = Result<Json<Value>, Refused>;

/// A request's JSON. Clients need not state its content type.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| Refused {
            status: rejection.status(),
            ..Refused::invalid(format!("the body cannot be received: {rejection}"))
        })?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Refused::invalid(format!("the body: {error}")))
    }
}

/// The parameters of a request without a body.
struct Parameters<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(given)| Self(given)).map_err(|rejection| Refused::invalid(rejection.body_text()))
    }
}

/// Whether a qualified name is in the namespace of this API: titles are unique in all of them.
fn is_here(name: &str) -> bool {
    !name.contains('.')
}

/// The context of a call. MLflow's clients name no namespace and no principal.
fn call() -> Call {
    Call {
        principal: Principal::anonymous(),
        namespace: Namespace::default(),
        context: EventContext::default(),
        now: Utc::now().trunc_subsecs(6),
        id: Uuid::now_v7(),
    }
}
