//! Training with early stopping, and retraining on all rows.
//!
//! The latest rows decide the number of epochs and give the metrics. They also resemble future rows most, so the served
//! network is a new one, trained on all rows for the best number of epochs. The metrics of the bundle are those of the
//! first network on rows that it was not trained on.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use rekindle_bundle::{
    Bundle, Targets,
    importance::{self, Importance},
    network::{Network, Shape},
    pipeline::Encoder,
    score,
};
use rekindle_dataset::Table;
use rekindle_domain::{
    Digest, Recipe,
    recipe::{Calibration, Optimizer},
};
use serde::{Deserialize, Serialize};

use crate::{
    Checkpoint, Error, Supervisor, calibrate,
    checkpoint::{BestNetwork, Keeper, Stage, Validating},
    prepare::{Fold, Prepared},
    rows::Rows,
    seal::{self, Served, Validated},
    session::{Session, SessionState},
    supervise::Observed,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    train_under(input, origin, None, &Observed::by(observe))
}

/// Trains a model as [`train`] does, from a checkpoint if there is one.
///
/// # Errors
/// As [`train`], and [`Error::Stopped`] once the supervisor wants it.
pub fn train_under(
    input: &TrainInput<'_>,
    origin: &Origin,
    checkpoint: Option<Checkpoint>,
    supervisor: &dyn Supervisor,
) -> Result<Bundle, Error> {
    let (before, stage) = Checkpoint::start(checkpoint);
    let mut keeper = Keeper { supervisor, origin, before, trials: None };
    let resumed = match stage {
        Some(Stage::Completing(session)) => {
            let attempt = Attempt::restored(input, keeper.before.best.as_ref())?;
            return complete(input, &attempt, Some(session), &keeper);
        }
        Some(Stage::Validating(validating)) => Some(validating),
        None => None,
    };
    let run =
        Run { keeper: &keeper, observe: &|epoch| supervisor.epoch(epoch), should_stop: &|| supervisor.should_stop() };
    let attempt = validate(input, resumed, &mut Vec::new(), &run)?;
    keeper.before.trials.push(true);
    keeper.before.best = Some(attempt.network.clone());
    complete(input, &attempt, None, &keeper)
}

/// A recipe whose network was trained with early stopping.
pub(crate) struct Attempt {
    pub(crate) prepared: Prepared,
    /// Fitted on the training rows of the network.
    encoder: Arc<Encoder>,
    pub(crate) validated: Validated,
    /// What it can be restored from.
    pub(crate) network: BestNetwork,
}

/// How a network is trained.
pub(crate) struct Run<'a> {
    pub(crate) keeper: &'a Keeper<'a>,
    pub(crate) observe: &'a dyn Fn(&Epoch),
    pub(crate) should_stop: &'a dyn Fn() -> bool,
}

impl Attempt {
    /// An attempt of the recipe of `input` that a checkpoint has.
    pub(crate) fn restored(input: &TrainInput<'_>, network: Option<&BestNetwork>) -> Result<Self, Error> {
        let network = network.ok_or_else(|| Error::Checkpoint("it has no best network".to_owned()))?;
        let prepared = Prepared::from_input(input)?;
        let encoder = Arc::new(prepared.encoder(prepared.split)?);
        let held_out = HeldOut::of(&prepared, &encoder)?;
        let best = held_out.restored(input.recipe, &encoder, network)?;
        let validated = held_out.calibrated(input.recipe, best)?;
        Ok(Self { network: network.clone(), encoder, validated, prepared })
    }
}

/// Trains a network with early stopping. Its epochs are appended to `history`.
pub(crate) fn validate(
    input: &TrainInput<'_>,
    resumed: Option<Validating>,
    history: &mut Vec<Epoch>,
    run: &Run<'_>,
) -> Result<Attempt, Error> {
    input.recipe.validate().map_err(Error::Recipe)?;
    let prepared = Prepared::from_input(input)?;
    let (encoder, network, validated) = train_with_early_stopping(&prepared, input.recipe, resumed, history, run)?;
    Ok(Attempt { prepared, encoder, validated, network })
}

