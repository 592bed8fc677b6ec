//! Why a call has no result, and whether to retry it.

use std::error::Error as _;

use rekindle_domain::validation::{Checks, Violations};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server refused the call, or was not reached.
    #[error("failed to {operation}")]
    Call {
        /// What was called, as a verb.
        operation: &'static str,
        /// The status.
        #[source]
        status: Box<Status>,
    },
    /// The response is not valid.
    #[error("failed to {operation}: invalid response: {violations}")]
    Response {
        /// What was called, as a verb.
        operation: &'static str,
        /// The fields that are not valid.
        violations: Violations,
    },
}

impl Error {
    pub(crate) fn call(operation: &'static str, status: Status) -> Self {
        Self::Call { operation, status: Box::new(status) }
    }

    pub(crate) fn response(operation: &'static str) -> impl FnOnce(Violations) -> Self {
        move |violations| Self::Response { operation, violations }
    }

    /// The status, if the server answered with one or was not reached.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Call { status, .. } => Some(status),
            Self::Response { .. } => None,
        }
    }

    /// The code; INTERNAL for a response that is not valid.
    pub fn code(&self) -> Code {
        self.status().map_or(Code::Internal, Status::code)
    }

    /// The reason for programs (`google.rpc.ErrorInfo`), e.g. `STALE_REVISION`; empty if there is none.
    pub fn reason(&self) -> String {
        let details = self.status().map(|status| status.get_error_details());
        details.and_then(|details| details.error_info().map(|info| info.reason.clone())).unwrap_or_default()
    }

    /// The fields that the server refused (`google.rpc.BadRequest`); `None` if it refused none.
    pub fn violations(&self) -> Option<Violations> {
        let details = self.status()?.get_error_details();
        let mut checks = Checks::new();
        for violation in &details.bad_request()?.field_violations {
            checks.violation(violation.field.clone(), violation.description.clone());
        }
        checks.finish().err()
    }

    /// A value of the metadata of the reason; empty if there is none.
    pub fn metadata(&self, key: &str) -> String {
        let details = self.status().map(|status| status.get_error_details());
        let value = details.and_then(|details| details.error_info().and_then(|info| info.metadata.get(key).cloned()));
        value.unwrap_or_default()
    }

    /// Whether nothing has that name or id.
    pub fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }

    /// Whether the server was not reached, or cannot serve now.
    pub fn is_unavailable(&self) -> bool {
        self.code() == Code::Unavailable
    }

    /// Whether no server was reached.
    pub fn is_unreachable(&self) -> bool {
        self.is_unavailable() && self.status().is_some_and(|status| status.source().is_some())
    }

    /// Whether the same call may succeed if repeated a little later.
    pub fn is_transient(&self) -> bool {
        self.status().is_some_and(is_transient)
    }
}

/// Whether the same call may succeed if repeated a little later.
pub(crate) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => true,
        // A connection that broke during the call, because the server died for example, is not an answer: tonic makes such a status on
        // this side and names its source. One that was received has none.
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_transient_and_an_answer_is_not() {
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert_eq!(broken.code(), Code::Unknown);
        assert!(is_transient(&broken) && is_transient(&Status::unavailable("")));
        assert!(!is_transient(&Status::unknown("")) && !is_transient(&Status::internal("")));
    }
}
