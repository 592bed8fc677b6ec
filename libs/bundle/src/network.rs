//! The feed-forward network of the network backend.
//!
//! Training uses a learning framework, serving does not: kernels for whole batches choose the order of their sums by the shape of the batch,
//! so that the bits of a row would depend on its neighbours; and for single rows of a small network most of the time would go into preparing
//! tensors. The [`kernel`] sums every output over the inputs in the same order, whatever the batch and the processor.

mod attribution;
mod convolution;
mod kernel;
mod safetensors;
mod shape;

pub use attribution::TOLERANCE;
pub(crate) use attribution::{Contributions, Point};
pub use convolution::Convolution;
pub use shape::{ConvolutionShape, Shape};

use std::ops::Range;

use arrow::array::RecordBatch;

use self::{
    convolution::{PackedConvolution, Workspace},
    kernel::{Activation, Packed},
};
use crate::{
    Error,
    pipeline::{Encoded, Encoder},
};

/// A row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub columns: usize,
    /// `rows * columns` elements.
    pub data: Vec<f32>,
}

impl Matrix {
    /// The elements of one row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }
}

/// A fully connected layer: `x W + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// `[inputs, outputs]`.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// A feed-forward network over dense features and one embedding per categorical feature.
///
/// Without hidden layers it is a linear model: embeddings have one column per output and are added to the output. With
/// hidden layers (ReLU), the input of the first layer is the dense features followed by the embeddings.
///
/// With `members` it is an ensemble that shares the hidden layers (TabM-mini: Gorishniy, Kotelnikov and Babenko 2025, "TabM: Advancing
/// tabular deep learning with parameter-efficient ensembling"): each member multiplies the inputs of the first layer with factors of its
/// own and has an output layer of its own. The output is the mean over the members.
///
/// With a `convolution`, the dense features are the values of an image, and the input of the first layer is what the convolution makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The layers before the hidden ones, of a network for images. It has no categorical features.
    pub convolution: Option<Convolution>,
    /// One per categorical feature, with one row per index.
    pub embeddings: Vec<Matrix>,
    /// The factors of the inputs of the first layer, one row per member of an ensemble.
    pub members: Option<Matrix>,
    /// Hidden layers, first to last.
    pub hidden: Vec<Layer>,
    /// The output layer. The outputs of an ensemble are those of the first member, then those of the second, and so on.
    pub output: Layer,
}

impl Network {
    /// The number of outputs per row.
    pub fn outputs(&self) -> usize {
        self.output.bias.len() / self.members.as_ref().map_or(1, |members| members.rows)
    }

    /// The output layer of each member.
    fn output_layers(&self) -> Vec<Layer> {
        let outputs = self.outputs();
        let (rows, all) = (self.output.weight.rows, self.output.weight.columns);
        let layer = |start: usize| {
            let data =
                (0..rows).flat_map(|row| &self.output.weight.row(row)[start..start + outputs]).copied().collect();
            Layer {
                weight: Matrix { rows, columns: outputs, data },
                bias: self.output.bias[start..start + outputs].to_vec(),
            }
        };
        (0..all).step_by(outputs).map(layer).collect()
    }

    /// The outputs of every row, row-major, before sigmoid or softmax.
    pub fn forward(&self, rows: &Encoded) -> Vec<f32> {
        Program::new(self).forward(rows.rows, |Block { range, dense, stride, indices }| {
            for (at, row) in range.enumerate() {
                let (features, categories) = rows.row(row);
                dense[at * stride..at * stride + features.len()].copy_from_slice(features);
                indices[at * categories.len()..(at + 1) * categories.len()].copy_from_slice(categories);
            }
        })
    }

    /// The outputs of every row of a batch, as [`Network::forward`] computes them: the rows are encoded a few at a time.
    ///
    /// # Errors
    /// As for [`Encoder::encode`].
    pub fn forward_batch(&self, encoder: &Encoder, batch: &RecordBatch) -> Result<Vec<f32>, Error> {
        Program::new(self).forward_batch(encoder, batch)
    }
}

