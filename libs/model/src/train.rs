//! From a table to a bundle: split by time, learn until the latest rows say stop, learn again from all rows for as long, seal.
//!
//! The latest rows decide how long to learn and tell what to expect. They are also the ones that resemble the future
//! most, so the model that is sealed has learnt from them too: a fresh network, for the number of epochs that did best.
//! What the bundle says of its quality is what the first network showed on rows that it had not seen.
//!
//! Everything runs on the caller's thread. No clock is read and nothing is drawn but from the recipe's seed.

mod prepare;
mod seal;

use std::{collections::BTreeMap, ops::ControlFlow};

use rekindle_dataset::Table;
use rekindle_domain::{Digest, Recipe, Task};

use crate::{
    Bundle, Error, Prediction,
    learner::{Labels, Learner},
    network::{Network, Shape},
    prediction::answer,
    score,
    target::Targets,
};
use prepare::{Fold, Prepared};

/// What to learn from.
#[derive(Debug, Clone, Copy)]
pub struct TrainInput<'a> {
    /// The rows: features and target.
    pub table: &'a Table,
    /// The column that orders the rows; without it their order in the table counts.
    pub time_column: Option<&'a str>,
    /// How.
    pub recipe: &'a Recipe,
}

/// On whose behalf: goes into the bundle's provenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The run.
    pub run_id: String,
    /// Content digests of the dataset versions that the table holds.
    pub dataset_digests: Vec<Digest>,
    /// The revision of the code.
    pub code_revision: String,
}

/// One pass over the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// Epochs at most.
    pub of: u32,
    /// Mean loss of a training row while learning: nats, or squared error of the standardised target.
    pub train_loss: f64,
    /// Metrics of the validation rows: those of [`crate::Model::metrics`].
    pub metrics: BTreeMap<String, f64>,
    /// Whether the validation loss is the lowest so far.
    pub best: bool,
}

