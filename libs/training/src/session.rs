//! A network in training on one fold: initial outputs, scaling of the target, and the network as it would serve.

use std::num::NonZero;

use rekindle_bundle::{
    Targets,
    network::{Network, Shape},
};
use rekindle_domain::{Recipe, Task};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    fit::mean_and_std,
    goal::Goal,
    learner::{Labels, Learner, LearnerState, TrainingRows},
    order::Order,
    prepare::{Fold, Prepared},
};

/// A network in training on the rows of a fold.
pub(crate) struct Session<'a> {
    fold: &'a Fold,
    learner: Learner,
    labels: Labels,
    order: Order,
    scale: Option<Scale>,
}

/// The state of a session between two epochs: what does not follow from the recipe and the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionState(LearnerState);

impl SessionState {
    /// Completed epochs.
    pub(crate) fn epochs(&self) -> u32 {
        self.0.epochs()
    }

    /// Bytes of the weights.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl<'a> Session<'a> {
    /// Draws the initial weights.
    pub(crate) fn new(prepared: &Prepared, recipe: &Recipe, fold: &'a Fold) -> Result<Self, Error> {
        let shape = Shape::new(&recipe.model.architecture(), fold.encoder.pipeline(), prepared.goal.outputs());
        let targets = prepared.targets.slice(fold.training.clone());
        let Start { labels, prior, scale } = Start::new(&prepared.goal, &targets, fold.weights.as_deref());
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let learner = Learner::new(recipe, prepared.goal.task, &shape, &prior, threads)?;
        Ok(Self { fold, learner, labels, order: Order::of(fold.rows.len()), scale })
    }

    /// A session in the state of another one with the same recipe and rows.
    pub(crate) fn resumed(mut self, SessionState(state): SessionState) -> Result<Self, Error> {
        self.learner = self.learner.resumed(state, &mut self.order)?;
        Ok(self)
    }

    /// The state, from which [`Session::resumed`] continues.
    pub(crate) fn state(&self) -> Result<SessionState, Error> {
        Ok(SessionState(self.learner.state()?))
    }

    /// Completed epochs.
    pub(crate) fn epochs(&self) -> u32 {
        self.learner.epochs()
    }

    /// One pass over the rows; returns the mean training loss of a row. An error ends the session: [`Error::Stopped`] if `should_stop`.
    pub(crate) fn epoch(mut self, should_stop: &dyn Fn() -> bool) -> Result<(Self, f64), Error> {
        let Fold { rows, weights, .. } = self.fold;
        let rows = TrainingRows { rows, labels: &self.labels, weights: weights.as_deref() };
        let epoch = self.learner.epochs();
        let passed = self.learner.epoch(&rows, &mut self.order, should_stop)?;
        let loss;
        (self.learner, loss) = passed.ok_or(Error::Stopped { epoch })?;
        Ok((self, loss))
    }

    /// The network as it would serve with the current weights.
    pub(crate) fn network(&self) -> Result<Network, Error> {
        let mut network = self.learner.network()?;
        fill_untrained(&mut network, &self.fold.encoder.pipeline().category_counts());
        if let Some(scale) = self.scale {
            rescale(&mut network, scale);
        }
        Ok(network)
    }
}

/// Mean and standard deviation of a regression target.
#[derive(Debug, Clone, Copy)]
struct Scale {
    mean: f64,
    std: f64,
}

/// The initial state of training.
struct Start {
    labels: Labels,
    /// The optimal outputs without any feature.
    prior: Vec<f32>,
    /// Of a regression target, which is standardized for training.
    scale: Option<Scale>,
}

impl Start {
    fn new(goal: &Goal, targets: &Targets, weights: Option<&[f32]>) -> Self {
        match targets {
            Targets::Numbers(numbers) => {
                let (mean, std) = mean_and_std(numbers);
                let labels = numbers.iter().map(|number| ((number - mean) / std) as f32).collect();
                Self { labels: Labels::Numbers(labels), prior: vec![0.0], scale: Some(Scale { mean, std }) }
            }
            Targets::Classes(classes) => Self::of_classes(goal, classes, weights),
        }
    }

