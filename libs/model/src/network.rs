//! The network as it serves: plain matrices, and one row at a time.
//!
//! Training uses burn; serving does not, for two reasons. A row's bits must not depend on the rows beside it, and
//! kernels for whole batches sum in an order that follows the batch's shape. And for one row of a small network, the
//! time goes into preparing tensors. Here each output is summed over inputs in one order, whatever the batch, in
//! instructions that every x86-64 or every ARM machine has alike.

mod safetensors;

use rekindle_domain::Architecture;

use crate::pipeline::{Encoded, FIRST_VALUE, Pipeline};

/// A row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// `rows * columns` elements.
    pub data: Vec<f32>,
}

impl Matrix {
    fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }
}

/// `x W + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// `[inputs, outputs]`.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// A feed-forward network over dense numbers and one embedding per categorical feature.
///
/// Without hidden layers it is a linear model: the embeddings have one column per output and are added to it. With
/// hidden layers (ReLU), the embeddings stand behind the dense numbers as input of the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// One per categorical feature; a row per index.
    pub embeddings: Vec<Matrix>,
    /// Hidden layers, from the input on.
    pub hidden: Vec<Layer>,
    /// The last layer.
    pub output: Layer,
}

/// The sizes of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Dense numbers per row.
    pub dense: usize,
    /// Rows and columns per embedding.
    pub embeddings: Vec<(usize, usize)>,
    /// Widths of the hidden layers; none for a linear model.
    pub hidden: Vec<usize>,
    /// Outputs per row, before sigmoid or softmax.
    pub outputs: usize,
}

impl Shape {
    /// The sizes that an architecture has on top of a pipeline.
    pub fn new(architecture: &Architecture, pipeline: &Pipeline, outputs: usize) -> Self {
        let cardinalities = pipeline.cardinalities();
        let (hidden, width): (Vec<usize>, &dyn Fn(usize) -> usize) = match architecture {
            Architecture::Linear => (Vec::new(), &|_| outputs),
            Architecture::Mlp { hidden, .. } => (hidden.clone(), &embedding_width),
        };
        let embeddings = cardinalities.into_iter().map(|rows| (rows, width(rows))).collect();
        Self { dense: pipeline.width(), embeddings, hidden, outputs }
    }

    /// Inputs and outputs of each layer, the last one included.
    pub fn layers(&self) -> Vec<(usize, usize)> {
        let embedded: usize = self.embeddings.iter().map(|&(_, columns)| columns).sum();
        let first = if self.hidden.is_empty() { self.dense } else { self.dense + embedded };
        let inputs = std::iter::once(first).chain(self.hidden.iter().copied());
        inputs.zip(self.hidden.iter().copied().chain([self.outputs])).collect()
    }
}

/// `min(32, ceil(1.6 n^0.56))` for n known values: the rule of thumb of fastai's tabular learner, with a lower bound.
fn embedding_width(cardinality: usize) -> usize {
    let values = cardinality.saturating_sub(FIRST_VALUE as usize).max(1) as f64;
    (1.6 * values.powf(0.56)).ceil().min(32.0) as usize
}

impl Network {
    /// Outputs per row.
    pub fn outputs(&self) -> usize {
        self.output.bias.len()
    }

