use super::Sides;
use crate::two_sample::divergence::psi_of_shares;

/// Pseudo-count added to every bin of both samples before shares are computed, so that an empty bin has a logarithm
/// (Jeffreys' prior). Unlike a fixed smallest share, its weight decreases with the number of rows.
const PSEUDO_COUNT: f64 = 0.5;

/// Population stability index of two samples over the same bins, in nats:
/// `sum((r - c) ln(r / c))` over the shares, after adding one half to each count.
///
/// It is symmetric, never negative, and 0 for equal shares. Without rows on a side it is 0.
pub fn psi(reference: &[u64], window: &[u64]) -> f64 {
    let any = |counts: &[u64]| counts.iter().any(|&count| count > 0);
    if !any(reference) || !any(window) {
        return 0.0;
    }
    psi_of_shares(&shares(reference), &shares(window)).unwrap_or(0.0)
}

/// The expected index of two samples of one distribution: `(bins - 1)(1/n + 1/m)`, since the scaled index is asymptotically chi-square
/// with `bins - 1` degrees of freedom (Yurdakul and Naranjo 2020).
pub fn expected_psi(bins: usize, rows: Sides<u64>) -> f64 {
    let noise = 1.0 / rows.reference.max(1) as f64 + 1.0 / rows.current.max(1) as f64;
    bins.saturating_sub(1) as f64 * noise
}

fn shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>() as f64 + PSEUDO_COUNT * counts.len() as f64;
    counts.iter().map(|&count| (count as f64 + PSEUDO_COUNT) / total).collect()
}
