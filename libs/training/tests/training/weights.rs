//! Weights of training rows.

use std::{sync::Arc, time::Duration};

use arrow::array::{Float64Array, Int64Array};
use rekindle_domain::{Recipe, recipe::RowWeights};

use crate::rows::{HOUR_MS, linear, model, recipe, rows, tabm};

/// The mean score of a model that is trained on rows whose amount is 1 in the first half and 2 in the second one.
fn mean_score(weights: RowWeights, weight: impl Fn(usize) -> f64) -> f64 {
    let amount = (0..2000).map(|row| if row < 1000 { 1.0 } else { 2.0 } + f64::from(row % 7) * 1e-3);
    let table = rows(2000, 1)
        .with("amount", Arc::new(Float64Array::from_iter_values(amount)))
        .with("weight", Arc::new(Float64Array::from_iter_values((0..2000).map(weight))))
        .table();
    let ignore = ["at", "late", "grade", "weight"].map(str::to_owned).to_vec();
    let trained = model(&table, &Recipe { weights, ignore, ..linear("amount") });
    assert!(trained.signature().inputs.iter().all(|input| input.name != "weight"), "a weight is no feature");
    let prediction = trained.score(&table.batch).expect("scores");
    let scores = prediction.scores().1;
    scores.iter().copied().map(f64::from).sum::<f64>() / scores.len() as f64
}

#[test]
fn rows_count_as_much_as_their_weights() {
    let column = || RowWeights { column: Some("weight".into()), ..RowWeights::default() };
    let equal = mean_score(RowWeights::default(), |_| 1.0);
    let early = mean_score(column(), |row| if row < 1000 { 9.0 } else { 1.0 });
    let late = mean_score(column(), |row| if row < 1000 { 1.0 } else { 9.0 });
    assert!((equal - 1.5).abs() < 0.1 && early < 1.25 && late > 1.75, "{early} {equal} {late}");
    let half_life = Some(Duration::from_millis(100 * HOUR_MS.unsigned_abs()));
    let recent = mean_score(RowWeights { half_life, ..RowWeights::default() }, |_| 1.0);
    assert!(recent > 1.9, "{recent}");
}

#[test]
fn balanced_classes_raise_the_probability_of_the_rare_one() {
    let late = (0..2000).map(|row| i64::from(row % 20 == 0));
    let table = rows(2000, 1).with("late", Arc::new(Int64Array::from_iter_values(late))).table();
    for recipe in [linear, recipe, tabm] {
        let mean = |balanced| {
            let weights = RowWeights { balanced, ..RowWeights::default() };
            let trained = model(&table, &Recipe { weights, ..recipe("late") });
            let prediction = trained.score(&table.batch).expect("scores");
            f64::from(prediction.scores().1.iter().sum::<f32>()) / 2000.0
        };
        let (natural, balanced) = (mean(false), mean(true));
        assert!((natural - 0.05).abs() < 0.03 && (balanced - 0.5).abs() < 0.1, "{natural} {balanced}");
    }
}
