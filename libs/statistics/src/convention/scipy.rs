//! The functions of scipy and numpy with their defaults:
//! - `ks_2samp(reference, window)`: exact p-value up to 10,000 rows on the larger side, else asymptotic, even against a
//!   few rows, where it is 0 for a distance of 1;
//! - `wasserstein_distance(reference, window)`: in the unit of the values;
//! - `chi2_contingency([reference, window])`: homogeneity, with Yates' correction at one degree of freedom;
//! - `jensenshannon(reference, window)`: base e, with the square root. Scipy has no binning; numbers are counted over
//!   `numpy.histogram_bin_edges(both, "sturges")`, integers as floats; categories over the names of both samples.
//!
//! Scipy has no population stability index, so it is absent. In the Kolmogorov-Smirnov test infinite values are the extremes; the
//! other statistics of numbers are undefined with them.

use super::{Column, Scores, pooled};
use crate::{
    Error,
    two_sample::{
        Method, Sample, Test, binning,
        contingency::{Correction, Statistic, homogeneity},
        divergence::{self, Base, Shares},
        effective_rows, kolmogorov_survival, ks, p_value_exact, wasserstein,
    },
};

/// The most rows on the larger side for which `ks_2samp` computes an exact p-value.
const COUNTS_UP_TO: u64 = 10_000;

/// All defined statistics of a column.
pub fn scores(column: &Column<'_>) -> Scores {
    let distance = jensen_shannon(column).ok();
    match column {
        Column::Numeric(reference, window) | Column::Integer(reference, window) => Scores {
            jensen_shannon: distance,
            wasserstein: wasserstein(reference, window).ok(),
            ks: kolmogorov_smirnov(reference, window).ok(),
            ..Scores::default()
        },
        Column::Categorical(categories) => {
            let (reference, window) = (categories.reference(), categories.window());
            let test = homogeneity(reference, window, Statistic::Pearson, Correction::Yates).ok();
            let chi_square = test.map(|test| Test { statistic: test.statistic, p_value: test.p_value });
            Scores { jensen_shannon: distance, chi_square, ..Scores::default() }
        }
    }
}

/// Jensen-Shannon distance with natural logarithms.
///
/// # Errors
/// A side without rows; numbers whose range is infinite.
pub fn jensen_shannon(column: &Column<'_>) -> Result<f64, Error> {
    let (reference, window) = match column {
        Column::Numeric(reference, window) | Column::Integer(reference, window) => {
            binned(reference, window, binning::sturges_edges)?
        }
        Column::Categorical(categories) => (categories.reference().to_vec(), categories.window().to_vec()),
    };
    divergence::jensen_shannon(&Shares::of_counts(&reference)?, &Shares::of_counts(&window)?, Base::E)
}

/// `ks_2samp` with its defaults: an exact p-value up to 10,000 rows on the larger side, else an asymptotic one.
///
/// # Errors
/// A side without rows.
pub fn kolmogorov_smirnov(reference: &Sample, window: &Sample) -> Result<Test, Error> {
    let statistic = ks(reference, window, Method::Asymptotic)?.statistic;
    let (n, m) = (reference.rows(), window.rows());
    let counted = (n.max(m) <= COUNTS_UP_TO).then(|| p_value_exact(statistic, n, m)).flatten();
    let p_value = counted.or_else(|| kolmogorov_survival(statistic, effective_rows(n, m))).unwrap_or(1.0);
    Ok(Test { statistic, p_value })
}

/// The counts of both samples over bins of the pooled samples.
pub(super) fn binned(reference: &Sample, window: &Sample, edges: Edges) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let edges = edges(&pooled(reference, window)?)?;
    Ok((binning::count(reference, &edges).counts, binning::count(window, &edges).counts))
}

/// A rule for the bin edges of a sample.
pub(super) type Edges = fn(&Sample) -> Result<Vec<f64>, Error>;
