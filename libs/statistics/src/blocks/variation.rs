//! The variation of one column between the blocks of the reference, and the distance of a window beside it.

use super::{FEWEST_BLOCKS, FixedBins, tail::tail};
use crate::{drift::psi, profile::ColumnProfile};

/// The largest autocorrelation that is distinguished from 1.
const MAX_AUTOCORRELATION: f64 = 0.999;

/// A distance that is this many times that of the furthest block is out of proportion. An effect is a squared distance.
const PROPORTION: f64 = 10.0;

/// The fewest blocks of which the furthest is a yardstick.
const PROPORTION_BLOCKS: usize = 8;

/// The fewest degrees of freedom that heavy tails leave: those of a Student distribution whose fourth moment is only just finite.
const HEAVY_TAIL: f64 = 4.0;

/// The fourth moment of a normal distribution, in squared variances.
const NORMAL_KURTOSIS: f64 = 3.0;

/// How much the blocks of the reference differ in one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Variation {
    bins: FixedBins,
    /// Rows of the reference in each bin, in complete blocks.
    all: Vec<u64>,
    /// The length of a block, in milliseconds.
    pub length: i64,
    /// Complete blocks.
    pub blocks: usize,
    /// The number of independent blocks that they are worth, since neighbours may be similar.
    pub effective_blocks: f64,
    /// The estimated correlation of neighbouring blocks, at least 0.
    pub autocorrelation: f64,
    /// The number of independent blocks by that estimate alone. [`effective_blocks`](Self::effective_blocks) allows for its error, too.
    pub likely_blocks: f64,
    /// Whether the autocorrelation is more than chance: the column changes slowly from block to block.
    pub is_slow: bool,
    /// The largest effect of a block compared with the other blocks: population stability index over the fixed bins minus its expected
    /// value without a difference.
    pub largest_effect: f64,
    /// The variance between blocks, as an expected index.
    between: f64,
    /// The degrees of freedom of that estimate.
    freedom: f64,
}

/// The distance of a window from the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// The population stability index over the fixed bins minus its expected value without a difference, at least 0.
    pub effect: f64,
    /// The probability of a distance at least this large of a further block of the reference.
    pub p_value: f64,
    /// Whether the distance is out of proportion to those of the blocks: more than ten times that of the furthest of at least eight. It
    /// decides where the blocks are too similar to their neighbours for a p-value, but hardly differ from each other.
    ///
    /// Of independent normal blocks, the probability is below 1e-6. A random walk that has not come further in the time of the reference
    /// comes so far in the same time with a probability below 1e-6, too.
    pub is_out_of_proportion: bool,
}

impl Variation {
    /// The variation between blocks of `length` milliseconds, in order of time, for windows of `window` milliseconds; `None` with too few
    /// blocks.
    pub(super) fn of(bins: &FixedBins, blocks: &[Vec<u64>], length: i64, window: i64) -> Option<Self> {
        let count = blocks.len();
        if count < FEWEST_BLOCKS {
            return None;
        }
        let mut all = vec![0; bins.len()];
        blocks.iter().for_each(|block| all.iter_mut().zip(block).for_each(|(all, rows)| *all += rows));
        let freedom = freedom(&all);
        let others: Vec<(f64, f64)> = blocks
            .iter()
            .map(|block| {
                let rest: Vec<u64> = all.iter().zip(block).map(|(all, rows)| all - rows).collect();
                (distance(block, &rest), freedom * noise(block, &rest))
            })
            .collect();
        let blocks_f = count as f64;
        // A block and the rest of the others are further apart than a block and its expectation.
        let shrink = (blocks_f - 1.0) / blocks_f;
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / blocks_f;
        let between = mean(&mut others.iter().map(|(found, noise)| found - noise)).max(0.0) * shrink;
        let effects: Vec<f64> = others.iter().map(|(found, noise)| (found - noise).max(0.0)).collect();
        let of_neighbours =
            blocks.windows(2).map(|pair| distance(&pair[0], &pair[1]) / 2.0).sum::<f64>() / (blocks_f - 1.0);
        let of_all = mean(&mut others.iter().map(|(found, _)| *found)) * shrink;
        let ratio = if of_all > 0.0 { of_neighbours / of_all } else { 1.0 };
        let (autocorrelation, error) = (autocorrelation(ratio, count), 1.0 / blocks_f.sqrt());
        let effective = effective(count, (autocorrelation + error).min(MAX_AUTOCORRELATION));
        // The variance of similar neighbours understates that of independent blocks; shorter windows vary more than the blocks.
        let understated = shrink / (1.0 - 1.0 / effective);
        let shorter = (length as f64 / window.max(1) as f64).max(1.0);
        Some(Self {
            bins: bins.clone(),
            all,
            length,
            blocks: count,
            effective_blocks: effective,
            autocorrelation,
            likely_blocks: self::effective(count, autocorrelation),
            is_slow: 1.0 - ratio > 2.0 * error,
            largest_effect: effects.iter().copied().fold(0.0, f64::max),
            between: between * understated * shorter,
            freedom: (effective - 1.0).min(tail_freedom(&effects)),
        })
    }

