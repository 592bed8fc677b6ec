//! A stream of prediction requests and their answers.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use rekindle_domain::Namespace;
use rekindle_proto::{
    error::invalid_argument,
    inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse},
};
use tonic::{Code, Status, Streaming};

use crate::infer::Engine;

/// The answers of one stream.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// How many requests of one stream are answered at once. Answers keep the order of their requests.
const AT_ONCE: usize = 16;

/// The answers to the requests of a stream. A request without an answer has an error message and does not end the stream.
pub(super) fn answers(engine: Arc<Engine>, namespace: Namespace, requests: Streaming<ModelInferRequest>) -> Answers {
    let answer = move |request: ModelInferRequest| {
        let (engine, namespace) = (Arc::clone(&engine), namespace.clone());
        async move {
            let id = request.id.clone();
            Ok(match super::infer(&engine, &namespace, request, false).await {
                Ok(answer) => ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) },
                Err(status) => ModelStreamInferResponse {
                    error_message: status.message().to_owned(),
                    infer_response: Some(ModelInferResponse { id, ..Default::default() }),
                },
            })
        }
    };
    requests.map_err(undecodable).map_ok(answer).try_buffered(AT_ONCE).boxed()
}

/// A message that is none of its type is the caller's error; tonic has it INTERNAL. It ends the stream.
fn undecodable(status: Status) -> Status {
    match status.message().strip_prefix("failed to decode Protobuf message: ") {
        Some(problem) if status.code() == Code::Internal => invalid_argument("request", problem),
        _ => status,
    }
}
