//! The statistical tests of Evidently 0.7.23 (`evidently.legacy.calculations.stattests`, pandas engine), with equal
//! results.
//!
//! Evidently treats infinite values as missing and drops missing values on each side; a column that is 95 % missing therefore
//! has the score of a complete one. A side without remaining values is an error, as in Evidently.
//!
//! The Spark engine of Evidently uses other bins (Doane) and gives other scores; this module has those of pandas.

use super::{Column, Scores, pooled, scipy};
use crate::{
    Error,
    error::check_rows,
    two_sample::{
        self, Sample, Test, binning,
        contingency::{ChiSquare, Statistic, goodness_of_fit},
        divergence::{self, Base, Shares, rows},
        proportions::{Part, two_proportions},
    },
};

mod choice;

pub use choice::{StatTest, default_test, score};

const WHAT: &str = "a column's score";

/// Numeric columns with more distinct reference values than this are binned; in others each value is a bin.
const BINNED_ABOVE: usize = 20;

/// The smallest divisor of the Wasserstein distance, in the unit of the values: in a column with a smaller standard deviation, shifts
/// of several deviations go undetected.
const LEAST_DEVIATION: f64 = 0.001;

/// All defined statistics of a column. The chi-square test is present where Evidently chooses it by default: for categories and for
/// numbers with at most five distinct values.
pub fn scores(column: &Column<'_>) -> Scores {
    let chi_square = if choice::is_discrete(column) { chi_square(column).ok() } else { None };
    let numbers = column.numbers();
    Scores {
        psi: psi(column).ok(),
        jensen_shannon: jensen_shannon(column).ok(),
        wasserstein: numbers.and_then(|(reference, window)| wasserstein(reference, window).ok()),
        ks: numbers.and_then(|(reference, window)| kolmogorov_smirnov(reference, window).ok()),
        chi_square: chi_square.map(|test| Test { statistic: test.statistic, p_value: test.p_value }),
    }
}

/// `psi`: the population stability index. A share of zero is replaced by 0.0001 (or by a millionth of the smallest other share of its
/// side, if that is at most 0.0001), without a second normalisation.
///
/// # Errors
/// A side without rows.
pub fn psi(column: &Column<'_>) -> Result<f64, Error> {
    let (reference, window) = shares(column)?;
    divergence::psi_of_shares(&filled(&reference), &filled(&window))
}

/// `jensenshannon`: the distance with natural logarithms, without replacing zeros.
///
/// # Errors
/// A side without rows.
pub fn jensen_shannon(column: &Column<'_>) -> Result<f64, Error> {
    let (reference, window) = shares(column)?;
    divergence::jensen_shannon(&reference, &window, Base::E)
}

/// `kl_div`: the divergence of the reference from the window in nats, with zeros replaced as in [`psi`] and a second
/// normalisation.
///
/// # Errors
/// A side without rows.
pub fn kullback_leibler(column: &Column<'_>) -> Result<f64, Error> {
    let (reference, window) = shares(column)?;
    let normal = |shares: &Shares| Shares::of_weights(&filled(shares));
    divergence::kullback_leibler(&normal(&reference)?, &normal(&window)?, Base::E)
}

/// `hellinger`: over the categories, or for numbers always over Sturges' bins of the distinct values, each counted
/// once.
///
/// # Errors
/// A side without rows.
pub fn hellinger(column: &Column<'_>) -> Result<f64, Error> {
    let (reference, window) = match column.numbers() {
        Some((reference, window)) => {
            let (reference, window) = finite(reference, window)?;
            let distinct = Sample::from_counts(pooled(&reference, &window)?.values().iter().map(|&value| (value, 1)))?;
            let edges = edges_of(column)(&distinct)?;
            (binning::count(&reference, &edges).counts, binning::count(&window, &edges).counts)
        }
        None => counts(column)?,
    };
    divergence::hellinger(&Shares::of_counts(&reference)?, &Shares::of_counts(&window)?)
}

/// `wasserstein`: the first Wasserstein distance in standard deviations of the reference (divisor n), or in units of 0.001 if the
/// deviation is smaller.
///
/// # Errors
/// A side without rows.
pub fn wasserstein(reference: &Sample, window: &Sample) -> Result<f64, Error> {
    let (reference, window) = finite(reference, window)?;
    let deviation = reference.std(0).unwrap_or(0.0).max(LEAST_DEVIATION);
    Ok(two_sample::wasserstein(&reference, &window)? / deviation)
}

/// `ks`: `scipy.stats.ks_2samp` with its defaults.
///
/// # Errors
/// A side without rows.
pub fn kolmogorov_smirnov(reference: &Sample, window: &Sample) -> Result<Test, Error> {
    let (reference, window) = finite(reference, window)?;
    scipy::kolmogorov_smirnov(&reference, &window)
}

