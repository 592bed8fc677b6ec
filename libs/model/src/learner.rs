//! Learning a network's weights with burn: AdamW on mini-batches, one thread, every random number from one seed.
//!
//! burn's own generator is one for the whole process, so that two trainings side by side would draw from each other's
//! numbers. Initial weights, dropout and the order of rows are therefore drawn here and handed in as data.

use burn::{
    module::{Module, Param},
    nn::{Embedding, Linear},
    optim::{AdamWConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Int, Tensor, TensorData, activation},
};
use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rekindle_domain::{Architecture, Recipe, Task};

use crate::{
    Error,
    manifest::WEIGHTS,
    network::{Layer, Matrix, Network, Shape},
    pipeline::Encoded,
};

/// Adam's guard against division by zero, as in its paper (Kingma and Ba 2015); burn's default is 1e-5.
const ADAM_EPSILON: f32 = 1e-8;
/// Initial embeddings are uniform within this bound.
const EMBEDDING_BOUND: f32 = 0.1;

/// The network as burn knows it.
#[derive(Module, Debug)]
struct Weights {
    embeddings: Vec<Embedding>,
    hidden: Vec<Linear>,
    output: Linear,
}

/// The targets of training rows as the loss takes them.
#[derive(Debug, Clone)]
pub(crate) enum Labels {
    /// 0 or 1, or a standardised number.
    Numbers(Vec<f32>),
    /// The index of the class.
    Classes(Vec<i64>),
}

/// A network while it learns.
pub(crate) struct Learner {
    task: Task,
    dropout: f64,
    batch_size: usize,
    learning_rate: f64,
    device: Device,
    weights: Option<Weights>,
    optimizer: ModuleOptimizer,
    random: ChaCha8Rng,
}

impl Learner {
    /// Draws the initial weights. `prior` is the initial bias of the outputs, best the answer without any feature.
    pub(crate) fn new(recipe: &Recipe, task: Task, shape: &Shape, prior: &[f32]) -> Self {
        let device = Device::flex().autodiff();
        let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
        let weights = initial(shape, prior, &mut random, &device);
        let dropout = match recipe.architecture {
            Architecture::Linear => 0.0,
            Architecture::Mlp { dropout, .. } => dropout,
        };
        let optimizer =
            AdamWConfig::new().with_epsilon(ADAM_EPSILON).with_weight_decay(recipe.weight_decay as f32).init();
        Self {
            task,
            dropout,
            batch_size: recipe.batch_size,
            learning_rate: recipe.learning_rate,
            device,
            weights: Some(weights),
            optimizer,
            random,
        }
    }

    /// One pass over the rows in `order`, which is shuffled first. Returns the mean loss of a row while learning.
    pub(crate) fn epoch(&mut self, rows: &Encoded, labels: &Labels, order: &mut [usize]) -> Result<f64, Error> {
        order.shuffle(&mut self.random);
        let mut total = 0.0;
        for batch in order.chunks(self.batch_size) {
            total += self.step(rows, labels, batch)? * batch.len() as f64;
        }
        Ok(total / order.len() as f64)
    }

    fn step(&mut self, rows: &Encoded, labels: &Labels, batch: &[usize]) -> Result<f64, Error> {
        let weights = self.weights.take().ok_or_else(|| Error::invalid(WEIGHTS, "an earlier step failed"))?;
        let outputs = self.forward(&weights, rows, batch);
        let loss = self.loss(outputs, labels, batch);
        let value = loss.clone().try_into_scalar::<f32>().map_err(|error| Error::invalid(WEIGHTS, error))?;
        let gradients = GradientsParams::from_grads(loss.backward(), &weights);
        self.weights = Some(self.optimizer.step(self.learning_rate, weights, gradients));
        Ok(f64::from(value))
    }

