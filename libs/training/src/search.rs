//! Search for a recipe: the given one and others are trained with early stopping, compared on the same validation rows, and the best one
//! makes the bundle.
//!
//! Shorter lookbacks come first, then a half-life of the weights of rows, then other kinds of model, then recipes that are drawn at random,
//! half of them near the best one so far. The order and the draws depend on the seed of the given recipe and on the results, not on the
//! clock: a search that is not cut short by its budget can be repeated.

mod space;

use std::{ops::ControlFlow, time::Duration};

use rekindle_bundle::Bundle;
use rekindle_domain::{Recipe, Search};
use rekindle_statistics::paired::{BATCHES, LEAST_ROWS_IN_BATCHES, improvement, improvement_in_order};

use self::space::Space;
use crate::{
    Epoch, Error, Origin, TrainInput,
    train::{Attempt, complete, mean, validate},
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

/// What ends a search before it is complete.
pub struct Control<'a> {
    /// Whether everything should stop.
    pub should_stop: &'a dyn Fn() -> bool,
    /// Whether the budget is used up. The first trial is completed nevertheless.
    pub is_over: &'a dyn Fn() -> bool,
}

/// Tries recipes as [`Search`] says, beginning with that of `input`, and trains a model with the best one. `observe` receives each trial.
///
/// A recipe replaces the best one so far if its validation loss is lower by more than the standard error of the difference, so that chance
/// among many trials does not decide. Rows in order of time are compared in batches.
///
/// # Errors
/// As [`crate::train_unless_stopped`]; if no recipe can be trained, the error of the first one.
pub fn search(
    input: &TrainInput<'_>,
    search: &Search,
    origin: &Origin,
    mut observe: impl FnMut(&Trial),
    control: &Control<'_>,
) -> Result<Bundle, Error> {
    let mut space = Space::new(input, search)?;
    let mut best: Option<(Recipe, Attempt)> = None;
    let mut first_error = None;
    for number in 1..=search.trials {
        let Some(recipe) = space.next(best.as_ref().map(|(recipe, _)| recipe)) else { break };
        let is_over = || number > 1 && (control.is_over)();
        if is_over() {
            break;
        }
        let mut epochs = Vec::new();
        let attempt = validate(
            &TrainInput { recipe: &recipe, ..*input },
            &mut |epoch| {
                epochs.push(epoch.clone());
                ControlFlow::Continue(())
            },
            &|| (control.should_stop)() || is_over(),
        );
        let attempt = match attempt {
            Err(error @ Error::Stopped { .. }) if (control.should_stop)() => return Err(error),
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
        let result = attempt.as_ref().map(|attempt| mean(&attempt.validated.criterion)).map_err(ToString::to_string);
        observe(&Trial { number, recipe: recipe.clone(), epochs, result, is_best });
        match attempt {
            Ok(attempt) if is_best => best = Some((recipe, attempt)),
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
        Some((recipe, attempt)) => {
            complete(&TrainInput { recipe: &recipe, ..*input }, origin, &attempt, control.should_stop)
        }
        None => Err(first_error.unwrap_or(Error::Stopped { epoch: 0 })),
    }
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
