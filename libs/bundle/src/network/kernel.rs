//! The product of rows with a layer, blocked for the registers of the processor.
//!
//! Every output of a row is its bias plus the products of the inputs with the weights, added one after the other in the order of the
//! inputs. Products are rounded before they are added: fused instructions, which some processors lack, would give other bits. So the bits of a
//! row depend neither on the rows beside it nor on the width of the instructions, which is chosen when the program runs.

use pulp::{Arch, Scalar256b, Simd, WithSimd};

use super::Layer;

/// Rows of a block where there are 32 registers for vectors: 24 sums, 2 weights and an input.
const MANY: usize = 12;
/// Rows of a block otherwise: 8 sums, 2 weights and an input.
const FEW: usize = 4;

/// A layer whose weights are stored in the order in which they are read: panels of one or two vectors of outputs, each with the weights of
/// all inputs in turn.
#[derive(Debug)]
pub(super) struct Packed {
    inputs: usize,
    /// Outputs per panel; those of the last panel are filled up with zeros.
    width: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
}

/// Runs with the widest instructions that the processor has.
fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    match Arch::new() {
        Arch::Scalar => op.with_simd(Scalar256b),
        arch => arch.dispatch(op),
    }
}

impl Packed {
    /// Packs a layer for the processor that this runs on.
    pub(super) fn new(layer: &Layer) -> Self {
        Self::for_lanes(layer, dispatch(Lanes))
    }

    /// Packs a layer for vectors of `lanes` elements.
    fn for_lanes(layer: &Layer, lanes: usize) -> Self {
        let (outputs, inputs) = (layer.bias.len(), layer.weight.rows);
        let width = if outputs <= lanes { lanes } else { 2 * lanes };
        let panels = outputs.div_ceil(width);
        let mut packed =
            Self { inputs, width, panels: vec![0.0; panels * width * inputs], bias: vec![0.0; panels * width] };
        packed.bias[..outputs].copy_from_slice(&layer.bias);
        for input in 0..inputs {
            for (panel, weights) in layer.weight.row(input).chunks(width).enumerate() {
                let start = (panel * inputs + input) * width;
                packed.panels[start..start + weights.len()].copy_from_slice(weights);
            }
        }
        packed
    }

    /// The number of inputs.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The number of outputs, filled up to whole panels: the distance between the rows of [`Self::apply`]'s result.
    pub(super) fn stride(&self) -> usize {
        self.bias.len()
    }

    /// The weight of an input for an output.
    pub(super) fn weight(&self, input: usize, output: usize) -> f64 {
        self.weights(input).nth(output).unwrap_or(0.0)
    }

    /// The weights of an input for all outputs, filled up with zeros.
    fn weights(&self, input: usize) -> impl Iterator<Item = f64> + '_ {
        let Self { inputs, width, ref panels, .. } = *self;
        let panel = move |at: usize| &panels[(at * inputs + input) * width..][..width];
        (0..self.bias.len() / width).flat_map(panel).map(|&weight| f64::from(weight))
    }

    /// The outputs for one row in double precision, filled up with zeros. Further inputs are ignored.
    pub(super) fn outputs_of(&self, input: &[f64]) -> Vec<f64> {
        self.added(self.bias.iter().map(|&bias| f64::from(bias)).collect(), input)
    }

    /// How the outputs change if the inputs change so.
    pub(super) fn changes_of(&self, input: &[f64]) -> Vec<f64> {
        self.added(vec![0.0; self.bias.len()], input)
    }

    fn added(&self, mut sums: Vec<f64>, input: &[f64]) -> Vec<f64> {
        for (at, value) in input.iter().take(self.inputs).enumerate() {
            sums.iter_mut().zip(self.weights(at)).for_each(|(sum, weight)| *sum += value * weight);
        }
        sums
    }

    /// The gradient with respect to the inputs, from that with respect to the outputs.
    pub(super) fn inputs_of(&self, outputs: &[f64]) -> Vec<f64> {
        let slope = |input: usize| self.weights(input).zip(outputs).map(|(weight, gradient)| weight * gradient).sum();
        (0..self.inputs).map(slope).collect()
    }

    /// Computes `rows` rows of `output` from those of `input`, whose rows are `stride` apart.
    pub(super) fn apply(&self, input: &[f32], stride: usize, rows: usize, output: &mut [f32], activation: Activation) {
        dispatch(Product { layer: self, input, stride, rows, output, activation });
    }
}

/// What follows the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// Nothing.
    None,
    /// Negative sums become zero. Not-a-number stays, unlike with a maximum: an overflow must not become a plausible prediction.
    Relu,
}

/// The number of elements of a vector.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

