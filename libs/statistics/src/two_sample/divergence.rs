//! Distances between two discrete distributions, from their shares alone, without a test.
//!
//! All but [`psi_of_shares`] take [`Shares`], which are normalised. Tools differ in the base of the logarithm, the square root, and the
//! replacement of zero shares:
//! - the Jensen-Shannon *distance* of scipy and Evidently is [`jensen_shannon`] with [`Base::E`]; that of NannyML with
//!   [`Base::Two`];
//! - the Jensen-Shannon *divergence* of TensorFlow Data Validation is [`jensen_shannon_divergence`] with [`Base::Two`];
//! - nothing here replaces a zero; a distance that diverges is infinity.

use std::f64::consts::LN_2;

use crate::{Error, error::check_rows};

/// The population stability index of shares without normalisation: `sum((r - c) ln(r / c))`, in nats. It is the symmetrised
/// divergence of Kullback and Leibler (1951, their `J`); the name is from credit scoring.
///
/// The shares are not normalised, since tools that replace zeros do not normalise again. A share that is zero on
/// one side only makes the index infinite; zero on both sides adds nothing.
///
/// # Errors
/// Sides of different lengths; a share that is negative or not finite.
pub fn psi_of_shares(reference: &[f64], window: &[f64]) -> Result<f64, Error> {
    const WHAT: &str = "population stability index";
    check_bins(WHAT, reference.len(), window.len())?;
    check_weights(WHAT, reference)?;
    check_weights(WHAT, window)?;
    let term = |(&r, &c): (&f64, &f64)| if r == c { 0.0 } else { (r - c) * log_ratio(r, c) };
    Ok(sum(reference.iter().zip(window).map(term)))
}

/// The relative entropy of the reference to the window, `sum(r log(r / c))` (Kullback and Leibler 1951): not symmetric,
/// and infinite if a bin of the reference is empty in the window. As `scipy.stats.entropy(reference, window)`.
///
/// # Errors
/// Sides of different lengths.
pub fn kullback_leibler(reference: &Shares, window: &Shares, base: Base) -> Result<f64, Error> {
    let pairs = reference.beside("Kullback-Leibler divergence", window)?;
    Ok((sum(pairs.map(|(r, c)| relative_entropy(r, c))) / base.ln()).max(0.0))
}

/// The Jensen-Shannon distance, the square root of [`jensen_shannon_divergence`], which makes it a metric (Endres and
/// Schindelin 2003). From 0 to `sqrt(ln 2)` with [`Base::E`] and to 1 with [`Base::Two`]. As
/// `scipy.spatial.distance.jensenshannon`.
///
/// # Errors
/// Sides of different lengths.
pub fn jensen_shannon(reference: &Shares, window: &Shares, base: Base) -> Result<f64, Error> {
    jensen_shannon_divergence(reference, window, base).map(f64::sqrt)
}

/// The mean relative entropy of both sides to their mean (Lin 1991, "Divergence measures based on the Shannon entropy",
/// equation 3.8, with equal weights). It is symmetric, and finite for any zeros.
///
/// # Errors
/// Sides of different lengths.
pub fn jensen_shannon_divergence(reference: &Shares, window: &Shares, base: Base) -> Result<f64, Error> {
    let pairs = reference.beside("Jensen-Shannon divergence", window)?;
    let term = |(r, c): (f64, f64)| {
        let middle = f64::midpoint(r, c);
        // The mean of two shares may underflow to zero.
        if middle == 0.0 { 0.0 } else { relative_entropy(r, middle) + relative_entropy(c, middle) }
    };
    // Rounding may put the sum slightly outside its range.
    Ok((sum(pairs.map(term)) / 2.0 / base.ln()).clamp(0.0, LN_2 / base.ln()))
}

/// The Hellinger distance `sqrt(sum((sqrt(r) - sqrt(c))^2) / 2)`, from 0 to 1 (Le Cam and Yang 2000, section 3.2, with
/// the factor one half).
///
/// # Errors
/// Sides of different lengths.
pub fn hellinger(reference: &Shares, window: &Shares) -> Result<f64, Error> {
    let pairs = reference.beside("Hellinger distance", window)?;
    let squares = sum(pairs.map(|(r, c)| (r.sqrt() - c.sqrt()).powi(2)));
    Ok((squares / 2.0).sqrt().min(1.0))
}

/// The unit of an entropy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Natural logarithms: nats.
    E,
    /// Logarithms to base 2: bits.
    Two,
}

impl Base {
    fn ln(self) -> f64 {
        match self {
            Self::E => 1.0,
            Self::Two => LN_2,
        }
    }
}

/// Shares of one sample's bins: none is negative, and they add up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares(Vec<f64>);

impl Shares {
    /// The shares of counted rows.
    ///
    /// # Errors
    /// No rows.
    pub fn of_counts(counts: &[u64]) -> Result<Self, Error> {
        let rows = rows(counts);
        check_rows("shares", 1, usize::from(rows > 0.0))?;
        Ok(Self(counts.iter().map(|&count| count as f64 / rows).collect()))
    }

    /// The shares of weights with any sum.
    ///
    /// # Errors
    /// A weight that is negative or not finite; a sum that is zero or not finite.
    pub fn of_weights(weights: &[f64]) -> Result<Self, Error> {
        check_weights("shares", weights)?;
        let total: f64 = weights.iter().sum();
        check_rows("shares", 1, usize::from(total > 0.0))?;
        if !total.is_finite() {
            return Err(Error::Value { what: "the sum of shares", row: 0, value: total, expected: "a finite number" });
        }
        Ok(Self(weights.iter().map(|weight| weight / total).collect()))
    }

    /// One share per bin, in the given order.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    fn beside<'a>(
        &'a self,
        what: &'static str,
        other: &'a Self,
    ) -> Result<impl Iterator<Item = (f64, f64)> + 'a, Error> {
        check_bins(what, self.0.len(), other.0.len())?;
        Ok(self.0.iter().copied().zip(other.0.iter().copied()))
    }
}

/// Rows of all bins, as a float, which no count can overflow.
pub(crate) fn rows(counts: &[u64]) -> f64 {
    counts.iter().map(|&count| u128::from(count)).sum::<u128>() as f64
}

pub(super) fn check_bins(what: &'static str, left: usize, right: usize) -> Result<(), Error> {
    if left == right { Ok(()) } else { Err(Error::Lengths { what, left, right }) }
}

/// `p ln(p / q)` and its limits: 0 for `p = 0`, infinity for `q = 0` only.
fn relative_entropy(p: f64, q: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * log_ratio(p, q) }
}

/// `ln(p / q)`, also if the ratio is not a normal float. Otherwise the ratio is more precise.
fn log_ratio(p: f64, q: f64) -> f64 {
    let ratio = p / q;
    if ratio.is_normal() { ratio.ln() } else { p.ln() - q.ln() }
}

/// A sum that starts at 0.0: that of no floats is -0.0.
fn sum(terms: impl Iterator<Item = f64>) -> f64 {
    terms.fold(0.0, |sum, term| sum + term)
}

fn check_weights(what: &'static str, weights: &[f64]) -> Result<(), Error> {
    match weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        Some(row) => Err(Error::Value { what, row, value: weights[row], expected: "a number of at least 0" }),
        None => Ok(()),
    }
}
