//! The weights of a network as a module of burn: their initial values, the forward pass and the form that serves.

use burn::{
    module::{Module, Param},
    nn::{Embedding, Linear},
    store::ModuleRecord,
    tensor::{
        Bytes, Device, Int, Tensor, TensorData, activation,
        module::{conv2d, max_pool2d},
        ops::{ConvOptions, MaxPoolOptions},
    },
};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rekindle_bundle::{
    network::{Convolution, ConvolutionShape, Layer, Matrix, Network, Shape},
    pipeline::Encoded,
};
use rekindle_domain::recipe::ImageShape;

use crate::Error;

/// Initial embeddings are uniform in [-bound, bound].
const EMBEDDING_BOUND: f32 = 0.1;

/// The weights of a network. A single one is computed as an ensemble of one member.
#[derive(Module, Debug)]
pub(crate) struct Weights {
    /// Of a network for images: the values of an image.
    #[module(skip)]
    image: Option<ImageShape>,
    filters: Vec<Filters>,
    embeddings: Vec<Embedding>,
    /// `[members, inputs]`, of an ensemble.
    members: Option<Param<Tensor<2>>>,
    hidden: Vec<Linear>,
    /// `[members, inputs, outputs]`.
    output: Param<Tensor<3>>,
    /// `[members, outputs]`.
    bias: Param<Tensor<2>>,
}

/// A layer of filters.
#[derive(Module, Debug)]
struct Filters {
    /// `[filters, channels, height, width]`.
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl Weights {
    /// Draws the initial weights. `prior` is the initial bias of the outputs.
    pub(crate) fn initial(shape: &Shape, prior: &[f32], random: &mut ChaCha8Rng, device: &Device) -> Self {
        let is_linear = shape.hidden.is_empty();
        // A linear model is convex, so zero is a valid start.
        let bound = |inputs: usize| if is_linear { 0.0 } else { 1.0 / (inputs.max(1) as f32).sqrt() };
        let mut uniform = |count: usize, bound: f32| -> Vec<f32> {
            (0..count).map(|_| bound * (2.0 * random.random::<f32>() - 1.0)).collect()
        };
        let embedding_bound = if is_linear { 0.0 } else { EMBEDDING_BOUND };
        let embedding = |&(rows, columns): &(usize, usize)| Embedding {
            weight: parameter(uniform(rows * columns, embedding_bound), [rows, columns], device),
        };
        let embeddings = shape.embeddings.iter().map(embedding).collect();
        let layers = shape.convolution.iter().flat_map(ConvolutionShape::layers);
        let filters = layers.map(|(inputs, filters)| Filters {
            weight: parameter(uniform(filters * inputs, bound(inputs)), [filters, inputs / 9, 3, 3], device),
            bias: parameter(vec![0.0; filters], [filters], device),
        });
        let filters = filters.collect();
        let hidden = shape.hidden_layers().map(|(inputs, outputs)| Linear {
            weight: parameter(uniform(inputs * outputs, bound(inputs)), [inputs, outputs], device),
            bias: Some(parameter(vec![0.0; outputs], [outputs], device)),
        });
        let hidden = hidden.collect();
        let (inputs, members) = (shape.output_layer().0, shape.members.unwrap_or(1));
        let output = uniform(members * inputs * shape.outputs, bound(inputs));
        // The members differ by the signs of their inputs.
        let factors = shape.members.map(|members| {
            let signs = uniform(members * shape.inputs(), 1.0).into_iter().map(f32::signum).collect();
            parameter(signs, [members, shape.inputs()], device)
        });
        Self {
            image: shape.convolution.as_ref().map(|convolution| convolution.image),
            filters,
            embeddings,
            members: factors,
            hidden,
            output: parameter(output, [members, inputs, shape.outputs], device),
            bias: parameter(prior.repeat(members), [members, shape.outputs], device),
        }
    }

    /// The outputs of each member for the rows: `[members * rows, outputs]`.
    pub(crate) fn forward(&self, rows: Encoded, dropout: Option<(f64, &mut ChaCha8Rng)>, device: &Device) -> Tensor<2> {
        let [members, _, outputs] = self.output.dims();
        let Encoded { rows, width, categories, dense, indices: picked } = rows;
        let dense = Tensor::from_data(TensorData::new(dense, [rows, width]), device);
        let embedded = self.embeddings.iter().enumerate().map(|(category, embedding)| {
            let picked = picked.iter().skip(category).step_by(categories).map(|&index| i64::from(index)).collect();
            embedding.weight.val().select(0, indices(picked, device))
        });
        if self.hidden.is_empty() {
            let sum =
                embedded.fold(None, |sum: Option<Tensor<2>>, part| Some(sum.map_or(part.clone(), |sum| sum + part)));
            let own = self.last(dense, members, rows).reshape([members * rows, outputs]);
            return sum.map_or(own.clone(), |sum| own + sum);
        }
        let mut values = Tensor::cat(std::iter::once(self.convolved(dense)).chain(embedded).collect(), 1);
        if let Some(factors) = &self.members {
            let [_, inputs] = factors.dims();
            let scaled = values.reshape([1, rows, inputs]) * factors.val().reshape([members, 1, inputs]);
            values = scaled.reshape([members * rows, inputs]);
        }
        let mut dropout = dropout.filter(|&(share, _)| share > 0.0);
        for layer in &self.hidden {
            values = activation::relu(layer.forward(values));
            if let Some((share, random)) = &mut dropout {
                let mask = dropout_mask(random, *share, values.dims());
                values = values * Tensor::from_data(mask, device);
            }
        }
        self.last(values, members, rows).reshape([members * rows, outputs])
    }

    /// What the filters make of the values of images; the values themselves without filters.
    fn convolved(&self, values: Tensor<2>) -> Tensor<2> {
        let Some(ImageShape { height, width, channels }) = self.image else { return values };
        let [rows, _] = values.dims();
        let mut images = values.reshape([rows, height, width, channels]).permute([0, 3, 1, 2]);
        for Filters { weight, bias } in &self.filters {
            let padded = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            images = activation::relu(conv2d(images, weight.val(), Some(bias.val()), padded));
            images = max_pool2d(images, MaxPoolOptions::new([2, 2]));
        }
        let [_, channels, height, width] = images.dims();
        images.permute([0, 2, 3, 1]).reshape([rows, height * width * channels])
    }

    /// The output layer of each member.
    fn last(&self, values: Tensor<2>, members: usize, rows: usize) -> Tensor<3> {
        let [_, inputs, outputs] = self.output.dims();
        let values = values.reshape([members, rows, inputs]);
        values.matmul(self.output.val()) + self.bias.val().reshape([members, 1, outputs])
    }

    /// The weights times `share` plus the others times the rest.
    pub(crate) fn mixed(self, others: &Self, share: f64) -> Self {
        let embedding =
            |(one, other): (Embedding, &Embedding)| Embedding { weight: mixed(one.weight, &other.weight, share) };
        let layer = |(one, other): (Linear, &Linear)| Linear {
            weight: mixed(one.weight, &other.weight, share),
            bias: one.bias.zip(other.bias.as_ref()).map(|(one, other)| mixed(one, other, share)),
        };
        let filters = |(one, other): (Filters, &Filters)| Filters {
            weight: mixed(one.weight, &other.weight, share),
            bias: mixed(one.bias, &other.bias, share),
        };
        Self {
            image: self.image,
            filters: self.filters.into_iter().zip(&others.filters).map(filters).collect(),
            embeddings: self.embeddings.into_iter().zip(&others.embeddings).map(embedding).collect(),
            members: self.members.zip(others.members.as_ref()).map(|(one, other)| mixed(one, other, share)),
            hidden: self.hidden.into_iter().zip(&others.hidden).map(layer).collect(),
            output: mixed(self.output, &others.output, share),
            bias: mixed(self.bias, &others.bias, share),
        }
    }

    /// The format of burn, with the identities by which the optimizer knows the weights.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let bytes = self.clone().into_record().into_bytes();
        bytes.map(|bytes| bytes.to_vec()).map_err(|error| Error::Checkpoint(error.to_string()))
    }

