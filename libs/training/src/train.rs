//! Training with early stopping, and retraining on all rows.
//!
//! The latest rows decide the number of epochs and give the metrics. They also resemble future rows most, so the served
//! network is a new one, trained on all rows for the best number of epochs. The metrics of the bundle are those of the
//! first network on rows that it was not trained on.

use std::{collections::BTreeMap, ops::ControlFlow};

use rekindle_bundle::{
    Bundle, Targets,
    importance::{self, Importance},
    network::Network,
    pipeline::{Encoded, Encoder},
    score,
};
use rekindle_dataset::Table;
use rekindle_domain::{Digest, Recipe, recipe::Optimizer};

use crate::{
    Error,
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
    input.recipe.validate().map_err(Error::Recipe)?;
    let prepared = Prepared::from_input(input)?;
    let validated = train_with_early_stopping(&prepared, input.recipe, &mut observe, should_stop)?;
    let served = train_on_all_rows(&prepared, input.recipe, validated.best_epoch, should_stop)?;
    seal::seal(input, origin, &prepared, &validated, &served)
}

fn train_with_early_stopping(
    prepared: &Prepared,
    recipe: &Recipe,
    observe: &mut dyn FnMut(&Epoch) -> ControlFlow<()>,
    should_stop: &dyn Fn() -> bool,
) -> Result<Validated, Error> {
    let Optimizer { max_epochs, patience, .. } = *recipe.model.optimizer();
    let task = prepared.goal.task;
    let fold = prepared.fold(prepared.split)?;
    let (rows, labels) = prepared.validation(&fold.encoder)?;
    let mut session = Session::new(prepared, recipe, &fold);
    let mut best: Option<(f64, Network, Validated)> = None;
    for epoch in 1..=max_epochs {
        let train_loss;
        (session, train_loss) = session.epoch(epoch, should_stop)?;
        let network = session.network()?;
        let prediction = prepared.predict(&network, &rows);
        let loss = mean(&score::losses(task, &prediction, &labels)?);
        if !(train_loss.is_finite() && loss.is_finite()) {
            return Err(Error::Diverged { epoch });
        }
        let metrics = score::metrics(task, &prediction, &labels)?;
        let improved = best.as_ref().is_none_or(|(lowest, ..)| loss < *lowest);
        if improved {
            let importances = Vec::new();
            let validated = Validated { prediction, train_loss, epochs: epoch, best_epoch: epoch, importances };
            best = Some((loss, network, validated));
        }
        if observe(&Epoch { epoch, of: max_epochs, train_loss, metrics, best: improved }).is_break() {
            return Err(Error::Stopped { epoch });
        }
        let Some((.., validated)) = &mut best else { continue };
        validated.epochs = epoch;
        if epoch - validated.best_epoch >= patience {
            break;
        }
    }
    let (_, network, mut validated) = best.ok_or(Error::Diverged { epoch: 0 })?;
    let check = || if should_stop() { Err(Error::Stopped { epoch: validated.epochs }) } else { Ok(()) };
    validated.importances = importances(prepared, &network, &fold.encoder, (&rows, &labels), check)?;
    Ok(validated)
}

/// The importance of each feature for a network on validation rows, unless `check` fails.
fn importances(
    prepared: &Prepared,
    network: &Network,
    encoder: &Encoder,
    (rows, labels): (&Encoded, &Targets),
    check: impl Fn() -> Result<(), Error>,
) -> Result<Vec<Importance>, Error> {
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
    epochs: u32,
    should_stop: &dyn Fn() -> bool,
) -> Result<Served, Error> {
    let fold = prepared.fold(prepared.table.rows())?;
    let mut session = Session::new(prepared, recipe, &fold);
    for epoch in 1..=epochs {
        let train_loss;
        (session, train_loss) = session.epoch(epoch, should_stop)?;
        if !train_loss.is_finite() {
            return Err(Error::Diverged { epoch });
        }
    }
    let network = session.network()?;
    let Fold { encoder, rows, .. } = fold;
    Ok(Served { prediction: prepared.predict(&network, &rows), pipeline: encoder.into_pipeline(), network })
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
