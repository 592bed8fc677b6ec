//! Convolutional layers, computed as the product of the patch around every pixel with a matrix of filters (im2col).

use rekindle_domain::recipe::ImageShape;

use super::{
    ConvolutionShape, Layer,
    kernel::{Activation, Packed},
};

/// Pixels on a side of a filter.
pub(super) const SIDE: usize = 3;

/// Layers of 3x3 filters over an image that is padded with zeros, each followed by ReLU and 2x2 maximum pooling. Height and width are halved
/// by each layer; the last row or column of an odd number is dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Convolution {
    /// The image: the inputs of a row, the channels of a pixel beside each other.
    pub image: ImageShape,
    /// First to last. The rows of a weight are the inputs of a filter in the same order: row by row, pixel by pixel, channel by channel.
    pub filters: Vec<Layer>,
}

/// Layers that are prepared for computing.
#[derive(Debug)]
pub(super) struct PackedConvolution {
    shape: ConvolutionShape,
    /// One per layer of the shape.
    layers: Vec<Packed>,
}

/// The memory that the computation of one image takes.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// The values around every pixel.
    patches: Vec<f32>,
    sums: Vec<f32>,
    image: Vec<f32>,
}

impl PackedConvolution {
    pub(super) fn new(Convolution { image, filters }: &Convolution) -> Self {
        let shape = ConvolutionShape { image: *image, filters: filters.iter().map(|layer| layer.bias.len()).collect() };
        Self { shape, layers: filters.iter().map(Packed::new).collect() }
    }

    /// Values of an image.
    pub(super) fn inputs(&self) -> usize {
        self.shape.image.values()
    }

    /// Outputs for an image.
    pub(super) fn outputs(&self) -> usize {
        self.shape.features()
    }

    /// The outputs for some images: [`Self::inputs`] values each, row-major.
    pub(super) fn apply(&self, images: &[f32], workspace: &mut Workspace, outputs: &mut Vec<f32>) {
        outputs.clear();
        for image in images.chunks_exact(self.inputs().max(1)) {
            let ImageShape { mut height, mut width, mut channels } = self.shape.image;
            workspace.image.clear();
            workspace.image.extend_from_slice(image);
            for (packed, &filters) in self.layers.iter().zip(&self.shape.filters) {
                let Workspace { patches, sums, image } = workspace;
                patches_of(image, (height, width, channels), patches);
                sums.resize(height * width * packed.stride(), 0.0);
                packed.apply(patches, packed.inputs(), height * width, sums, Activation::Relu);
                pool(sums, (height, width), (packed.stride(), filters), image);
                (height, width, channels) = (height / 2, width / 2, filters);
            }
            outputs.extend_from_slice(&workspace.image);
        }
    }
}

/// The values of the patch around every pixel, one row per pixel.
fn patches_of(image: &[f32], (height, width, channels): (usize, usize, usize), patches: &mut Vec<f32>) {
    patches.clear();
    for y in 0..height {
        for x in 0..width {
            for dy in 0..SIDE {
                // The pixel in the middle is at 1.
                let row = (y + dy).checked_sub(1).filter(|row| *row < height);
                for dx in 0..SIDE {
                    let column = (x + dx).checked_sub(1).filter(|column| *column < width);
                    match row.zip(column) {
                        Some((row, column)) => {
                            let at = (row * width + column) * channels;
                            patches.extend_from_slice(&image[at..at + channels]);
                        }
                        None => patches.extend(std::iter::repeat_n(0.0, channels)),
                    }
                }
            }
        }
    }
}

/// The maximum of each square of four pixels. `stride` is the distance between two pixels of `sums`.
fn pool(sums: &[f32], (height, width): (usize, usize), (stride, channels): (usize, usize), pooled: &mut Vec<f32>) {
    pooled.clear();
    let pixel = |y: usize, x: usize| &sums[(y * width + x) * stride..][..channels];
    for y in (0..height / 2).map(|y| 2 * y) {
        for x in (0..width / 2).map(|x| 2 * x) {
            let (rows, below) = ((pixel(y, x), pixel(y, x + 1)), (pixel(y + 1, x), pixel(y + 1, x + 1)));
            let largest = |at: usize| larger(larger(rows.0[at], rows.1[at]), larger(below.0[at], below.1[at]));
            pooled.extend((0..channels).map(largest));
        }
    }
}

/// The larger number. Not-a-number stays: an overflow must not become a plausible prediction.
fn larger(one: f32, other: f32) -> f32 {
    if one > other || one.is_nan() { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Matrix;

    fn outputs(convolution: &Convolution, images: &[f32]) -> Vec<f32> {
        let (packed, mut found) = (PackedConvolution::new(convolution), Vec::new());
        packed.apply(images, &mut Workspace::default(), &mut found);
        assert_eq!(found.len(), packed.outputs() * images.len() / packed.inputs());
        found
    }

    #[test]
    fn filters_see_the_pixels_around_and_zeros_beyond_the_edge() {
        let image = ImageShape { height: 2, width: 3, channels: 1 };
        // One filter takes the pixel to the upper left, the other one the sum of all.
        let mut weight = Matrix { rows: 9, columns: 2, data: vec![0.0; 18] };
        weight.data[0] = 1.0;
        (0..9).for_each(|input| weight.data[input * 2 + 1] = 1.0);
        let convolution = Convolution { image, filters: vec![Layer { weight, bias: vec![0.5, -20.0] }] };
        let first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        // Upper left of the four left pixels: nothing, nothing, nothing, 1. Sums: 12, 21, 12, 21.
        assert_eq!(outputs(&convolution, &first), [1.5, 1.0]);
        let two = [first, first.map(|value| 10.0 * value)].concat();
        assert_eq!(outputs(&convolution, &two), [1.5, 1.0, 10.5, 190.0]);
    }

    #[test]
    fn an_overflow_is_not_hidden_by_the_maximum() {
        assert!(larger(f32::NAN, 1.0).is_nan() && larger(1.0, f32::NAN).is_nan());
        assert_eq!((larger(1.0, 2.0), larger(2.0, 1.0)), (2.0, 2.0));
    }

    #[test]
    fn each_layer_halves_the_image() {
        let image = ImageShape { height: 9, width: 8, channels: 3 };
        let shape = ConvolutionShape { image, filters: vec![4, 5] };
        assert_eq!(shape.layers().collect::<Vec<_>>(), [(27, 4), (36, 5)]);
        assert_eq!(shape.features(), 2 * 2 * 5);
    }
}
