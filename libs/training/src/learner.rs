//! Optimization of a network with burn: AdamW on mini-batches, all random numbers from one seed.
//!
//! burn has one random number generator per process, so that concurrent trainings would affect each other. Initial
//! weights, dropout masks and the order of rows are therefore drawn here and passed to burn as data.
//!
//! A batch is divided into shards, whose gradients are computed on several threads and added in the order of the shards. The number of
//! shards depends on the rows of the batch alone, so that the weights have the same bits whatever the number of threads.

use burn::{
    module::Module,
    optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer},
    store::RecordError,
    tensor::{Bytes as BurnBytes, Device, Tensor, TensorData, activation},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::{
    ThreadPool, ThreadPoolBuilder,
    iter::{IntoParallelIterator as _, ParallelIterator as _},
};
use rekindle_bundle::network::{Network, Shape};
use rekindle_domain::{
    Recipe, Task,
    recipe::{ModelRecipe, Optimizer},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    order::Order,
    rows::Rows,
    weights::{Weights, indices},
};

/// Epsilon of Adam, as in its paper (Kingma and Ba 2015); burn's default is 1e-5.
const ADAM_EPSILON: f32 = 1e-8;
/// Rows of a shard at least, but for batches of fewer rows.
const SHARD_ROWS: usize = 128;
/// Shards of a batch at most.
const MAX_SHARDS: usize = 8;

/// Shards of a batch of so many rows.
pub(crate) fn shards(rows: usize) -> usize {
    (rows / SHARD_ROWS).clamp(1, MAX_SHARDS)
}

/// The labels of training rows as the loss needs them.
#[derive(Debug, Clone)]
pub(crate) enum Labels {
    /// 0 or 1, or a standardized number.
    Numbers(Vec<f32>),
    /// The index of each row's class.
    Classes(Vec<i64>),
}

/// The rows that a network is trained on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrainingRows<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) labels: &'a Labels,
    /// How much each row counts, 1 on average.
    pub(crate) weights: Option<&'a [f32]>,
}

/// A network in training.
pub(crate) struct Learner {
    task: Task,
    dropout: f64,
    batch_size: usize,
    learning_rate: f64,
    device: Device,
    weights: Weights,
    optimizer: ModuleOptimizer,
    random: ChaCha8Rng,
    threads: ThreadPool,
    averaging: f64,
    /// The exponential moving average of the weights after each step.
    average: Option<Weights>,
    steps: u32,
    /// The position of the random numbers before the rows of each epoch were shuffled.
    shuffled_at: Vec<u128>,
}

/// The state of a learner between two epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LearnerState {
    /// These three are in the format of burn.
    weights: Vec<u8>,
    average: Option<Vec<u8>>,
    optimizer: Vec<u8>,
    steps: u32,
    shuffled_at: Vec<u128>,
    random_at: u128,
}

impl Learner {
    /// Draws the initial weights. `prior` is the initial bias of the outputs.
    pub(crate) fn new(
        recipe: &Recipe,
        task: Task,
        shape: &Shape,
        prior: &[f32],
        threads: usize,
    ) -> Result<Self, Error> {
        let device = Device::flex().autodiff();
        let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
        let weights = Weights::initial(shape, prior, &mut random, &device);
        let dropout = match &recipe.model {
            ModelRecipe::Linear(_) => 0.0,
            ModelRecipe::Mlp(mlp) => mlp.dropout,
            ModelRecipe::TabM(tabm) => tabm.dropout,
            ModelRecipe::Cnn(cnn) => cnn.dropout,
        };
        let Optimizer { batch_size, learning_rate, weight_decay, averaging, .. } = *recipe.model.optimizer();
        let optimizer = AdamWConfig::new().with_epsilon(ADAM_EPSILON).with_weight_decay(weight_decay as f32).init();
        let threads = ThreadPoolBuilder::new().num_threads(threads.clamp(1, MAX_SHARDS)).build();
        let threads = threads.map_err(|error| Error::Threads(error.to_string()))?;
        Ok(Self {
            task,
            dropout,
            batch_size,
            learning_rate,
            device,
            weights,
            optimizer,
            random,
            threads,
            averaging,
            average: None,
            steps: 0,
            shuffled_at: Vec::new(),
        })
    }

    /// The state, from which [`Learner::resumed`] continues.
    pub(crate) fn state(&self) -> Result<LearnerState, Error> {
        let optimizer = self.optimizer.into_bytes().map_err(unusable)?;
        Ok(LearnerState {
            weights: self.weights.valid().to_bytes()?,
            average: self.average.as_ref().map(Weights::to_bytes).transpose()?,
            optimizer: optimizer.to_vec(),
            steps: self.steps,
            shuffled_at: self.shuffled_at.clone(),
            random_at: self.random.get_word_pos(),
        })
    }

