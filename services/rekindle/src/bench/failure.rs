//! Requests that failed, by kind.

use std::{collections::BTreeMap, fmt};

use http::StatusCode;
use tonic::Code;

/// Characters of an example.
const EXAMPLE: usize = 300;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The server answered with this gRPC code.
    Grpc(i32),
    /// The server answered with this HTTP status.
    Http(u16),
    /// The response is none of the protocol.
    InvalidResponse,
    /// The connection could not be opened, or broke.
    Connection,
    /// No answer within the timeout.
    Timeout,
    /// The request was due and was not sent: as many others as allowed were in flight.
    NotSent,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub kind: Kind,
    pub message: String,
}

/// Failed requests by kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures(BTreeMap<Kind, (u64, String)>);

impl Kind {
    /// Whether a REST server answered, and blames the request.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Http(400..500))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(code) => f.write_str(&name(Code::from_i32(*code))),
            Self::Http(status) => write!(f, "HTTP_{status}"),
            Self::InvalidResponse => f.write_str("INVALID_RESPONSE"),
            Self::Connection => f.write_str("CONNECTION"),
            Self::Timeout => f.write_str("TIMEOUT"),
            Self::NotSent => f.write_str("NOT_SENT"),
        }
    }
}

/// A gRPC code as the protocol spells it: `ResourceExhausted` becomes `RESOURCE_EXHAUSTED`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A gRPC status other than OK.
    pub(crate) fn grpc(status: &tonic::Status) -> Self {
        Self::new(Kind::Grpc(status.code().into()), status.message())
    }

    /// An HTTP status other than 200, with the body of the response.
    pub(crate) fn http(status: StatusCode, body: &[u8]) -> Self {
        let error = serde_json::from_slice::<serde_json::Value>(body).ok();
        let error = error.and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
        Self::new(Kind::Http(status.as_u16()), error.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()))
    }

    /// A connection that could not be opened, or broke.
    pub(crate) fn connection(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::new(Kind::Connection, message)
    }
}

impl Failures {
    /// Counts a failure; the first of its kind is the example.
    pub(crate) fn add(&mut self, failure: Failure) {
        let example = || failure.message.chars().take(EXAMPLE).collect();
        self.0.entry(failure.kind).or_insert_with(|| (0, example())).0 += 1;
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.values().map(|(count, _)| count).sum()
    }

    /// How many of a kind there are.
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).map_or(0, |(count, _)| *count)
    }

    /// Each kind with its number and an example.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = (Kind, u64, &str)> {
        self.0.iter().map(|(kind, (count, example))| (*kind, *count, example.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_with_the_first_as_example() {
        let mut failures = Failures::default();
        let refused = Failure::grpc(&tonic::Status::resource_exhausted("1024 requests are in flight"));
        failures.add(refused.clone());
        failures.add(Failure { message: "later".to_owned(), ..refused });
        failures.add(Failure::http(StatusCode::TOO_MANY_REQUESTS, br#"{"error": "retry later"}"#));
        failures.add(Failure::http(StatusCode::BAD_GATEWAY, b"<html>"));
        let shown: Vec<_> =
            failures.by_kind().map(|(kind, count, example)| format!("{kind} {count} {example}")).collect();
        let expected =
            ["RESOURCE_EXHAUSTED 2 1024 requests are in flight", "HTTP_429 1 retry later", "HTTP_502 1 <html>"];
        assert_eq!((shown.as_slice(), failures.count()), (&expected.map(str::to_owned)[..], 4));
    }

    #[test]
    fn a_failed_connection_names_its_cause() {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(Failure::connection(&error).message, "connection refused");
    }
}
