//! The feature pipeline: from rows to the input of a network. It is fitted on training rows and stored with the model, so
//! that training and serving encode rows alike.
//!
//! A row becomes dense singles (numbers, booleans, calendar features) and one index per categorical feature. Every value
//! has an encoding, also a missing or unknown one: refusing values is the caller's decision.

mod calendar;
mod encode;
mod scaling;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use calendar::Calendar;
pub(crate) use encode::Slots;
pub use encode::{Encoded, Encoder};
pub use scaling::{SMOOTH_CLIP, Scaling};

use crate::{Error, manifest::PIPELINE};

/// Standardized numbers are clipped to this many standard deviations.
pub const CLIP: f64 = 8.0;
/// Training rows that a category value needs for an index of its own.
pub const MIN_VALUE_ROWS: u64 = 5;
/// Category index of a value with fewer than [`MIN_VALUE_ROWS`] training rows, or none.
pub const UNSEEN: u32 = 0;
/// Category index of a missing value.
pub const MISSING: u32 = 1;
/// Category index of the first vocabulary value.
pub const FIRST_VALUE: u32 = 2;

/// One feature per input of the signature, in the same order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The features.
    pub features: Vec<Feature>,
}

/// A column and its encoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column.
    pub name: String,
    /// How its values become numbers.
    pub encoding: Encoding,
}

/// How the values of a column become numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// A number, robustly scaled. Missing values are imputed with the median.
    Scaled {
        /// How the number is scaled.
        scaling: Scaling,
        /// Whether a last number indicates a missing value.
        indicator: bool,
    },
    /// A number or a flag that is the same in all training rows, numbers up to the resolution of single precision. It is not used: no
    /// weight could be learned for it.
    Constant {
        /// Whether a number indicates a missing value.
        indicator: bool,
    },
    /// `(x - mean) / std`, clipped to [`CLIP`]. Missing values are imputed with the median. Of the values of images, and of numbers in
    /// models of earlier releases.
    Number {
        /// Median of the training rows.
        median: f64,
        /// Mean of the training rows.
        mean: f64,
        /// Sample standard deviation of the training rows; 1 if they are constant.
        std: f64,
        /// Whether a second number indicates a missing value.
        indicator: bool,
    },
    /// 1 for true and 0 for false. Missing values are imputed with the share of true.
    Flag {
        /// Share of true among the training rows.
        share: f64,
        /// Whether a second number indicates a missing value.
        indicator: bool,
    },
    /// An index: [`UNSEEN`], [`MISSING`], or from [`FIRST_VALUE`] on the position in the vocabulary.
    Category {
        /// The values with an index of their own, sorted.
        vocabulary: Vec<String>,
        /// Training rows per index: unseen (rare values), missing, then the vocabulary.
        counts: Vec<u64>,
    },
    /// Calendar features of a timestamp.
    Calendar(Calendar),
}

impl Encoding {
    /// The number of dense features.
    pub fn width(&self) -> usize {
        match self {
            Self::Scaled { scaling, indicator } => scaling.width() + usize::from(*indicator),
            Self::Constant { indicator } => usize::from(*indicator),
            Self::Number { indicator, .. } | Self::Flag { indicator, .. } => 1 + usize::from(*indicator),
            Self::Category { .. } => 0,
            Self::Calendar(calendar) => calendar.width(),
        }
    }

    /// The number of distinct indices; `None` for dense encodings.
    pub fn cardinality(&self) -> Option<usize> {
        match self {
            Self::Category { vocabulary, .. } => Some(vocabulary.len() + FIRST_VALUE as usize),
            _ => None,
        }
    }
}

impl Pipeline {
    /// Dense features per row.
    pub fn width(&self) -> usize {
        self.features.iter().map(|feature| feature.encoding.width()).sum()
    }

    /// Distinct indices per categorical feature.
    pub fn cardinalities(&self) -> Vec<usize> {
        self.features.iter().filter_map(|feature| feature.encoding.cardinality()).collect()
    }

    /// Training rows per index, per categorical feature.
    pub fn category_counts(&self) -> Vec<&[u64]> {
        self.features
            .iter()
            .filter_map(|feature| match &feature.encoding {
                Encoding::Category { counts, .. } => Some(counts.as_slice()),
                _ => None,
            })
            .collect()
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        serde_json_canonicalizer::to_vec(self).map(Bytes::from).map_err(|error| Error::invalid(PIPELINE, error))
    }

    /// Parses a pipeline and checks its bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let pipeline: Self = serde_json::from_slice(bytes).map_err(|error| Error::invalid(PIPELINE, error))?;
        for Feature { name, encoding } in &pipeline.features {
            let is_valid = match encoding {
                Encoding::Scaled { scaling, .. } => scaling.is_valid(),
                Encoding::Constant { .. } => true,
                Encoding::Number { median, mean, std, .. } => {
                    median.is_finite() && mean.is_finite() && std.is_finite() && *std > 0.0
                }
                Encoding::Flag { share, .. } => (0.0..=1.0).contains(share),
                Encoding::Category { vocabulary, counts } => {
                    vocabulary.is_sorted() && counts.len() == vocabulary.len() + FIRST_VALUE as usize
                }
                Encoding::Calendar(_) => true,
            };
            if !is_valid {
                return Err(Error::invalid(PIPELINE, format!("the encoding of {name} has a value out of range")));
            }
        }
        Ok(pipeline)
    }
}
