//! Faults: errors that the caller cannot mend. Their cause is logged, once, under an id that the status carries too.

use std::error::Error;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use crate::{chain, request_error::info};

/// An error of a service that may be a fault.
pub trait Fault: Error + 'static {
    /// Whether the same call may succeed if repeated a little later.
    fn is_transient(&self) -> bool;
}

/// The status of a fault: UNAVAILABLE if a retry can help, else INTERNAL.
pub fn fault(service: &'static str, error: &impl Fault) -> Status {
    if error.is_transient() { unavailable(service, error) } else { internal(service, error) }
}

/// The status of a failure that no retry can mend.
pub fn internal(service: &'static str, error: &(impl Error + 'static)) -> Status {
    let id = Uuid::now_v7();
    tracing::error!(service, %id, error = chain(error), "call failed");
    let message = format!("internal error {id}: search the log of the {service} for this id");
    let mut details = info("INTERNAL", [("service", service.to_owned()), ("id", id.to_string())]);
    details.set_request_info(id.to_string(), "");
    Status::with_error_details(Code::Internal, message, details)
}

/// The status of a failure that passes by itself.
pub fn unavailable(service: &'static str, error: &(impl Error + 'static)) -> Status {
    tracing::warn!(service, error = chain(error), "call failed for now");
    let message = format!("the {service} cannot serve this call now ({error}): retry with back-off");
    let details: ErrorDetails = info("UNAVAILABLE", [("service", service.to_owned())]);
    Status::with_error_details(Code::Unavailable, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the database at db.internal failed")]
    struct Failure {
        transient: bool,
    }

    impl Fault for Failure {
        fn is_transient(&self) -> bool {
            self.transient
        }
    }

    #[test]
    fn an_internal_error_has_an_id_and_keeps_its_cause_to_the_log() {
        let status = fault("registry", &Failure { transient: false });
        assert_eq!(status.code(), Code::Internal);
        let id = status.get_details_request_info().expect("an id").request_id;
        assert!(status.message().contains(&id) && !status.message().contains("db.internal"), "{status}");
    }

    #[test]
    fn only_what_a_retry_can_mend_is_unavailable() {
        assert_eq!(fault("registry", &Failure { transient: true }).code(), Code::Unavailable);
    }
}
