//! The body of a prediction request: JSON, and after it the elements of the tensors with `binary_data_size`.

use std::{borrow::Cow, collections::BTreeMap};

use axum::http::{HeaderMap, Response};
use serde::Deserialize;
use serde_json::Value;

use super::{
    data::{Data, Owned},
    response,
};
use crate::{
    infer,
    parameters::{self, Value as Parameter},
    tensor::{
        Accepted, BODY, Inputs, InvalidInput, Tensor, VALID,
        elements::{Elements, Typed},
        entity_key::{self, ENTITY_KEY},
        output::Outputs,
        shortened,
    },
};

/// The header with the number of bytes of JSON, before the binary elements.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

type Parameters = BTreeMap<String, Value>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    id: String,
    parameters: Parameters,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// A request, parsed but not decoded for a model.
pub(crate) struct Message<'a> {
    /// The qualified name of the model.
    model: &'a str,
    /// Whether the route explains its rows, whatever the parameters are.
    explain: bool,
    body: Body,
    /// The binary elements of each input.
    binary: Vec<Option<&'a [u8]>>,
}

/// Parses the body of a request for `model`.
pub(crate) fn parse<'a>(
    model: &'a str,
    explain: bool,
    headers: &HeaderMap,
    bytes: &'a [u8],
) -> Result<Message<'a>, InvalidInput> {
    let length = match headers.get(JSON_LENGTH) {
        None => bytes.len(),
        Some(header) => header
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|length| (1..=bytes.len()).contains(length))
            .ok_or_else(|| {
                InvalidInput::new(JSON_LENGTH, format!("expected the number of bytes of JSON, 1 to {}", bytes.len()))
            })?,
    };
    let (json, mut rest) = bytes.split_at(length);
    let body: Body = serde_json::from_slice(json)
        .map_err(|error| InvalidInput::new(BODY, format!("the JSON is no request: {error}")))?;
    let mut binary = Vec::with_capacity(body.inputs.len());
    for input in &body.inputs {
        binary.push(match input.parameters.get("binary_data_size") {
            None => None,
            Some(size) => {
                let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
                let (elements, after) = size.and_then(|size| rest.split_at_checked(size)).ok_or_else(|| {
                    let left = rest.len();
                    let problem = format!("expected a number of bytes, of which {left} are left after the JSON");
                    InvalidInput::new(
                        format!("inputs[{}].parameters.binary_data_size", shortened(&input.name)),
                        problem,
                    )
                })?;
                rest = after;
                Some(elements)
            }
        });
    }
    if !rest.is_empty() {
        return Err(InvalidInput::new(BODY, format!("has {} bytes that belong to no input", rest.len())));
    }
    Ok(Message { model, explain, body, binary })
}

impl infer::Message for Message<'_> {
    type Answer = Response<axum::body::Body>;

    fn routing_key(&self) -> Option<Cow<'_, [u8]>> {
        let body = &self.body;
        parameters::routing_key(|name| body.parameters.get(name).map(parameter)).or_else(|| {
            let at = body.inputs.iter().position(|input| input.name == ENTITY_KEY)?;
            let given = Given::new(&body.inputs[at], self.binary[at]).ok()?;
            let first = entity_key::first(&given.tensors().next()?)?.into_owned();
            Some(first.into())
        })
    }

    fn request_id(&self) -> &str {
        &self.body.id
    }

    fn decode(&self, inputs: &Inputs, outputs: &Outputs, accepted: Accepted) -> Result<infer::Request, InvalidInput> {
        let body = &self.body;
        let outputs = outputs.select(body.outputs.iter().map(|output| output.name.as_str()))?;
        let given = body.inputs.iter().zip(&self.binary).map(|(input, binary)| Given::new(input, *binary));
        let given: Vec<Given<'_>> = given.collect::<Result<_, _>>()?;
        let rows = inputs.decode(given.iter().flat_map(Given::tensors), accepted)?;
        let mut parameters = parameters::read(|name| body.parameters.get(name).map(parameter))?;
        parameters.explain |= self.explain;
        Ok(infer::Request { id: parameters::request_id(&body.id)?, rows, outputs, parameters })
    }

    fn encode(&self, answer: &infer::Answer<'_>) -> Response<axum::body::Body> {
        response::encode(self.model, answer, self)
    }
}

