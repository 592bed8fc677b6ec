//! Chi-square tests on counts: of two samples ([`homogeneity`]), or of one sample and expected counts
//! ([`goodness_of_fit`]).
//!
//! The second treats the reference as exact. If the reference is a sample, as in monitoring, it rejects too often: at a nominal
//! 5 % about one in four pairs of equally large samples of five categories.

use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use super::divergence::{check_bins, rows};
use crate::Error;

/// The result of a chi-square test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquare {
    /// The chosen statistic; at least 0, and infinite for a row in a bin with expectation 0.
    pub statistic: f64,
    /// Degrees of freedom.
    pub freedom: usize,
    /// Probability of a statistic at least this large if the distributions are equal.
    pub p_value: f64,
}

/// The term that is summed over the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// `(observed - expected)^2 / expected` (Pearson 1900).
    Pearson,
    /// `2 observed ln(observed / expected)`: the likelihood ratio G (Woolf 1957; Sokal and Rohlf 1995, section 17.1).
    /// It rejects too often with small cells.
    LikelihoodRatio,
    /// `9/5 observed ((observed / expected)^(2/3) - 1)`: the power divergence that Cressie and Read (1984, section 4) recommend, between
    /// the two others. Of the three, its far tail is closest to the chi-square distribution if all cells are equally small; if a few
    /// are small beside a large one, it is far above it.
    CressieRead,
}

/// The continuity correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// No correction.
    None,
    /// With one degree of freedom each count moves towards its expectation by one half, or onto it if that is nearer
    /// (Yates 1934); otherwise no correction. The default of `scipy.stats.chi2_contingency`.
    Yates,
}

/// Tests whether two rows of counts over the same bins are from one distribution, both treated as random. As
/// `scipy.stats.chi2_contingency([reference, window], correction, lambda_)`.
///
/// Bins that are empty on both sides are omitted, where scipy raises an error. With one remaining bin the statistic is 0, the freedom 0,
/// p 1.
///
/// # Errors
/// Sides of different lengths; a side without rows.
pub fn homogeneity(
    reference: &[u64],
    window: &[u64],
    statistic: Statistic,
    correction: Correction,
) -> Result<ChiSquare, Error> {
    const WHAT: &str = "chi-square test of homogeneity";
    check_bins(WHAT, reference.len(), window.len())?;
    let (n, m) = (rows(reference), rows(window));
    check_some_rows(WHAT, n)?;
    check_some_rows(WHAT, m)?;
    let pairs = reference.iter().zip(window).filter(|(r, c)| (**r, **c) != (0, 0));
    let pairs: Vec<(f64, f64)> = pairs.map(|(&r, &c)| (r as f64, c as f64)).collect();
    let freedom = pairs.len().saturating_sub(1);
    let correction = if freedom == 1 { correction } else { Correction::None };
    let cells = pairs.iter().flat_map(|&(r, c)| {
        let (of_reference, of_window) = ((r + c) * (n / (n + m)), (r + c) * (m / (n + m)));
        [(r, of_reference), (c, of_window)]
    });
    let cells = cells.map(|(observed, expected)| cell(statistic, corrected(observed, expected, correction), expected));
    Ok(chi_square(cells.fold(0.0, |sum, cell| sum + cell), freedom))
}

/// Tests whether counts follow a known expectation. As `scipy.stats.chisquare(observed, expected)`, and
/// `scipy.stats.power_divergence(.., lambda_="log-likelihood")` for [`Statistic::LikelihoodRatio`].
///
/// With a row in a bin of expectation 0 the statistic is infinite and p is 0. A bin with neither is
/// omitted from the sum, but counts for the freedom.
///
/// # Errors
/// Sides of different lengths; fewer than two bins; no rows; an expectation that is negative or not finite; sums that
/// differ by more than rounding (1.5e-8 of the larger), since the statistic is then not chi-square distributed.
pub fn goodness_of_fit(observed: &[u64], expected: &[f64], statistic: Statistic) -> Result<ChiSquare, Error> {
    const WHAT: &str = "chi-square test of fit";
    check_bins(WHAT, observed.len(), expected.len())?;
    if observed.len() < 2 {
        return Err(Error::TooFewBins { what: WHAT, need: 2, got: observed.len() });
    }
    if let Some(row) = expected.iter().position(|e| !(e.is_finite() && *e >= 0.0)) {
        return Err(Error::Value { what: WHAT, row, value: expected[row], expected: "a count of at least 0" });
    }
    let (seen, foreseen) = (rows(observed), expected.iter().sum::<f64>());
    check_some_rows(WHAT, seen)?;
    if (seen - foreseen).abs() > f64::EPSILON.sqrt() * seen.max(foreseen) {
        return Err(Error::Totals { what: WHAT, observed: seen, expected: foreseen });
    }
    let cells = observed.iter().zip(expected).map(|(&o, &e)| cell(statistic, o as f64, e));
    Ok(chi_square(cells.fold(0.0, |sum, cell| sum + cell), observed.len() - 1))
}

/// Probability that a chi-square variable with `freedom` degrees of freedom is at least `statistic` (the upper regularised
/// gamma function of `freedom / 2` at `statistic / 2`). With freedom 0 the variable is 0. Relative error below 1e-12
/// up to 1,000 degrees of freedom and 1e-8 up to 10^6. Absent for NaN.
pub fn chi_square_survival(statistic: f64, freedom: usize) -> Option<f64> {
    (!statistic.is_nan()).then(|| upper_tail(statistic, freedom))
}

/// As [`chi_square_survival`], of a statistic that is not NaN.
pub(super) fn upper_tail(statistic: f64, freedom: usize) -> f64 {
    // Half of a smaller number may underflow to 0, where the gamma function is undefined.
    if statistic < f64::MIN_POSITIVE {
        return if statistic > 0.0 && freedom == 0 { 0.0 } else { 1.0 };
    }
    if statistic == f64::INFINITY {
        return 0.0;
    }
    ChiSquared::new(freedom as f64).map_or(0.0, |distribution| distribution.sf(statistic))
}

fn chi_square(statistic: f64, freedom: usize) -> ChiSquare {
    // The likelihood ratio of equal rows may be negative by rounding; with freedom 0 any statistic is rounding.
    let statistic = if freedom == 0 { 0.0 } else { statistic.max(0.0) };
    ChiSquare { statistic, freedom, p_value: upper_tail(statistic, freedom) }
}

fn corrected(observed: f64, expected: f64, correction: Correction) -> f64 {
    match correction {
        Correction::None => observed,
        Correction::Yates => observed + (expected - observed).clamp(-0.5, 0.5),
    }
}

fn cell(statistic: Statistic, observed: f64, expected: f64) -> f64 {
    match statistic {
        _ if observed == expected => 0.0,
        Statistic::Pearson => (observed - expected).powi(2) / expected,
        Statistic::LikelihoodRatio if observed == 0.0 => 0.0,
        Statistic::LikelihoodRatio => 2.0 * observed * (observed / expected).ln(),
        Statistic::CressieRead => 1.8 * observed * ((observed / expected).powf(2.0 / 3.0) - 1.0),
    }
}

fn check_some_rows(what: &'static str, rows: f64) -> Result<(), Error> {
    if rows > 0.0 { Ok(()) } else { Err(Error::TooFewRows { what, need: 1, got: 0 }) }
}
