//! Every status that leaves the server fits into the headers that clients and proxies accept: text and details of at most 4 KiB.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

/// Bytes of the text of a status. The details repeat it.
const TEXT: usize = 1536;
/// Bytes of the texts in the details.
const DETAILS: usize = 768;
/// Bytes of one of them.
const DETAIL: usize = 256;
/// Bytes of the headers of a status that is not cut. The details are sent in base64.
const HEADER: usize = 1536;

const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS_BIN: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Cuts the status in the headers or trailers of a response, if it is long.
pub(super) fn bound(headers: &mut HeaderMap) {
    let is_long = |name: &HeaderName| headers.get(name).is_some_and(|value| value.len() > HEADER);
    if !is_long(&MESSAGE) && !is_long(&DETAILS_BIN) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else { return };
    headers.remove(MESSAGE);
    headers.remove(DETAILS_BIN);
    if let Err(error) = shortened(&status).add_header(headers) {
        tracing::debug!(%error, "a status cannot be encoded");
    }
}

/// The status with the start of its text, and with those of its details that fit.
fn shortened(status: &Status) -> Status {
    let message = cut(status.message(), TEXT);
    if status.details().is_empty() {
        return Status::new(status.code(), message);
    }
    let details = status.get_error_details();
    let (mut kept, mut room) = (ErrorDetails::new(), DETAILS);
    let mut fit = |first: &str, second: &str| {
        let (first, second) = (cut(first, DETAIL), cut(second, DETAIL));
        room = room.checked_sub(first.len() + second.len())?;
        Some((first, second))
    };
    if let Some(info) = details.error_info() {
        let metadata: HashMap<_, _> = info.metadata.iter().map_while(|(key, value)| fit(key, value)).collect();
        kept.set_error_info(&info.reason, &info.domain, metadata);
    }
    if let Some(request) = details.request_info() {
        kept.set_request_info(cut(&request.request_id, DETAIL), "");
    }
    for violation in details.bad_request().iter().flat_map(|request| &request.field_violations) {
        let Some((field, description)) = fit(&violation.field, &violation.description) else { break };
        kept.add_bad_request_violation(field, description);
    }
    Status::with_error_details(status.code(), message, kept)
}

/// The start of a text, of at most `limit` bytes with the ellipsis.
fn cut(text: &str, limit: usize) -> String {
    const ELLIPSIS: &str = "\u{2026}";
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn bounded(status: &Status) -> (Status, usize) {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).expect("encodes");
        bound(&mut headers);
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        (Status::from_header_map(&headers).expect("a status"), bytes)
    }

    #[test]
    fn the_start_of_a_long_status_is_kept_with_its_reason() {
        let text = format!("target: no such column {}", "\u{4e2d}".repeat(20_000));
        let metadata = HashMap::from([("column".to_owned(), "\u{4e2d}".repeat(9_000))]);
        let details = ErrorDetails::with_error_info("NO_COLUMN", "rekindle.dev", metadata);
        let (status, bytes) = bounded(&Status::with_error_details(Code::FailedPrecondition, text, details));
        assert!(bytes < 12 << 10, "the headers that clients accept have 16 KiB: {bytes}");
        assert!(status.message().len() + status.details().len() <= 4096);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(
            status.message().starts_with("target: no such column \u{4e2d}") && status.message().ends_with('\u{2026}')
        );
        let info = status.get_details_error_info().expect("details");
        assert_eq!(info.reason, "NO_COLUMN");
        assert!(info.metadata["column"].ends_with('\u{2026}'));
    }

    #[test]
    fn the_first_of_many_violations_are_kept() {
        let mut details = ErrorDetails::new();
        for field in 0..300 {
            details.add_bad_request_violation(format!("fields[{field}]"), "is unknown".repeat(10));
        }
        let (status, _) = bounded(&Status::with_error_details(Code::InvalidArgument, "x; ".repeat(9_000), details));
        let violations = status.get_details_bad_request().expect("details").field_violations;
        assert!((2..300).contains(&violations.len()), "{}", violations.len());
        assert_eq!(violations[1].field, "fields[1]");
        assert!(status.message().len() + status.details().len() <= 4096);
    }

    #[test]
    fn a_short_status_is_not_changed() {
        let details = ErrorDetails::with_bad_request_violation("name", "is empty");
        let status = Status::with_error_details(Code::InvalidArgument, "name: is empty", details);
        let (bounded, _) = bounded(&status);
        assert_eq!((bounded.message(), bounded.details()), (status.message(), status.details()));
    }
}
