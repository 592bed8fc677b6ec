//! Predictions as output tensors: names, shapes and elements.

use std::sync::Arc;

use bytes::Bytes;
use rekindle_bundle::{Explanation, Output, Prediction, Signature, Values};
use rekindle_client::wire::raw;

use super::{InvalidInput, shortened};

/// The output tensors of an explanation: names, widths and elements.
pub(crate) fn explained(explanation: &Explanation) -> [(&'static str, usize, &[f64]); 2] {
    [("contributions", explanation.features, &explanation.contributions), ("baseline", 1, &explanation.baselines)]
}

/// Positions of the outputs that a request selects, in its order.
pub(crate) type Selection = Arc<[usize]>;

/// The outputs of one model version, prepared for encoding.
#[derive(Debug)]
pub(crate) struct Outputs {
    outputs: Vec<Output>,
    all: Selection,
}

/// One output tensor of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutputTensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<i64>,
    /// The elements, row-major.
    pub(crate) values: &'a Values,
}

impl OutputTensor<'_> {
    /// The elements in the raw encoding.
    pub(crate) fn raw(&self) -> Bytes {
        match self.values {
            Values::Fp32 { values, .. } => raw::encode(values, f32::to_le_bytes),
            Values::Text(texts) => raw::encode_texts(texts),
        }
    }
}

impl Outputs {
    /// The outputs of a signature.
    pub(crate) fn new(signature: &Signature) -> Self {
        Self { outputs: signature.outputs.clone(), all: (0..signature.outputs.len()).collect() }
    }

    /// The outputs of these names; every output where no name is given.
    pub(crate) fn select<'a>(&self, names: impl ExactSizeIterator<Item = &'a str>) -> Result<Selection, InvalidInput> {
        if names.len() == 0 {
            return Ok(Arc::clone(&self.all));
        }
        let mut selected = Vec::with_capacity(self.outputs.len());
        for name in names {
            let field = || format!("outputs[{}]", shortened(name));
            let position = self.outputs.iter().position(|output| output.name == name).ok_or_else(|| {
                let names: Vec<_> = self.outputs.iter().map(|output| output.name.as_str()).collect();
                InvalidInput::new(
                    field(),
                    format!("is not an output of this model: its outputs are {}", names.join(", ")),
                )
            })?;
            if selected.contains(&position) {
                return Err(InvalidInput::new(field(), "is requested twice: name each output once"));
            }
            selected.push(position);
        }
        Ok(selected.into())
    }

    /// The selected outputs of a prediction.
    pub(crate) fn tensors<'a>(
        &'a self,
        selected: &'a [usize],
        prediction: &'a Prediction,
    ) -> impl Iterator<Item = OutputTensor<'a>> + 'a {
        selected
            .iter()
            .filter_map(|&position| Some((self.outputs.get(position)?, prediction.outputs.get(position)?)))
            .map(|(output, values)| tensor(output, values, prediction.rows))
    }
}

fn tensor<'a>(output: &'a Output, values: &'a Values, rows: usize) -> OutputTensor<'a> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    OutputTensor {
        name: &output.name,
        datatype: output.datatype.as_str(),
        shape: output.shape.iter().map(|&size| if size == -1 { rows } else { size }).collect(),
        values,
    }
}
