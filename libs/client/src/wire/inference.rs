//! Requests and responses of the Open Inference Protocol, as a client sees them.

use bytes::Bytes;
use prost::Message as _;
use rekindle_domain::validation::Violations;
use rekindle_proto::{
    inference::{
        self as wire, InferParameter, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
        model_infer_request::InferRequestedOutputTensor, model_infer_response::InferOutputTensor,
    },
    json,
};
use serde_json::Value;

use super::tensor::{Datatype, Elements, Tensor};
use crate::inference::{
    InferRequest, InferResponse, ModelMetadata, Parameter, RawRequest, RawTensor, ServerMetadata, TensorMetadata,
};

/// The metadata of a server that a message holds.
pub fn server_from_wire(given: wire::ServerMetadataResponse) -> ServerMetadata {
    ServerMetadata { name: given.name, version: given.version, extensions: given.extensions }
}

/// The metadata that a message holds.
pub fn metadata_from_wire(given: wire::ModelMetadataResponse) -> ModelMetadata {
    let tensor = |given: wire::model_metadata_response::TensorMetadata| TensorMetadata {
        name: given.name,
        datatype: given.datatype,
        shape: given.shape,
    };
    ModelMetadata {
        name: given.name,
        versions: given.versions,
        platform: given.platform,
        inputs: given.inputs.into_iter().map(tensor).collect(),
        outputs: given.outputs.into_iter().map(tensor).collect(),
    }
}

/// The metadata of a tensor in proto3 JSON.
pub fn tensor_to_json(tensor: &TensorMetadata) -> Value {
    let TensorMetadata { name, datatype, shape } = tensor.clone();
    json::to_value(&wire::model_metadata_response::TensorMetadata { name, datatype, shape })
}

/// A request as a message, its elements as raw contents.
pub fn request_to_wire(request: InferRequest) -> wire::ModelInferRequest {
    let output = |name| InferRequestedOutputTensor { name, ..Default::default() };
    wire::ModelInferRequest {
        model_name: request.model,
        model_version: request.version.map(|version| version.to_string()).unwrap_or_default(),
        id: request.id,
        parameters: request.parameters.into_iter().map(|(name, value)| (name, parameter_to_wire(value))).collect(),
        raw_input_contents: request.inputs.iter().map(|input| input.elements.encode()).collect(),
        inputs: request.inputs.into_iter().map(input_to_wire).collect(),
        outputs: request.outputs.into_iter().map(output).collect(),
    }
}

/// The bytes of the message of a raw request, for callers that send the same one many times.
pub fn encode_raw(request: RawRequest) -> Bytes {
    let parameters = request.parameters.into_iter().map(|(name, value)| (name, parameter_to_wire(value)));
    let (inputs, contents) = request.inputs.into_iter().map(raw_to_wire).unzip();
    let message = wire::ModelInferRequest {
        model_name: request.model,
        model_version: request.version,
        parameters: parameters.collect(),
        inputs,
        raw_input_contents: contents,
        ..Default::default()
    };
    message.encode_to_vec().into()
}

/// The response that a message holds.
pub fn response_from_wire(given: wire::ModelInferResponse) -> Result<InferResponse, Violations> {
    let (outputs, raw) = (given.outputs, given.raw_output_contents);
    if outputs.len() != raw.len() {
        let problem = format!("has {} entries for {} outputs", raw.len(), outputs.len());
        return Err(Violations::of("raw_output_contents", problem));
    }
    let outputs = outputs.into_iter().zip(raw).map(|(output, raw)| output_from_wire(output, &raw));
    let parameters = given.parameters.into_iter();
    Ok(InferResponse {
        model: given.model_name,
        version: given.model_version,
        id: given.id,
        parameters: parameters.filter_map(|(name, value)| Some((name, parameter_from_wire(value)?))).collect(),
        outputs: outputs.collect::<Result<_, _>>()?,
    })
}

fn input_to_wire(tensor: Tensor) -> InferInputTensor {
    let datatype = tensor.elements.datatype().name().to_owned();
    InferInputTensor { name: tensor.name, datatype, shape: tensor.shape, ..Default::default() }
}

fn raw_to_wire(tensor: RawTensor) -> (InferInputTensor, Bytes) {
    let RawTensor { name, datatype, shape, contents } = tensor;
    (InferInputTensor { name, datatype, shape, ..Default::default() }, contents)
}

fn output_from_wire(given: InferOutputTensor, raw: &Bytes) -> Result<Tensor, Violations> {
    let field = format!("outputs[{}]", given.name);
    let elements = given.datatype.parse::<Datatype>().map_err(|error| Violations::of(field.clone(), error))?;
    let elements = Elements::decode(elements, raw).map_err(|error| Violations::of(field, error))?;
    Ok(Tensor { name: given.name, shape: given.shape, elements })
}

