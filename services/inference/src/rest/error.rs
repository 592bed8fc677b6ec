//! Errors as HTTP status and JSON body. 503 only where a retry of the same request is safe and useful.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::response::json;
use crate::{error::RequestError, tensor::InvalidInput};

/// Longest message, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Seconds after which a request that was refused for now may be sent again.
const RETRY_AFTER: &str = "1";

/// The response to a request that has no answer.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

/// A refusal.
pub(super) fn refused(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal { status, message: message.into() }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let status = match error {
            RequestError::InvalidInput(_) | RequestError::NotLoadable { .. } => StatusCode::BAD_REQUEST,
            RequestError::ModelNotServed { .. } | RequestError::VersionNotServed { .. } => StatusCode::NOT_FOUND,
            RequestError::ModelLoading { .. } => StatusCode::SERVICE_UNAVAILABLE,
            RequestError::TooManyRequests { .. } | RequestError::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
            RequestError::OutputRefused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            RequestError::PredictionFailed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        refused(status, error.to_string())
    }
}

impl From<InvalidInput> for Refusal {
    fn from(invalid: InvalidInput) -> Self {
        refused(StatusCode::BAD_REQUEST, invalid.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut message = self.message;
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE - 3));
            message.push_str("...");
        }
        let mut response = json(self.status, &json!({ "error": message }));
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

/// Gives the errors of the router and its layers a JSON body, e.g. 405 for a wrong method and 415 for an unknown encoding.
pub(super) async fn with_json_body(response: Response<Body>) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let json = HeaderValue::from_static("application/json");
    if !is_error || response.headers().get(header::CONTENT_TYPE) == Some(&json) {
        return response;
    }
    let reason = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            "the route has another method: POST for infer and the repository, GET for all others"
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported content-encoding: send gzip, deflate or no encoding",
        other => other.canonical_reason().unwrap_or("the request failed"),
    };
    let allowed = response.headers().get(header::ALLOW).cloned();
    let mut replaced = refused(status, reason).into_response();
    replaced.headers_mut().extend(allowed.map(|allowed| (header::ALLOW, allowed)));
    replaced
}
