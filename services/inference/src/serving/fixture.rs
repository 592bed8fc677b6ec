//! A small trained model for unit tests.

use std::{
    ops::ControlFlow,
    sync::{Arc, OnceLock},
};

use arrow::{
    array::{Float64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use rekindle_bundle::Bundle;
use rekindle_dataset::Table;
use rekindle_domain::{
    ModelName, Recipe, VersionRef,
    recipe::{LinearRecipe, ModelRecipe, Optimizer},
};
use rekindle_training::{Origin, TrainInput, train};

use super::{LoadedVersion, ModelSettings};
use crate::config::ModelLog;

/// The model's name.
pub(crate) fn model() -> ModelName {
    "flight-delay".parse().expect("a name")
}

/// A version of the model with that number. It has one input, `delay`.
pub(crate) fn loaded(number: u32) -> Arc<LoadedVersion> {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    let bundle = BUNDLE.get_or_init(bundle);
    let version = VersionRef { version: number, bundle: bundle.digest().expect("a digest") };
    let replica = "replica-1".parse().expect("a name");
    let log = ModelLog { model: model(), sample_rate: 1.0, redact: Default::default() };
    let settings = ModelSettings { guardrails: None, log };
    Arc::new(LoadedVersion::build(model(), version, bundle, &replica, &settings, &[rows(2)]).expect("builds"))
}

/// `rows` rows for the model.
pub(crate) fn rows(rows: usize) -> RecordBatch {
    let delay = Float64Array::from(vec![12.5; rows]);
    let schema = Schema::new(vec![Field::new("delay", DataType::Float64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(delay)]).expect("a batch")
}

fn bundle() -> Bundle {
    let delay: Float64Array = (0..200).map(|row| Some(f64::from(row % 31))).collect();
    let late: StringArray = (0..200).map(|row| Some(if row % 31 > 15 { "yes" } else { "no" })).collect();
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let schema = Schema::new(vec![field("delay", DataType::Float64), field("late", DataType::Utf8)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(delay), Arc::new(late)]).expect("a batch");
    let table = Table::from_batch(&batch).expect("canonical types");
    let linear = LinearRecipe { optimizer: Optimizer { max_epochs: 1, ..Optimizer::default() } };
    let recipe = Recipe { model: ModelRecipe::Linear(linear), ..Recipe::for_target("late") };
    let origin = Origin { run_id: "run".into(), dataset_digests: Vec::new(), code_revision: "revision".into() };
    let input = TrainInput { table: &table, time_column: None, recipe: &recipe };
    train(&input, &origin, |_| ControlFlow::Continue(())).expect("trains")
}