/// Trains the network to serve and seals it.
pub(crate) fn complete(
    input: &TrainInput<'_>,
    attempt: &Attempt,
    session: Option<SessionState>,
    keeper: &Keeper<'_>,
) -> Result<Bundle, Error> {
    let Attempt { prepared, validated, .. } = attempt;
    let importances = importances(attempt, &|| keeper.supervisor.should_stop())?;
    let served = train_on_all_rows(prepared, input.recipe, validated, session, keeper)?;
    seal::seal(input, keeper.origin, prepared, validated, &importances, &served)
}

/// The validation rows as the input of one network.
struct HeldOut<'a> {
    prepared: &'a Prepared,
    rows: Rows,
    labels: Targets,
    weights: Option<Vec<f32>>,
}

impl<'a> HeldOut<'a> {
    fn of(prepared: &'a Prepared, encoder: &Arc<Encoder>) -> Result<Self, Error> {
        let (rows, labels) = prepared.validation(encoder)?;
        Ok(Self { prepared, rows, labels, weights: prepared.validation_weights()? })
    }

    /// The network of an epoch with its losses.
    fn validated(&self, network: Network, train_loss: f64, epoch: u32) -> Result<Validated, Error> {
        let prediction = self.prepared.predict(&network, &self.rows)?;
        let losses = score::losses(self.prepared.goal.task, &prediction, &self.labels)?;
        let criterion = weighted(&losses, self.weights.as_deref());
        let temperature = 1.0;
        Ok(Validated {
            network,
            prediction,
            losses,
            criterion,
            temperature,
            train_loss,
            epochs: epoch,
            best_epoch: epoch,
        })
    }

    fn restored(&self, recipe: &Recipe, encoder: &Encoder, saved: &BestNetwork) -> Result<Validated, Error> {
        let outputs = self.prepared.goal.outputs();
        let shape = Shape::new(&recipe.model.architecture(), encoder.pipeline(), outputs);
        let network = Network::from_bytes(&saved.weights, &shape)?;
        Ok(Validated { epochs: saved.epochs, ..self.validated(network, saved.train_loss, saved.best_epoch)? })
    }

    /// The same with calibrated probabilities, if the recipe wants them.
    fn calibrated(&self, recipe: &Recipe, mut best: Validated) -> Result<Validated, Error> {
        let Self { prepared, rows, labels, .. } = self;
        let outputs = match recipe.calibration {
            Calibration::None => return Ok(best),
            Calibration::Temperature => rows.forward(&best.network)?,
        };
        let task = prepared.goal.task;
        best.temperature = calibrate::temperature(task, &outputs, labels, |outputs| prepared.prediction(outputs))?;
        if best.temperature != 1.0 {
            calibrate::apply(&mut best.network, best.temperature);
            best.prediction = prepared.predict(&best.network, rows)?;
            best.losses = score::losses(task, &best.prediction, labels)?;
        }
        Ok(best)
    }
}

impl BestNetwork {
    fn of(best: &Validated) -> Result<Self, Error> {
        let &Validated { train_loss, epochs, best_epoch, .. } = best;
        Ok(Self { weights: best.network.to_bytes()?, train_loss, epochs, best_epoch })
    }
}

