//! Generated tables, and models trained on them.

use std::{ops::ControlFlow, sync::Arc};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rekindle_bundle::{Bundle, Model};
use rekindle_dataset::Table;
use rekindle_domain::{
    Digest, Recipe,
    recipe::{LinearRecipe, MlpRecipe, ModelRecipe, Optimizer, TabMRecipe},
};
use rekindle_training::{Error, Origin, TrainInput, train};

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Hourly rows with targets that depend on a number, a category and a boolean.
pub(crate) struct Rows {
    pub(crate) columns: Vec<(&'static str, ArrayRef)>,
}

pub(crate) fn rows(count: usize, seed: u64) -> Rows {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| random.random::<f64>()).collect() };
    let (x, noise, holes, category, flag) = (draw(count), draw(count), draw(count), draw(count), draw(count));
    let color = |row: usize| ["red", "green", "blue"][(category[row] * 3.0) as usize];
    let score = |row: usize| {
        4.0 * (x[row] - 0.5) + if color(row) == "red" { 2.0 } else { -1.0 } + f64::from(u8::from(flag[row] < 0.3))
    };
    let late = (0..count).map(|row| i64::from(1.0 / (1.0 + (-score(row)).exp()) > noise[row]));
    let columns: Vec<(&'static str, ArrayRef)> = vec![
        ("at", Arc::new((0..).take(count).map(|row: i64| Some(row * HOUR_MS)).collect::<TimestampMillisecondArray>())),
        ("x", Arc::new(Float64Array::from(x.clone()))),
        ("gap", Arc::new((0..count).map(|row| (holes[row] > 0.2).then_some(noise[row])).collect::<Float64Array>())),
        ("color", Arc::new((0..count).map(|row| Some(color(row))).collect::<StringArray>())),
        ("flag", Arc::new((0..count).map(|row| Some(flag[row] < 0.3)).collect::<BooleanArray>())),
        ("late", Arc::new(late.collect::<Int64Array>())),
        ("amount", Arc::new((0..count).map(|row| Some(1e4 + 300.0 * score(row))).collect::<Float64Array>())),
        (
            "grade",
            Arc::new(
                (0..count)
                    .map(|row| Some(["c", "b", "a"][(score(row) / 2.0 + 1.0).clamp(0.0, 2.0) as usize]))
                    .collect::<StringArray>(),
            ),
        ),
    ];
    Rows { columns }
}

impl Rows {
    pub(crate) fn table(self) -> Table {
        Table::from_batch(&RecordBatch::try_from_iter(self.columns).expect("columns of one length")).expect("a table")
    }

    pub(crate) fn with(mut self, name: &'static str, array: ArrayRef) -> Self {
        self.columns.retain(|(known, _)| *known != name);
        self.columns.push((name, array));
        self
    }
}

pub(crate) fn optimizer() -> Optimizer {
    Optimizer { max_epochs: 8, batch_size: 64, learning_rate: 0.01, ..Optimizer::default() }
}

/// A small multi-layer perceptron.
pub(crate) fn recipe(target: &str) -> Recipe {
    with_optimizer(target, optimizer())
}

pub(crate) fn with_optimizer(target: &str, optimizer: Optimizer) -> Recipe {
    with_model(target, ModelRecipe::Mlp(MlpRecipe { hidden: vec![16, 8], dropout: 0.1, optimizer }))
}

pub(crate) fn linear(target: &str) -> Recipe {
    with_model(target, ModelRecipe::Linear(LinearRecipe { optimizer: optimizer() }))
}

/// A small ensemble.
pub(crate) fn tabm(target: &str) -> Recipe {
    let model =
        TabMRecipe { members: 2, bins: 8, hidden: vec![16, 8], optimizer: optimizer(), ..TabMRecipe::default() };
    with_model(target, ModelRecipe::TabM(model))
}

fn with_model(target: &str, model: ModelRecipe) -> Recipe {
    let others = ["late", "amount", "grade"].into_iter().filter(|other| *other != target);
    Recipe { ignore: others.map(str::to_owned).collect(), model, ..Recipe::for_target(target) }
}

pub(crate) fn origin() -> Origin {
    Origin { run_id: "run".into(), dataset_digests: vec![Digest::of(b"rows")], code_revision: "abc".into() }
}

pub(crate) fn trained(table: &Table, recipe: &Recipe) -> Result<Bundle, Error> {
    let input = TrainInput { table, time_column: Some("at"), recipe };
    train(&input, &origin(), |_| ControlFlow::Continue(()))
}

pub(crate) fn model(table: &Table, recipe: &Recipe) -> Model {
    Model::from_bundle(&trained(table, recipe).expect("trains")).expect("a model")
}
