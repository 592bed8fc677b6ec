//! The layer sizes of a network.

use rekindle_domain::{Architecture, recipe::ImageShape};

use super::convolution::SIDE;
use crate::pipeline::{FIRST_VALUE, Pipeline};

/// The sizes of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The layers before the hidden ones, of a network for images.
    pub convolution: Option<ConvolutionShape>,
    /// Dense features per row.
    pub dense: usize,
    /// Rows and columns of each embedding.
    pub embeddings: Vec<(usize, usize)>,
    /// Members of an ensemble that shares the hidden layers.
    pub members: Option<usize>,
    /// Widths of the hidden layers; empty for a linear model.
    pub hidden: Vec<usize>,
    /// Outputs per row, before sigmoid or softmax.
    pub outputs: usize,
}

/// The sizes of convolutional layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvolutionShape {
    /// The image that the dense features are.
    pub image: ImageShape,
    /// Filters of each layer.
    pub filters: Vec<usize>,
}

impl ConvolutionShape {
    /// Inputs and outputs of each layer, for one pixel.
    pub fn layers(&self) -> impl Iterator<Item = (usize, usize)> {
        let channels = std::iter::once(self.image.channels).chain(self.filters.iter().copied());
        channels.zip(&self.filters).map(|(channels, &filters)| (SIDE * SIDE * channels, filters))
    }

    /// Outputs of the last layer for one image.
    pub fn features(&self) -> usize {
        let (height, width) = self.image.pooled(self.filters.len());
        height * width * self.filters.last().copied().unwrap_or(self.image.channels)
    }
}

impl Shape {
    /// The sizes that `architecture` has for the features of `pipeline`.
    pub fn new(architecture: &Architecture, pipeline: &Pipeline, outputs: usize) -> Self {
        Self::of_cardinalities(architecture, pipeline.width(), pipeline.cardinalities().into_iter(), outputs)
    }

    /// The sizes that `architecture` has for so many dense features, and for categories with so many known values each.
    pub fn of_sizes(
        architecture: &Architecture,
        dense: usize,
        values: impl Iterator<Item = usize>,
        outputs: usize,
    ) -> Self {
        Self::of_cardinalities(architecture, dense, values.map(|values| values + FIRST_VALUE as usize), outputs)
    }

    fn of_cardinalities(
        architecture: &Architecture,
        dense: usize,
        cardinalities: impl Iterator<Item = usize>,
        outputs: usize,
    ) -> Self {
        let (members, hidden) = match architecture {
            Architecture::Linear => (None, Vec::new()),
            Architecture::Mlp { hidden, .. } => (None, hidden.clone()),
            Architecture::TabM { members, hidden, .. } => (Some(*members), hidden.clone()),
            Architecture::Cnn { hidden, .. } => (None, hidden.clone()),
        };
        let convolution = match architecture {
            Architecture::Cnn { image, filters, .. } => {
                Some(ConvolutionShape { image: *image, filters: filters.clone() })
            }
            _ => None,
        };
        let columns = |rows: usize| if hidden.is_empty() { outputs } else { embedding_width(rows) };
        let embeddings = cardinalities.map(|rows| (rows, columns(rows))).collect();
        Self { convolution, dense, embeddings, members, hidden, outputs }
    }

    /// Inputs of the first hidden layer.
    pub fn inputs(&self) -> usize {
        if let Some(convolution) = &self.convolution {
            return convolution.features();
        }
        self.dense + self.embeddings.iter().map(|&(_, columns)| columns).sum::<usize>()
    }

    /// Inputs and outputs of each hidden layer.
    pub fn hidden_layers(&self) -> impl Iterator<Item = (usize, usize)> {
        let inputs = std::iter::once(self.inputs()).chain(self.hidden.iter().copied());
        inputs.zip(self.hidden.iter().copied())
    }

    /// Inputs and outputs of the output layer, of all members together.
    pub fn output_layer(&self) -> (usize, usize) {
        (self.hidden.last().copied().unwrap_or(self.dense), self.outputs * self.members.unwrap_or(1))
    }
}

/// `min(32, ceil(1.6 n^0.56))` for `n` known values: the rule of fastai's tabular learner with a lower maximum.
fn embedding_width(cardinality: usize) -> usize {
    let values = cardinality.saturating_sub(FIRST_VALUE as usize).max(1) as f64;
    (1.6 * values.powf(0.56)).ceil().min(32.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_hidden_layer_takes_dense_features_and_embeddings() {
        let shape = Shape {
            convolution: None,
            dense: 3,
            embeddings: vec![(9, 2), (5, 4)],
            members: None,
            hidden: vec![16, 8],
            outputs: 2,
        };
        assert_eq!(shape.hidden_layers().collect::<Vec<_>>(), [(9, 16), (16, 8)]);
        assert_eq!(shape.output_layer(), (8, 2));
    }

    #[test]
    fn linear_model_has_only_an_output_layer_over_dense_features() {
        let shape =
            Shape { convolution: None, dense: 3, embeddings: vec![(9, 1)], members: None, hidden: vec![], outputs: 1 };
        assert_eq!((shape.hidden_layers().count(), shape.output_layer()), (0, (3, 1)));
    }
}