    fn forward(&mut self, weights: &Weights, rows: &Encoded, batch: &[usize]) -> Tensor<2> {
        let dense = self.dense(rows, batch);
        let embedded = weights.embeddings.iter().enumerate().map(|(category, embedding)| {
            let indices = batch.iter().map(|&row| i64::from(rows.row(row).1[category])).collect();
            embedding.weight.val().select(0, self.indices(indices))
        });
        if weights.hidden.is_empty() {
            return embedded.fold(weights.output.forward(dense), |sum, part| sum + part);
        }
        let mut values = Tensor::cat(std::iter::once(dense).chain(embedded).collect(), 1);
        for layer in &weights.hidden {
            values = activation::relu(layer.forward(values));
            if self.dropout > 0.0 {
                values = values.clone() * self.mask(values.dims());
            }
        }
        weights.output.forward(values)
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

    /// Zero for a dropped activation, and what keeps the mean for the others.
    fn mask(&mut self, [rows, columns]: [usize; 2]) -> Tensor<2> {
        let mut bytes = vec![0; rows * columns * 2];
        self.random.fill_bytes(&mut bytes);
        let dropped = (self.dropout * f64::from(u16::MAX)) as u16;
        let kept = (1.0 / (1.0 - self.dropout)) as f32;
        let (draws, _) = bytes.as_chunks::<2>();
        let mask = draws.iter().map(|draw| if u16::from_le_bytes(*draw) < dropped { 0.0 } else { kept }).collect();
        Tensor::from_data(TensorData::new::<f32, _>(mask, [rows, columns]), &self.device)
    }

    /// Mean log loss in nats, or mean squared error of the standardised target.
    fn loss(&self, outputs: Tensor<2>, labels: &Labels, batch: &[usize]) -> Tensor<1> {
        let rows = batch.len();
        match labels {
            Labels::Classes(classes) => {
                let truth = self.indices(batch.iter().map(|&row| classes[row]).collect()).reshape([rows, 1]);
                activation::log_softmax(outputs, 1).gather(1, truth).mean().neg()
            }
            Labels::Numbers(numbers) => {
                let truth = batch.iter().map(|&row| numbers[row]).collect();
                let truth = Tensor::<2>::from_data(TensorData::new::<f32, _>(truth, [rows, 1]), &self.device);
                if self.task == Task::Regression {
                    (outputs - truth).square().mean()
                } else {
                    // (1 - y) z - ln sigmoid(z), which stays finite for every z.
                    ((truth.neg() + 1.0) * outputs.clone() - activation::log_sigmoid(outputs)).mean()
                }
            }
        }
    }

    /// The weights learnt so far.
    pub(crate) fn network(&self) -> Result<Network, Error> {
        let weights = self.weights.as_ref().ok_or_else(|| Error::invalid(WEIGHTS, "an earlier step failed"))?;
        Ok(Network {
            embeddings: weights.embeddings.iter().map(|e| matrix(e.weight.val())).collect::<Result<_, _>>()?,
            hidden: weights.hidden.iter().map(layer).collect::<Result<_, _>>()?,
            output: layer(&weights.output)?,
        })
    }
}

fn initial(shape: &Shape, prior: &[f32], random: &mut ChaCha8Rng, device: &Device) -> Weights {
    let linear_model = shape.hidden.is_empty();
    let mut uniform = |rows: usize, columns: usize, bound: f32| -> Tensor<2> {
        let draw = (0..rows * columns).map(|_| bound * (2.0 * random.random::<f32>() - 1.0)).collect();
        Tensor::from_data(TensorData::new::<f32, _>(draw, [rows, columns]), device)
    };
    // A linear model has one optimum and may begin at zero.
    let embedding_bound = if linear_model { 0.0 } else { EMBEDDING_BOUND };
    let embeddings = shape
        .embeddings
        .iter()
        .map(|&(rows, columns)| Embedding { weight: Param::from_tensor(uniform(rows, columns, embedding_bound)) })
        .collect();
    let mut layers: Vec<Linear> = shape
        .layers()
        .into_iter()
        .map(|(inputs, outputs)| {
            let bound = if linear_model { 0.0 } else { 1.0 / (inputs.max(1) as f32).sqrt() };
            let bias = Tensor::<1>::zeros([outputs], device);
            Linear { weight: Param::from_tensor(uniform(inputs, outputs, bound)), bias: Some(Param::from_tensor(bias)) }
        })
        .collect();
    let mut output = layers.pop().expect("a shape has at least the output layer");
    output.bias = Some(Param::from_tensor(Tensor::<1>::from_data(TensorData::from(prior), device)));
    Weights { embeddings, hidden: layers, output }
}

fn matrix(tensor: Tensor<2>) -> Result<Matrix, Error> {
    let [rows, columns] = tensor.dims();
    let data = tensor.try_into_vec_as::<f32>().map_err(|error| Error::invalid(WEIGHTS, error))?;
    Ok(Matrix { rows, columns, data })
}

fn layer(linear: &Linear) -> Result<Layer, Error> {
    let weight = matrix(linear.weight.val())?;
    let bias = match &linear.bias {
        Some(bias) => bias.val().try_into_vec_as::<f32>().map_err(|error| Error::invalid(WEIGHTS, error))?,
        None => vec![0.0; weight.columns],
    };
    Ok(Layer { weight, bias })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with one dense number and one index each.
    fn rows(count: usize) -> Encoded {
        let dense = (0..2 * count).map(|i| (i as f32 * 0.37).sin()).collect();
        let indices = (0..count).map(|i| (i % 4) as u32).collect();
        Encoded { rows: count, width: 2, categories: 1, dense, indices }
    }

    fn learnt(architecture: Architecture, hidden: Vec<usize>, width: usize) -> (Learner, Encoded) {
        let rows = rows(40);
        let recipe = Recipe { architecture, batch_size: 16, ..Recipe::for_target("y") };
        let shape = Shape { dense: 2, embeddings: vec![(4, width)], hidden, outputs: 3 };
        let mut learner = Learner::new(&recipe, Task::Multiclass, &shape, &[0.0, 0.1, 0.2]);
        let labels = Labels::Classes((0..40).map(|i| i % 3).collect());
        let mut order: Vec<usize> = (0..40).collect();
        learner.epoch(&rows, &labels, &mut order).expect("learns");
        (learner, rows)
    }

    #[test]
    fn what_serves_is_what_was_learnt() {
        let mlp = Architecture::Mlp { hidden: vec![5, 4], dropout: 0.0 };
        for (architecture, hidden, width) in [(mlp, vec![5, 4], 2), (Architecture::Linear, vec![], 3)] {
            let (mut learner, rows) = learnt(architecture, hidden, width);
            let serving = learner.network().expect("weights").forward(&rows);
            let weights = learner.weights.clone().expect("weights");
            let batch: Vec<usize> = (0..rows.rows).collect();
            let learning = learner.forward(&weights, &rows, &batch).try_into_vec_as::<f32>().expect("floats");
            assert_eq!(serving.len(), learning.len());
            for (serving, learning) in serving.iter().zip(&learning) {
                assert!((serving - learning).abs() < 1e-5, "{serving} against {learning}");
            }
        }
    }

    #[test]
    fn dropout_keeps_the_mean() {
        let architecture = Architecture::Mlp { hidden: vec![4], dropout: 0.25 };
        let (mut learner, _) = learnt(architecture, vec![4], 2);
        let mask = learner.mask([1000, 100]).try_into_vec_as::<f32>().expect("floats");
        let dropped = mask.iter().filter(|&&value| value == 0.0).count() as f32 / mask.len() as f32;
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((dropped - 0.25).abs() < 0.01 && (mean - 1.0).abs() < 0.01, "{dropped} {mean}");
    }
}