    /// Outputs of every row, row-major, before sigmoid or softmax.
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
            result.iter_mut().for_each(cut_at_zero);
            std::mem::swap(input, result);
        }
        self.output.apply(input, output);
    }

    /// Multiplies the output by `scale` and adds `offset`: takes a network that learnt a standardised target back to
    /// the target's units.
    pub(crate) fn rescale(&mut self, scale: f64, offset: f64) {
        let times =
            |values: &mut Vec<f32>| values.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        times(&mut self.output.weight.data);
        if self.hidden.is_empty() {
            self.embeddings.iter_mut().for_each(|embedding| times(&mut embedding.data));
        }
        self.output.bias.iter_mut().for_each(|bias| *bias = f64::from(*bias).mul_add(scale, offset) as f32);
    }

    /// Gives indices that no training row had the mean of the others, weighted by their training rows, so that a value
    /// never seen before is answered as the average one rather than by whatever the weights began with.
    pub(crate) fn fill_untrained(&mut self, counts: &[&[u64]]) {
        for (embedding, counts) in self.embeddings.iter_mut().zip(counts) {
            let total = counts.iter().sum::<u64>().max(1) as f64;
            let columns = embedding.columns;
            let mut mean = vec![0.0; columns];
            for (row, &count) in counts.iter().enumerate() {
                for (sum, &value) in mean.iter_mut().zip(embedding.row(row)) {
                    *sum += f64::from(value) * count as f64 / total;
                }
            }
            for (row, _) in counts.iter().enumerate().filter(|&(_, &count)| count == 0) {
                let untrained = &mut embedding.data[row * columns..(row + 1) * columns];
                untrained.iter_mut().zip(&mean).for_each(|(value, &mean)| *value = mean as f32);
            }
        }
    }
}

/// ReLU. What is not a number stays so, unlike with `f32::max`: sums that overflowed must not become a plausible answer.
fn cut_at_zero(value: &mut f32) {
    if *value < 0.0 {
        *value = 0.0;
    }
}

impl Layer {
    /// Sums over inputs in order, for all outputs side by side: the compiler makes vectors of the outputs, so that no
    /// sum is reordered. Inputs of zero, many after a ReLU, add nothing and are passed over.
    fn apply(&self, input: &[f32], output: &mut [f32]) {
        output.copy_from_slice(&self.bias);
        for (&value, weights) in input.iter().zip(self.weight.data.chunks_exact(self.weight.columns)) {
            if value != 0.0 {
                output.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
            }
        }
    }
}

/// Buffers that one row leaves to the next.
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
    fn a_linear_model_adds_the_weights_of_categories() {
        let network = Network {
            embeddings: vec![matrix(2, 1, &[10.0, 20.0])],
            hidden: vec![],
            output: Layer { weight: matrix(2, 1, &[2.0, 3.0]), bias: vec![0.5] },
        };
        assert_eq!(network.forward(&encoded(&[1.0, 1.0], &[1])), [25.5]);
    }

    #[test]
    fn hidden_layers_cut_at_zero() {
        let network = Network {
            embeddings: vec![matrix(1, 1, &[-1.0])],
            hidden: vec![Layer { weight: matrix(2, 2, &[1.0, 0.0, 0.0, 1.0]), bias: vec![0.0, 0.0] }],
            output: Layer { weight: matrix(2, 1, &[1.0, 100.0]), bias: vec![0.0] },
        };
        assert_eq!(network.forward(&encoded(&[3.0], &[0])), [3.0]);
    }

    #[test]
    fn an_overflow_in_a_hidden_layer_reaches_the_answer() {
        let network = Network {
            embeddings: vec![],
            hidden: vec![Layer { weight: matrix(2, 1, &[f32::MAX, f32::MIN]), bias: vec![0.0] }],
            output: Layer { weight: matrix(1, 1, &[1.0]), bias: vec![0.5] },
        };
        assert!(network.forward(&encoded(&[8.0, 8.0], &[])).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn rescaling_is_the_same_as_scaling_the_answer() {
        let mut network = Network {
            embeddings: vec![matrix(1, 1, &[2.0])],
            hidden: vec![],
            output: Layer { weight: matrix(1, 1, &[1.0]), bias: vec![1.0] },
        };
        network.rescale(10.0, 7.0);
        assert_eq!(network.forward(&encoded(&[3.0], &[0])), [67.0]);
    }

    #[test]
    fn an_untrained_index_is_the_average_one() {
        let mut network = Network {
            embeddings: vec![matrix(4, 1, &[99.0, 99.0, 1.0, 5.0])],
            hidden: vec![],
            output: Layer { weight: matrix(0, 1, &[]), bias: vec![0.0] },
        };
        network.fill_untrained(&[&[0, 0, 3, 1]]);
        assert_eq!(network.embeddings[0].data, [2.0, 2.0, 1.0, 5.0]);
    }
}
