//! Weights of a network as safetensors. The writer sorts tensors by name and adds no metadata, so that equal weights have
//! equal bytes.

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{Convolution, Layer, Matrix, Network, Shape};
use crate::{Error, manifest::WEIGHTS};

impl Network {
    /// The stored form of the weights.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .named()
            .into_iter()
            .map(|(name, shape, data)| (name, shape, data.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, data)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|error| Error::invalid(WEIGHTS, error))?;
        safetensors::serialize(views, None).map(Bytes::from).map_err(|error| Error::invalid(WEIGHTS, error))
    }

    fn named(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let matrix = |name: String, matrix: &'_ Matrix| (name, vec![matrix.rows, matrix.columns]);
        let mut named = Vec::new();
        for (index, embedding) in self.embeddings.iter().enumerate() {
            let (name, shape) = matrix(embedding_name(index), embedding);
            named.push((name, shape, embedding.data.as_slice()));
        }
        if let Some(members) = &self.members {
            let (name, shape) = matrix(MEMBERS.to_owned(), members);
            named.push((name, shape, members.data.as_slice()));
        }
        for (name, layer) in self.named_layers() {
            let (weight, shape) = matrix(format!("{name}.weight"), &layer.weight);
            named.push((weight, shape, layer.weight.data.as_slice()));
            named.push((format!("{name}.bias"), vec![layer.bias.len()], layer.bias.as_slice()));
        }
        named
    }

    fn named_layers(&self) -> impl Iterator<Item = (String, &Layer)> {
        let filters = self.convolution.iter().flat_map(|convolution| &convolution.filters).enumerate();
        let filters = filters.map(|(index, layer)| (filter_name(index), layer));
        let hidden = self.hidden.iter().enumerate().map(|(index, layer)| (hidden_name(index), layer));
        filters.chain(hidden).chain([(OUTPUT.to_owned(), &self.output)])
    }

    /// Parses weights.
    ///
    /// # Errors
    /// The tensors are not exactly those of `shape`, or a value is not finite.
    pub fn from_bytes(bytes: &[u8], shape: &Shape) -> Result<Self, Error> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| Error::invalid(WEIGHTS, error))?;
        let filters = shape.convolution.as_ref().map_or(0, |convolution| convolution.filters.len());
        let layers = filters + shape.hidden.len() + 1;
        let expected = shape.embeddings.len() + usize::from(shape.members.is_some()) + 2 * layers;
        if tensors.len() != expected {
            return Err(Error::invalid(WEIGHTS, format!("{} tensors, expected {expected}", tensors.len())));
        }
        let embeddings = shape.embeddings.iter().enumerate();
        let embeddings = embeddings
            .map(|(index, &(rows, columns))| read_matrix(&tensors, &embedding_name(index), rows, columns))
            .collect::<Result<_, _>>()?;
        let hidden = shape.hidden_layers().enumerate();
        let hidden =
            hidden.map(|(index, sizes)| read_layer(&tensors, &hidden_name(index), sizes)).collect::<Result<_, _>>()?;
        let members =
            shape.members.map(|members| read_matrix(&tensors, MEMBERS, members, shape.inputs())).transpose()?;
        let read_filters = |(index, sizes)| read_layer(&tensors, &filter_name(index), sizes);
        let convolution = |convolution: &super::ConvolutionShape| {
            let filters = convolution.layers().enumerate().map(read_filters).collect::<Result<_, _>>()?;
            Ok::<_, Error>(Convolution { image: convolution.image, filters })
        };
        Ok(Self {
            convolution: shape.convolution.as_ref().map(convolution).transpose()?,
            embeddings,
            members,
            hidden,
            output: read_layer(&tensors, OUTPUT, shape.output_layer())?,
        })
    }
}

const OUTPUT: &str = "output";
const MEMBERS: &str = "members";

fn embedding_name(index: usize) -> String {
    format!("embedding.{index}")
}

fn filter_name(index: usize) -> String {
    format!("filter.{index}")
}

fn hidden_name(index: usize) -> String {
    format!("hidden.{index}")
}

fn read_layer(tensors: &SafeTensors<'_>, name: &str, (inputs, outputs): (usize, usize)) -> Result<Layer, Error> {
    Ok(Layer {
        weight: read_matrix(tensors, &format!("{name}.weight"), inputs, outputs)?,
        bias: read(tensors, &format!("{name}.bias"), &[outputs])?,
    })
}

fn read_matrix(tensors: &SafeTensors<'_>, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
    Ok(Matrix { rows, columns, data: read(tensors, name, &[rows, columns])? })
}

fn read(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
    let tensor = tensors.tensor(name).map_err(|error| Error::invalid(WEIGHTS, error))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (dtype, got) = (tensor.dtype(), tensor.shape());
        return Err(Error::invalid(WEIGHTS, format!("{name} is {dtype:?} {got:?}, expected F32 {shape:?}")));
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(Error::invalid(WEIGHTS, format!("{name} has a non-finite value")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let matrix =
            |rows, columns| Matrix { rows, columns, data: (0..rows * columns).map(|i| i as f32 * 0.1).collect() };
        Network {
            convolution: None,
            embeddings: vec![matrix(3, 2), matrix(4, 1)],
            members: None,
            hidden: vec![Layer { weight: matrix(4, 5), bias: vec![0.25; 5] }],
            output: Layer { weight: matrix(5, 2), bias: vec![1.0, -1.0] },
        }
    }

    fn shape() -> Shape {
        Shape {
            convolution: None,
            dense: 1,
            embeddings: vec![(3, 2), (4, 1)],
            members: None,
            hidden: vec![5],
            outputs: 2,
        }
    }

    #[test]
    fn round_trip_preserves_bytes() {
        let bytes = network().to_bytes().expect("bytes");
        let read = Network::from_bytes(&bytes, &shape()).expect("weights");
        assert_eq!(read, network());
        assert_eq!(read.to_bytes().expect("bytes"), bytes);
    }

    #[test]
    fn shape_mismatch_names_the_tensor() {
        let bytes = network().to_bytes().expect("bytes");
        let error = Network::from_bytes(&bytes, &Shape { dense: 2, ..shape() }).expect_err("shape mismatch");
        assert!(error.to_string().contains("hidden.0.weight"), "{error}");
        assert!(Network::from_bytes(&bytes[..bytes.len() - 1], &shape()).is_err(), "truncated");
    }

    #[test]
    fn non_finite_weights_are_refused() {
        let mut network = network();
        network.output.bias[0] = f32::INFINITY;
        let bytes = network.to_bytes().expect("bytes");
        let error = Network::from_bytes(&bytes, &shape()).expect_err("infinite");
        assert!(error.to_string().contains("output.bias"), "{error}");
    }
}
