//! Cutting a numeric sample into bins, with edges to the last bit where numpy makes them.
//!
//! Edges are ascending and one more than the bins. A bin holds its left edge and not its right one, save for the last,
//! which holds both. Rows outside of all bins are not counted: who wants them in a bin of their own takes them from
//! [`Binned::outside`].
//!
//! Equal widths over a range are at the mercy of its ends: a single value of 10^6 among values of one swallows any
//! shift into one bin. They are here for the conventions that use them; [`quantile_edges`] has no such weakness.

use super::Sample;
use crate::Error;

/// The most bins that a sample is cut into.
pub const MOST_BINS: usize = 1 << 24;

/// A sample's rows over given edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binned {
    /// Rows of each bin, one fewer than the edges.
    pub counts: Vec<u64>,
    /// Rows below the first edge or above the last.
    pub outside: u64,
}

/// Counts a sample over ascending edges, as `numpy.histogram(values, edges)`. With fewer than two edges all rows are
/// outside.
pub fn count(sample: &Sample, edges: &[f64]) -> Binned {
    let mut binned = Binned { counts: vec![0; edges.len().saturating_sub(1)], outside: 0 };
    let mut bin = 0;
    for (&value, &rows) in sample.values().iter().zip(sample.counts()) {
        // Both ascend: a value is in no bin before the last one's.
        while bin + 2 < edges.len() && value >= edges[bin + 1] {
            bin += 1;
        }
        match edges.get(bin..bin + 2) {
            Some(&[left, right]) if (left..=right).contains(&value) => binned.counts[bin] += rows,
            _ => binned.outside += rows,
        }
    }
    binned
}

/// Edges of bins of equal width over a sample's range, as `numpy.histogram_bin_edges(values, bins)`. A constant
/// sample's range is taken to be `[x - 0.5, x + 0.5]`.
///
/// # Errors
/// No rows; no bins, or more than [`MOST_BINS`]; an infinite range, or one too narrow for so many different edges.
pub fn equal_width_edges(sample: &Sample, bins: usize) -> Result<Vec<f64>, Error> {
    let (low, high) = range(sample, bins)?;
    let edges = linear_space(low, high, bins);
    let ascending = edges.windows(2).all(|pair| pair[0] < pair[1]);
    if ascending { Ok(edges) } else { Err(Error::Range { low, high, bins }) }
}

/// Edges of `ceil(log2(rows) + 1)` bins of equal width (Sturges 1926), as `numpy.histogram_bin_edges(values,
/// "sturges")` of an array of floats.
///
/// # Errors
/// No rows; an infinite range, or one too narrow for so many different edges.
pub fn sturges_edges(sample: &Sample) -> Result<Vec<f64>, Error> {
    sturges_edges_of_least_width(sample, 0.0)
}

/// As [`sturges_edges`], but for an array of integers, of which numpy makes no bin narrower than 1: narrower ones would
/// be empty between two integers.
///
/// # Errors
/// As [`sturges_edges`].
pub fn sturges_edges_of_integers(sample: &Sample) -> Result<Vec<f64>, Error> {
    sturges_edges_of_least_width(sample, 1.0)
}

fn sturges_edges_of_least_width(sample: &Sample, least_width: f64) -> Result<Vec<f64>, Error> {
    let bins = (sample.rows() as f64).log2() + 1.0;
    equal_width_edges(sample, bins_of(sample, bins, least_width))
}

/// Edges of bins of equal width, more of them than Sturges' the more skewed the sample is (Doane 1976, "Aesthetic
/// frequency classifications"), as `numpy.histogram_bin_edges(values, "doane")`. A sample of fewer than three rows has
/// one bin.
///
/// # Errors
/// No rows; an infinite range, or one too narrow for so many different edges.
pub fn doane_edges(sample: &Sample) -> Result<Vec<f64>, Error> {
    let rows = sample.rows() as f64;
    let bins = skewness(sample).map_or(1, |skewness| {
        let its_deviation = (6.0 * (rows - 2.0) / ((rows + 1.0) * (rows + 3.0))).sqrt();
        bins_of(sample, 1.0 + rows.log2() + (1.0 + skewness.abs() / its_deviation).log2(), 0.0)
    });
    equal_width_edges(sample, bins)
}

