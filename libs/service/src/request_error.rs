//! Errors of requests: what the caller can mend. One mapping to gRPC status and reason.

use rekindle_domain::validation::Violations;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The domain of every reason.
pub(crate) const DOMAIN: &str = "rekindle.dev";

/// Why a request is refused. Messages name the field or the resource, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Fields are not valid: INVALID_ARGUMENT, with every violation.
    #[error(transparent)]
    Invalid(#[from] Violations),
    /// A resource does not exist: NOT_FOUND.
    #[error("{resource} {name} does not exist")]
    NotFound {
        /// The kind of resource, e.g. `model version`.
        resource: &'static str,
        /// Its name or id.
        name: String,
    },
    /// An idempotency key belongs to a different request: ALREADY_EXISTS.
    #[error(
        "idempotency_key {key:?} was used for a different {method} request: use a new idempotency key for a different request"
    )]
    KeyReused {
        /// The method.
        method: &'static str,
        /// The key.
        key: String,
    },
    /// A resource exists already, created by a different request: ALREADY_EXISTS.
    #[error("{message}")]
    AlreadyExists {
        /// Constant for programs, in UPPER_SNAKE_CASE.
        reason: &'static str,
        /// For people, with the remedy.
        message: String,
        /// What the message names, for programs.
        metadata: Vec<(&'static str, String)>,
    },
    /// The expected revision is not the current one: ABORTED.
    #[error(
        "{resource} has revision {actual}, the request expects {expected}: re-read the resource and retry with its current revision"
    )]
    StaleRevision {
        /// The resource.
        resource: String,
        /// The revision in the request; 0 is none.
        expected: u64,
        /// The current revision; 0 is none.
        actual: u64,
    },
    /// The state of the resource does not allow it: FAILED_PRECONDITION.
    #[error("{message}")]
    FailedPrecondition {
        /// Constant for programs, in UPPER_SNAKE_CASE.
        reason: &'static str,
        /// For people, with the remedy.
        message: String,
        /// What the message names, for programs.
        metadata: Vec<(&'static str, String)>,
    },
    /// A configured limit is reached: RESOURCE_EXHAUSTED.
    #[error("{message}")]
    Exhausted {
        /// Constant for programs, in UPPER_SNAKE_CASE.
        reason: &'static str,
        /// For people; names the limit.
        message: String,
        /// What the message names, for programs.
        metadata: Vec<(&'static str, String)>,
    },
}

impl RequestError {
    /// One field that is not valid.
    pub fn invalid(field: impl Into<String>, description: impl ToString) -> Self {
        Self::Invalid(Violations::of(field, description))
    }

    /// A resource that does not exist.
    pub fn not_found(resource: &'static str, name: impl ToString) -> Self {
        Self::NotFound { resource, name: name.to_string() }
    }

    /// A state that does not allow the request.
    pub fn failed_precondition(
        reason: &'static str,
        message: impl Into<String>,
        metadata: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        Self::FailedPrecondition { reason, message: message.into(), metadata: metadata.into_iter().collect() }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        let (code, details) = match error {
            RequestError::Invalid(violations) => (Code::InvalidArgument, bad_request(violations)),
            RequestError::NotFound { resource, name } => {
                (Code::NotFound, info("NOT_FOUND", [("resource", resource.to_owned()), ("name", name)]))
            }
            RequestError::KeyReused { method, key } => {
                let metadata = [("method", method.to_owned()), ("idempotency_key", key)];
                (Code::AlreadyExists, info("IDEMPOTENCY_KEY_REUSED", metadata))
            }
            RequestError::AlreadyExists { reason, metadata, .. } => (Code::AlreadyExists, info(reason, metadata)),
            RequestError::StaleRevision { resource, expected, actual } => {
                let metadata =
                    [("resource", resource), ("expected", expected.to_string()), ("actual", actual.to_string())];
                (Code::Aborted, info("STALE_REVISION", metadata))
            }
            RequestError::FailedPrecondition { reason, metadata, .. } => {
                (Code::FailedPrecondition, info(reason, metadata))
            }
            RequestError::Exhausted { reason, metadata, .. } => (Code::ResourceExhausted, info(reason, metadata)),
        };
        Status::with_error_details(code, message, details)
    }
}

/// A status with a reason for programs, for the few codes that [`RequestError`] does not have.
pub fn status(
    code: Code,
    reason: &'static str,
    message: impl Into<String>,
    metadata: impl IntoIterator<Item = (&'static str, String)>,
) -> Status {
    Status::with_error_details(code, message.into(), info(reason, metadata))
}

fn bad_request(violations: Violations) -> ErrorDetails {
    let violation = |violation: rekindle_domain::validation::FieldViolation| {
        FieldViolation::new(violation.field, violation.description)
    };
    ErrorDetails::with_bad_request(violations.into_iter().map(violation).collect::<Vec<_>>())
}

/// A reason for programs with what it names.
pub(crate) fn info(reason: &'static str, metadata: impl IntoIterator<Item = (&'static str, String)>) -> ErrorDetails {
    let metadata: std::collections::HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

#[cfg(test)]
mod tests {
    use rekindle_domain::validation::Checks;

    use super::*;

    #[test]
    fn every_violation_reaches_the_caller_in_words_and_in_details() {
        let mut checks = Checks::new();
        checks.violation("name", "is empty");
        checks.violation("gate.confidence", "is 0.5: expected above 0.5 and below 1");
        let violations = checks.finish().expect_err("two");
        let status = Status::from(RequestError::Invalid(violations));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "name: is empty; gate.confidence: is 0.5: expected above 0.5 and below 1");
        let fields: Vec<_> = status.get_details_bad_request().expect("details").field_violations;
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[1].field, "gate.confidence");
    }

    #[test]
    fn each_error_has_its_code_and_reason() {
        let stale = RequestError::StaleRevision { resource: "alias champion".into(), expected: 1, actual: 2 };
        let reused = RequestError::KeyReused { method: "CreateRun", key: "k".into() };
        let refused = RequestError::failed_precondition("NOT_DEPLOYED", "deploy it first", [("model", "m".to_owned())]);
        for (error, code, reason) in [
            (stale, Code::Aborted, "STALE_REVISION"),
            (reused, Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"),
            (refused, Code::FailedPrecondition, "NOT_DEPLOYED"),
            (RequestError::not_found("model", "m"), Code::NotFound, "NOT_FOUND"),
        ] {
            let status = Status::from(error);
            let info = status.get_details_error_info().expect("details");
            assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, reason, DOMAIN));
        }
    }
}
