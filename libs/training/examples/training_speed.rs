//! Measures the samples per second of a training of a multi-layer perceptron or of a convolutional network, over whole epochs: shuffling,
//! batches, gradients, optimizer and validation. `scripts/bench-training/compare.py` compares it with PyTorch.
//!
//! usage: training_speed mlp|cnn ROWS BATCH_SIZE EPOCHS
//!
//! The first epoch is not measured. Prints the samples per second and the sizes of the network as JSON.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    sync::Arc,
    time::Instant,
};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_dataset::Table;
use rekindle_domain::{
    Digest, Recipe,
    recipe::{CnnRecipe, ImageShape, MlpRecipe, ModelRecipe, Optimizer},
};
use rekindle_training::{Epoch, Origin, Supervisor, TrainInput, train_under};

/// Columns of numbers of the perceptron; each is encoded as its value and whether it is missing.
const COLUMNS: usize = 30;
const HIDDEN: [usize; 2] = [128, 64];
/// Of the convolutional network.
const IMAGE: ImageShape = ImageShape { height: 28, width: 28, channels: 1 };
const FILTERS: [usize; 2] = [16, 32];
const IMAGE_HIDDEN: [usize; 1] = [64];
/// Share of the rows that an epoch validates on.
const VALIDATION_SHARE: f64 = 0.02;

/// Times the epochs, and stops after the last.
struct Timed {
    epochs: usize,
    ends: RefCell<Vec<Instant>>,
    is_over: Cell<bool>,
}

impl Supervisor for Timed {
    fn should_stop(&self) -> bool {
        self.is_over.get()
    }

    fn epoch(&self, _: &Epoch) {
        self.ends.borrow_mut().push(Instant::now());
        self.is_over.set(self.ends.borrow().len() >= self.epochs);
    }
}

fn table(columns: usize, rows: usize) -> Result<Table, Box<dyn Error>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let columns: Vec<Vec<f64>> = (0..columns).map(|_| (0..rows).map(|_| random.random::<f64>()).collect()).collect();
    let score = |row: usize| columns[0][row] + columns[1][row] * columns[2][row] + random_of(row) - 1.25;
    let labels: Int64Array = (0..rows).map(|row| i64::from(score(row) > 0.0)).collect();
    let names: Vec<String> = (0..columns.len()).map(|column| format!("x{column}")).collect();
    let numbers = columns.iter().map(|column| Arc::new(Float64Array::from(column.clone())) as ArrayRef);
    let named = names.iter().map(String::as_str).zip(numbers).chain([("y", Arc::new(labels) as ArrayRef)]);
    Ok(Table::from_batch(&RecordBatch::try_from_iter(named)?)?)
}

/// Noise in [0, 1).
fn random_of(row: usize) -> f64 {
    (row.wrapping_mul(2_654_435_761) % 1_000) as f64 / 1_000.0
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: training_speed mlp|cnn ROWS BATCH_SIZE EPOCHS";
    let kind = std::env::args().nth(1).filter(|kind| ["mlp", "cnn"].contains(&kind.as_str())).ok_or(usage)?;
    let args: Vec<usize> = std::env::args().skip(2).map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    let [rows, batch_size, epochs] = args[..] else { return Err(usage.into()) };
    let is_image = kind == "cnn";
    let table = table(if is_image { IMAGE.values() } else { COLUMNS }, rows)?;
    let limit = u32::try_from(epochs)? + 1;
    let optimizer =
        Optimizer { max_epochs: limit, patience: limit, batch_size, averaging: 0.0, ..Optimizer::default() };
    let model = if is_image {
        let (filters, hidden) = (FILTERS.to_vec(), IMAGE_HIDDEN.to_vec());
        ModelRecipe::Cnn(CnnRecipe { image: IMAGE, filters, hidden, dropout: 0.0, optimizer })
    } else {
        ModelRecipe::Mlp(MlpRecipe { hidden: HIDDEN.to_vec(), dropout: 0.0, optimizer })
    };
    let recipe = Recipe { model, validation_share: VALIDATION_SHARE, ..Recipe::for_target("y") };
    let input = TrainInput { table: &table, time_column: None, recipe: &recipe };
    let origin = Origin { run_id: String::new(), dataset_digests: vec![Digest::of(b"")], code_revision: String::new() };
    let timed = Timed { epochs, ends: RefCell::default(), is_over: Cell::new(false) };
    match train_under(&input, &origin, None, &timed) {
        Err(rekindle_training::Error::Stopped { .. }) => {}
        other => return Err(format!("expected to stop after {epochs} epochs: {:?}", other.map(|_| ())).into()),
    }
    let ends = timed.ends.borrow();
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return Err("no epoch".into()) };
    let trained = (rows as f64 * (1.0 - VALIDATION_SHARE)).round() * (ends.len() - 1) as f64;
    let rate = trained / last.duration_since(*first).as_secs_f64();
    if is_image {
        let ImageShape { height, width, .. } = IMAGE;
        println!(
            r#"{{"samples_per_second": {rate:.0}, "image": [{height}, {width}], "filters": {FILTERS:?}, "hidden": {IMAGE_HIDDEN:?}}}"#
        );
    } else {
        println!(r#"{{"samples_per_second": {rate:.0}, "inputs": {}, "hidden": {HIDDEN:?}}}"#, 2 * COLUMNS);
    }
    Ok(())
}