/// Edges at the quantiles `0/bins, 1/bins, .., bins/bins`, interpolated between the neighbouring rows (definition 7 of
/// Hyndman and Fan 1996; the default of `numpy.quantile`). Where ties make edges equal, one of them stays, so that
/// there may be fewer bins; a constant sample has the single bin `[x - 0.5, x + 0.5]`.
///
/// # Errors
/// No rows; no bins, or more than [`MOST_BINS`]; an infinite range.
pub fn quantile_edges(sample: &Sample, bins: usize) -> Result<Vec<f64>, Error> {
    let (low, high) = range(sample, bins)?;
    if sample.distinct() == 1 {
        return Ok(vec![low, high]);
    }
    let last = (sample.rows() - 1) as f64;
    let mut rows = Ascending::new(sample);
    let mut edges: Vec<f64> = (0..=bins).map(|i| rows.between(last * (i as f64 / bins as f64))).collect();
    edges.dedup();
    Ok(edges)
}

/// A walk over a sample's rows in ascending order that never turns back.
struct Ascending<'a> {
    sample: &'a Sample,
    /// The distinct value that the walk is at, and the rows up to and with it.
    at: usize,
    rows: u64,
}

impl<'a> Ascending<'a> {
    fn new(sample: &'a Sample) -> Self {
        Self { sample, at: 0, rows: sample.counts()[0] }
    }

    /// The value at a position among the rows counted from 0, between two rows by linear interpolation. Positions
    /// ascend.
    fn between(&mut self, position: f64) -> f64 {
        let (below, part) = (position.floor() as u64, position.fract());
        while self.rows <= below && self.at + 1 < self.sample.distinct() {
            self.at += 1;
            self.rows += self.sample.counts()[self.at];
        }
        let value = self.sample.values()[self.at];
        let next = if self.rows <= below + 1 { self.sample.values().get(self.at + 1) } else { None };
        next.map_or(value, |next| (value + (next - value) * part).min(*next))
    }
}

/// The number of bins that numpy makes of an estimator's: by way of the width, which can round it up by one.
fn bins_of(sample: &Sample, estimate: f64, least_width: f64) -> usize {
    let (Some(low), Some(high)) = (sample.values().first(), sample.values().last()) else { return 1 };
    let width = (high - low) / estimate;
    if width > 0.0 { ((high - low) / width.max(least_width)).ceil() as usize } else { 1 }
}

/// The smallest and largest value, made one apart around a single one, if so many bins of their range are possible.
fn range(sample: &Sample, bins: usize) -> Result<(f64, f64), Error> {
    let (low, high) = match (sample.values().first(), sample.values().last()) {
        (Some(&low), Some(&high)) if low == high => (low - 0.5, high + 0.5),
        (Some(&low), Some(&high)) => (low, high),
        _ => return Err(Error::TooFewRows { what: "binning", need: 1, got: 0 }),
    };
    let possible = (1..=MOST_BINS).contains(&bins) && (high - low).is_finite();
    if possible { Ok((low, high)) } else { Err(Error::Range { low, high, bins }) }
}

/// As `numpy.linspace(low, high, bins + 1)`: multiples of one step, the last replaced by the end itself.
fn linear_space(low: f64, high: f64, bins: usize) -> Vec<f64> {
    let step = (high - low) / bins as f64;
    let at = |i: usize| if i == bins { high } else { i as f64 * step + low };
    (0..=bins).map(at).collect()
}

/// The third standardised moment, with population moments; absent for fewer than three rows and for a constant sample.
fn skewness(sample: &Sample) -> Option<f64> {
    let (mean, deviation) = (sample.mean()?, sample.std(0)?);
    if sample.rows() < 3 || deviation <= 0.0 {
        return None;
    }
    let cubes = sample.values().iter().zip(sample.counts());
    let cubes: f64 = cubes.map(|(value, &rows)| ((value - mean) / deviation).powi(3) * rows as f64).sum();
    Some(cubes / sample.rows() as f64).filter(|skewness| skewness.is_finite())
}