fn parameter_to_wire(value: Parameter) -> InferParameter {
    let choice = match value {
        Parameter::Boolean(value) => ParameterChoice::BoolParam(value),
        Parameter::Integer(value) => ParameterChoice::Int64Param(value),
        Parameter::Unsigned(value) => ParameterChoice::Uint64Param(value),
        Parameter::Number(value) => ParameterChoice::DoubleParam(value),
        Parameter::Text(value) => ParameterChoice::StringParam(value),
    };
    InferParameter { parameter_choice: Some(choice) }
}

fn parameter_from_wire(given: InferParameter) -> Option<Parameter> {
    Some(match given.parameter_choice? {
        ParameterChoice::BoolParam(value) => Parameter::Boolean(value),
        ParameterChoice::Int64Param(value) => Parameter::Integer(value),
        ParameterChoice::Uint64Param(value) => Parameter::Unsigned(value),
        ParameterChoice::DoubleParam(value) => Parameter::Number(value),
        ParameterChoice::StringParam(value) => Parameter::Text(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(raw: Vec<Bytes>) -> wire::ModelInferResponse {
        let output = |name: &str, datatype: &str| InferOutputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: vec![2, 1],
            ..Default::default()
        };
        wire::ModelInferResponse {
            outputs: vec![output("probability", "FP32"), output("label", "BYTES")],
            raw_output_contents: raw,
            parameters: [("prediction_id".to_owned(), parameter_to_wire(Parameter::Text("p".into())))].into(),
            ..Default::default()
        }
    }

    #[test]
    fn responses_are_read_and_contents_that_do_not_fit_are_refused() {
        let (numbers, texts) = (Elements::Fp32(vec![0.5, 0.25]), Elements::Text(vec!["a".into(), "b".into()]));
        let answer = response_from_wire(response(vec![numbers.encode(), texts.encode()])).expect("valid");
        assert_eq!(answer.output("probability").map(|output| &output.elements), Some(&numbers));
        assert_eq!(answer.output("label").map(|output| &output.elements), Some(&texts));
        assert_eq!(answer.text("prediction_id"), "p");
        for raw in [vec![numbers.encode()], vec![texts.encode().slice(1..), texts.encode()]] {
            assert!(response_from_wire(response(raw)).is_err());
        }
    }

    #[test]
    fn requests_hold_raw_contents_in_the_order_of_the_inputs() {
        let inputs =
            vec![Tensor::column("x", Elements::Int64(vec![7])), Tensor::column("y", Elements::Bool(vec![true]))];
        let request =
            request_to_wire(InferRequest { model: "m".into(), version: Some(2), inputs, ..Default::default() });
        let expected: [&[u8]; 2] = [&7i64.to_le_bytes(), &[1]];
        assert_eq!(
            (request.model_version.as_str(), request.raw_input_contents),
            ("2", expected.map(Bytes::copy_from_slice).to_vec())
        );
        assert_eq!(request.inputs.iter().map(|input| input.datatype.as_str()).collect::<Vec<_>>(), ["INT64", "BOOL"]);
    }

    #[test]
    fn raw_requests_are_the_bytes_of_their_message() {
        let contents = Bytes::copy_from_slice(&[1, 0, 2, 0]);
        let input = |contents| RawTensor { name: "x".into(), datatype: "INT16".into(), shape: vec![2, 1], contents };
        let encoded = encode_raw(RawRequest {
            model: "m".into(),
            version: "v1".into(),
            parameters: [("traffic".to_owned(), Parameter::Text("test".into()))].into(),
            inputs: vec![input(contents.clone())],
        });
        let message = wire::ModelInferRequest::decode(encoded).expect("a message");
        assert_eq!((message.model_name.as_str(), message.model_version.as_str()), ("m", "v1"));
        assert_eq!((message.inputs[0].datatype.as_str(), message.inputs[0].shape.as_slice()), ("INT16", &[2, 1][..]));
        assert_eq!(message.raw_input_contents, [contents]);
        assert_eq!(message.parameters["traffic"], parameter_to_wire(Parameter::Text("test".into())));
    }

    #[test]
    fn metadata_has_a_json_form() {
        let tensor = TensorMetadata { name: "x".into(), datatype: "FP64".into(), shape: vec![-1, 1] };
        assert_eq!(tensor_to_json(&tensor), serde_json::json!({"name": "x", "datatype": "FP64", "shape": ["-1", "1"]}));
    }
}
