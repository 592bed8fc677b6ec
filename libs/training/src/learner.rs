//! Optimization of a network with burn: AdamW on mini-batches, one thread, all random numbers from one seed.
//!
//! burn has one random number generator per process, so that concurrent trainings would affect each other. Initial
//! weights, dropout masks and the order of rows are therefore drawn here and passed to burn as data.

use burn::{
    module::{Module, Param},
    nn::{Embedding, Linear},
    optim::{AdamWConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Int, Tensor, TensorData, activation},
};
use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rekindle_bundle::{
    network::{Layer, Matrix, Network, Shape},
    pipeline::Encoded,
};
use rekindle_domain::{
    Recipe, Task,
    recipe::{ModelRecipe, Optimizer},
};

use crate::Error;

/// Epsilon of Adam, as in its paper (Kingma and Ba 2015); burn's default is 1e-5.
const ADAM_EPSILON: f32 = 1e-8;
/// Initial embeddings are uniform in [-bound, bound].
const EMBEDDING_BOUND: f32 = 0.1;

/// The weights as a burn module.
#[derive(Module, Debug)]
struct Weights {
    embeddings: Vec<Embedding>,
    hidden: Vec<Linear>,
    output: Linear,
}

/// The labels of training rows as the loss needs them.
#[derive(Debug, Clone)]
pub(crate) enum Labels {
    /// 0 or 1, or a standardized number.
    Numbers(Vec<f32>),
    /// The index of each row's class.
    Classes(Vec<i64>),
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
}

impl Learner {
    /// Draws the initial weights. `prior` is the initial bias of the outputs.
    pub(crate) fn new(recipe: &Recipe, task: Task, shape: &Shape, prior: &[f32]) -> Self {
        let device = Device::flex().autodiff();
        let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
        let weights = initial(shape, prior, &mut random, &device);
        let dropout = match &recipe.model {
            ModelRecipe::Linear(_) => 0.0,
            ModelRecipe::Mlp(mlp) => mlp.dropout,
        };
        let Optimizer { batch_size, learning_rate, weight_decay, .. } = *recipe.model.optimizer();
        let optimizer = AdamWConfig::new().with_epsilon(ADAM_EPSILON).with_weight_decay(weight_decay as f32).init();
        Self { task, dropout, batch_size, learning_rate, device, weights, optimizer, random }
    }

