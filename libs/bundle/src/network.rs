//! The feed-forward network of the network backend, computed one row at a time with plain matrices.
//!
//! Training uses a learning framework, serving does not: kernels for whole batches choose the order of their sums by the
//! shape of the batch, so that the bits of a row would depend on its neighbours; and for single rows of a small network
//! most of the time would go into preparing tensors. Here every output is summed over the inputs in the same order,
//! in instructions that all x86-64 and all ARM machines share.

mod safetensors;
mod shape;

pub use shape::Shape;

use crate::pipeline::Encoded;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// One per categorical feature, with one row per index.
    pub embeddings: Vec<Matrix>,
    /// Hidden layers, first to last.
    pub hidden: Vec<Layer>,
    /// The output layer.
    pub output: Layer,
}

impl Network {
    /// The number of outputs per row.
    pub fn outputs(&self) -> usize {
        self.output.bias.len()
    }

    /// The outputs of every row, row-major, before sigmoid or softmax.
    pub fn forward(&self, rows: &Encoded) -> Vec<f32> {
        let mut outputs = vec![0.0; rows.rows * self.outputs()];
        let mut scratch = Scratch::default();
        for (row, output) in outputs.chunks_exact_mut(self.outputs()).enumerate() {
            let (dense, indices) = rows.row(row);
            self.forward_row(dense, indices, &mut scratch, output);
        }
        outputs
    }

    fn forward_row(&self, dense: &[f32], indices: &[u32], scratch: &mut Scratch, output: &mut [f32]) {
        let embedded = self.embeddings.iter().zip(indices).map(|(embedding, &index)| embedding.row(index as usize));
        if self.hidden.is_empty() {
            self.output.apply(dense, output);
            for row in embedded {
                for (sum, value) in output.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            return;
        }
        let Scratch { input, result } = scratch;
        input.clear();
        input.extend_from_slice(dense);
        embedded.for_each(|row| input.extend_from_slice(row));
        for layer in &self.hidden {
            result.resize(layer.bias.len(), 0.0);
            layer.apply(input, result);
            result.iter_mut().for_each(relu);
            std::mem::swap(input, result);
        }
        self.output.apply(input, output);
    }
}

/// Not-a-number stays, unlike with `f32::max`: an overflow must not become a plausible prediction.
fn relu(value: &mut f32) {
    if *value < 0.0 {
        *value = 0.0;
    }
}

impl Layer {
    /// Sums over the inputs in order. The compiler vectorizes over the outputs, so that no sum is reordered. Zero inputs,
    /// which are frequent after a ReLU, are skipped.
    fn apply(&self, input: &[f32], output: &mut [f32]) {
        output.copy_from_slice(&self.bias);
        for (&value, weights) in input.iter().zip(self.weight.data.chunks_exact(self.weight.columns)) {
            if value != 0.0 {
                output.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
            }
        }
    }
}

/// Buffers that are reused from row to row.
#[derive(Debug, Default)]
struct Scratch {
    input: Vec<f32>,
    result: Vec<f32>,
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
            embeddings: vec![matrix(2, 1, &[10.0, 20.0])],
            hidden: vec![],
            output: Layer { weight: matrix(2, 1, &[2.0, 3.0]), bias: vec![0.5] },
        };
        assert_eq!(network.forward(&encoded(&[1.0, 1.0], &[1])), [25.5]);
    }

    #[test]
    fn hidden_layers_apply_relu() {
        let network = Network {
            embeddings: vec![matrix(1, 1, &[-1.0])],
            hidden: vec![Layer { weight: matrix(2, 2, &[1.0, 0.0, 0.0, 1.0]), bias: vec![0.0, 0.0] }],
            output: Layer { weight: matrix(2, 1, &[1.0, 100.0]), bias: vec![0.0] },
        };
        assert_eq!(network.forward(&encoded(&[3.0], &[0])), [3.0]);
    }

    #[test]
    fn overflow_in_a_hidden_layer_reaches_the_output() {
        let network = Network {
            embeddings: vec![],
            hidden: vec![Layer { weight: matrix(2, 1, &[f32::MAX, f32::MIN]), bias: vec![0.0] }],
            output: Layer { weight: matrix(1, 1, &[1.0]), bias: vec![0.5] },
        };
        assert!(network.forward(&encoded(&[8.0, 8.0], &[])).iter().all(|value| value.is_nan()));
    }
}
