//! Errors of a request as gRPC status. `UNAVAILABLE` only where a retry of the same request is safe and useful: clients retry it by
//! default, so that using it for overload would multiply the load.

use std::collections::BTreeMap;

use rekindle_proto::error::{invalid_argument, refusal};
use tonic::{Code, Status};

use crate::error::RequestError;

/// The status of a request that has no answer.
pub(super) fn from_error(error: RequestError) -> Status {
    let (message, reason) = (error.to_string(), error.reason());
    let status = |code, facts: BTreeMap<&'static str, String>| refusal(code, reason, message, facts);
    match error {
        RequestError::InvalidInput(invalid) => invalid_argument(invalid.field, invalid.problem),
        RequestError::ModelNotServed { model, .. } => status(Code::NotFound, [("model", model)].into()),
        RequestError::VersionNotServed { model, requested, served } => {
            status(Code::NotFound, [("model", model.to_string()), ("requested", requested), ("served", served)].into())
        }
        RequestError::ModelLoading { model } => status(Code::Unavailable, [("model", model.to_string())].into()),
        RequestError::TooManyRequests { limit } => {
            status(Code::ResourceExhausted, [("max_concurrent_requests", limit.to_string())].into())
        }
        RequestError::NotLoadable { model, .. } => status(Code::FailedPrecondition, [("model", model)].into()),
        RequestError::QueueFull { model, limit } => status(
            Code::ResourceExhausted,
            [("model", model.to_string()), ("max_queued_rows", limit.to_string())].into(),
        ),
        RequestError::OutputRefused { model, version, refused } => status(
            Code::FailedPrecondition,
            [("model", model.to_string()), ("version", version.to_string()), ("output", refused.output)].into(),
        ),
        RequestError::PredictionFailed { prediction, model, version, .. } => status(
            Code::Internal,
            [("prediction_id", prediction.to_string()), ("model", model.to_string()), ("version", version.to_string())]
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_is_not_unavailable() {
        let overloaded = from_error(RequestError::TooManyRequests { limit: 2 });
        assert_eq!(overloaded.code(), Code::ResourceExhausted);
        assert!(overloaded.message().contains("max_concurrent_requests"), "{overloaded}");
        let loading = from_error(RequestError::ModelLoading { model: "flight-delay".parse().expect("a name") });
        assert_eq!(loading.code(), Code::Unavailable);
    }
}