    /// One pass over the rows in `order`, which is shuffled first. Returns the mean training loss of a row; `None` if `should_stop`
    /// between two steps. An error ends training: the weights of an incomplete step are dropped.
    pub(crate) fn epoch(
        mut self,
        rows: &Encoded,
        labels: &Labels,
        order: &mut [usize],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Option<(Self, f64)>, Error> {
        order.shuffle(&mut self.random);
        let mut total = 0.0;
        for batch in order.chunks(self.batch_size) {
            if should_stop() {
                return Ok(None);
            }
            let loss;
            (self, loss) = self.step(rows, labels, batch)?;
            total += loss * batch.len() as f64;
        }
        Ok(Some((self, total / order.len() as f64)))
    }

    fn step(mut self, rows: &Encoded, labels: &Labels, batch: &[usize]) -> Result<(Self, f64), Error> {
        let outputs = self.forward(rows, batch);
        let loss = self.loss(outputs, labels, batch);
        let value = loss.clone().try_into_scalar::<f32>().map_err(|error| unreadable("the loss", error))?;
        let gradients = GradientsParams::from_grads(loss.backward(), &self.weights);
        self.weights = self.optimizer.step(self.learning_rate, self.weights, gradients);
        Ok((self, f64::from(value)))
    }

    fn forward(&mut self, rows: &Encoded, batch: &[usize]) -> Tensor<2> {
        let dense = self.dense(rows, batch);
        let embedded = self.weights.embeddings.iter().enumerate().map(|(category, embedding)| {
            let indices = batch.iter().map(|&row| i64::from(rows.row(row).1[category])).collect();
            embedding.weight.val().select(0, self.indices(indices))
        });
        if self.weights.hidden.is_empty() {
            return embedded.fold(self.weights.output.forward(dense), |sum, part| sum + part);
        }
        let mut values = Tensor::cat(std::iter::once(dense).chain(embedded).collect(), 1);
        for layer in &self.weights.hidden {
            values = activation::relu(layer.forward(values));
            if self.dropout > 0.0 {
                let mask = dropout_mask(&mut self.random, self.dropout, values.dims());
                values = values.clone() * Tensor::from_data(mask, &self.device);
            }
        }
        self.weights.output.forward(values)
    }

    fn dense(&self, rows: &Encoded, batch: &[usize]) -> Tensor<2> {
        let mut values = Vec::with_capacity(batch.len() * rows.width);
        batch.iter().for_each(|&row| values.extend_from_slice(rows.row(row).0));
        Tensor::from_data(TensorData::new(values, [batch.len(), rows.width]), &self.device)
    }

    fn indices(&self, indices: Vec<i64>) -> Tensor<1, Int> {
        let length = indices.len();
        Tensor::from_data(TensorData::new(indices, [length]), &self.device)
    }

    /// Mean log loss in nats, or mean squared error of the standardized target.
    fn loss(&self, outputs: Tensor<2>, labels: &Labels, batch: &[usize]) -> Tensor<1> {
        let rows = batch.len();
        match labels {
            Labels::Classes(classes) => {
                let labels = self.indices(batch.iter().map(|&row| classes[row]).collect()).reshape([rows, 1]);
                activation::log_softmax(outputs, 1).gather(1, labels).mean().neg()
            }
            Labels::Numbers(numbers) => {
                let labels = batch.iter().map(|&row| numbers[row]).collect();
                let labels = Tensor::<2>::from_data(TensorData::new::<f32, _>(labels, [rows, 1]), &self.device);
                if self.task == Task::Regression {
                    (outputs - labels).square().mean()
                } else {
                    // (1 - y) z - ln sigmoid(z) is finite for every z.
                    ((labels.neg() + 1.0) * outputs.clone() - activation::log_sigmoid(outputs)).mean()
                }
            }
        }
    }

    /// The current weights.
    pub(crate) fn network(&self) -> Result<Network, Error> {
        let weights = &self.weights;
        Ok(Network {
            embeddings: weights.embeddings.iter().map(|e| matrix(e.weight.val())).collect::<Result<_, _>>()?,
            hidden: weights.hidden.iter().map(layer).collect::<Result<_, _>>()?,
            output: layer(&weights.output)?,
        })
    }
}

fn unreadable(tensor: &'static str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Tensor { tensor, source: error.into() }
}

/// 0 for a dropped activation, and the factor that keeps the mean for the others.
fn dropout_mask(random: &mut ChaCha8Rng, dropout: f64, [rows, columns]: [usize; 2]) -> TensorData {
    let mut bytes = vec![0; rows * columns * 2];
    random.fill_bytes(&mut bytes);
    let dropped = (dropout * f64::from(u16::MAX)) as u16;
    let kept = (1.0 / (1.0 - dropout)) as f32;
    let (draws, _) = bytes.as_chunks::<2>();
    let mask = draws.iter().map(|draw| if u16::from_le_bytes(*draw) < dropped { 0.0 } else { kept }).collect();
    TensorData::new::<f32, _>(mask, [rows, columns])
}

fn initial(shape: &Shape, prior: &[f32], random: &mut ChaCha8Rng, device: &Device) -> Weights {
    let is_linear = shape.hidden.is_empty();
    let mut uniform = |rows: usize, columns: usize, bound: f32| {
        let draw = (0..rows * columns).map(|_| bound * (2.0 * random.random::<f32>() - 1.0)).collect();
        let draw = Tensor::<2>::from_data(TensorData::new::<f32, _>(draw, [rows, columns]), device);
        Param::from_tensor(draw)
    };
    // A linear model is convex, so zero is a valid start.
    let embedding_bound = if is_linear { 0.0 } else { EMBEDDING_BOUND };
    let embeddings = shape.embeddings.iter();
    let embeddings =
        embeddings.map(|&(rows, columns)| Embedding { weight: uniform(rows, columns, embedding_bound) }).collect();
    let mut linear = |(inputs, outputs): (usize, usize), bias: Tensor<1>| {
        let bound = if is_linear { 0.0 } else { 1.0 / (inputs.max(1) as f32).sqrt() };
        Linear { weight: uniform(inputs, outputs, bound), bias: Some(Param::from_tensor(bias)) }
    };
    let hidden = shape.hidden_layers().map(|sizes| linear(sizes, Tensor::zeros([sizes.1], device))).collect();
    let output = linear(shape.output_layer(), Tensor::from_data(TensorData::from(prior), device));
    Weights { embeddings, hidden, output }
}

fn matrix(tensor: Tensor<2>) -> Result<Matrix, Error> {
    let [rows, columns] = tensor.dims();
    let data = tensor.try_into_vec_as::<f32>().map_err(|error| unreadable("a weight", error))?;
    Ok(Matrix { rows, columns, data })
}

fn layer(linear: &Linear) -> Result<Layer, Error> {
    let weight = matrix(linear.weight.val())?;
    let bias = match &linear.bias {
        Some(bias) => bias.val().try_into_vec_as::<f32>().map_err(|error| unreadable("a bias", error))?,
        None => vec![0.0; weight.columns],
    };
    Ok(Layer { weight, bias })
}

#[cfg(test)]
mod tests {
    use rekindle_domain::recipe::{LinearRecipe, MlpRecipe};

