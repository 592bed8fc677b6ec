//! The memory that a training takes, before it begins: from the recipe and what is known of the rows.

use std::fmt;

use rekindle_bundle::network::{ConvolutionShape, Shape};
use rekindle_dataset::{is_read_into_memory, value_bytes};
use rekindle_domain::{
    ColumnKind, Recipe, Search,
    recipe::{Architecture, Optimizer},
};

use crate::{fit::MAX_VALUES, learner::shards, rows::MOST_KEPT, search::largest};

/// What is known of the rows before they are read.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsSize {
    /// Rows.
    pub rows: u64,
    /// The kind of each column that is used, and its distinct values if they are known.
    pub columns: Vec<(ColumnKind, Option<u64>)>,
    /// The kind of each column that is read.
    pub read: Vec<ColumnKind>,
    /// Outputs of the network: the number of classes, or 1.
    pub outputs: u64,
}

/// The estimated memory of a training in bytes, by what takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingMemory {
    /// Weights of the network.
    pub parameters: u64,
    /// Of weights, gradients, moments of the optimizer, and copies of them.
    pub network: u64,
    /// Of the values between the layers, for one batch.
    pub batch: u64,
    /// Of the rows: the table, if it is read into memory, their encoding, if it is kept, and labels, predictions and losses.
    pub rows: u64,
}

/// Copies of the weights in single precision: themselves, their average, two moments, those of the step in progress, the network whose loss
/// is measured; the gradients of each shard are beside them.
const COPIES: u64 = 6;
/// Copies of the weights in a checkpoint: themselves, their average, two moments and the best ones so far, and the same in the stored form with
/// those of the best trial.
const CHECKPOINT_COPIES: u64 = 11;
/// Copies of the weights of the best trial while another one is in progress: the network, and the form in checkpoints.
const BEST_TRIAL: u64 = 2;
/// Copies of the values between the layers: before and after the activation, the mask of dropout, what it leaves, and their gradients.
const BATCH_COPIES: u64 = 8;
/// Bytes of a text that is counted: its place in a sorted map, and in the list by frequency.
const DISTINCT: u64 = 64;
/// Bytes of a number in double precision.
const DOUBLE: u64 = 8;
/// Bytes of a row besides its values, its encoding and its predictions, at most: its label as an index or a number, and as the loss needs
/// it, its weight, its position in the order of an epoch, its predicted class, and the losses of a validation row.
const ROW: u64 = 96;
/// Bytes of a number or an index of an encoded row, and of a weight.
const SINGLE: u64 = 4;
/// Dense features of a column at most: those of a time.
const CALENDAR: u64 = 12;

impl TrainingMemory {
    /// Estimates the memory of a training.
    pub fn estimate(recipe: &Recipe, size: &RowsSize) -> Self {
        let shape = shape(recipe, size);
        let layers = || shape.hidden_layers().chain([shape.output_layer()]);
        let embeddings = shape.embeddings.iter().map(|&(rows, columns)| product(&[rows, columns]));
        let filters = || shape.convolution.iter().flat_map(ConvolutionShape::layers);
        let weights = layers().chain(filters()).map(|(inputs, outputs)| product(&[inputs + 1, outputs]));
        let members = shape.members.unwrap_or(1) as u64;
        let factors = shape.members.map_or(0, |members| product(&[members, shape.inputs()]));
        let parameters = sum(embeddings.chain(weights).chain([factors]));
        let Optimizer { batch_size, .. } = *recipe.model.optimizer();
        let widths = sum(layers().map(|(inputs, outputs)| (inputs + outputs) as u64)).saturating_mul(members);
        let widths = widths.saturating_add(shape.convolution.as_ref().map_or(0, images));
        let batch = widths.saturating_mul((batch_size as u64).min(size.rows)).saturating_mul(SINGLE * BATCH_COPIES);
        let features = (shape.dense + shape.embeddings.len()) as u64;
        // Fewer features than these may be kept where all would not.
        let encoded = size.rows.saturating_mul(SINGLE * features).min(MOST_KEPT);
        // One column at a time is copied, in order of size.
        let row = ROW + DOUBLE + (SINGLE + DOUBLE) * size.outputs;
        let rows = sum([size.rows.saturating_mul(row), encoded, size.in_memory(), size.vocabularies()]);
        let copies = COPIES + CHECKPOINT_COPIES + shards(batch_size) as u64;
        Self { parameters, network: parameters.saturating_mul(SINGLE * copies), batch, rows }
    }

    /// Estimates the memory of a search: that of the largest recipe that it tries, and the rows in order of time of the best trial.
    pub fn estimate_search(recipe: &Recipe, search: &Search, size: &RowsSize) -> Self {
        let drawn = if search.models { largest(recipe) } else { Vec::new() };
        let estimates = drawn.iter().chain([recipe]).map(|recipe| Self::estimate(recipe, size));
        let mut most = estimates.max_by_key(Self::total).unwrap_or_else(|| Self::estimate(recipe, size));
        if search.is_needed() {
            // The labels of the best trial, and its copy of a table that was not in order of time.
            most.rows = sum([most.rows, size.rows.saturating_mul(ROW), size.in_memory() / 2]);
            most.network = most.network.saturating_add(most.parameters.saturating_mul(SINGLE * BEST_TRIAL));
        }
        most
    }

