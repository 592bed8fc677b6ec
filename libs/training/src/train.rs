//! Training with early stopping, and retraining on all rows.
//!
//! The latest rows decide the number of epochs and give the metrics. They also resemble future rows most, so the served
//! network is a new one, trained on all rows for the best number of epochs. The metrics of the bundle are those of the
//! first network on rows that it was not trained on.

use std::{collections::BTreeMap, ops::ControlFlow};

use rekindle_bundle::{
    Bundle, Targets,
    importance::{self, Importance},
    pipeline::{Encoded, Encoder},
    score,
};
use rekindle_dataset::Table;
use rekindle_domain::{
    Digest, Recipe,
    recipe::{Calibration, Optimizer},
};

use crate::{
    Error, calibrate,
    prepare::{Fold, Prepared},
    seal::{self, Served, Validated},
    session::Session,
};

/// The training rows and the recipe.
#[derive(Debug, Clone, Copy)]
pub struct TrainInput<'a> {
    /// The rows: features and target.
    pub table: &'a Table,
    /// The column that orders the rows. Without it the rows are in the order of the table.
    pub time_column: Option<&'a str>,
    /// The recipe.
    pub recipe: &'a Recipe,
}

/// The origin of the training rows and of the program, for the bundle's provenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The training run.
    pub run_id: String,
    /// Content digests of the dataset versions in the table.
    pub dataset_digests: Vec<Digest>,
    /// The code revision.
    pub code_revision: String,
}

/// The result of one pass over the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Maximum number of epochs.
    pub of: u32,
    /// Mean training loss of a row: nats, or squared error of the standardized target.
    pub train_loss: f64,
    /// Metrics on the validation rows: [`score::metrics`].
    pub metrics: BTreeMap<String, f64>,
    /// Whether the validation loss is the lowest so far.
    pub best: bool,
}

