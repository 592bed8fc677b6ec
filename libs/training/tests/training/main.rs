//! Training on generated tables: quality, reproducibility, early stopping and refusals.

mod images;
mod predict;
mod resuming;
mod rows;
mod scaling;
mod search;
mod weights;

use std::{ops::ControlFlow, sync::Arc};

use arrow::array::{Float64Array, Int64Array};
use bytes::Bytes;
use rekindle_bundle::{Label, Targets, manifest::PIPELINE, reference::PREDICTION};
use rekindle_dataset::Table;
use rekindle_domain::{
    Digest, Recipe, Task,
    recipe::{Calibration, Optimizer},
};
use rekindle_training::{Epoch, Error, TrainInput, train};

use crate::rows::{HOUR_MS, linear, model, optimizer, origin, recipe, rows, tabm, trained, with_optimizer};

#[test]
fn each_task_reaches_its_expected_quality() {
    let (past, future) = (rows(3000, 1).table(), rows(1000, 2).table());
    let metric = |recipe: Recipe, name: &str| {
        let model = model(&past, &recipe);
        let prediction = model.score(&future.batch).expect("scores");
        model.metrics(&prediction, &model.targets(&future.batch).expect("targets")).expect("metrics")[name]
    };
    for (kind, recipe) in [("linear", linear as fn(&str) -> Recipe), ("mlp", recipe), ("tabm", tabm)] {
        assert!(metric(recipe("late"), "auc") > 0.8, "{kind}");
        assert!(metric(recipe("grade"), "accuracy") > 0.8, "{kind}");
        assert!(metric(recipe("amount"), "r2") > 0.9, "{kind}");
    }
}

#[test]
fn same_seed_gives_the_same_bundle_and_another_seed_does_not() {
    let table = rows(500, 1).table();
    let digest =
        |seed| trained(&table, &Recipe { seed, ..recipe("late") }).expect("trains").digest().expect("a digest");
    let first = digest(7);
    // Concurrent trainings must not share random numbers.
    let concurrent: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = [7, 8, 7].map(|seed| scope.spawn(move || digest(seed))).into();
        threads.into_iter().map(|thread| thread.join().expect("trains")).collect()
    });
    assert_eq!((concurrent[0], concurrent[2]), (first, first));
    assert_ne!(concurrent[1], first);
}

#[test]
fn table_order_is_irrelevant_with_a_time_column() {
    let table = rows(300, 1).table();
    let reversed: Vec<u32> = (0..300).rev().collect();
    let shuffled = table.take(&reversed.into()).expect("rows");
    let digest = |table: &Table| trained(table, &recipe("late")).expect("trains").digest().expect("a digest");
    assert_eq!(digest(&table), digest(&shuffled));
}

/// The training loss of each epoch, and the served pipeline.
fn losses_and_pipeline(table: &Table) -> (Vec<f64>, Bytes) {
    let recipe = with_optimizer("late", Optimizer { max_epochs: 3, ..optimizer() });
    let mut losses = Vec::new();
    let bundle = train(&TrainInput { table, time_column: Some("at"), recipe: &recipe }, &origin(), |epoch| {
        losses.push(epoch.train_loss);
        ControlFlow::Continue(())
    });
    (losses, bundle.expect("trains").blobs[PIPELINE].clone())
}

#[test]
fn validation_rows_affect_only_the_served_network() {
    let mut x: Vec<f64> = (0..400).map(f64::from).collect();
    let (regular, regular_pipeline) =
        losses_and_pipeline(&rows(400, 1).with("x", Arc::new(Float64Array::from(x.clone()))).table());
    // The last 15 % are validation rows.
    x[340..].fill(1e12);
    let (extreme, extreme_pipeline) =
        losses_and_pipeline(&rows(400, 1).with("x", Arc::new(Float64Array::from(x))).table());
    assert_eq!(regular, extreme);
    assert_ne!(regular_pipeline, extreme_pipeline, "the served network is trained on all rows");
}

#[test]
fn early_stopping_keeps_the_best_epoch() {
    let table = rows(400, 1).table();
    let recipe = with_optimizer("late", Optimizer { max_epochs: 200, patience: 3, learning_rate: 0.05, ..optimizer() });
    let mut epochs: Vec<Epoch> = Vec::new();
    let bundle = train(&TrainInput { table: &table, time_column: Some("at"), recipe: &recipe }, &origin(), |epoch| {
        epochs.push(epoch.clone());
        ControlFlow::Continue(())
    })
    .expect("trains");
    let lowest = epochs.iter().map(|epoch| epoch.metrics["log_loss"]).fold(f64::INFINITY, f64::min);
    assert_eq!(bundle.manifest.metrics["log_loss"], lowest);
    assert_eq!(bundle.manifest.reference.loss_mean, lowest);
    assert_eq!(bundle.manifest.reference.rows, 60);
    assert!(epochs.len() < 200, "stopped early");
    assert!(epochs[epochs.len() - 3..].iter().all(|epoch| !epoch.best));
    assert_eq!(bundle.manifest.provenance.trained_until, Some(399 * HOUR_MS + 1));
}