    /// A new learner in the state of another one with the same recipe. `order` becomes that of its last epoch.
    pub(crate) fn resumed(self, state: LearnerState, order: &mut Order) -> Result<Self, Error> {
        let mut random = self.random;
        for &at in &state.shuffled_at {
            random.set_word_pos(at);
            order.shuffle(&mut random);
        }
        random.set_word_pos(state.random_at);
        let initial = self.weights.valid();
        let optimizer = self.optimizer.from_bytes(BurnBytes::from_bytes_vec(state.optimizer)).map_err(unusable)?;
        Ok(Self {
            average: state.average.map(|average| initial.clone().with_bytes(average)).transpose()?,
            weights: initial.with_bytes(state.weights)?.train(),
            optimizer,
            random,
            steps: state.steps,
            shuffled_at: state.shuffled_at,
            ..self
        })
    }

    /// Completed epochs.
    pub(crate) fn epochs(&self) -> u32 {
        self.shuffled_at.len().try_into().unwrap_or(u32::MAX)
    }

    /// One pass over the rows in `order`, which is shuffled first. Returns the mean training loss of a row; `None` if `should_stop`
    /// between two steps. An error ends training: the weights of an incomplete step are dropped.
    pub(crate) fn epoch(
        mut self,
        rows: &TrainingRows<'_>,
        order: &mut Order,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Option<(Self, f64)>, Error> {
        self.shuffled_at.push(self.random.get_word_pos());
        order.shuffle(&mut self.random);
        let mut total = 0.0;
        for batch in order.batches(self.batch_size) {
            if should_stop() {
                return Ok(None);
            }
            let loss;
            (self, loss) = self.step(rows, &batch)?;
            self.average();
            total += loss * batch.len() as f64;
        }
        Ok(Some((self, total / order.len() as f64)))
    }

    /// One step of the optimizer. Returns the mean loss of a row of the batch.
    fn step(mut self, rows: &TrainingRows<'_>, batch: &[usize]) -> Result<(Self, f64), Error> {
        let shards: Vec<(&[usize], u64)> = batch
            .chunks(batch.len().div_ceil(shards(batch.len())))
            .map(|shard| (shard, self.random.random()))
            .collect();
        let weights = self.weights.valid();
        let gradients = |(shard, seed): (&[usize], u64)| {
            let share = shard.len() as f64 / batch.len() as f64;
            self.gradients(weights.clone().train(), rows, shard, seed, share)
        };
        let found = self.threads.install(|| shards.into_par_iter().map(gradients).collect::<Vec<_>>());
        let (mut sum, mut loss) = (GradientsAccumulator::new(), 0.0);
        for shard in found {
            let (value, gradients) = shard?;
            loss += value;
            sum.accumulate(&self.weights, gradients);
        }
        self.weights = self.optimizer.step(self.learning_rate, self.weights, sum.grads());
        Ok((self, loss))
    }

    /// Adds the current weights to their average. The average of the first steps is of few weights, so that it forgets the initial ones.
    fn average(&mut self) {
        if self.averaging == 0.0 {
            return;
        }
        self.steps = self.steps.saturating_add(1);
        let steps = f64::from(self.steps);
        let decay = self.averaging.min((1.0 + steps) / (10.0 + steps));
        let current = self.weights.valid();
        self.average = Some(match self.average.take() {
            Some(average) => average.mixed(&current, decay),
            None => current,
        });
    }

    /// The gradients of the loss of a shard, and that loss: its `share` of the mean loss of the batch.
    fn gradients(
        &self,
        weights: Weights,
        rows: &TrainingRows<'_>,
        shard: &[usize],
        seed: u64,
        share: f64,
    ) -> Result<(f64, GradientsParams), Error> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let outputs = weights.forward(rows.rows.take(shard)?, Some((self.dropout, &mut random)), &self.device);
        let loss = self.loss(outputs, rows, shard) * share;
        let value = loss.clone().try_into_scalar::<f32>().map_err(|error| Error::unreadable("the loss", error))?;
        Ok((f64::from(value), GradientsParams::from_grads(loss.backward(), &weights)))
    }

    /// Mean log loss in nats, or mean squared error of the standardized target, over the rows and the members. With weights, each row
    /// counts as much as its weight.
    fn loss(&self, outputs: Tensor<2>, rows: &TrainingRows<'_>, batch: &[usize]) -> Tensor<1> {
        let all = outputs.dims()[0];
        let repeated = || batch.iter().cycle().take(all);
        let column = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [all, 1]), &self.device);
        let losses = match rows.labels {
            Labels::Classes(classes) => {
                let labels = indices(repeated().map(|&row| classes[row]).collect(), &self.device).reshape([all, 1]);
                activation::log_softmax(outputs, 1).gather(1, labels).neg()
            }
            Labels::Numbers(numbers) => {
                let labels = column(repeated().map(|&row| numbers[row]).collect());
                if self.task == Task::Regression {
                    (outputs - labels).square()
                } else {
                    // (1 - y) z - ln sigmoid(z) is finite for every z.
                    (labels.neg() + 1.0) * outputs.clone() - activation::log_sigmoid(outputs)
                }
            }
        };
        match rows.weights {
            Some(weights) => (losses * column(repeated().map(|&row| weights[row]).collect())).mean(),
            None => losses.mean(),
        }
    }

    /// The average of the weights, or the current ones if they are not averaged.
    pub(crate) fn network(&self) -> Result<Network, Error> {
        self.average.as_ref().unwrap_or(&self.weights).network()
    }
}