/// Trains a model and seals it as a bundle.
///
/// The latest `validation_share` of the rows is held out. Training stops after `max_epochs`, or when the validation loss
/// has not improved for `patience` epochs. A new network is then trained on all rows for the best number of epochs.
/// `observe` receives every epoch of the first network.
///
/// # Errors
/// The recipe is invalid; the rows are too few or a column is not usable; the loss diverges; [`Error::Stopped`] if
/// `observe` breaks.
pub fn train(
    input: &TrainInput<'_>,
    origin: &Origin,
    observe: impl FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<Bundle, Error> {
    train_unless_stopped(input, origin, observe, &|| false)
}

/// Trains a model as [`train`] does, unless `should_stop`: it is asked before every step of the optimizer.
///
/// # Errors
/// As [`train`], and [`Error::Stopped`] once `should_stop`.
pub fn train_unless_stopped(
    input: &TrainInput<'_>,
    origin: &Origin,
    mut observe: impl FnMut(&Epoch) -> ControlFlow<()>,
    should_stop: &dyn Fn() -> bool,
) -> Result<Bundle, Error> {
    let validated = validate(input, &mut observe, should_stop)?;
    complete(input, origin, &validated, should_stop)
}

/// A recipe whose network was trained with early stopping.
pub(crate) struct Attempt {
    pub(crate) prepared: Prepared,
    /// Fitted on the training rows of the network.
    encoder: Encoder,
    pub(crate) validated: Validated,
}

/// Trains a network with early stopping.
pub(crate) fn validate(
    input: &TrainInput<'_>,
    observe: &mut dyn FnMut(&Epoch) -> ControlFlow<()>,
    should_stop: &dyn Fn() -> bool,
) -> Result<Attempt, Error> {
    input.recipe.validate().map_err(Error::Recipe)?;
    let prepared = Prepared::from_input(input)?;
    let (encoder, validated) = train_with_early_stopping(&prepared, input.recipe, observe, should_stop)?;
    Ok(Attempt { prepared, encoder, validated })
}

/// Trains the network to serve and seals it.
pub(crate) fn complete(
    input: &TrainInput<'_>,
    origin: &Origin,
    attempt: &Attempt,
    should_stop: &dyn Fn() -> bool,
) -> Result<Bundle, Error> {
    let Attempt { prepared, validated, .. } = attempt;
    let importances = importances(attempt, should_stop)?;
    let served = train_on_all_rows(prepared, input.recipe, validated, should_stop)?;
    seal::seal(input, origin, prepared, validated, &importances, &served)
}

fn train_with_early_stopping(
    prepared: &Prepared,
    recipe: &Recipe,
    observe: &mut dyn FnMut(&Epoch) -> ControlFlow<()>,
    should_stop: &dyn Fn() -> bool,
) -> Result<(Encoder, Validated), Error> {
    let Optimizer { max_epochs, patience, .. } = *recipe.model.optimizer();
    let task = prepared.goal.task;
    let fold = prepared.fold(prepared.split)?;
    let (rows, labels) = prepared.validation(&fold.encoder)?;
    let weights = prepared.validation_weights()?;
    let mut session = Session::new(prepared, recipe, &fold)?;
    let mut best: Option<Validated> = None;
    for epoch in 1..=max_epochs {
        let train_loss;
        (session, train_loss) = session.epoch(epoch, should_stop)?;
        let network = session.network()?;
        let prediction = prepared.predict(&network, &rows);
        let losses = score::losses(task, &prediction, &labels)?;
        let criterion = weighted(&losses, weights.as_deref());
        let loss = mean(&criterion);
        if !(train_loss.is_finite() && loss.is_finite()) {
            return Err(Error::Diverged { epoch });
        }
        let metrics = score::metrics(task, &prediction, &labels)?;
        let improved = best.as_ref().is_none_or(|best| loss < mean(&best.criterion));
        if improved {
            let temperature = 1.0;
            best = Some(Validated {
                network,
                prediction,
                losses,
                criterion,
                temperature,
                train_loss,
                epochs: epoch,
                best_epoch: epoch,
            });
        }
        if observe(&Epoch { epoch, of: max_epochs, train_loss, metrics, best: improved }).is_break() {
            return Err(Error::Stopped { epoch });
        }
        let Some(validated) = &mut best else { continue };
        validated.epochs = epoch;
        if epoch - validated.best_epoch >= patience {
            break;
        }
    }
    let best = best.ok_or(Error::Diverged { epoch: 0 })?;
    let best = match recipe.calibration {
        Calibration::None => best,
        Calibration::Temperature => calibrated(prepared, best, &rows, &labels)?,
    };
    drop(session);
    Ok((fold.encoder, best))
}

/// The network of the best epoch with calibrated probabilities.
fn calibrated(prepared: &Prepared, mut best: Validated, rows: &Encoded, labels: &Targets) -> Result<Validated, Error> {
    let task = prepared.goal.task;
    let outputs = best.network.forward(rows);
    best.temperature = calibrate::temperature(task, &outputs, labels, |outputs| prepared.prediction(outputs))?;
    if best.temperature != 1.0 {
        calibrate::apply(&mut best.network, best.temperature);
        best.prediction = prepared.predict(&best.network, rows);
        best.losses = score::losses(task, &best.prediction, labels)?;
    }
    Ok(best)
}

/// The importance of each feature for the network of the best epoch, on the validation rows.
fn importances(
    Attempt { prepared, encoder, validated }: &Attempt,
    should_stop: &dyn Fn() -> bool,
) -> Result<Vec<Importance>, Error> {
    let Validated { network, epochs, .. } = validated;
    let check = || if should_stop() { Err(Error::Stopped { epoch: *epochs }) } else { Ok(()) };
    let (rows, labels) = prepared.validation(encoder)?;
    let sampled = importance::sample(rows.rows);
    let (rows, labels) = (rows.take(&sampled), labels.take(&sampled));
    let features: Vec<&str> = encoder.pipeline().features.iter().map(|feature| feature.name.as_str()).collect();
    importance::permutation(&features, rows.rows, |permuted| {
        check()?;
        let permuted = permuted.map(|(feature, order)| encoder.permuted(&rows, feature, order));
        let prediction = prepared.predict(network, permuted.as_ref().unwrap_or(&rows));
        Ok(mean(&score::losses(prepared.goal.task, &prediction, &labels)?))
    })
}

fn train_on_all_rows(
    prepared: &Prepared,
    recipe: &Recipe,
    &Validated { best_epoch: epochs, temperature, .. }: &Validated,
    should_stop: &dyn Fn() -> bool,
) -> Result<Served, Error> {
    let fold = prepared.fold(prepared.table.rows())?;
    let mut session = Session::new(prepared, recipe, &fold)?;
    for epoch in 1..=epochs {
        let train_loss;
        (session, train_loss) = session.epoch(epoch, should_stop)?;
        if !train_loss.is_finite() {
            return Err(Error::Diverged { epoch });
        }
    }
    let mut network = session.network()?;
    calibrate::apply(&mut network, temperature);
    drop(session);
    let Fold { first, encoder, rows, .. } = fold;
    let rows = if first > 0 {
        drop(rows);
        encoder.encode(&prepared.table.batch)?
    } else {
        rows
    };
    Ok(Served { prediction: prepared.predict(&network, &rows), pipeline: encoder.into_pipeline(), network })
}

/// Losses times the weights of their rows.
fn weighted(losses: &[f64], weights: Option<&[f32]>) -> Vec<f64> {
    match weights {
        Some(weights) => losses.iter().zip(weights).map(|(loss, weight)| loss * f64::from(*weight)).collect(),
        None => losses.to_vec(),
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