#[test]
fn the_reference_has_blocks_and_the_loss_has_batches_if_the_rows_have_a_time() {
    let (table, recipe) = (rows(2_000, 1).table(), recipe("late"));
    let sealed = |time_column| {
        let input = TrainInput { table: &table, time_column, recipe: &recipe };
        let bundle = train(&input, &origin(), |_| ControlFlow::Continue(())).expect("trains");
        (bundle.reference().expect("a profile"), bundle.manifest.reference.batch_std)
    };
    let (timed, batch_std) = sealed(Some("at"));
    let variations = timed.blocks.expect("blocks").variations(24 * HOUR_MS);
    let mut expected: Vec<&str> = timed.features.iter().map(|feature| feature.name.as_str()).collect();
    expected.push(PREDICTION);
    expected.sort_unstable();
    assert_eq!(variations.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(variations.values().all(|variation| variation.blocks >= 50), "{variations:?}");
    assert!(batch_std.is_some_and(|std| std > 0.0), "{batch_std:?}");
    let (untimed, batch_std) = sealed(None);
    assert!(untimed.blocks.is_none() && batch_std.is_none());
}

#[test]
fn a_temperature_changes_the_probabilities_and_not_their_order() {
    let table = rows(600, 1).table();
    let sealed = |calibration| trained(&table, &Recipe { calibration, ..recipe("late") }).expect("trains");
    let (plain, calibrated) = (sealed(Calibration::None), sealed(Calibration::Temperature));
    let (before, after) = (&plain.manifest.metrics, &calibrated.manifest.metrics);
    assert!(after["log_loss"] < before["log_loss"], "{before:?} {after:?}");
    assert!((before["auc"] - after["auc"]).abs() < 1e-9);
    let card = calibrated.card().expect("a card");
    assert!(card.contains("calibrated on the validation rows: temperature"), "{card}");
}

#[test]
fn observer_can_stop_training() {
    let table = rows(200, 1).table();
    let recipe = recipe("late");
    let input = TrainInput { table: &table, time_column: Some("at"), recipe: &recipe };
    let error = train(&input, &origin(), |_| ControlFlow::Break(())).expect_err("stopped");
    assert!(matches!(error, Error::Stopped { epoch: 1 }), "{error}");
}

#[test]
fn unusable_tables_are_refused_with_the_column_and_the_remedy() {
    let message = |table: Table, recipe: Recipe| trained(&table, &recipe).expect_err("refused").to_string();
    let few = message(rows(20, 1).table(), recipe("late"));
    assert!(few.contains("20 rows are too few"), "{few}");
    let absent = message(rows(200, 1).table(), recipe("lateness"));
    assert!(absent.contains("column lateness") && absent.contains("color"), "{absent}");
    let constant = rows(200, 1).with("late", Arc::new(Int64Array::from(vec![1; 200]))).table();
    let constant = message(constant, recipe("late"));
    assert!(constant.contains("column late: every row has the same class"), "{constant}");
    let mut late = vec![0; 200];
    late[190] = 1;
    let one_class = rows(200, 1).with("late", Arc::new(Int64Array::from(late))).table();
    let one_class = message(one_class, recipe("late"));
    assert!(one_class.contains("column late") && one_class.contains("the same class"), "{one_class}");
    let text = message(rows(200, 1).table(), Recipe { task: Some(Task::Regression), ..recipe("grade") });
    assert!(text.contains("column grade: regression needs a column of numbers"), "{text}");
    let everything = ["at", "x", "gap", "color", "flag", "amount", "grade"].map(str::to_owned).to_vec();
    let nothing_left = message(rows(200, 1).table(), Recipe { ignore: everything, ..recipe("late") });
    assert!(nothing_left.contains("ignore fewer columns"), "{nothing_left}");
    let bounds = message(rows(200, 1).table(), with_optimizer("late", Optimizer { patience: 0, ..optimizer() }));
    assert!(bounds.contains("patience"), "{bounds}");
    let diverged =
        message(rows(200, 1).table(), with_optimizer("amount", Optimizer { learning_rate: 1e30, ..optimizer() }));
    assert!(diverged.contains("learning_rate"), "{diverged}");
}

#[test]
fn loss_of_reported_labels_equals_the_metric() {
    let table = rows(300, 1).table();
    let model = model(&table, &recipe("late"));
    let validation = table.slice(255, 45);
    let prediction = model.predict(&validation.batch).expect("predicts");
    let labels: Vec<String> = (0..45)
        .map(|row| {
            let late = validation.column("late").expect("a column");
            late.as_any().downcast_ref::<Int64Array>().expect("integers").value(row).to_string()
        })
        .collect();
    let labels = labels.iter().map(|label| Label::Class(label));
    let targets = Targets::from_labels(labels, model.manifest().classes.as_deref()).expect("classes");
    let losses = model.losses(&prediction, &targets).expect("losses");
    let mean = losses.iter().sum::<f64>() / 45.0;
    assert_eq!(model.metrics(&prediction, &targets).expect("metrics")["log_loss"], mean);
}

#[test]
fn card_describes_training_and_provenance() {
    let bundle = trained(&rows(200, 1).table(), &recipe("late")).expect("trains");
    let card = bundle.card().expect("a card");
    let (best, metric) = (bundle.manifest.metrics["best_epoch"], bundle.manifest.metrics["log_loss"]);
    for expected in [
        "Predicts `late`: the probability of `1`".to_owned(),
        format!("Trained on 170 rows with early stopping on the following 30 rows (best epoch: {best} of"),
        format!("trained on all 200 rows for {best} epochs"),
        format!("- dataset `{}`", Digest::of(b"rows")),
        format!("| log_loss | {metric:.4} |"),
        "| `gap` | FP64 | Numeric | yes |".to_owned(),
        "fewer than 5 training rows".to_owned(),
        "Run `run`, code revision `abc`, seed 0".to_owned(),
    ] {
        assert!(card.contains(&expected), "{expected:?} is missing in:\n{card}");
    }
    let importance = card.split("## Feature importance").nth(1).and_then(|rest| rest.split("\n## ").next());
    let importance = importance.expect("a section");
    for input in &bundle.manifest.signature.inputs {
        assert!(importance.contains(&format!("| `{}` | ", input.name)), "{} is missing in:\n{importance}", input.name);
    }
}
