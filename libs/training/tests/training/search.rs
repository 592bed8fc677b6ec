//! Search for a recipe: what is chosen, and when it ends.

use std::{cell::RefCell, sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampMillisecondArray};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_bundle::Bundle;
use rekindle_dataset::Table;
use rekindle_domain::{
    Recipe, Search,
    recipe::{LinearRecipe, ModelRecipe, Optimizer},
};
use rekindle_training::{Error, Supervisor, TrainInput, Trial, search};

use crate::rows::{HOUR_MS, origin};

/// Hourly rows whose amount depends on `x` with a slope that turns after `turn` rows.
fn turning(count: usize, turn: usize) -> Table {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let x: Vec<f64> = (0..count).map(|_| random.random::<f64>()).collect();
    let slope = |row: usize| if row < turn { -1.0 } else { 1.0 };
    let amount: Vec<f64> = (0..count).map(|row| slope(row) * x[row] + 0.1 * random.random::<f64>()).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new((0..).take(count).map(|row: i64| Some(row * HOUR_MS)).collect::<TimestampMillisecondArray>())),
        ("x", Arc::new(Float64Array::from(x))),
        ("amount", Arc::new(Float64Array::from(amount))),
    ];
    Table::from_batch(&RecordBatch::try_from_iter(columns).expect("columns of one length")).expect("a table")
}

fn recipe() -> Recipe {
    let optimizer = Optimizer { max_epochs: 20, batch_size: 64, learning_rate: 0.02, ..Optimizer::default() };
    Recipe { model: ModelRecipe::Linear(LinearRecipe { optimizer }), ..Recipe::for_target("amount") }
}

/// Searches, and stops or ends after so many trials.
fn searched(
    table: &Table,
    wanted: &Search,
    stop_after: usize,
    end_after: usize,
) -> (Result<Bundle, Error>, Vec<Trial>) {
    let recipe = recipe();
    let input = TrainInput { table, time_column: Some("at"), recipe: &recipe };
    let counted = Counted { stop_after, end_after, budget: wanted.budget, trials: RefCell::default() };
    (search(&input, wanted, &origin(), None, &counted), counted.trials.into_inner())
}

/// Stops a search after some trials, or lets its budget end after some.
struct Counted {
    stop_after: usize,
    end_after: usize,
    budget: Duration,
    trials: RefCell<Vec<Trial>>,
}

impl Supervisor for Counted {
    fn should_stop(&self) -> bool {
        self.trials.borrow().len() >= self.stop_after
    }

    fn elapsed(&self) -> Duration {
        if self.trials.borrow().len() >= self.end_after { self.budget } else { Duration::ZERO }
    }

    fn trial(&self, trial: &Trial) {
        self.trials.borrow_mut().push(trial.clone());
    }
}

const NEVER: usize = usize::MAX;

fn lookback(bundle: &Bundle) -> Option<Duration> {
    bundle.manifest.provenance.recipe.as_ref().expect("a trained model").lookback
}

#[test]
fn rows_from_before_a_change_are_left_out() {
    let (bundle, trials) = searched(&turning(4000, 2600), &Search::for_lookbacks(), NEVER, NEVER);
    let bundle = bundle.expect("trains");
    let hours: Vec<_> = trials.iter().map(|trial| trial.recipe.lookback.map(|span| span.as_secs() / 3600)).collect();
    // The rows before the validation rows span 3,399 hours; a quarter of them still has 500 rows. A half-life follows.
    assert_eq!(hours[..3], [None, Some(1699), Some(849)]);
    assert!(trials[1].is_best && trials[0].result.is_ok(), "{trials:?}");
    // The change is 800 rows before the validation rows.
    assert_eq!(lookback(&bundle), Some(Duration::from_secs(849 * 3600 + 2700)), "{trials:?}");
    let (again, _) = searched(&turning(4000, 2600), &Search::for_lookbacks(), NEVER, NEVER);
    assert_eq!(again.expect("trains").digest().expect("a digest"), bundle.digest().expect("a digest"));
}

#[test]
fn without_a_change_all_rows_are_trained_on() {
    let (bundle, trials) = searched(&turning(4000, 0), &Search::for_lookbacks(), NEVER, NEVER);
    assert_eq!((lookback(&bundle.expect("trains")), trials.len()), (None, 4));
}

#[test]
fn a_search_ends_with_its_budget_and_its_trials() {
    let table = turning(600, 0);
    let everything = Search { trials: 4, ..Search::for_everything() };
    let (bundle, trials) = searched(&table, &everything, NEVER, NEVER);
    bundle.expect("trains");
    assert_eq!(trials.iter().map(|trial| trial.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // The budget is used up from the beginning: the given recipe is tried nevertheless.
    let (bundle, trials) = searched(&table, &everything, NEVER, 0);
    bundle.expect("trains");
    assert_eq!((trials.len(), &trials[0].recipe), (1, &recipe()));
    let (stopped, trials) = searched(&table, &everything, 2, NEVER);
    assert!(matches!(stopped, Err(Error::Stopped { .. })) && trials.len() == 2);
}

#[test]
fn a_recipe_that_cannot_be_trained_is_a_trial_with_its_reason() {
    let table = turning(40, 0);
    let (error, trials) = searched(&table, &Search::for_lookbacks(), NEVER, NEVER);
    assert!(error.expect_err("too few rows").to_string().contains("40 rows are too few"));
    assert!(trials[0].result.as_ref().is_err_and(|reason| reason.contains("too few")), "{trials:?}");
}
