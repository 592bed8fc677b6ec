//! How much each input of a network contributes to an output, by integrated gradients.
//!
//! The contribution of an input is its difference from the baseline times the mean gradient on the straight line from the baseline to the
//! row (Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks"). The contributions add up to the difference of the
//! output from that of the baseline. A network of ReLU layers is linear between the points of the line at which a unit becomes active or
//! inactive, so the mean gradient is computed exactly, one such piece after the other.

use super::{Program, kernel::Packed};

/// How far the contributions may be from the difference that they explain, as a share of that difference or, if it is less than 1,
/// absolutely: a bound of the rounding.
pub const TOLERANCE: f64 = 1e-6;
/// The least length of a piece, of a line of length 1.
const LEAST: f64 = 1e-9;
/// The most pieces of a line. The gradient of the rest is that of its middle.
const MOST: usize = 10_000;

/// The input of the first layer and the indices of the categorical features, of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) dense: Vec<f64>,
    pub(crate) indices: Vec<u32>,
}

/// The contributions to one output of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Contributions {
    /// Of each dense feature.
    pub(crate) dense: Vec<f64>,
    /// Of each categorical feature.
    pub(crate) categories: Vec<f64>,
    /// The output for the baseline.
    pub(crate) baseline: f64,
    /// The output for the row.
    pub(crate) output: f64,
}

impl Program {
    /// The contributions to `output` of the features in which `row` differs from `baseline`.
    pub(crate) fn contributions(&self, row: &Point, baseline: &Point, output: usize) -> Contributions {
        match self.hidden.split_first() {
            None => self.linear(row, baseline, output),
            Some((first, others)) => {
                let (input, base) = (self.embedded(row), self.embedded(baseline));
                let of_member = |member: usize| {
                    let factors = self.members.as_ref().map(|members| members.row(member));
                    let scaled = |inputs: &[f64]| match factors {
                        Some(factors) => {
                            inputs.iter().zip(factors).map(|(value, factor)| value * f64::from(*factor)).collect()
                        }
                        None => inputs.to_vec(),
                    };
                    integrated(first, others, &self.output[member], (&scaled(&input), &scaled(&base)), output)
                };
                self.mean((0..self.output.len()).map(of_member), row.dense.len())
            }
        }
    }

    /// The mean over the members of a network, by features.
    fn mean(&self, members: impl Iterator<Item = Integrated>, dense: usize) -> Contributions {
        let (mut parts, mut baseline, mut output) = (Vec::new(), 0.0, 0.0);
        let weight = 1.0 / self.output.len() as f64;
        for member in members {
            parts.resize(member.parts.len(), 0.0);
            parts.iter_mut().zip(member.parts).for_each(|(sum, part)| *sum += weight * part);
            baseline += weight * member.baseline;
            output += weight * member.output;
        }
        let (dense, mut embedded) = parts.split_at(dense);
        let categories = self.embeddings.iter().map(|embedding| {
            let (own, rest) = embedded.split_at(embedding.columns);
            embedded = rest;
            own.iter().sum()
        });
        Contributions { categories: categories.collect(), dense: dense.to_vec(), baseline, output }
    }

    fn linear(&self, row: &Point, baseline: &Point, output: usize) -> Contributions {
        let differences = row.dense.iter().zip(&baseline.dense).map(|(value, base)| value - base);
        let embedded = |index: u32, at: usize| f64::from(self.embeddings[at].row(index as usize)[output]);
        let dense = differences.enumerate().map(|(at, difference)| difference * self.output[0].weight(at, output));
        let indices = row.indices.iter().zip(&baseline.indices).enumerate();
        let categories = indices.map(|(at, (&index, &base))| embedded(index, at) - embedded(base, at));
        let sum = |point: &Point| {
            let embedded = point.indices.iter().enumerate().map(|(at, &index)| embedded(index, at)).sum::<f64>();
            self.output[0].outputs_of(&point.dense)[output] + embedded
        };
        Contributions {
            dense: dense.collect(),
            categories: categories.collect(),
            baseline: sum(baseline),
            output: sum(row),
        }
    }

    /// The input of the first layer: the dense features, then the embeddings.
    fn embedded(&self, point: &Point) -> Vec<f64> {
        let rows = self.embeddings.iter().zip(&point.indices).map(|(embedding, &index)| embedding.row(index as usize));
        point.dense.iter().copied().chain(rows.flatten().map(|&value| f64::from(value))).collect()
    }
}

/// The contributions of the inputs of the first layer to an output of one member.
struct Integrated {
    parts: Vec<f64>,
    baseline: f64,
    output: f64,
}

fn integrated(
    first: &Packed,
    others: &[Packed],
    last: &Packed,
    (input, base): (&[f64], &[f64]),
    output: usize,
) -> Integrated {
    // Before its activation, the first layer is linear on the line.
    let (end, start) = (first.outputs_of(input), first.outputs_of(base));
    let slope: Vec<f64> = start.iter().zip(&end).map(|(start, end)| end - start).collect();
    let line = |at: f64| start.iter().zip(&slope).map(|(start, slope)| start + at * slope).collect::<Vec<_>>();
    let rest = |sums: Vec<f64>| rest(others, last, sums, output);
    let (baseline, row, mut gradient, mut at) = (rest(line(0.0)).0, rest(end).0, vec![0.0; start.len()], 0.0);
    for piece in 1..=MOST {
        // Beyond the point itself, where it is not decided which units are active.
        let inside = at + LEAST;
        let length = if piece < MOST { next_kink(others, line(inside), slope.clone()) } else { 1.0 };
        let until = (inside + length).min(1.0);
        let (_, own) = rest(line((at + until) / 2.0));
        gradient.iter_mut().zip(own).for_each(|(sum, own)| *sum += own * (until - at));
        at = until;
        if at >= 1.0 {
            break;
        }
    }
    let gradient = first.inputs_of(&gradient);
    let parts = input.iter().zip(base).zip(gradient).map(|((value, base), slope)| (value - base) * slope).collect();
    Integrated { parts, baseline, output: row }
}