impl Message<'_> {
    /// Whether the answer's output at a position of the selection has binary elements.
    pub(super) fn is_binary(&self, position: usize) -> bool {
        let is_set = |parameters: &Parameters, name: &str| parameters.get(name).and_then(Value::as_bool);
        let own = self.body.outputs.get(position).and_then(|output| is_set(&output.parameters, "binary_data"));
        own.or_else(|| is_set(&self.body.parameters, "binary_data_output")).unwrap_or(false)
    }
}

fn parameter(value: &Value) -> Parameter<'_> {
    match value {
        Value::String(text) => Parameter::Text(text),
        Value::Bool(flag) => Parameter::Bool(*flag),
        Value::Number(number) => number.as_i64().map_or(Parameter::Other, Parameter::Integer),
        _ => Parameter::Other,
    }
}

/// The elements of one input, and of the tensor that marks its nulls.
struct Given<'a> {
    input: &'a Input,
    elements: Source<'a>,
    valid: Option<(String, Vec<bool>)>,
}

enum Source<'a> {
    Binary(&'a [u8]),
    Json(Owned),
}

impl<'a> Given<'a> {
    fn new(input: &'a Input, binary: Option<&'a [u8]>) -> Result<Self, InvalidInput> {
        let refused = |problem: &str| InvalidInput::of_tensor(&input.name, problem);
        match (&input.data, binary) {
            (None, Some(elements)) => Ok(Self { input, elements: Source::Binary(elements), valid: None }),
            (Some(data), None) => {
                let elements = data.of_type(&input.datatype).map_err(|problem| refused(&problem))?;
                let valid = data.validity().map(|valid| (format!("{}{VALID}", input.name), valid));
                Ok(Self { input, elements: Source::Json(elements), valid })
            }
            (None, None) => {
                Err(refused("has no elements: send data, or binary_data_size and the elements after the JSON"))
            }
            (Some(_), Some(_)) => Err(refused("has data and binary_data_size: send one or the other")),
        }
    }

    fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        let input = self.input;
        let elements = match &self.elements {
            Source::Binary(elements) => Elements::Raw(elements),
            Source::Json(elements) => elements.elements(),
        };
        let values = Tensor { name: &input.name, datatype: &input.datatype, shape: &input.shape, elements };
        let valid = self.valid.as_ref().map(|(name, valid)| Tensor {
            name,
            datatype: "BOOL",
            shape: &input.shape,
            elements: Elements::Typed { field: "data", values: Typed::Bool(valid) },
        });
        [values].into_iter().chain(valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Result<(), String> {
        parse("m", false, &HeaderMap::new(), json.as_bytes()).map(drop).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn a_body_that_is_no_request_is_refused_with_the_reason() {
        for (json, words) in [
            ("", "the JSON is no request"),
            ("{", "the JSON is no request"),
            (r#"{"inputs": [{"name": "x", "shape": [1], "data": [1]}]}"#, "datatype"),
            (
                r#"{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1, "a"]}]}"#,
                "texts beside numbers",
            ),
            (
                r#"{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}]}"#,
                "inputs[x].parameters.binary_data_size",
            ),
        ] {
            let refused = message(json).expect_err(json);
            assert!(refused.contains(words), "{json}: {refused}");
        }
    }

    #[test]
    fn binary_elements_follow_the_json_in_the_order_of_the_inputs() {
        let input = |name: &str, size: usize| {
            format!(r#"{{"name":"{name}","datatype":"INT8","shape":[1],"parameters":{{"binary_data_size":{size}}}}}"#)
        };
        let json = format!(r#"{{"inputs":[{},{}]}}"#, input("a", 2), input("b", 1));
        let mut headers = HeaderMap::new();
        headers.insert(JSON_LENGTH, json.len().into());
        let body = [json.as_bytes(), &[1, 2, 3]].concat();
        let parsed = parse("m", false, &headers, &body).map_err(|invalid| invalid.to_string()).expect("a request");
        assert_eq!(parsed.binary, [Some(&[1, 2][..]), Some(&[3][..])]);
        for rest in [&[1, 2][..], &[1, 2, 3, 4]] {
            assert!(parse("m", false, &headers, &[json.as_bytes(), rest].concat()).is_err(), "{rest:?}");
        }
        for length in ["0", "x", "100000"] {
            headers.insert(JSON_LENGTH, length.parse().expect("a header"));
            assert!(parse("m", false, &headers, &body).is_err(), "{length}");
        }
    }
}
