//! Errors on the wire: a status whose details say which field, what was expected, what came, and how to mend it.

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
    fn a_refusal_can_be_matched_by_programs() {
        let status = refusal(Code::Aborted, "STALE_REVISION", "expected 1, is 2: read again", [("is", "2".into())]);
        let info = status.get_error_details().error_info().cloned().expect("details");
        assert_eq!((info.reason.as_str(), info.metadata["is"].as_str()), ("STALE_REVISION", "2"));
    }
}