struct Product<'a> {
    layer: &'a Packed,
    input: &'a [f32],
    stride: usize,
    rows: usize,
    output: &'a mut [f32],
    activation: Activation,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if self.layer.width == S::F32_LANES {
            self.all_rows::<S, 1>(simd);
        } else {
            self.all_rows::<S, 2>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn all_rows<S: Simd, const VECTORS: usize>(&mut self, simd: S) {
        let mut row = 0;
        if S::REGISTER_COUNT >= 32 {
            while self.rows - row >= MANY {
                self.block::<S, MANY, VECTORS>(simd, row);
                row += MANY;
            }
        }
        while self.rows - row >= FEW {
            self.block::<S, FEW, VECTORS>(simd, row);
            row += FEW;
        }
        while row < self.rows {
            self.block::<S, 1, VECTORS>(simd, row);
            row += 1;
        }
    }

    /// All outputs of `ROWS` rows.
    #[inline(always)]
    fn block<S: Simd, const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize) {
        let Packed { inputs, width, ref panels, ref bias } = *self.layer;
        let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &self.input[(row + r) * self.stride..][..inputs]);
        for (panel, bias) in bias.chunks_exact(width).enumerate() {
            let (bias, _) = S::as_simd_f32s(bias);
            let (weights, _) = S::as_simd_f32s(&panels[panel * inputs * width..(panel + 1) * inputs * width]);
            let (weights, _) = weights.as_chunks::<VECTORS>();
            let weights = &weights[..inputs];
            let mut sums: [[S::f32s; VECTORS]; ROWS] = [std::array::from_fn(|vector| bias[vector]); ROWS];
            for input in 0..inputs {
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let value = simd.splat_f32s(row[input]);
                    for (sum, weight) in sums.iter_mut().zip(&weights[input]) {
                        *sum = simd.add_f32s(*sum, simd.mul_f32s(value, *weight));
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                let start = (row + r) * self.layer.stride() + panel * width;
                let (output, _) = S::as_mut_simd_f32s(&mut self.output[start..start + width]);
                for (output, sum) in output.iter_mut().zip(sums) {
                    *output = self.activation.of(simd, sum);
                }
            }
        }
    }
}

impl Activation {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, sum: S::f32s) -> S::f32s {
        match self {
            Self::None => sum,
            Self::Relu => {
                let zero = simd.splat_f32s(0.0);
                simd.select_f32s(simd.less_than_f32s(sum, zero), zero, sum)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::Matrix;

    /// One row as the module's documentation defines it.
    fn plain(layer: &Layer, input: &[f32], activation: Activation) -> Vec<f32> {
        let mut sums = layer.bias.clone();
        for (at, value) in input.iter().enumerate() {
            for (sum, weight) in sums.iter_mut().zip(layer.weight.row(at)) {
                *sum += value * weight;
            }
        }
        if activation == Activation::Relu {
            sums.iter_mut().filter(|sum| **sum < 0.0).for_each(|sum| *sum = 0.0);
        }
        sums
    }

    /// The bits of every output with these instructions.
    fn bits<S: Simd>(simd: S, layer: &Layer, input: &[f32], rows: usize, activation: Activation) -> Vec<u32> {
        let (packed, outputs) = (Packed::for_lanes(layer, S::F32_LANES), layer.bias.len());
        let mut output = vec![f32::NAN; rows * packed.stride()];
        let stride = layer.weight.rows;
        Product { layer: &packed, input, stride, rows, output: &mut output, activation }.with_simd(simd);
        output.chunks(packed.stride()).flat_map(|row| row[..outputs].iter().map(|value| value.to_bits())).collect()
    }

    struct Native<'a>(&'a Layer, &'a [f32], usize, Activation);

    impl WithSimd for Native<'_> {
        type Output = Vec<u32>;

        fn with_simd<S: Simd>(self, simd: S) -> Vec<u32> {
            bits(simd, self.0, self.1, self.2, self.3)
        }
    }

    proptest! {
        /// Widths and rows around those of panels and blocks.
        #[test]
        fn bits_depend_on_neither_the_batch_nor_the_instructions(
            (inputs, outputs, rows) in (0_usize..40, 1_usize..70, 1_usize..30),
            seed in any::<u64>(),
        ) {
            use rand::{RngExt as _, SeedableRng as _};
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut values = |count: usize| -> Vec<f32> {
                (0..count).map(|_| if random.random_bool(0.2) { 0.0 } else { random.random_range(-3.0..3.0) }).collect()
            };
            let weight = Matrix { rows: inputs, columns: outputs, data: values(inputs * outputs) };
            let layer = Layer { weight, bias: values(outputs) };
            let input = values(rows * inputs);
            for activation in [Activation::None, Activation::Relu] {
                let expected: Vec<u32> = (0..rows)
                    .flat_map(|row| plain(&layer, &input[row * inputs..(row + 1) * inputs], activation))
                    .map(f32::to_bits)
                    .collect();
                prop_assert_eq!(&dispatch(Native(&layer, &input, rows, activation)), &expected);
                prop_assert_eq!(&bits(Scalar256b, &layer, &input, rows, activation), &expected);
                prop_assert_eq!(&bits(pulp::Scalar128b, &layer, &input, rows, activation), &expected);
            }
        }
    }
}
