//! From rows to numbers: the feature pipeline, fitted on training rows and saved with the model, so that training and
//! serving cannot differ.
//!
//! A row becomes `dense` singles (numbers, flags, parts of the calendar) and one index per categorical feature. No
//! value is refused here: what is missing or unknown has a place of its own. Refusing is the caller's.

mod calendar;
mod encode;
mod fit;

use serde::{Deserialize, Serialize};

pub use calendar::Calendar;
pub use encode::{Encoded, Encoder};
pub(crate) use fit::{fit, mean_and_std};

use crate::Error;

/// Standardised numbers are cut to this many standard deviations, so that one absurd value cannot rule a prediction.
pub const CLIP: f64 = 8.0;
/// Category index of a value that training rows did not hold, or too rarely.
pub const UNSEEN: u32 = 0;
/// Category index of a missing value.
pub const MISSING: u32 = 1;
/// Category index of the first value of the vocabulary.
pub const FIRST_VALUE: u32 = 2;

/// One encoding per input of the signature, in the same order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The features.
    pub features: Vec<Feature>,
}

/// A column and how it is encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column.
    pub name: String,
    /// How its cells become numbers.
    pub encoding: Encoding,
}

/// How the cells of a column become numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// `(x - mean) / std`, cut to [`CLIP`]; the median stands in for a missing value.
    Number {
        /// Stands in for a missing value.
        median: f64,
        /// Of the training rows.
        mean: f64,
        /// Sample standard deviation of the training rows; 1 where they were all alike.
        std: f64,
        /// Whether a second number says that the value was missing.
        indicator: bool,
    },
    /// 1 for yes and 0 for no; the share of yes stands in for a missing value.
    Flag {
        /// Share of yes among the training rows.
        share: f64,
        /// Whether a second number says that the value was missing.
        indicator: bool,
    },
    /// An index: [`UNSEEN`], [`MISSING`], or [`FIRST_VALUE`] and on for the vocabulary.
    Category {
        /// The values that have an index of their own, sorted.
        vocabulary: Vec<String>,
        /// How many training rows had each index: unseen (rare), missing, and then the vocabulary.
        counts: Vec<u64>,
    },
    /// Parts of the calendar.
    Calendar(Calendar),
}

impl Encoding {
    /// How many dense numbers it gives.
    pub fn width(&self) -> usize {
        match self {
            Self::Number { indicator, .. } | Self::Flag { indicator, .. } => 1 + usize::from(*indicator),
            Self::Category { .. } => 0,
            Self::Calendar(calendar) => calendar.width(),
        }
    }

    /// How many indices it tells apart, if it gives one.
    pub fn cardinality(&self) -> Option<usize> {
        match self {
            Self::Category { vocabulary, .. } => Some(vocabulary.len() + FIRST_VALUE as usize),
            _ => None,
        }
    }
}

impl Pipeline {
    /// Dense numbers per row.
    pub fn width(&self) -> usize {
        self.features.iter().map(|feature| feature.encoding.width()).sum()
    }

    /// Indices told apart, per categorical feature.
    pub fn cardinalities(&self) -> Vec<usize> {
        self.features.iter().filter_map(|feature| feature.encoding.cardinality()).collect()
    }

    /// Training rows per index, per categorical feature.
    pub(crate) fn category_counts(&self) -> Vec<&[u64]> {
        self.features
            .iter()
            .filter_map(|feature| match &feature.encoding {
                Encoding::Category { counts, .. } => Some(counts.as_slice()),
                _ => None,
            })
            .collect()
    }

    /// The pipeline as it is stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json_canonicalizer::to_vec(self).map_err(|error| Error::invalid("pipeline", error))
    }

    /// Reads a pipeline, and checks that every number in it can be calculated with.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let pipeline: Self = serde_json::from_slice(bytes).map_err(|error| Error::invalid("pipeline", error))?;
        for Feature { name, encoding } in &pipeline.features {
            let sound = match encoding {
                Encoding::Number { median, mean, std, .. } => {
                    median.is_finite() && mean.is_finite() && std.is_finite() && *std > 0.0
                }
                Encoding::Flag { share, .. } => (0.0..=1.0).contains(share),
                Encoding::Category { vocabulary, counts } => {
                    vocabulary.is_sorted() && counts.len() == vocabulary.len() + FIRST_VALUE as usize
                }
                Encoding::Calendar(_) => true,
            };
            if !sound {
                return Err(Error::invalid("pipeline", format!("the encoding of {name} is out of bounds")));
            }
        }
        Ok(pipeline)
    }
}
