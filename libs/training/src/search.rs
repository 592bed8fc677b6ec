//! Search for a recipe: the given one and others are trained with early stopping, compared on the same validation rows, and the best one
//! makes the bundle.
//!
//! Shorter lookbacks come first, then a half-life of the weights of rows, then other kinds of model, then recipes that are drawn at random,
//! half of them near the best one so far. The order and the draws depend on the seed of the given recipe and on the results, not on the
//! clock: a search that is not cut short by its budget can be repeated.

mod space;

use std::time::Duration;

use rekindle_bundle::Bundle;
use rekindle_domain::{Recipe, Search};
use rekindle_statistics::paired::{BATCHES, LEAST_ROWS_IN_BATCHES, improvement, improvement_in_order};

use self::space::Space;
use crate::{
    Checkpoint, Epoch, Error, Origin, Supervisor, TrainInput,
    checkpoint::{Before, Keeper, Stage},
    train::{Attempt, Run, complete, mean, validate},
};

pub(crate) use self::space::largest;

/// Trials after which a search ends if none of them had a result.
const FAILED_TRIALS: u32 = 3;
/// The confidence of the two-sided interval that reaches one standard error to either side.
const ONE_STANDARD_ERROR: f64 = 0.6827;

/// A recipe that was tried.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The number of the trial, from 1.
    pub number: u32,
    /// What was tried.
    pub recipe: Recipe,
    /// Its epochs.
    pub epochs: Vec<Epoch>,
    /// The mean validation loss of the best epoch, or why there is none.
    pub result: Result<f64, String>,
    /// Whether it is better than every earlier trial.
    pub is_best: bool,
}

/// Tries recipes as [`Search`] says, beginning with that of `input`, and trains a model with the best one; from a checkpoint if there is one.
///
/// A recipe replaces the best one so far if its validation loss is lower by more than the standard error of the difference, so that chance
/// among many trials does not decide. Rows in order of time are compared in batches. The first trial is completed also beyond the budget.
///
/// # Errors
/// As [`crate::train_under`]; if no recipe can be trained, the error of the first one.
pub fn search(
    input: &TrainInput<'_>,
    search: &Search,
    origin: &Origin,
    checkpoint: Option<Checkpoint>,
    supervisor: &dyn Supervisor,
) -> Result<Bundle, Error> {
    let mut space = Space::new(input, search)?;
    let (before, stage) = Checkpoint::start(checkpoint);
    let mut keeper = Keeper { supervisor, origin, before, trials: Some(search.trials) };
    let mut best = restored(input, &mut space, &keeper.before)?;
    let mut resumed = match stage {
        Some(Stage::Completing(session)) => {
            let (recipe, attempt) = best.ok_or_else(|| Error::Checkpoint("it has no best trial".to_owned()))?;
            return complete(&TrainInput { recipe: &recipe, ..*input }, &attempt, Some(session), &keeper);
        }
        Some(Stage::Validating(validating)) => Some(validating),
        None => None,
    };
    let mut first_error = None;
    while keeper.before.trials.len() < search.trials as usize {
        let Some(recipe) = space.next(best.as_ref().map(|(recipe, _)| recipe)) else { break };
        let is_first = keeper.before.trials.is_empty();
        let is_over = || !is_first && keeper.elapsed() >= search.budget;
        if is_over() {
            break;
        }
        let mut epochs = Vec::new();
        let run = Run { keeper: &keeper, observe: &|_| {}, should_stop: &|| supervisor.should_stop() || is_over() };
        let attempt = validate(&TrainInput { recipe: &recipe, ..*input }, resumed.take(), &mut epochs, &run);
        let attempt = match attempt {
            Err(error @ Error::Stopped { .. }) if supervisor.should_stop() => return Err(error),
            // Abandoned: its result would not be comparable.
            Err(Error::Stopped { .. }) => break,
            other => other,
        };
        let is_best = match (&attempt, &best) {
            (Err(_), _) => false,
            (Ok(_), None) => true,
            (Ok(attempt), Some((_, best))) => {
                is_better(&attempt.validated.criterion, &best.validated.criterion, input.time_column.is_some())
            }
        };
        keeper.before.trials.push(is_best);
        let number = u32::try_from(keeper.before.trials.len()).unwrap_or(u32::MAX);
        let result = attempt.as_ref().map(|attempt| mean(&attempt.validated.criterion)).map_err(ToString::to_string);
        supervisor.trial(&Trial { number, recipe: recipe.clone(), epochs, result, is_best });
        match attempt {
            Ok(attempt) if is_best => {
                keeper.before.best = Some(attempt.network.clone());
                best = Some((recipe, attempt));
            }
            Ok(_) => {}
            Err(error) => {
                first_error.get_or_insert(error);
                if best.is_none() && number >= FAILED_TRIALS {
                    break;
                }
            }
        }
    }
    match best {
        Some((recipe, attempt)) => complete(&TrainInput { recipe: &recipe, ..*input }, &attempt, None, &keeper),
        None => Err(first_error.unwrap_or(Error::Stopped { epoch: 0 })),
    }
}

/// The best trial of a checkpoint. `space` continues after its trials.
fn restored(input: &TrainInput<'_>, space: &mut Space, before: &Before) -> Result<Option<(Recipe, Attempt)>, Error> {
    let mut best = None;
    for &is_best in &before.trials {
        let recipe = space.next(best.as_ref()).ok_or_else(|| Error::Checkpoint("it has other trials".to_owned()))?;
        if is_best {
            best = Some(recipe);
        }
    }
    let attempt = |recipe: Recipe| {
        let attempt = Attempt::restored(&TrainInput { recipe: &recipe, ..*input }, before.best.as_ref())?;
        Ok((recipe, attempt))
    };
    best.map(attempt).transpose()
}

/// Whether losses are lower than those of the best trial by more than the standard error of their difference.
fn is_better(losses: &[f64], best: &[f64], in_order: bool) -> bool {
    let rows = losses.len();
    let compared = if in_order && rows >= LEAST_ROWS_IN_BATCHES.max(BATCHES) {
        improvement_in_order(best, losses, ONE_STANDARD_ERROR)
    } else {
        improvement(best, losses, ONE_STANDARD_ERROR)
    };
    compared.is_ok_and(|improvement| improvement.lower > 0.0)
}

/// A time in whole seconds, as recipes record it.
fn seconds(span: i64) -> Duration {
    Duration::from_secs(u64::try_from(span / 1000).unwrap_or(0))
}
