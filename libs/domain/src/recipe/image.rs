//! Convolutional networks: images whose values are the features of a row.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Optimizer, check_layers};
use crate::validation::{Checks, Violations};

/// The most values of an image: as many columns as a dataset has.
const MAX_VALUES: usize = 4096;
/// The most layers of filters, and filters of a layer.
const MAX_LAYERS: usize = 6;
const MAX_FILTERS: usize = 512;

/// A convolutional network: layers of 3x3 filters, each followed by ReLU and 2x2 maximum pooling, and then fully connected layers (LeCun,
/// Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CnnRecipe {
    /// The image that the features of a row are.
    pub image: ImageShape,
    /// Filters of each convolutional layer.
    #[serde(default = "default_filters")]
    pub filters: Vec<usize>,
    /// Widths of the fully connected hidden layers.
    #[serde(default = "default_hidden")]
    pub hidden: Vec<usize>,
    /// Share of the activations of fully connected layers dropped while training, in [0, 1).
    #[serde(default = "default_dropout")]
    pub dropout: f64,
    /// How the weights are fitted.
    #[serde(default)]
    pub optimizer: Optimizer,
}

fn default_filters() -> Vec<usize> {
    vec![16, 32]
}

fn default_hidden() -> Vec<usize> {
    vec![64]
}

fn default_dropout() -> f64 {
    0.2
}

impl CnnRecipe {
    /// The recipe with every default, for images of a shape.
    pub fn for_image(image: ImageShape) -> Self {
        Self {
            image,
            filters: default_filters(),
            hidden: default_hidden(),
            dropout: default_dropout(),
            optimizer: Optimizer::default(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        bound_filters(&mut checks, self.image, &self.filters);
        check_layers(&mut checks, &self.hidden, self.dropout);
        checks.nested("optimizer", self.optimizer.validate());
        checks.finish()
    }
}

/// Checks the bounds of an image and of the layers of filters over it.
pub fn check_filters(image: ImageShape, filters: &[usize]) -> Result<(), Violations> {
    let mut checks = Checks::new();
    bound_filters(&mut checks, image, filters);
    checks.finish()
}

fn bound_filters(checks: &mut Checks, image: ImageShape, filters: &[usize]) {
    let expected = "HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, of 1 to 4096 values";
    checks.require((1..=MAX_VALUES).contains(&image.values()), "image", image, expected);
    let sized = (1..=MAX_LAYERS).contains(&filters.len());
    let sized = sized && filters.iter().all(|filters| (1..=MAX_FILTERS).contains(filters));
    checks.require(sized, "filters", format!("{filters:?}"), "1 to 6 layers of 1 to 512 filters");
    let (height, width) = image.pooled(filters.len());
    let expected = "fewer layers: each halves height and width";
    checks.require(!sized || height.min(width) > 0, "filters", format!("{filters:?}"), expected);
}

/// The shape of an image. Its values are the features of a row in the order of the columns: row by row from the top, each from the left, and
/// the channels of a pixel beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageShape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
}

impl ImageShape {
    /// The number of values.
    pub const fn values(self) -> usize {
        self.height.saturating_mul(self.width).saturating_mul(self.channels)
    }

    /// Height and width after so many layers of 2x2 pooling.
    pub fn pooled(self, layers: usize) -> (usize, usize) {
        let halved = |size: usize| u32::try_from(layers).ok().and_then(|layers| size.checked_shr(layers)).unwrap_or(0);
        (halved(self.height), halved(self.width))
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, width, channels } = self;
        write!(f, "{height}x{width}")?;
        if *channels == 1 { Ok(()) } else { write!(f, "x{channels}") }
    }
}

/// Not the shape of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the shape of an image: expected HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, such as 28x28")]
pub struct InvalidImageShape(String);

impl FromStr for ImageShape {
    type Err = InvalidImageShape;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sizes: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
        match sizes.as_deref() {
            Ok(&[height, width]) => Ok(Self { height, width, channels: 1 }),
            Ok(&[height, width, channels]) => Ok(Self { height, width, channels }),
            _ => Err(InvalidImageShape(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ImageShape {
    type Error = InvalidImageShape;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ImageShape> for String {
    fn from(image: ImageShape) -> Self {
        image.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_survive_as_text() {
        for text in ["28x28", "8x16x3"] {
            assert_eq!(text.parse::<ImageShape>().expect("a shape").to_string(), text);
        }
        assert_eq!("4x5x1".parse::<ImageShape>().expect("a shape").to_string(), "4x5");
        for text in ["", "28", "28x", "28x28x1x1", "-1x2", "28X28"] {
            assert!(text.parse::<ImageShape>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_bound_is_named() {
        let good = CnnRecipe::for_image(ImageShape { height: 9, width: 8, channels: 1 });
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(good.image.pooled(2), (2, 2));
        let image =
            |height, width, channels| CnnRecipe { image: ImageShape { height, width, channels }, ..good.clone() };
        let bad = [
            ("image", image(65, 64, 1)),
            ("image", image(usize::MAX, 8, 8)),
            ("filters", CnnRecipe { filters: vec![], ..good.clone() }),
            ("filters", CnnRecipe { filters: vec![usize::MAX], ..good.clone() }),
            ("filters", CnnRecipe { filters: vec![513], ..good.clone() }),
            ("filters", CnnRecipe { filters: vec![1; 4], ..good.clone() }),
            ("hidden", CnnRecipe { hidden: vec![], ..good.clone() }),
            ("dropout", CnnRecipe { dropout: 1.0, ..good.clone() }),
        ];
        for (field, recipe) in bad {
            let violations = recipe.validate().expect_err(field);
            assert_eq!(violations.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(), [field], "{recipe:?}");
        }
        assert!(image(8, 0, 1).validate().is_err());
    }
}