impl LearnerState {
    /// Bytes of the weights.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() + self.average.as_ref().map_or(0, Vec::len) + self.optimizer.len()
    }

    /// Completed epochs.
    pub(crate) fn epochs(&self) -> u32 {
        self.shuffled_at.len().try_into().unwrap_or(u32::MAX)
    }
}

fn unusable(error: RecordError) -> Error {
    Error::Checkpoint(error.to_string())
}

#[cfg(test)]
mod tests {
    use rekindle_bundle::pipeline::Encoded;
    use rekindle_domain::recipe::{CnnRecipe, ImageShape, LinearRecipe, MlpRecipe, TabMRecipe};

    use super::*;

    /// Rows with two dense numbers and one index each; images of two channels for a convolutional network.
    fn rows(model: &ModelRecipe, count: usize) -> Encoded {
        let values = |width: usize| (0..width * count).map(|i| (i as f32 * 0.37).sin()).collect();
        if let ModelRecipe::Cnn(cnn) = model {
            let width = cnn.image.values();
            return Encoded { rows: count, width, categories: 0, dense: values(width), indices: vec![] };
        }
        let dense = values(2);
        let indices = (0..count).map(|i| (i % 4) as u32).collect();
        Encoded { rows: count, width: 2, categories: 1, dense, indices }
    }

    /// A learner after one pass over `rows` in batches of so many rows.
    fn trained(model: &ModelRecipe, rows: &Encoded, (batch_size, averaging): (usize, f64), threads: usize) -> Learner {
        let mut model = model.clone();
        let optimizer = model.optimizer_mut();
        (optimizer.batch_size, optimizer.averaging) = (batch_size, averaging);
        let recipe = Recipe { model, ..Recipe::for_target("y") };
        let architecture = recipe.model.architecture();
        let shape = Shape::of_sizes(&architecture, rows.width, std::iter::repeat_n(2, rows.categories), 3);
        let learner = Learner::new(&recipe, Task::Multiclass, &shape, &[0.0, 0.1, 0.2], threads).expect("threads");
        let labels = Labels::Classes((0..).take(rows.rows).map(|i: i64| i % 3).collect());
        let mut order = Order::of(rows.rows);
        let rows = &Rows::from(rows.clone());
        let (learner, _) = learner
            .epoch(&TrainingRows { rows, labels: &labels, weights: None }, &mut order, &|| false)
            .expect("trains")
            .expect("to the end");
        learner
    }

    fn models() -> [ModelRecipe; 4] {
        let image = ImageShape { height: 5, width: 4, channels: 2 };
        [
            ModelRecipe::Linear(LinearRecipe::default()),
            ModelRecipe::Mlp(MlpRecipe { hidden: vec![5, 4], ..MlpRecipe::default() }),
            ModelRecipe::TabM(TabMRecipe { members: 3, hidden: vec![5, 4], ..TabMRecipe::default() }),
            ModelRecipe::Cnn(CnnRecipe { filters: vec![3, 2], hidden: vec![5], ..CnnRecipe::for_image(image) }),
        ]
    }

    #[test]
    fn serving_and_training_networks_agree() {
        for model in models() {
            let rows = rows(&model, 40);
            let learner = trained(&model, &rows, (16, 0.0), 1);
            let serving = learner.network().expect("weights").forward(&rows);
            let members = learner.weights.forward(rows.clone(), None, &learner.device);
            let members = members.try_into_vec_as::<f32>().expect("floats");
            let count = members.len() / serving.len();
            for (at, serving) in serving.iter().enumerate() {
                let training = members.iter().skip(at).step_by(serving_len(&rows)).sum::<f32>() / count as f32;
                assert!((serving - training).abs() < 1e-5, "{model:?}: serving {serving}, training {training}");
            }
        }
    }

    /// Outputs of all rows.
    fn serving_len(rows: &Encoded) -> usize {
        rows.rows * 3
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        for model in models() {
            let rows = rows(&model, 1500);
            let network = |threads| trained(&model, &rows, (600, 0.99), threads).network().expect("weights");
            let one = network(1);
            assert_eq!(network(2), one, "{model:?}");
            assert_eq!(network(4), one, "{model:?}");
        }
    }
}