/// One output of the layers after the first for the sums of the first hidden layer, and its gradient with respect to them.
fn rest(others: &[Packed], last: &Packed, sums: Vec<f64>, output: usize) -> (f64, Vec<f64>) {
    let relu = |sums: &[f64]| sums.iter().map(|sum| sum.max(0.0)).collect::<Vec<_>>();
    let mut all = vec![sums];
    for layer in others {
        let next = layer.outputs_of(&relu(&all[all.len() - 1]));
        all.push(next);
    }
    let result = last.outputs_of(&relu(&all[all.len() - 1]))[output];
    let mut unit = vec![0.0; last.stride()];
    unit[output] = 1.0;
    let mut gradient = last.inputs_of(&unit);
    for (at, sums) in all.iter().enumerate().rev() {
        let active = gradient.iter().zip(sums).map(|(gradient, sum)| if *sum > 0.0 { *gradient } else { 0.0 });
        gradient = active.collect();
        if let Some(layer) = at.checked_sub(1).map(|at| &others[at]) {
            gradient = layer.inputs_of(&gradient);
        }
    }
    (result, gradient)
}

/// The distance, in the direction of `slopes`, at which the next unit becomes active or inactive. `sums` are those of the first
/// hidden layer.
fn next_kink(others: &[Packed], mut sums: Vec<f64>, mut slopes: Vec<f64>) -> f64 {
    let mut nearest = f64::INFINITY;
    for layer in others.iter().map(Some).chain([None]) {
        for (sum, slope) in sums.iter().zip(&slopes) {
            if sum * slope < 0.0 {
                nearest = nearest.min(-sum / slope);
            }
        }
        if let Some(layer) = layer {
            let active: Vec<bool> = sums.iter().map(|sum| *sum > 0.0).collect();
            let only = |values: &[f64]| {
                values.iter().zip(&active).map(|(value, active)| if *active { *value } else { 0.0 }).collect::<Vec<_>>()
            };
            (sums, slopes) = (layer.outputs_of(&only(&sums)), layer.changes_of(&only(&slopes)));
        }
    }
    nearest.max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{Layer, Matrix, Network},
        pipeline::Encoded,
    };

    fn matrix(rows: usize, columns: usize, seed: u64) -> Matrix {
        use rand::{RngExt as _, SeedableRng as _};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Matrix { rows, columns, data: (0..rows * columns).map(|_| random.random_range(-1.0..1.0)).collect() }
    }

    fn layer(inputs: usize, outputs: usize, seed: u64) -> Layer {
        Layer { weight: matrix(inputs, outputs, seed), bias: matrix(1, outputs, seed + 1).data }
    }

    fn points() -> (Point, Point) {
        let row = Point { dense: vec![1.5, -2.0, 0.25], indices: vec![2, 1] };
        (row, Point { dense: vec![0.0, 0.5, 0.0], indices: vec![0, 0] })
    }

    fn sum(contributions: &Contributions) -> f64 {
        contributions.dense.iter().chain(&contributions.categories).sum()
    }

    #[test]
    fn the_contributions_to_a_linear_model_are_the_terms_of_its_sum() {
        let network = Network {
            convolution: None,
            embeddings: vec![matrix(3, 2, 1), matrix(2, 2, 2)],
            members: None,
            hidden: vec![],
            output: layer(3, 2, 3),
        };
        let (row, baseline) = points();
        let found = Program::new(&network).contributions(&row, &baseline, 1);
        assert!((sum(&found) - (found.output - found.baseline)).abs() < 1e-12, "{found:?}");
        let slope = f64::from(network.output.weight.row(1)[1]);
        assert!((found.dense[1] - (-2.5) * slope).abs() < 1e-12, "{found:?}");
        assert_eq!(found.dense.len() + found.categories.len(), 5);
    }

    #[test]
    fn the_contributions_to_a_network_add_up_to_the_difference_from_the_baseline() {
        for seed in 0..20 {
            let members = (seed % 2 == 1).then(|| matrix(4, 6, seed + 500));
            let network = Network {
                convolution: None,
                embeddings: vec![matrix(3, 2, seed), matrix(2, 1, seed + 100)],
                hidden: vec![layer(6, 40, seed + 200), layer(40, 20, seed + 300)],
                output: layer(20, if members.is_some() { 12 } else { 3 }, seed + 400),
                members,
            };
            let (row, baseline) = points();
            for output in 0..3 {
                let found = Program::new(&network).contributions(&row, &baseline, output);
                let rows =
                    Encoded { rows: 1, width: 3, categories: 2, dense: vec![1.5, -2.0, 0.25], indices: vec![2, 1] };
                assert!((found.output - f64::from(network.forward(&rows)[output])).abs() < 1e-4, "the served output");
                let difference = found.output - found.baseline;
                let tolerance = TOLERANCE * difference.abs().max(1.0);
                assert!((sum(&found) - difference).abs() <= tolerance, "{seed}: {} of {difference}", sum(&found));
                let same = Program::new(&network).contributions(&baseline, &baseline, output);
                assert_eq!(sum(&same), 0.0, "the baseline differs in nothing");
            }
        }
    }
}
