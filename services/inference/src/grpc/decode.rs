//! `ModelInferRequest` as a request for the engine.

use std::borrow::Cow;

use rekindle_proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};

use super::encode;

use crate::{
    infer,
    parameters::{self, Value},
    tensor::{
        Accepted, Inputs, InvalidInput, Tensor,
        elements::{ElementType, Elements, Typed},
        entity_key::{self, ENTITY_KEY},
        output::Outputs,
    },
};

/// A request for the engine.
pub(crate) struct Decoded<'a> {
    /// The qualified name of the model.
    pub(super) model: &'a str,
    pub(super) message: &'a ModelInferRequest,
    /// Whether the call explains its rows, whatever the parameters are.
    pub(super) explain: bool,
}

impl infer::Message for Decoded<'_> {
    type Answer = ModelInferResponse;

    fn routing_key(&self) -> Option<Cow<'_, [u8]>> {
        let message = self.message;
        parameters::routing_key(|name| message.parameters.get(name).map(value)).or_else(|| {
            let mut tensors = tensors(message).ok()?;
            entity_key::first(&tensors.find(|tensor| tensor.name == ENTITY_KEY)?)
        })
    }

    fn request_id(&self) -> &str {
        &self.message.id
    }

    fn decode(&self, inputs: &Inputs, outputs: &Outputs, accepted: Accepted) -> Result<infer::Request, InvalidInput> {
        let message = self.message;
        let outputs = outputs.select(message.outputs.iter().map(|output| output.name.as_str()))?;
        let rows = inputs.decode(tensors(message)?, accepted)?;
        let mut parameters = parameters::read(|name| message.parameters.get(name).map(value))?;
        parameters.explain |= self.explain;
        Ok(infer::Request { id: parameters::request_id(&message.id)?, rows, outputs, parameters })
    }

    fn encode(&self, answer: &infer::Answer<'_>) -> ModelInferResponse {
        encode::answer(self.model.to_owned(), answer)
    }
}

/// Passes the bytes of a message on, if they are one.
#[cfg(any(test, fuzzing))]
pub(crate) fn with_decoded(bytes: &[u8], take: impl FnOnce(&Decoded<'_>)) {
    let Ok(message) = <ModelInferRequest as prost::Message>::decode(bytes) else { return };
    take(&Decoded { model: "fuzzed", message: &message, explain: false });
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
        // A datatype without a field of its own is sent raw, or refused by its name.
        Some(ElementType::Int64 | ElementType::Fp16 | ElementType::Bf16) | None => {
            ("int64_contents", Typed::Int64(&contents.int64_contents))
        }
    };
    Elements::Typed { field, values }
}

/// The value of a parameter.
fn value(parameter: &InferParameter) -> Value<'_> {
    match &parameter.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => Value::Text(text),
        Some(ParameterChoice::Int64Param(integer)) => Value::Integer(*integer),
        Some(ParameterChoice::BoolParam(flag)) => Value::Bool(*flag),
        _ => Value::Other,
    }
}

#[cfg(test)]
mod tests;