/// Trains a model and seals it as a bundle.
///
/// `observe` is told of each epoch and may break training off, which gives [`Error::Stopped`]. The latest
/// `validation_share` of the rows is held out; when its loss has not fallen for `patience` epochs, or after
/// `max_epochs`, a fresh network learns from all rows for the number of epochs that had the lowest.
pub fn train(
    input: &TrainInput<'_>,
    origin: &Origin,
    mut observe: impl FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<Bundle, Error> {
    input.recipe.validate()?;
    let prepared = prepare::prepare(input)?;
    let expected = learn(&prepared, input.recipe, &mut observe)?;
    let learnt = learn_all(&prepared, input.recipe, expected.best_epoch)?;
    seal::seal(input, origin, &prepared, &expected, &learnt)
}

/// What learning from the earlier rows showed on the later ones.
struct Expected {
    /// Predictions of the validation rows, by the network of the best epoch.
    validated: Prediction,
    train_loss: f64,
    epochs: u32,
    best_epoch: u32,
}

/// The network to be served, with its pipeline.
struct Learnt {
    network: Network,
    fold: Fold,
}

fn learn(
    prepared: &Prepared,
    recipe: &Recipe,
    observe: &mut dyn FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<Expected, Error> {
    let fold = prepared.fold(prepared.split)?;
    let (validation, truth) = prepared.validation(&fold.encoder)?;
    let mut learning = Learning::begin(prepared, recipe, &fold);
    let mut best: Option<(f64, Expected)> = None;
    for epoch in 1..=recipe.max_epochs {
        let train_loss = learning.epoch()?;
        let prediction = prepared.predict(&learning.network()?, &validation);
        let loss = mean(&score::losses(prepared.goal.task, &prediction, &truth)?);
        if !(train_loss.is_finite() && loss.is_finite()) {
            return Err(Error::Diverged { epoch });
        }
        let improved = best.as_ref().is_none_or(|(lowest, _)| loss < *lowest);
        let metrics = score::metrics(prepared.goal.task, &prediction, &truth)?;
        if improved {
            let expected = Expected { validated: prediction, train_loss, epochs: epoch, best_epoch: epoch };
            best = Some((loss, expected));
        }
        let told = Epoch { epoch, of: recipe.max_epochs, train_loss, metrics, best: improved };
        if observe(&told).is_break() {
            return Err(Error::Stopped { epoch });
        }
        let Some((_, expected)) = &mut best else { continue };
        expected.epochs = epoch;
        if epoch - expected.best_epoch >= recipe.patience {
            break;
        }
    }
    best.map(|(_, expected)| expected).ok_or(Error::Diverged { epoch: 0 })
}

fn learn_all(prepared: &Prepared, recipe: &Recipe, epochs: u32) -> Result<Learnt, Error> {
    let fold = prepared.fold(prepared.table.rows())?;
    let mut learning = Learning::begin(prepared, recipe, &fold);
    for epoch in 1..=epochs {
        if !learning.epoch()?.is_finite() {
            return Err(Error::Diverged { epoch });
        }
    }
    Ok(Learnt { network: learning.network()?, fold })
}

/// A network learning from a fold.
struct Learning<'a> {
    fold: &'a Fold,
    learner: Learner,
    labels: Labels,
    order: Vec<usize>,
    scale: Option<(f64, f64)>,
}

impl<'a> Learning<'a> {
    fn begin(prepared: &Prepared, recipe: &Recipe, fold: &'a Fold) -> Self {
        let shape = Shape::new(&recipe.architecture, fold.encoder.pipeline(), prepared.goal.outputs());
        let Start { labels, prior, scale } = start(prepared, &fold.targets);
        let learner = Learner::new(recipe, prepared.goal.task, &shape, &prior);
        Self { fold, learner, labels, order: (0..fold.rows.rows).collect(), scale }
    }

    /// One pass over the rows; the mean loss while learning.
    fn epoch(&mut self) -> Result<f64, Error> {
        self.learner.epoch(&self.fold.rows, &self.labels, &mut self.order)
    }

    /// The network as it would serve now.
    fn network(&self) -> Result<Network, Error> {
        let mut network = self.learner.network()?;
        network.fill_untrained(&self.fold.encoder.pipeline().category_counts());
        if let Some((mean, std)) = self.scale {
            network.rescale(std, mean);
        }
        Ok(network)
    }
}

/// What learning starts from.
struct Start {
    labels: Labels,
    /// The outputs that suit the training rows best without any feature.
    prior: Vec<f32>,
    /// Mean and standard deviation of a regression's target, which is learnt standardised.
    scale: Option<(f64, f64)>,
}

fn start(prepared: &Prepared, targets: &Targets) -> Start {
    match targets {
        Targets::Numbers(numbers) => {
            let (mean, std) = crate::pipeline::mean_and_std(numbers);
            let labels = numbers.iter().map(|number| ((number - mean) / std) as f32).collect();
            Start { labels: Labels::Numbers(labels), prior: vec![0.0], scale: Some((mean, std)) }
        }
        Targets::Classes(classes) => {
            // Every training row has one of the classes: they were read off the same table.
            let indices = classes.iter().map(|class| class.unwrap_or(0));
            let count = prepared.goal.classes.as_ref().map_or(2, Vec::len);
            // One row more for each class keeps the logarithm finite for a class that only validation rows have.
            let mut rows = vec![1.0_f64; count];
            indices.clone().for_each(|class| rows[class] += 1.0);
            if prepared.goal.task == Task::Binary {
                let labels = indices.map(|class| class as f32).collect();
                Start { labels: Labels::Numbers(labels), prior: vec![(rows[1] / rows[0]).ln() as f32], scale: None }
            } else {
                let total: f64 = rows.iter().sum();
                let labels = indices.map(|class| i64::try_from(class).unwrap_or(0)).collect();
                let prior = rows.iter().map(|rows| (rows / total).ln() as f32).collect();
                Start { labels: Labels::Classes(labels), prior, scale: None }
            }
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Prepared {
    fn predict(&self, network: &Network, rows: &crate::pipeline::Encoded) -> Prediction {
        answer(self.goal.task, &self.labels, network.forward(rows))
    }
}