    use super::*;

    /// Rows with one dense number and one index each.
    fn rows(count: usize) -> Encoded {
        let dense = (0..2 * count).map(|i| (i as f32 * 0.37).sin()).collect();
        let indices = (0..count).map(|i| (i % 4) as u32).collect();
        Encoded { rows: count, width: 2, categories: 1, dense, indices }
    }

    fn trained(mut model: ModelRecipe, hidden: Vec<usize>, width: usize) -> (Learner, Encoded) {
        let rows = rows(40);
        model.optimizer_mut().batch_size = 16;
        let recipe = Recipe { model, ..Recipe::for_target("y") };
        let shape = Shape { dense: 2, embeddings: vec![(4, width)], hidden, outputs: 3 };
        let learner = Learner::new(&recipe, Task::Multiclass, &shape, &[0.0, 0.1, 0.2]);
        let labels = Labels::Classes((0..40).map(|i| i % 3).collect());
        let mut order: Vec<usize> = (0..40).collect();
        let (learner, _) = learner.epoch(&rows, &labels, &mut order, &|| false).expect("trains").expect("to the end");
        (learner, rows)
    }

    #[test]
    fn serving_and_training_networks_agree() {
        let mlp = ModelRecipe::Mlp(MlpRecipe { hidden: vec![5, 4], dropout: 0.0, ..MlpRecipe::default() });
        let linear = ModelRecipe::Linear(LinearRecipe::default());
        for (model, hidden, width) in [(mlp, vec![5, 4], 2), (linear, vec![], 3)] {
            let (mut learner, rows) = trained(model, hidden, width);
            let serving = learner.network().expect("weights").forward(&rows);
            let batch: Vec<usize> = (0..rows.rows).collect();
            let training = learner.forward(&rows, &batch).try_into_vec_as::<f32>().expect("floats");
            assert_eq!(serving.len(), training.len());
            for (serving, training) in serving.iter().zip(&training) {
                assert!((serving - training).abs() < 1e-5, "serving {serving}, training {training}");
            }
        }
    }

    #[test]
    fn dropout_keeps_the_mean() {
        let mask = dropout_mask(&mut ChaCha8Rng::seed_from_u64(1), 0.25, [1000, 100]);
        let mask = mask.try_into_vec::<f32>().expect("floats");
        let dropped = mask.iter().filter(|&&value| value == 0.0).count() as f32 / mask.len() as f32;
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((dropped - 0.25).abs() < 0.01 && (mean - 1.0).abs() < 0.01, "{dropped} {mean}");
    }
}
