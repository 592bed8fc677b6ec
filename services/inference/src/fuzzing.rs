//! The decoders of both protocols, for fuzzing: any bytes are decoded, or refused with what is wrong and where.

use std::sync::LazyLock;

use axum::http::HeaderMap;
use rekindle_bundle::{Datatype, Input, Output, Signature};
use rekindle_domain::{ColumnKind, Task};

use crate::{
    grpc::decode::with_decoded,
    infer::{self, Message as _},
    rest::request,
    tensor::{Accepted, Inputs, InvalidInput, output::Outputs},
};

/// The most rows of a request.
const ROWS: usize = 1000;

/// What a request is decoded for.
struct Decoder {
    inputs: Inputs,
    outputs: Outputs,
    accepted: Accepted,
}

/// A model with an input of every type, and one whose inputs are all numbers, which one tensor may carry. With unknown inputs refused, and
/// ignored.
static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(|| {
    let input = |name: &str, datatype, kind, nullable| Input { name: name.to_owned(), datatype, kind, nullable };
    let every_type = vec![
        input("time", Datatype::Int64, ColumnKind::Timestamp, false),
        input("distance", Datatype::Fp64, ColumnKind::Numeric, true),
        input("passengers", Datatype::Int64, ColumnKind::Numeric, true),
        input("zone", Datatype::Bytes, ColumnKind::Categorical, true),
        input("paid", Datatype::Bool, ColumnKind::Boolean, false),
    ];
    let numbers = ["a", "b", "c"].map(|name| input(name, Datatype::Fp64, ColumnKind::Numeric, true)).to_vec();
    let mut decoders = Vec::new();
    for (inputs, time_input) in [(every_type, Some("time".to_owned())), (numbers, None)] {
        let signature = Signature { inputs, outputs: Output::of_task(Task::Binary, 2), time_input };
        for unknown_inputs in [false, true] {
            decoders.push(Decoder {
                inputs: Inputs::new(&signature).unwrap_or_else(|problem| panic!("{problem}")),
                outputs: Outputs::new(&signature),
                accepted: Accepted { rows: ROWS, unknown_inputs },
            });
        }
    }
    decoders
});

impl Decoder {
    /// Decodes a request into rows.
    fn decode(&self, message: &impl infer::Message) {
        match message.decode(&self.inputs, &self.outputs, self.accepted) {
            Ok(request) => assert!((1..=ROWS).contains(&request.rows.inputs.num_rows())),
            Err(refused) => check(&refused),
        }
    }
}

/// A refusal names the part of the request, and is bounded.
fn check(refused: &InvalidInput) {
    assert!(!refused.field.is_empty() && !refused.problem.is_empty(), "{refused:?}");
    assert!(refused.to_string().len() <= 4096, "{refused:?}");
}

/// Decodes the bytes of a `ModelInferRequest`.
pub fn grpc(bytes: &[u8]) {
    with_decoded(bytes, |message| {
        message.routing_key();
        DECODERS.iter().for_each(|decoder| decoder.decode(message));
    });
}

/// Decodes the body of a REST request. The first two bytes are the length of the JSON before binary elements; zero: everything is JSON.
pub fn rest(bytes: &[u8]) {
    let Some((length, body)) = bytes.split_first_chunk() else { return };
    let length = u16::from_le_bytes(*length);
    let mut headers = HeaderMap::new();
    if length > 0 {
        headers.insert(request::JSON_LENGTH, length.into());
    }
    match request::parse("fuzzed", false, &headers, body) {
        Ok(message) => {
            message.routing_key();
            DECODERS.iter().for_each(|decoder| decoder.decode(&message));
        }
        Err(refused) => check(&refused),
    }
}

#[cfg(test)]
#[path = "../../../libs/dataset/fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay;

    /// Damaged copies of each seed.
    const COPIES: u64 = 2000;

    #[test]
    fn seeds_and_damaged_seeds_over_grpc() {
        replay::replay("fuzz/seeds/grpc", COPIES, super::grpc);
    }

    #[test]
    fn seeds_and_damaged_seeds_over_rest() {
        replay::replay("fuzz/seeds/rest", COPIES, super::rest);
    }
}
