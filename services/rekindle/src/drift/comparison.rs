//! Two sources compared: all that the table, the JSON and the page tell.

use rekindle_statistics::{
    convention::{Convention, Scores},
    drift::{Report, Settings},
    profile::Profile,
};

/// What was found. The columns of `report` and `scores` are those of the reference, in its order.
pub(crate) struct Comparison {
    /// What the data are held against.
    pub reference: Source,
    /// The data.
    pub current: Source,
    /// The verdicts and what they rest on.
    pub report: Report,
    /// How the verdicts were reached.
    pub settings: Settings,
    /// Whose statistics `scores` holds.
    pub convention: Convention,
    /// The statistics of each column of the report, by the convention chosen.
    pub scores: Vec<Scores>,
    /// What the columns' shares of the shift are weighted by.
    pub weighting: Weighting,
    /// What a reader must know of the numbers, in sentences.
    pub notes: Vec<String>,
}

/// One side of a comparison.
pub(crate) struct Source {
    /// The path as it was given.
    pub name: String,
    /// What is remembered of its columns.
    pub profile: Profile,
    /// Its columns that were not looked at.
    pub skipped: Vec<Skipped>,
    /// What a reader must know of how it was read, in sentences.
    pub notes: Vec<String>,
}

impl Source {
    /// The columns that could not be looked at.
    pub(super) fn unsupported(&self) -> impl Iterator<Item = &Skipped> {
        self.skipped.iter().filter(|skipped| matches!(skipped.reason, WhySkipped::Unsupported(_)))
    }
}

/// A column that was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: WhySkipped,
}

/// Why a column was not looked at; in words that continue "it was left out: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhySkipped {
    /// Nobody asked for it.
    Deselected,
    /// No kind stands for its type.
    Unsupported(String),
}

impl std::fmt::Display for WhySkipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deselected => f.write_str("it was not asked for"),
            Self::Unsupported(found) => write!(f, "its type {found} is not supported"),
        }
    }
}

/// What a column's share of the shift is weighted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weighting {
    /// Nothing: each column counts by its effect.
    Effect,
    /// The importances given, times the effect.
    Importance,
    /// How far the column's shift alone moves the mean prediction.
    Prediction,
}
