//! Answers and metadata as messages.

use std::collections::BTreeMap;

use rekindle_bundle::Datatype;
use rekindle_client::wire::raw;
use rekindle_proto::inference::{
    InferParameter, ModelInferResponse, ModelMetadataResponse, infer_parameter::ParameterChoice,
    model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
};

use crate::{infer::Answer, serving::LoadedVersion, tensor::output::explained};

/// The answer to a request for `model`. Outputs are always raw: existing clients read no typed contents.
pub(super) fn answer(model: String, answer: &Answer<'_>) -> ModelInferResponse {
    let version = answer.version;
    let parameters = answer.parameters().map(|(name, value)| (name.to_owned(), text(value))).collect();
    let (mut outputs, mut raw_output_contents): (Vec<_>, Vec<_>) = version
        .outputs
        .tensors(&answer.outputs, &answer.prediction)
        .map(|output| {
            let raw = output.raw();
            let tensor = InferOutputTensor {
                name: output.name.to_owned(),
                datatype: output.datatype.to_owned(),
                shape: output.shape,
                parameters: BTreeMap::new(),
                contents: None,
            };
            (tensor, raw)
        })
        .unzip();
    for (name, width, elements) in answer.explanation.iter().flat_map(explained) {
        outputs.push(InferOutputTensor {
            name: name.to_owned(),
            datatype: "FP64".to_owned(),
            shape: [answer.prediction.rows, width].map(|size| i64::try_from(size).unwrap_or(i64::MAX)).to_vec(),
            ..Default::default()
        });
        raw_output_contents.push(raw::encode(elements, f64::to_le_bytes));
    }
    ModelInferResponse {
        model_name: model,
        model_version: version.number.clone(),
        id: answer.request_id.to_owned(),
        parameters,
        outputs,
        raw_output_contents,
    }
}

/// The metadata of a loaded version.
pub(super) fn metadata(name: String, version: &LoadedVersion) -> ModelMetadataResponse {
    let signature = version.model.signature();
    let tensor = |name: &str, datatype: Datatype, shape: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.as_str().to_owned(),
        shape,
    };
    ModelMetadataResponse {
        name,
        versions: vec![version.number.clone()],
        platform: version.platform().to_owned(),
        inputs: signature.inputs.iter().map(|input| tensor(&input.name, input.datatype, vec![-1, 1])).collect(),
        outputs: signature
            .outputs
            .iter()
            .map(|output| tensor(&output.name, output.datatype, output.shape.clone()))
            .collect(),
    }
}

fn text(value: String) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value)) }
}
