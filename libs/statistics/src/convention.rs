//! Whose binning and normalisation the reported statistics follow.
//!
//! The same name means different numbers in different tools: a population stability index over ten bins with empty ones
//! at 2.2e-308 is not one over deciles with half a row in each. Whoever compares a report with one of another tool asks
//! for that tool's convention; a verdict never depends on it.
//!
//! - [`Convention::Rekindle`]: what [`crate::drift`] computes, with missing and non-finite values as bins of their own;
//! - [`Convention::Evidently`]: [`evidently`], the legacy statistical tests of Evidently 0.7 under pandas;
//! - [`Convention::Scipy`]: [`scipy`], the plain functions of scipy 1.17 and numpy 2.4 with their defaults.
//!
//! Evidently and scipy compare the values that are there: missing values are dropped before anything is computed, on
//! each side by itself. A [`Sample`] holds none, and a [`Categories`] must be given none.

pub mod evidently;
pub mod scipy;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    two_sample::{Sample, Test},
};

/// Whose statistics are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// Those that the verdict is reached by.
    #[default]
    Rekindle,
    /// Those of Evidently.
    Evidently,
    /// Those of scipy.
    Scipy,
}

/// The statistics of one column that a report shows, each absent where it does not apply or has no value. None is NaN.
/// A chi-square statistic is infinite where the convention says so, which JSON writes as null.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Scores {
    /// Population stability index, in nats.
    pub psi: Option<f64>,
    /// Jensen-Shannon distance with natural logarithms.
    pub jensen_shannon: Option<f64>,
    /// First Wasserstein distance, in the convention's unit.
    pub wasserstein: Option<f64>,
    /// Two-sample Kolmogorov-Smirnov test.
    pub ks: Option<Test>,
    /// Chi-square test.
    pub chi_square: Option<Test>,
}

/// Two samples of one column, as the conventions tell columns apart.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// Floats: reference and window.
    Numeric(&'a Sample, &'a Sample),
    /// Integers: reference and window. Numpy makes no bin of them narrower than 1 where it chooses the number of bins
    /// by itself, and so Evidently does not either. Pandas has floats of a column of integers from which values are
    /// missing.
    Integer(&'a Sample, &'a Sample),
    /// Names.
    Categorical(&'a Categories),
}

impl<'a> Column<'a> {
    /// Both samples, of numbers of either kind.
    fn numbers(&self) -> Option<(&'a Sample, &'a Sample)> {
        match *self {
            Column::Numeric(reference, window) | Column::Integer(reference, window) => Some((reference, window)),
            Column::Categorical(_) => None,
        }
    }
}

/// Two samples of a categorical column, counted over every name that occurs in either of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Categories {
    names: Vec<String>,
    reference: Vec<u64>,
    window: Vec<u64>,
}

impl Categories {
    /// Joins the counts of both samples by name, ascending. A name that one side lacks has a count of zero there;
    /// counts of a name given twice are added up, up to the largest number; a name without rows on both sides is
    /// dropped.
    pub fn new<N: Into<String>>(
        reference: impl IntoIterator<Item = (N, u64)>,
        window: impl IntoIterator<Item = (N, u64)>,
    ) -> Self {
        let mut table: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        let mut add = |name: N, side: usize, count: u64| {
            let cell = &mut table.entry(name.into()).or_default()[side];
            *cell = cell.saturating_add(count);
        };
        reference.into_iter().for_each(|(name, count)| add(name, 0, count));
        window.into_iter().for_each(|(name, count)| add(name, 1, count));
        let mut categories = Self::default();
        for (name, [reference, window]) in table.into_iter().filter(|(_, counts)| *counts != [0, 0]) {
            categories.names.push(name);
            categories.reference.push(reference);
            categories.window.push(window);
        }
        categories
    }

    /// The names, ascending.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Rows of each name in the reference.
    pub fn reference(&self) -> &[u64] {
        &self.reference
    }

    /// Rows of each name in the window.
    pub fn window(&self) -> &[u64] {
        &self.window
    }
}

/// Both samples as one.
fn pooled(reference: &Sample, window: &Sample) -> Result<Sample, Error> {
    let rows = |sample: &Sample| -> Vec<(f64, u64)> {
        sample.values().iter().copied().zip(sample.counts().iter().copied()).collect()
    };
    Sample::from_counts(rows(reference).into_iter().chain(rows(window)))
}