/// `chisquare`: goodness of fit of the window to the counts of the reference, scaled to the rows of the window and treated as exact.
/// One row of an unseen value gives p = 0.
///
/// # Errors
/// A side without rows; a single distinct value, where Evidently gives NaN.
pub fn chi_square(column: &Column<'_>) -> Result<ChiSquare, Error> {
    let (reference, window) = distinct_counts(column)?;
    let scale = rows(&window) / rows(&reference);
    let expected: Vec<f64> = reference.iter().map(|&count| count as f64 * scale).collect();
    goodness_of_fit(&window, &expected, Statistic::Pearson)
}

/// `g_test`: the likelihood ratio against the unscaled counts of the reference.
///
/// # Errors
/// Sides with different numbers of rows, or without rows; a single distinct value, where Evidently gives NaN.
pub fn g_test(column: &Column<'_>) -> Result<ChiSquare, Error> {
    let (reference, window) = distinct_counts(column)?;
    let expected: Vec<f64> = reference.iter().map(|&count| count as f64).collect();
    goodness_of_fit(&window, &expected, Statistic::LikelihoodRatio)
}

/// `z`: the p-value of the pooled two-proportion z-test on the share of rows that are not the smallest value (or first
/// name).
///
/// # Errors
/// A side without rows.
pub fn z(column: &Column<'_>) -> Result<f64, Error> {
    let (reference, window) = distinct_counts(column)?;
    let part = |counts: &[u64]| {
        let rows = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        Part { hits: rows - counts[0], rows }
    };
    Ok(two_proportions(part(&reference), part(&window))?.p_value)
}

/// Shares with zeros replaced by 0.0001, or by a millionth of the smallest other share if that is at most 0.0001.
fn filled(shares: &Shares) -> Vec<f64> {
    let shares = shares.as_slice();
    let least = shares.iter().copied().filter(|share| *share > 0.0).fold(f64::INFINITY, f64::min);
    let instead = if least <= 0.0001 { least / 1e6 } else { 0.0001 };
    shares.iter().map(|&share| if share == 0.0 { instead } else { share }).collect()
}

fn shares(column: &Column<'_>) -> Result<(Shares, Shares), Error> {
    let (reference, window) = counts(column)?;
    Ok((Shares::of_counts(&reference)?, Shares::of_counts(&window)?))
}

/// The counts behind the distances: over Sturges' bins of the pooled samples, or by distinct value.
fn counts(column: &Column<'_>) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let Some((reference, window)) = column.numbers() else { return distinct_counts(column) };
    let (reference, window) = finite(reference, window)?;
    if reference.distinct() > BINNED_ABOVE {
        scipy::binned(&reference, &window, edges_of(column))
    } else {
        Ok(each_value(&reference, &window))
    }
}

/// Sturges' bins of numpy for the type of the column.
fn edges_of(column: &Column<'_>) -> scipy::Edges {
    match column {
        Column::Integer(..) => binning::sturges_edges_of_integers,
        Column::Numeric(..) | Column::Categorical(_) => binning::sturges_edges,
    }
}

/// The counts by distinct value, ascending.
fn distinct_counts(column: &Column<'_>) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let (reference, window) = match column {
        Column::Numeric(reference, window) | Column::Integer(reference, window) => {
            let (reference, window) = finite(reference, window)?;
            each_value(&reference, &window)
        }
        Column::Categorical(categories) => (categories.reference().to_vec(), categories.window().to_vec()),
    };
    check_rows(WHAT, 1, usize::from(rows(&reference) > 0.0 && rows(&window) > 0.0))?;
    Ok((reference, window))
}

fn each_value(reference: &Sample, window: &Sample) -> (Vec<u64>, Vec<u64>) {
    let mut values = [reference.values(), window.values()].concat();
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let rows_of = |sample: &Sample, value: &f64| match sample.values().binary_search_by(|v| v.total_cmp(value)) {
        Ok(at) => sample.counts()[at],
        Err(_) => 0,
    };
    values.iter().map(|value| (rows_of(reference, value), rows_of(window, value))).unzip()
}

/// Both samples without infinite values.
fn finite(reference: &Sample, window: &Sample) -> Result<(Sample, Sample), Error> {
    let only_finite = |sample: &Sample| {
        let rows = sample.values().iter().copied().zip(sample.counts().iter().copied());
        let finite = Sample::from_counts(rows.filter(|(value, _)| value.is_finite()))?;
        check_rows(WHAT, 1, usize::from(!finite.is_empty()))?;
        Ok(finite)
    };
    Ok((only_finite(reference)?, only_finite(window)?))
}