fn train_with_early_stopping(
    prepared: &Prepared,
    recipe: &Recipe,
    resumed: Option<Validating>,
    history: &mut Vec<Epoch>,
    run: &Run<'_>,
) -> Result<(Arc<Encoder>, BestNetwork, Validated), Error> {
    let Optimizer { max_epochs, patience, .. } = *recipe.model.optimizer();
    let fold = prepared.fold(prepared.split)?;
    let held_out = HeldOut::of(prepared, &fold.encoder)?;
    let mut session = Session::new(prepared, recipe, &fold)?;
    let mut best: Option<Validated> = None;
    if let Some(resumed) = resumed {
        best = Some(held_out.restored(recipe, &fold.encoder, &resumed.best)?);
        *history = resumed.epochs;
        session = session.resumed(resumed.session)?;
    }
    while session.epochs() < max_epochs {
        let train_loss;
        (session, train_loss) = session.epoch(run.should_stop)?;
        let epoch = session.epochs();
        let found = held_out.validated(session.network()?, train_loss, epoch)?;
        let loss = mean(&found.criterion);
        if !(train_loss.is_finite() && loss.is_finite()) {
            return Err(Error::Diverged { epoch });
        }
        let metrics = score::metrics(prepared.goal.task, &found.prediction, &held_out.labels)?;
        let improved = best.as_ref().is_none_or(|best| loss < mean(&best.criterion));
        history.push(Epoch { epoch, of: max_epochs, train_loss, metrics, best: improved });
        history.last().into_iter().for_each(run.observe);
        run.keeper.progress(false, epoch, max_epochs);
        let best = if improved { best.insert(found) } else { best.get_or_insert(found) };
        best.epochs = epoch;
        if epoch - best.best_epoch >= patience {
            break;
        }
        run.keeper.save(|| {
            let (session, best) = (session.state()?, BestNetwork::of(best)?);
            Ok(Stage::Validating(Validating { session, best, epochs: history.clone() }))
        })?;
    }
    drop(session);
    let best = best.ok_or(Error::Diverged { epoch: 0 })?;
    let network = BestNetwork::of(&best)?;
    let validated = held_out.calibrated(recipe, best)?;
    Ok((fold.encoder, network, validated))
}

/// The importance of each feature for the network of the best epoch, on the validation rows.
fn importances(
    Attempt { prepared, encoder, validated, .. }: &Attempt,
    should_stop: &dyn Fn() -> bool,
) -> Result<Vec<Importance>, Error> {
    let Validated { network, epochs, .. } = validated;
    let check = || if should_stop() { Err(Error::Stopped { epoch: *epochs }) } else { Ok(()) };
    let (rows, labels) = prepared.validation(encoder)?;
    let sampled = importance::sample(rows.len(), encoder.pipeline().features.len());
    let (rows, labels) = (rows.take(&sampled)?, labels.take(&sampled));
    let features: Vec<&str> = encoder.pipeline().features.iter().map(|feature| feature.name.as_str()).collect();
    importance::permutation(&features, rows.rows, |permuted| {
        check()?;
        let permuted = permuted.map(|(feature, order)| encoder.permuted(&rows, feature, order));
        let prediction = prepared.prediction(network.forward(permuted.as_ref().unwrap_or(&rows)));
        Ok(mean(&score::losses(prepared.goal.task, &prediction, &labels)?))
    })
}

fn train_on_all_rows(
    prepared: &Prepared,
    recipe: &Recipe,
    &Validated { best_epoch: epochs, temperature, .. }: &Validated,
    resumed: Option<SessionState>,
    keeper: &Keeper<'_>,
) -> Result<Served, Error> {
    let fold = prepared.fold(prepared.table.rows())?;
    let mut session = Session::new(prepared, recipe, &fold)?;
    if let Some(state) = resumed {
        session = session.resumed(state)?;
    }
    while session.epochs() < epochs {
        let train_loss;
        (session, train_loss) = session.epoch(&|| keeper.supervisor.should_stop())?;
        if !train_loss.is_finite() {
            return Err(Error::Diverged { epoch: session.epochs() });
        }
        keeper.progress(true, session.epochs(), epochs);
        if session.epochs() < epochs {
            keeper.save(|| Ok(Stage::Completing(session.state()?)))?;
        }
    }
    let mut network = session.network()?;
    calibrate::apply(&mut network, temperature);
    drop(session);
    let Fold { training, encoder, rows, .. } = fold;
    let rows = if training.start > 0 {
        // Also those before the lookback.
        drop(rows);
        prepared.rows(&encoder, 0..prepared.table.rows())?
    } else {
        rows
    };
    Ok(Served { prediction: prepared.predict(&network, &rows)?, pipeline: encoder.pipeline().clone(), network })
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
