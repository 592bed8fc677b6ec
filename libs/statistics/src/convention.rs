//! The binning and normalisation of reported statistics, by tool.
//!
//! Tools compute different numbers under the same name: a population stability index over ten bins with empty ones
//! at 2.2e-308 differs from one over deciles with half a row added to each. To compare a report with one of another tool, choose
//! the convention of that tool; the verdict never depends on it.
//!
//! - [`Convention::Rekindle`]: what [`crate::drift`] computes, with missing and non-finite values as bins of their own;
//! - [`Convention::Evidently`]: [`evidently`], the legacy statistical tests of Evidently 0.7 under pandas;
//! - [`Convention::Scipy`]: [`scipy`], the plain functions of scipy 1.17 and numpy 2.4 with their defaults.
//!
//! Evidently and scipy compare present values only: missing values are dropped on each side before anything is computed. A [`Sample`]
//! has no missing values, and a [`Categories`] must be built without them.
//!
//! Drift reports show `scores` of either tool. The single tests of [`evidently`] and its default choice of a test serve the migration
//! of thresholds from Evidently; the reference cases verify them against the tool itself.

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
    /// The statistics that the verdict is based on.
    #[default]
    Rekindle,
    /// The statistics of Evidently.
    Evidently,
    /// The statistics of scipy.
    Scipy,
}

/// The statistics of one column in a report, absent where they do not apply or are undefined. None is NaN.
/// A chi-square statistic is infinite where the convention defines it so; JSON has null there.
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

/// Two samples of one column, by the column types that the conventions distinguish.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// Floats: reference and window.
    Numeric(&'a Sample, &'a Sample),
    /// Integers: reference and window. Where numpy chooses the number of bins, no bin of integers is narrower than 1, and so it is in
    /// Evidently. Pandas converts a column of integers with missing values to floats.
    Integer(&'a Sample, &'a Sample),
    /// Categories.
    Categorical(&'a Categories),
}

impl<'a> Column<'a> {
    /// Both samples, if the column is numeric.
    fn numbers(&self) -> Option<(&'a Sample, &'a Sample)> {
        match *self {
            Column::Numeric(reference, window) | Column::Integer(reference, window) => Some((reference, window)),
            Column::Categorical(_) => None,
        }
    }
}

/// Two samples of a categorical column, counted over the names of both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Categories {
    names: Vec<String>,
    reference: Vec<u64>,
    window: Vec<u64>,
}

impl Categories {
    /// Joins the counts of both samples by name, ascending. A name that is absent on one side has a count of zero there;
    /// counts of a repeated name are added up, saturating; a name without rows on both sides is dropped.
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

/// The union of both samples.
fn pooled(reference: &Sample, window: &Sample) -> Result<Sample, Error> {
    let rows = |sample: &Sample| -> Vec<(f64, u64)> {
        sample.values().iter().copied().zip(sample.counts().iter().copied()).collect()
    };
    Sample::from_counts(rows(reference).into_iter().chain(rows(window)))
}
