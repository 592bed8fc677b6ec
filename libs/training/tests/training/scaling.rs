//! Constant columns, outliers, and values far beyond those of the training rows, for models of every kind.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, BooleanArray, Float64Array, cast::AsArray as _, types::Float64Type};
use rekindle_bundle::Model;
use rekindle_dataset::Table;
use rekindle_domain::Recipe;

use crate::rows::{Rows, linear, recipe, rows, tabm, trained};

/// The name of a kind of model, and its recipe for a target.
type Kind = (&'static str, fn(&str) -> Recipe);

const KINDS: [Kind; 3] = [("linear", linear), ("mlp", recipe), ("tabm", tabm)];

fn column(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

fn numbers(table: &Table, name: &str) -> Vec<f64> {
    let column = table.column(name).expect("a column");
    column.as_primitive::<Float64Type>().iter().flatten().collect()
}

fn auc(model: &Model, table: &Table) -> f64 {
    let prediction = model.score(&table.batch).expect("scores");
    model.metrics(&prediction, &model.targets(&table.batch).expect("targets")).expect("metrics")["auc"]
}

fn scores(model: &Model, table: &Table) -> Vec<f32> {
    model.score(&table.batch).expect("scores").scores().1.to_vec()
}

/// Rows whose column `extra` has these values.
fn with_extra(count: usize, seed: u64, value: impl Fn(usize) -> f64) -> Rows {
    rows(count, seed).with("extra", column((0..count).map(value)))
}

fn model(table: &Table, recipe: &Recipe) -> Model {
    Model::from_bundle(&trained(table, recipe).expect("trains")).expect("a model")
}

#[test]
fn a_value_beyond_the_training_rows_predicts_what_the_nearest_of_them_does() {
    let past = rows(1000, 1).table();
    let x = numbers(&past, "x");
    let (low, high) = x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    for (kind, recipe) in KINDS {
        let model = model(&past, &recipe("amount"));
        let at = |x: f64| scores(&model, &rows(50, 2).with("x", column(vec![x; 50])).table());
        let (lowest, highest) = (at(low), at(high));
        assert_ne!(lowest, highest, "{kind}");
        for (beyond, edge) in
            [(1.5, &highest), (1e3, &highest), (f64::MAX, &highest), (-0.5, &lowest), (f64::MIN, &lowest)]
        {
            assert_eq!(&at(beyond), edge, "{kind}: {beyond}");
        }
    }
}

#[test]
fn a_change_of_unit_costs_no_more_than_the_column_is_worth() {
    // Lengths in metres, of which the target is independent; then in millimetres.
    let metres = |row: usize| 1.0 + (row as f64 * 0.7).sin();
    let past = with_extra(3000, 1, metres).table();
    let (future, changed) =
        (with_extra(1000, 2, metres).table(), with_extra(1000, 2, |row| 1000.0 * metres(row)).table());
    for (kind, recipe) in KINDS {
        let model = model(&past, &recipe("late"));
        let (before, after) = (auc(&model, &future), auc(&model, &changed));
        assert!(before > 0.8 && after > before - 0.02, "{kind}: AUC {before} before, {after} after");
    }
}

#[test]
fn a_column_that_was_constant_has_no_influence_when_it_changes() {
    // Once constant, and once constant but for the rounding of a sum.
    let noise = |row: usize| 0.1 + 0.2 + if row.is_multiple_of(2) { 0.0 } else { 1e-16 };
    let kinds = KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    for ((kind, recipe), is_noisy) in kinds {
        let past = with_extra(1000, 1, |row| if is_noisy { noise(row) } else { 0.3 }).table();
        let bundle = trained(&past, &recipe("late")).expect("trains");
        let card = bundle.card().expect("a card");
        assert!(card.contains("`extra` had one value or none in all training rows and is not used"), "{kind}: {card}");
        let model = Model::from_bundle(&bundle).expect("a model");
        let (same, alive) = (with_extra(500, 2, |_| 0.3).table(), with_extra(500, 2, |row| row as f64).table());
        assert_eq!(scores(&model, &same), scores(&model, &alive), "{kind}");
    }
}

#[test]
fn a_flag_that_was_constant_and_a_number_that_was_missing_have_no_influence_when_they_change() {
    let flag = |value| Arc::new(BooleanArray::from(vec![value; 1000])) as ArrayRef;
    let number = |value: Option<f64>| Arc::new(Float64Array::from(vec![value; 1000])) as ArrayRef;
    for (before, after) in [(flag(true), flag(false)), (number(None), number(Some(5.0)))] {
        let of = |array: &ArrayRef| rows(1000, 1).with("extra", Arc::clone(array)).table();
        for (kind, recipe) in KINDS {
            let model = model(&of(&before), &recipe("late"));
            assert_eq!(scores(&model, &of(&before)), scores(&model, &of(&after)), "{kind}: {}", before.data_type());
        }
    }
}

#[test]
fn rows_without_a_feature_that_varies_are_refused() {
    for (kind, recipe) in KINDS {
        let constant = with_extra(500, 1, |_| 0.3).table();
        let others = ["at", "x", "gap", "color", "flag", "amount", "grade"].map(str::to_owned).to_vec();
        let error = trained(&constant, &Recipe { ignore: others, ..recipe("late") }).expect_err("no feature varies");
        assert!(error.to_string().contains("no feature with more than one value"), "{kind}: {error}");
    }
}

#[test]
fn one_outlier_leaves_the_other_values_their_influence() {
    let past = rows(3000, 1).table();
    let mut x = numbers(&past, "x");
    x[100] = 1e9;
    let spoiled = rows(3000, 1).with("x", column(x)).table();
    let future = rows(1000, 2).table();
    for (kind, recipe) in KINDS {
        let (clean, spoiled) =
            (auc(&model(&past, &recipe("late")), &future), auc(&model(&spoiled, &recipe("late")), &future));
        assert!(clean > 0.8 && spoiled > clean - 0.01, "{kind}: AUC {clean} without the outlier, {spoiled} with it");
    }
}