    /// These weights with the values of others of the same shape.
    pub(crate) fn with_bytes(self, bytes: Vec<u8>) -> Result<Self, Error> {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes));
        let loaded = record.and_then(|record| self.try_load_record(record));
        loaded.map_err(|error| Error::Checkpoint(error.to_string()))
    }

    /// The network that serves.
    pub(crate) fn network(&self) -> Result<Network, Error> {
        let [members, inputs, outputs] = self.output.dims();
        let output = self.output.val().swap_dims(0, 1).reshape([inputs, members * outputs]);
        let bias = self.bias.val().reshape([members * outputs]);
        let convolution = |image| {
            Ok::<_, Error>(Convolution { image, filters: self.filters.iter().map(filters).collect::<Result<_, _>>()? })
        };
        Ok(Network {
            convolution: self.image.map(convolution).transpose()?,
            embeddings: self.embeddings.iter().map(|e| matrix(e.weight.val())).collect::<Result<_, _>>()?,
            members: self.members.as_ref().map(|factors| matrix(factors.val())).transpose()?,
            hidden: self.hidden.iter().map(layer).collect::<Result<_, _>>()?,
            output: Layer { weight: matrix(output)?, bias: vector(bias)? },
        })
    }
}

fn mixed<const D: usize>(one: Param<Tensor<D>>, other: &Param<Tensor<D>>, share: f64) -> Param<Tensor<D>> {
    one.map(|one| one * share + other.val() * (1.0 - share))
}

fn parameter<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

pub(crate) fn indices(indices: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let length = indices.len();
    Tensor::from_data(TensorData::new(indices, [length]), device)
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

fn matrix(tensor: Tensor<2>) -> Result<Matrix, Error> {
    let [rows, columns] = tensor.dims();
    let data = tensor.try_into_vec_as::<f32>().map_err(|error| Error::unreadable("a weight", error))?;
    Ok(Matrix { rows, columns, data })
}

fn vector(tensor: Tensor<1>) -> Result<Vec<f32>, Error> {
    tensor.try_into_vec_as::<f32>().map_err(|error| Error::unreadable("a bias", error))
}

/// A layer of filters as a matrix: the inputs row by row, pixel by pixel, channel by channel.
fn filters(Filters { weight, bias }: &Filters) -> Result<Layer, Error> {
    let [filters, channels, height, width] = weight.val().dims();
    let weight = weight.val().permute([2, 3, 1, 0]).reshape([height * width * channels, filters]);
    Ok(Layer { weight: matrix(weight)?, bias: vector(bias.val())? })
}

fn layer(linear: &Linear) -> Result<Layer, Error> {
    let weight = matrix(linear.weight.val())?;
    let bias = match &linear.bias {
        Some(bias) => vector(bias.val())?,
        None => vec![0.0; weight.columns],
    };
    Ok(Layer { weight, bias })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn dropout_keeps_the_mean() {
        let mask = dropout_mask(&mut ChaCha8Rng::seed_from_u64(1), 0.25, [1000, 100]);
        let mask = mask.try_into_vec::<f32>().expect("floats");
        let dropped = mask.iter().filter(|&&value| value == 0.0).count() as f32 / mask.len() as f32;
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((dropped - 0.25).abs() < 0.01 && (mean - 1.0).abs() < 0.01, "{dropped} {mean}");
    }
}