/// Rows that are computed together: their inputs and the results of the layers stay in the cache.
const BLOCK: usize = 48;

/// A network that is prepared for computing.
#[derive(Debug)]
pub(crate) struct Program {
    convolution: Option<PackedConvolution>,
    embeddings: Vec<Matrix>,
    members: Option<Matrix>,
    hidden: Vec<Packed>,
    /// One per member.
    output: Vec<Packed>,
    outputs: usize,
}

/// Where the features of some rows are to be written.
struct Block<'a> {
    /// The rows.
    range: Range<usize>,
    /// The dense features of the rows, whose beginnings are `stride` apart.
    dense: &'a mut [f32],
    /// The distance between the rows of `dense`.
    stride: usize,
    /// The indices of the categorical features, row-major.
    indices: &'a mut [u32],
}

impl Program {
    /// Prepares a network.
    pub(crate) fn new(network: &Network) -> Self {
        Self {
            convolution: network.convolution.as_ref().map(PackedConvolution::new),
            embeddings: network.embeddings.clone(),
            members: network.members.clone(),
            hidden: network.hidden.iter().map(Packed::new).collect(),
            output: network.output_layers().iter().map(Packed::new).collect(),
            outputs: network.outputs(),
        }
    }

    /// The outputs of every row, row-major, before sigmoid or softmax. `write` is called for one block of rows after the other.
    fn forward(&self, rows: usize, mut write: impl FnMut(Block<'_>)) -> Vec<f32> {
        let categories = self.embeddings.len();
        let (stride, height) = (self.inputs(), rows.min(BLOCK));
        let widest = self.hidden.iter().chain(&self.output).map(Packed::stride).max().unwrap_or(0);
        let (mut input, mut indices) = (vec![0.0; height * stride], vec![0; height * categories]);
        let mut scaled = vec![0.0; if self.members.is_some() { input.len() } else { 0 }];
        let (mut result, mut next) = (vec![0.0; height * widest], vec![0.0; height * widest]);
        let (mut convolved, mut workspace) = (Vec::new(), Workspace::default());
        let mut outputs = Vec::with_capacity(rows * self.outputs);
        for start in (0..rows).step_by(BLOCK) {
            let range = start..rows.min(start + BLOCK);
            let height = range.len();
            write(Block { range, dense: &mut input, stride, indices: &mut indices });
            if !self.hidden.is_empty() {
                self.embed(height, stride, &mut input, &indices);
            }
            let (input, stride) = match &self.convolution {
                Some(convolution) => {
                    convolution.apply(&input[..height * stride], &mut workspace, &mut convolved);
                    (&convolved, convolution.outputs())
                }
                None => (&input, stride),
            };
            let before = outputs.len();
            for (member, last) in self.output.iter().enumerate() {
                let input = match &self.members {
                    Some(factors) => {
                        multiply(&input[..height * stride], factors.row(member), &mut scaled);
                        &scaled
                    }
                    None => input,
                };
                let mut from_stride = stride;
                for (at, layer) in self.hidden.iter().enumerate() {
                    let from = if at == 0 { input } else { &result };
                    layer.apply(from, from_stride, height, &mut next, Activation::Relu);
                    std::mem::swap(&mut result, &mut next);
                    from_stride = layer.stride();
                }
                let from = if self.hidden.is_empty() { input } else { &result };
                last.apply(from, from_stride, height, &mut next, Activation::None);
                let rows = next.chunks_exact(last.stride()).take(height).map(|row| &row[..self.outputs]);
                if member == 0 {
                    rows.for_each(|row| outputs.extend_from_slice(row));
                } else {
                    outputs[before..].chunks_exact_mut(self.outputs).zip(rows).for_each(|(sums, row)| add(sums, row));
                }
            }
            if self.hidden.is_empty() {
                for (row, output) in outputs[before..].chunks_exact_mut(self.outputs).enumerate() {
                    self.add_embeddings(&indices[row * categories..(row + 1) * categories], output);
                }
            }
            if self.members.is_some() {
                outputs[before..].iter_mut().for_each(|sum| *sum /= self.output.len() as f32);
            }
        }
        outputs
    }

    /// The outputs of every row of a batch, row-major, before sigmoid or softmax.
    ///
    /// # Errors
    /// As for [`Encoder::encode`].
    pub(crate) fn forward_batch(&self, encoder: &Encoder, batch: &RecordBatch) -> Result<Vec<f32>, Error> {
        let columns = encoder.columns(batch)?;
        Ok(self.forward(batch.num_rows(), |Block { range, dense, stride, indices }| {
            columns.write(range, dense, stride, indices);
        }))
    }

    /// Whether the contributions of single features can be computed.
    pub(crate) const fn has_contributions(&self) -> bool {
        self.convolution.is_none()
    }

    /// Inputs of the first layer.
    fn inputs(&self) -> usize {
        if let Some(convolution) = &self.convolution {
            return convolution.inputs();
        }
        self.hidden.first().or(self.output.first()).map_or(0, Packed::inputs)
    }

    /// Writes the embeddings of the categorical features after the dense features.
    fn embed(&self, rows: usize, stride: usize, input: &mut [f32], indices: &[u32]) {
        let embedded: usize = self.embeddings.iter().map(|embedding| embedding.columns).sum();
        let categories = self.embeddings.len();
        for row in 0..rows {
            let mut at = (row + 1) * stride - embedded;
            for (embedding, &index) in self.embeddings.iter().zip(&indices[row * categories..]) {
                input[at..at + embedding.columns].copy_from_slice(embedding.row(index as usize));
                at += embedding.columns;
            }
        }
    }

    /// Adds the embeddings of a linear model, which have one column per output.
    fn add_embeddings(&self, indices: &[u32], output: &mut [f32]) {
        for (embedding, &index) in self.embeddings.iter().zip(indices) {
            add(output, embedding.row(index as usize));
        }
    }
}

fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// Multiplies each row with the factors.
fn multiply(rows: &[f32], factors: &[f32], products: &mut [f32]) {
    for (row, products) in rows.chunks_exact(factors.len()).zip(products.chunks_exact_mut(factors.len())) {
        products.iter_mut().zip(row).zip(factors).for_each(|((product, value), factor)| *product = value * factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize, data: &[f32]) -> Matrix {
        Matrix { rows, columns, data: data.to_vec() }
    }

    fn encoded(dense: &[f32], indices: &[u32]) -> Encoded {
        Encoded {
            rows: 1,
            width: dense.len(),
            categories: indices.len(),
            dense: dense.to_vec(),
            indices: indices.to_vec(),
        }
    }

    #[test]
    fn linear_model_adds_category_weights() {
        let network = Network {
            convolution: None,
            embeddings: vec![matrix(2, 1, &[10.0, 20.0])],
            members: None,
            hidden: vec![],
            output: Layer { weight: matrix(2, 1, &[2.0, 3.0]), bias: vec![0.5] },
        };
        assert_eq!(network.forward(&encoded(&[1.0, 1.0], &[1])), [25.5]);
    }

    #[test]
    fn hidden_layers_apply_relu() {
        let network = Network {
            convolution: None,
            embeddings: vec![matrix(1, 1, &[-1.0])],
            members: None,
            hidden: vec![Layer { weight: matrix(2, 2, &[1.0, 0.0, 0.0, 1.0]), bias: vec![0.0, 0.0] }],
            output: Layer { weight: matrix(2, 1, &[1.0, 100.0]), bias: vec![0.0] },
        };
        assert_eq!(network.forward(&encoded(&[3.0], &[0])), [3.0]);
    }

    #[test]
    fn overflow_in_a_hidden_layer_reaches_the_output() {
        let network = Network {
            convolution: None,
            embeddings: vec![],
            members: None,
            hidden: vec![Layer { weight: matrix(2, 1, &[f32::MAX, f32::MIN]), bias: vec![0.0] }],
            output: Layer { weight: matrix(1, 1, &[1.0]), bias: vec![0.5] },
        };
        assert!(network.forward(&encoded(&[8.0, 8.0], &[])).iter().all(|value| value.is_nan()));
    }
}
