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

/// The status of a fault: UNAVAILABLE if a retry can help, DATA_LOSS if the database is damaged, else INTERNAL.
pub fn fault(service: &'static str, error: &impl Fault) -> Status {
    if error.is_transient() { unavailable(service, error) } else { internal(service, error) }
}

/// The status of a failure that no retry can mend.
pub fn internal(service: &'static str, error: &(impl Error + 'static)) -> Status {
    let id = Uuid::now_v7();
    tracing::error!(service, %id, error = chain(error), "call failed");
    let (code, reason, what) = match rekindle_store::is_damaged(error) {
        true => (Code::DataLoss, "DATABASE_DAMAGED", format!("the database of the {service} is damaged, error {id}")),
        false => (Code::Internal, "INTERNAL", format!("internal error {id}")),
    };
    let message = format!("{what}: search the log of the {service} for this id");
    let mut details = info(reason, [("service", service.to_owned()), ("id", id.to_string())]);
    details.set_request_info(id.to_string(), "");
    Status::with_error_details(code, message, details)
}

/// The status of a failure that passes by itself.
pub fn unavailable(service: &'static str, error: &(impl Error + 'static)) -> Status {
    tracing::warn!(service, error = chain(error), "call failed for now");
    let (reason, message) = match is_out_of_space(error) {
        true => ("DISK_FULL", format!("the {service} cannot write ({error}): no space is left on the disk, free some")),
        false => ("UNAVAILABLE", format!("the {service} cannot serve this call now ({error}): retry with back-off")),
    };
    let details: ErrorDetails = info(reason, [("service", service.to_owned())]);
    Status::with_error_details(Code::Unavailable, message, details)
}

/// What databases and servers say when their disk is full: the system (ENOSPC), SQLite (SQLITE_FULL), PostgreSQL (53100).
const FULL: [&str; 3] = ["no space left on device", "database or disk is full", "could not extend file"];

/// Whether an error or one of its causes is a full disk.
fn is_out_of_space(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let text = error.to_string().to_lowercase();
        if kind == Some(std::io::ErrorKind::StorageFull) || FULL.iter().any(|full| text.contains(full)) {
            return true;
        }
        cause = error.source();
    }
    false
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

    #[derive(Debug, thiserror::Error)]
    #[error("database failed")]
    struct Caused<E: Error + 'static>(#[source] E);

    #[test]
    fn a_full_disk_is_named_wherever_it_is_in_the_chain() {
        let io = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let status = unavailable("registry", &Caused(Caused(io())));
        assert_eq!(status.get_details_error_info().expect("a reason").reason, "DISK_FULL");
        assert_eq!(
            status.message(),
            "the registry cannot write (database failed): no space is left on the disk, free some"
        );
        let sqlite = std::io::Error::other("(code: 13) database or disk is full");
        assert!(is_out_of_space(&Caused(sqlite)));
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let status = unavailable("registry", &Caused(reset));
        assert_eq!(status.get_details_error_info().expect("a reason").reason, "UNAVAILABLE");
    }

    #[test]
    fn only_what_a_retry_can_mend_is_unavailable() {
        assert_eq!(fault("registry", &Failure { transient: true }).code(), Code::Unavailable);
    }
}
