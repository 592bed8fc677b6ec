//! Predictions as output tensors, always raw: little-endian FP32, and texts after their length in four bytes.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use rekindle_model::{Output, Prediction, Signature, Values};
use rekindle_proto::inference::{
    model_infer_request::InferRequestedOutputTensor, model_infer_response::InferOutputTensor,
};

use crate::tensor::{BadInput, shortened};

/// What a model gives, made ready for encoding: computed once per version.
#[derive(Debug)]
pub(crate) struct OutputPlan {
    outputs: Vec<Output>,
    all: Vec<usize>,
}

impl OutputPlan {
    /// The plan of a signature.
    pub(crate) fn new(signature: &Signature) -> Self {
        Self { outputs: signature.outputs.clone(), all: (0..signature.outputs.len()).collect() }
    }

    /// Positions of the outputs that a request asks for, in its order; every output where it names none.
    pub(crate) fn select(&self, requested: &[InferRequestedOutputTensor]) -> Result<Vec<usize>, BadInput> {
        if requested.is_empty() {
            return Ok(self.all.clone());
        }
        let mut selected = Vec::with_capacity(self.outputs.len());
        for wanted in requested {
            let field = || format!("outputs[{}]", shortened(&wanted.name));
            let position = self.outputs.iter().position(|output| output.name == wanted.name).ok_or_else(|| {
                let names: Vec<_> = self.outputs.iter().map(|output| output.name.as_str()).collect();
                BadInput::new(field(), format!("is not an output of this model: it gives {}", names.join(", ")))
            })?;
            if selected.contains(&position) {
                return Err(BadInput::new(field(), "is asked for twice: name each output once"));
            }
            selected.push(position);
        }
        Ok(selected)
    }

    /// The selected outputs and their contents.
    pub(crate) fn encode(
        &self,
        selected: &[usize],
        prediction: &Prediction,
        rows: usize,
    ) -> (Vec<InferOutputTensor>, Vec<Bytes>) {
        selected
            .iter()
            .filter_map(|&position| Some((self.outputs.get(position)?, prediction.outputs.get(position)?)))
            .map(|(output, values)| (tensor(output, rows), contents(values)))
            .unzip()
    }
}

fn tensor(output: &Output, rows: usize) -> InferOutputTensor {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    InferOutputTensor {
        name: output.name.clone(),
        datatype: output.datatype.as_str().to_owned(),
        shape: output.shape.iter().map(|&size| if size == -1 { rows } else { size }).collect(),
        parameters: HashMap::new(),
        contents: None,
    }
}

fn contents(values: &Values) -> Bytes {
    match values {
        Values::Fp32 { values, .. } => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Values::Text(texts) => {
            let mut bytes = BytesMut::with_capacity(texts.iter().map(|text| 4 + text.len()).sum());
            for text in texts {
                // Class names come from a manifest, which is far below 4 GiB.
                bytes.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
                bytes.put_slice(text.as_bytes());
            }
            bytes.freeze()
        }
    }
}
