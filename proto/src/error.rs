//! Errors on the wire: a status whose details say which field, what was expected, what came, and how to mend it.

use std::error::Error as _;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A field of the request that does not hold what it should.
pub fn invalid_argument(field: impl Into<String>, problem: impl Into<String>) -> Status {
    let (field, problem) = (field.into(), problem.into());
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation(field.clone(), problem.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {problem}"), details)
}

/// Any other refusal: `reason` is a constant in UPPER_SNAKE_CASE for programs, `message` is for people and ends with the way
/// out; `facts` repeat what the message names.
pub fn refusal(
    code: Code,
    reason: &'static str,
    message: impl Into<String>,
    facts: impl IntoIterator<Item = (&'static str, String)>,
) -> Status {
    let metadata =
        facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<std::collections::HashMap<_, _>>();
    let details = ErrorDetails::with_error_info(reason, "rekindle.dev", metadata);
    Status::with_error_details(code, message.into(), details)
}

/// Whether the same call may succeed if made again a little later.
pub fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => true,
        // A connection that broke during the call, for example because the server died, is no answer: tonic makes such a status on this
        // side and names its source. One that was received has none.
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_named_in_words_and_in_details() {
        let status = invalid_argument("name", "must not be empty");
        assert_eq!(status.message(), "name: must not be empty");
        let request = status.get_error_details().bad_request().cloned().expect("details");
        assert_eq!(request.field_violations[0].field, "name");
    }

    #[test]
    fn a_broken_connection_passes_and_an_answer_stays() {
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert_eq!(broken.code(), Code::Unknown);
        assert!(is_transient(&broken) && is_transient(&Status::unavailable("")));
        assert!(!is_transient(&Status::unknown("")) && !is_transient(&Status::internal("")));
    }

    #[test]
    fn a_refusal_can_be_matched_by_programs() {
        let status = refusal(Code::Aborted, "STALE_REVISION", "expected 1, is 2: read again", [("is", "2".into())]);
        let info = status.get_error_details().error_info().cloned().expect("details");
        assert_eq!((info.reason.as_str(), info.metadata["is"].as_str()), ("STALE_REVISION", "2"));
    }
}