    /// The distance of a window; `None` if its values are too many to be counted by value, and without rows.
    pub(crate) fn distance(&self, reference: &ColumnProfile, window: &ColumnProfile) -> Option<Distance> {
        let counts = self.bins.count(reference, window)?;
        if counts.iter().all(|rows| *rows == 0) {
            return None;
        }
        let (noise, found) = (noise(&counts, &self.all), distance(&counts, &self.all));
        let both: Vec<u64> = counts.iter().zip(&self.all).map(|(one, other)| one + other).collect();
        let freedom = freedom(&both);
        let between = self.between * (1.0 + 1.0 / self.effective_blocks) + noise;
        let p_value = tail(found, between, self.freedom, noise, freedom as usize - 1);
        let effect = (found - freedom * noise).max(0.0);
        let furthest = self.largest_effect.max(freedom * noise);
        let is_out_of_proportion = self.blocks >= PROPORTION_BLOCKS && effect > PROPORTION * PROPORTION * furthest;
        Some(Distance { effect, p_value, is_out_of_proportion })
    }
}

/// The population stability index over the bins that are not empty on both sides.
fn distance(one: &[u64], other: &[u64]) -> f64 {
    let used = one.iter().zip(other).filter(|(one, other)| **one + **other > 0);
    let (one, other): (Vec<u64>, Vec<u64>) = used.unzip();
    psi(&one, &other)
}

/// The expected index per degree of freedom, by the sampling of rows alone.
fn noise(one: &[u64], other: &[u64]) -> f64 {
    let rows = |counts: &[u64]| counts.iter().sum::<u64>().max(1) as f64;
    1.0 / rows(one) + 1.0 / rows(other)
}

/// The degrees of freedom of the bins that are not empty, at least 1.
fn freedom(counts: &[u64]) -> f64 {
    counts.iter().filter(|rows| **rows > 0).count().saturating_sub(1).max(1) as f64
}

/// The degrees of freedom of the Student distribution with the kurtosis of the blocks; infinite if their tails are those of a normal
/// distribution.
fn tail_freedom(effects: &[f64]) -> f64 {
    let mean = effects.iter().sum::<f64>() / effects.len() as f64;
    if mean <= 0.0 {
        return f64::INFINITY;
    }
    let kurtosis = effects.iter().map(|effect| (effect / mean).powi(2)).sum::<f64>() / effects.len() as f64;
    let excess = kurtosis - NORMAL_KURTOSIS;
    if excess > 0.0 { HEAVY_TAIL + 6.0 / excess } else { f64::INFINITY }
}

/// The autocorrelation whose expected ratio of the distances of neighbours and of all blocks is `ratio`. Both distances are expectations of
/// a process whose correlation decays geometrically.
fn autocorrelation(ratio: f64, blocks: usize) -> f64 {
    let n = blocks as f64;
    let expected = |rho: f64| (1.0 - rho) / ((1.0 - 1.0 / effective(blocks, rho)) * n / (n - 1.0));
    if ratio >= 1.0 {
        return 0.0;
    }
    if expected(MAX_AUTOCORRELATION) >= ratio {
        return MAX_AUTOCORRELATION;
    }
    let (mut low, mut high) = (0.0, MAX_AUTOCORRELATION);
    while high - low > 1e-6 {
        let middle = f64::midpoint(low, high);
        if expected(middle) > ratio { low = middle } else { high = middle }
    }
    high
}

/// The number of independent blocks whose mean is as precise as that of `blocks` blocks with correlation `rho` of neighbours, above 1.
fn effective(blocks: usize, rho: f64) -> f64 {
    let n = blocks as f64;
    let mut correlation = 1.0;
    let weighted = (1..blocks).map(|lag| {
        correlation *= rho;
        (1.0 - lag as f64 / n) * correlation
    });
    let sum: f64 = weighted.sum();
    (n / (1.0 + 2.0 * sum)).max(1.05)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_blocks_are_worth_their_number_and_equal_ones_are_worth_one() {
        assert!((effective(50, 0.0) - 50.0).abs() < 1e-12);
        // (1 - rho) / (1 + rho) of many.
        assert!((effective(10_000, 0.5) / 10_000.0 - 1.0 / 3.0).abs() < 1e-3);
        assert!(effective(50, MAX_AUTOCORRELATION) < 1.1);
    }

    #[test]
    fn the_autocorrelation_is_recovered_from_its_expected_ratio() {
        for blocks in [8, 16, 50] {
            for rho in [0.1, 0.5, 0.9] {
                let n = blocks as f64;
                let ratio = (1.0 - rho) / ((1.0 - 1.0 / effective(blocks, rho)) * n / (n - 1.0));
                assert!((autocorrelation(ratio, blocks) - rho).abs() < 1e-5, "{blocks} {rho}");
            }
            assert_eq!(autocorrelation(1.2, blocks), 0.0);
        }
    }

    #[test]
    fn heavy_tails_lower_the_degrees_of_freedom() {
        assert_eq!(tail_freedom(&[1.0; 20]), f64::INFINITY);
        let one_large: Vec<f64> = (0..20).map(|index| if index == 0 { 100.0 } else { 1.0 }).collect();
        assert!((4.0..5.0).contains(&tail_freedom(&one_large)));
        assert_eq!(tail_freedom(&[0.0; 4]), f64::INFINITY);
    }
}
