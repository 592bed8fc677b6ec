//! Why a server is not ready, as metadata of the responses of the gRPC health service, whose messages have no place for it.

use tonic::{
    codegen::http::HeaderMap,
    metadata::{MetadataMap, MetadataValue},
};

/// The key of the metadata; its value is UTF-8 text.
const PROBLEM: &str = "rekindle-problem-bin";

/// Adds a problem to the headers of a response.
pub fn put_problem(headers: &mut HeaderMap, problem: &str) {
    let mut metadata = MetadataMap::from_headers(std::mem::take(headers));
    metadata.insert_bin(PROBLEM, MetadataValue::from_bytes(problem.as_bytes()));
    *headers = metadata.into_headers();
}

/// The problem in the metadata of a response, if it has one.
pub fn problem(metadata: &MetadataMap) -> Option<String> {
    let bytes = metadata.get_bin(PROBLEM)?.to_bytes().ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