    /// Everything together.
    pub fn total(&self) -> u64 {
        sum([self.network, self.batch, self.rows])
    }
}

impl fmt::Display for TrainingMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters, network, batch, rows } = self;
        let total = self.total();
        write!(
            f,
            "some {total} bytes of memory ({network} for {parameters} weights, {batch} for a batch, {rows} for the rows)"
        )
    }
}

/// Values of the patches around every pixel and of the images that the filters make of one image.
fn images(convolution: &ConvolutionShape) -> u64 {
    let sizes = (0..).map(|layers| convolution.image.pooled(layers));
    sum(convolution
        .layers()
        .zip(sizes)
        .map(|((inputs, filters), (height, width))| product(&[inputs + filters, height, width])))
}

impl RowsSize {
    /// Bytes of the table, as it is read and in order of time; of one in temporary files, those of a bit per value, twice while they grow.
    fn in_memory(&self) -> u64 {
        let kinds = || self.read.iter().copied();
        if !is_read_into_memory(self.rows, kinds()) {
            return (self.rows / 8).saturating_mul(2 * self.read.len() as u64);
        }
        self.rows.saturating_mul(2 * kinds().map(value_bytes).sum::<u64>())
    }

    /// Bytes of the different texts of the column that has most, while they are counted.
    fn vocabularies(&self) -> u64 {
        let texts = self.columns.iter().filter(|(kind, _)| *kind == ColumnKind::Categorical);
        texts.map(|(_, distinct)| distinct.unwrap_or(self.rows).saturating_mul(DISTINCT)).max().unwrap_or(0)
    }
}

/// The sizes of the largest network that the rows can lead to.
fn shape(recipe: &Recipe, size: &RowsSize) -> Shape {
    let bins = recipe.model.bins();
    let dense = |&(kind, _): &(ColumnKind, _)| match kind {
        ColumnKind::Numeric => 2 + bins,
        ColumnKind::Boolean => 2,
        ColumnKind::Timestamp => CALENDAR as usize,
        ColumnKind::Categorical => 0,
    };
    let categories = size.columns.iter().filter(|(kind, _)| *kind == ColumnKind::Categorical);
    let values = categories.map(|&(_, distinct)| {
        let distinct = usize::try_from(distinct.unwrap_or(size.rows)).unwrap_or(usize::MAX);
        distinct.min(MAX_VALUES)
    });
    let outputs = usize::try_from(size.outputs).unwrap_or(usize::MAX);
    let architecture: Architecture = recipe.model.architecture();
    Shape::of_sizes(&architecture, size.columns.iter().map(dense).sum(), values, outputs)
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor as u64))
}

fn sum(terms: impl IntoIterator<Item = u64>) -> u64 {
    terms.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use rekindle_domain::recipe::{MlpRecipe, ModelRecipe};

    use super::*;

    fn estimate(hidden: Vec<usize>, size: &RowsSize) -> TrainingMemory {
        let model = ModelRecipe::Mlp(MlpRecipe { hidden, ..MlpRecipe::default() });
        TrainingMemory::estimate(&Recipe { model, ..Recipe::for_target("late") }, size)
    }

    #[test]
    fn layers_rows_and_batches_add_up() {
        let columns = vec![(ColumnKind::Numeric, None), (ColumnKind::Categorical, Some(3))];
        let read = columns.iter().map(|&(kind, _)| kind).collect();
        let small = RowsSize { rows: 1000, columns, read, outputs: 1 };
        let memory = estimate(vec![10], &small);
        // Two dense features, an embedding of five rows and three columns, a hidden layer, and an output.
        assert_eq!(memory.parameters, 5 * 3 + 6 * 10 + 11);
        assert_eq!(memory.rows, 1000 * (96 + 8 + 12 + 4 * 3 + 2 * (8 + 16)) + 3 * 64);
        assert_eq!(memory.total(), memory.network + memory.batch + memory.rows);
        let large = estimate(vec![4096; 8], &small);
        assert!(large.parameters > 7 * 4096 * 4096 && large.total() > 2 << 30, "{large}");
        let long = RowsSize { rows: u64::MAX, ..small };
        assert_eq!(estimate(vec![10], &long).total(), u64::MAX);
    }

    #[test]
    fn ten_million_rows_of_twenty_columns_fit_into_two_gigabytes() {
        let columns = vec![(ColumnKind::Numeric, None); 21];
        let read = vec![ColumnKind::Numeric; 22];
        let size = RowsSize { rows: 10_000_000, columns, read, outputs: 1 };
        let memory = TrainingMemory::estimate(&Recipe::for_target("late"), &size);
        assert!(memory.total() < 2_000_000_000, "{memory}");
    }

    #[test]
    fn a_search_for_everything_fits_into_two_gibibytes_for_a_table_of_usual_size() {
        let numbers = std::iter::repeat_n((ColumnKind::Numeric, None), 15);
        let columns: Vec<_> = numbers.chain([(ColumnKind::Categorical, Some(100))]).collect();
        let read = columns.iter().map(|&(kind, _)| kind).collect();
        let size = RowsSize { rows: 100_000, columns, read, outputs: 1 };
        let memory = TrainingMemory::estimate_search(&Recipe::for_target("late"), &Search::for_everything(), &size);
        assert!(memory.total() < 2 << 30, "{memory}");
    }
}
