//! `ModelInferRequest` as a request for the engine.

use chrono::DateTime;
use rekindle_domain::{Traffic, event_time, outcome::PredictedRow, traffic::UnknownTraffic};
use rekindle_proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};

use crate::{
    infer,
    serving::LoadedVersion,
    tensor::{
        InvalidInput, Tensor,
        elements::{ElementType, Elements, Typed},
    },
};

/// The request in `message` for `version`, with at most `max_rows` rows.
pub(super) fn request(
    message: ModelInferRequest,
    version: &LoadedVersion,
    max_rows: usize,
) -> Result<infer::Request, InvalidInput> {
    let outputs = version.outputs.select(message.outputs.iter().map(|output| output.name.as_str()))?;
    let rows = version.inputs.decode(tensors(&message)?, max_rows)?;
    let event_time = message.parameters.get("event_time").map(stated_time).transpose()?;
    let traffic = message.parameters.get("traffic").map(stated_traffic).transpose()?.unwrap_or_default();
    let (length, most) = (message.id.len(), PredictedRow::MAX_KEY);
    if length > most {
        return Err(InvalidInput::new("id", format!("has {length} bytes: expected at most {most}")));
    }
    Ok(infer::Request { id: message.id, rows, outputs, event_time, traffic })
}

/// The input tensors of a message.
pub(super) fn tensors(message: &ModelInferRequest) -> Result<impl Iterator<Item = Tensor<'_>>, InvalidInput> {
    let raw = &message.raw_input_contents;
    check_contents(message)?;
    Ok(message.inputs.iter().enumerate().map(move |(at, input)| Tensor {
        name: &input.name,
        datatype: &input.datatype,
        shape: &input.shape,
        elements: raw.get(at).map_or_else(|| typed(input), |raw| Elements::Raw(raw)),
    }))
}

/// A message has raw contents for every input, or typed contents, but not both.
fn check_contents(message: &ModelInferRequest) -> Result<(), InvalidInput> {
    let (raw, inputs) = (&message.raw_input_contents, &message.inputs);
    if raw.is_empty() {
        return Ok(());
    }
    if raw.len() != inputs.len() {
        return Err(InvalidInput::new(
            "raw_input_contents",
            format!("has {} entries for {} inputs: send one per input, in the same order", raw.len(), inputs.len()),
        ));
    }
    match inputs.iter().find(|input| input.contents.as_ref().is_some_and(|contents| *contents != NO_CONTENTS)) {
        Some(input) => Err(InvalidInput::of_tensor(
            &input.name,
            "has typed contents although the request has raw_input_contents: send one or the other",
        )),
        None => Ok(()),
    }
}

static NO_CONTENTS: InferTensorContents = InferTensorContents {
    bool_contents: Vec::new(),
    int_contents: Vec::new(),
    int64_contents: Vec::new(),
    uint_contents: Vec::new(),
    uint64_contents: Vec::new(),
    fp32_contents: Vec::new(),
    fp64_contents: Vec::new(),
    bytes_contents: Vec::new(),
};

/// The elements in the field that belongs to the input's datatype.
fn typed(input: &InferInputTensor) -> Elements<'_> {
    let contents = input.contents.as_ref().unwrap_or(&NO_CONTENTS);
    let (field, values) = match ElementType::parse(&input.datatype) {
        Some(ElementType::Bool) => ("bool_contents", Typed::Bool(&contents.bool_contents)),
        Some(ElementType::Int8 | ElementType::Int16 | ElementType::Int32) => {
            ("int_contents", Typed::Int32(&contents.int_contents))
        }
        Some(ElementType::Uint8 | ElementType::Uint16 | ElementType::Uint32) => {
            ("uint_contents", Typed::Uint32(&contents.uint_contents))
        }
        Some(ElementType::Uint64) => ("uint64_contents", Typed::Uint64(&contents.uint64_contents)),
        Some(ElementType::Fp32) => ("fp32_contents", Typed::Fp32(&contents.fp32_contents)),
        Some(ElementType::Fp64) => ("fp64_contents", Typed::Fp64(&contents.fp64_contents)),
        Some(ElementType::Bytes) => ("bytes_contents", Typed::Bytes(&contents.bytes_contents)),
        // A datatype without a field of its own is refused by its name.
        Some(ElementType::Int64) | None => ("int64_contents", Typed::Int64(&contents.int64_contents)),
    };
    Elements::Typed { field, values }
}

/// The parameter `event_time`, in milliseconds since 1970 UTC.
fn stated_time(parameter: &InferParameter) -> Result<i64, InvalidInput> {
    let millis = match &parameter.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => {
            DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
        }
        Some(ParameterChoice::Int64Param(millis)) => Some(*millis),
        _ => None,
    };
    let not_a_time =
        "is not a time: send an RFC 3339 string, e.g. 2026-03-01T12:00:00Z, or int64 milliseconds since 1970 UTC";
    let checked = millis.ok_or_else(|| not_a_time.to_owned());
    let checked = checked.and_then(|millis| event_time::checked(millis).map_err(|error| error.to_string()));
    checked.map_err(|problem| InvalidInput::new("parameters[event_time]", problem))
}

/// The parameter `traffic`.
fn stated_traffic(parameter: &InferParameter) -> Result<Traffic, InvalidInput> {
    let stated = match &parameter.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => text.parse().map_err(|error: UnknownTraffic| error.to_string()),
        _ => Err("is no string: expected live, replay or test".to_owned()),
    };
    stated.map_err(|problem| InvalidInput::new("parameters[traffic]", problem))
}

#[cfg(test)]
mod tests;
