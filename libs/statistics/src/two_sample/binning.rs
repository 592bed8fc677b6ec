//! Binning of numeric samples, with the edges of numpy to the last bit.
//!
//! Edges are ascending and one more than the bins. A bin includes its left edge and not its right one, except for the last,
//! which includes both. Rows outside of all bins are counted in [`Binned::outside`].
//!
//! Bins of equal width depend on the ends of the range: a single value of 10^6 among values of about one puts all others into one bin.
//! They serve the conventions that use them.

use super::Sample;
use crate::Error;

/// The largest number of bins.
pub const MOST_BINS: usize = 1 << 24;

/// The rows of a sample over given edges.
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
        // Both ascend: a value is in no bin before that of the previous value.
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

/// Edges of bins of equal width over the range of a sample, as `numpy.histogram_bin_edges(values, bins)`. A constant
/// sample has the range `[x - 0.5, x + 0.5]`.
///
/// # Errors
/// No rows; no bins, or more than [`MOST_BINS`]; an infinite range, or one too narrow for that many distinct edges.
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
/// No rows; an infinite range, or one too narrow for that many distinct edges.
pub fn sturges_edges(sample: &Sample) -> Result<Vec<f64>, Error> {
    sturges_edges_of_least_width(sample, 0.0)
}

/// As [`sturges_edges`], but for an array of integers, where no bin of numpy is narrower than 1: a narrower one between two
/// integers is empty.
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

/// Edges of bins of equal width, whose number increases from that of Sturges with the skewness of the sample (Doane 1976, "Aesthetic
/// frequency classifications"), as NannyML uses them and as `numpy.histogram_bin_edges(values, "doane")`. A sample of fewer than three rows has
/// one bin.
///
/// # Errors
/// No rows; an infinite range, or one too narrow for that many distinct edges.
pub fn doane_edges(sample: &Sample) -> Result<Vec<f64>, Error> {
    let rows = sample.rows() as f64;
    let bins = skewness(sample).map_or(1, |skewness| {
        let its_deviation = (6.0 * (rows - 2.0) / ((rows + 1.0) * (rows + 3.0))).sqrt();
        bins_of(sample, 1.0 + rows.log2() + (1.0 + skewness.abs() / its_deviation).log2(), 0.0)
    });
    equal_width_edges(sample, bins)
}

/// The number of bins of numpy for an estimate: computed from the width, which can round it up by one.
fn bins_of(sample: &Sample, estimate: f64, least_width: f64) -> usize {
    let (Some(low), Some(high)) = (sample.values().first(), sample.values().last()) else { return 1 };
    let width = (high - low) / estimate;
    if width > 0.0 { ((high - low) / width.max(least_width)).ceil() as usize } else { 1 }
}

/// The smallest and largest value, or an interval of width 1 around a single one, if that range can be divided into `bins` bins.
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