    fn of_classes(goal: &Goal, classes: &[Option<usize>], weights: Option<&[f32]>) -> Self {
        // Every training row has a known class: the classes come from the same table.
        let indices = classes.iter().map(|class| class.unwrap_or(0));
        let count = goal.classes.as_ref().map_or(2, Vec::len);
        // One extra row per class keeps the logarithm finite for a class that only validation rows have.
        let mut rows = vec![1.0_f64; count];
        let weight = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
        indices.clone().enumerate().for_each(|(row, class)| rows[class] += weight(row));
        if goal.task == Task::Binary {
            let labels = indices.map(|class| class as f32).collect();
            let log_odds = (rows[1] / rows[0]).ln() as f32;
            return Self { labels: Labels::Numbers(labels), prior: vec![log_odds], scale: None };
        }
        let total: f64 = rows.iter().sum();
        let labels = indices.map(|class| i64::try_from(class).unwrap_or(0)).collect();
        let prior = rows.iter().map(|rows| (rows / total).ln() as f32).collect();
        Self { labels: Labels::Classes(labels), prior, scale: None }
    }
}

/// Converts the outputs of a network for a standardized target to the units of the target.
fn rescale(network: &mut Network, Scale { mean, std }: Scale) {
    let times = |values: &mut Vec<f32>| values.iter_mut().for_each(|value| *value = (f64::from(*value) * std) as f32);
    times(&mut network.output.weight.data);
    if network.hidden.is_empty() {
        network.embeddings.iter_mut().for_each(|embedding| times(&mut embedding.data));
    }
    network.output.bias.iter_mut().for_each(|bias| *bias = f64::from(*bias).mul_add(std, mean) as f32);
}

/// Sets the embeddings of indices without training rows to the mean of the others, weighted by training rows. An unknown
/// value is then predicted as an average one, and not by its random initial weights.
fn fill_untrained(network: &mut Network, counts: &[&[u64]]) {
    for (embedding, counts) in network.embeddings.iter_mut().zip(counts) {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let columns = embedding.columns;
        let mut mean = vec![0.0; columns];
        for (row, &count) in counts.iter().enumerate() {
            for (sum, &value) in mean.iter_mut().zip(embedding.row(row)) {
                *sum += f64::from(value) * count as f64 / total;
            }
        }
        for (row, _) in counts.iter().enumerate().filter(|&(_, &count)| count == 0) {
            let untrained = &mut embedding.data[row * columns..(row + 1) * columns];
            untrained.iter_mut().zip(&mean).for_each(|(value, &mean)| *value = mean as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_bundle::{
        network::{Layer, Matrix},
        pipeline::Encoded,
    };

    use super::*;

    fn matrix(rows: usize, columns: usize, data: &[f32]) -> Matrix {
        Matrix { rows, columns, data: data.to_vec() }
    }

    #[test]
    fn rescaling_weights_scales_the_outputs() {
        let mut network = Network {
            convolution: None,
            embeddings: vec![matrix(1, 1, &[2.0])],
            members: None,
            hidden: vec![],
            output: Layer { weight: matrix(1, 1, &[1.0]), bias: vec![1.0] },
        };
        rescale(&mut network, Scale { mean: 7.0, std: 10.0 });
        let rows = Encoded { rows: 1, width: 1, categories: 1, dense: vec![3.0], indices: vec![0] };
        assert_eq!(network.forward(&rows), [67.0]);
    }

    #[test]
    fn untrained_indices_get_the_weighted_mean() {
        let mut network = Network {
            convolution: None,
            embeddings: vec![matrix(4, 1, &[99.0, 99.0, 1.0, 5.0])],
            members: None,
            hidden: vec![],
            output: Layer { weight: matrix(0, 1, &[]), bias: vec![0.0] },
        };
        fill_untrained(&mut network, &[&[0, 0, 3, 1]]);
        assert_eq!(network.embeddings[0].data, [2.0, 2.0, 1.0, 5.0]);
    }
}
