use super::{
    Method, Sample, kolmogorov_survival,
    sample::{Step, check_samples, merged},
};
use crate::Error;

/// The largest number of steps of an exact p-value by [`Method::Auto`]: about a tenth of a second.
const MAX_AUTO_COST: u64 = 1 << 27;

/// The largest number of steps of an exact p-value: about a second.
const MAX_EXACT_COST: u64 = 1 << 30;

const WHAT: &str = "Kolmogorov-Smirnov test";

/// The Kolmogorov-Smirnov test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ks {
    /// The largest distance between the two empirical distribution functions, from 0 to 1.
    pub statistic: f64,
    /// Probability of a statistic at least this large if both samples are from one continuous distribution.
    pub p_value: f64,
    /// The value at which the distance is largest; infinite if the data are.
    pub location: f64,
    /// 1 if at that value the reference's distribution function is the higher one (its values are the smaller), else -1.
    pub sign: i8,
}

/// The two-sided two-sample test (Smirnov 1939), with the statistic, location and sign of `scipy.stats.ks_2samp`.
///
/// Infinities sort like numbers. With ties the statistic is correct and the p-value conservative: see
/// [`p_value_exact`]. [`Method::Auto`] is exact if that takes at most about a tenth of a second: up to 10,000
/// rows on both sides, 100,000 and 1,000, or millions and a few or equally many. Scipy chooses by the
/// larger side only, and has p-values of 0 for a few rows and many; for its choice see
/// [`crate::convention::scipy`].
///
/// # Errors
/// A sample without rows; with [`Method::Exact`], samples for which [`p_value_exact`] is absent.
pub fn ks(reference: &Sample, window: &Sample, method: Method) -> Result<Ks, Error> {
    check_samples(WHAT, 1, reference, window)?;
    let (n, m) = (reference.rows(), window.rows());
    let (statistic, location, sign) = largest_distance(reference, window);
    let exact = match method {
        Method::Exact => {
            Some(p_value_exact(statistic, n, m).ok_or(Error::TooCostly { what: WHAT, left: n, right: m })?)
        }
        Method::Auto if exact_cost(n, m) <= MAX_AUTO_COST => p_value_exact(statistic, n, m),
        Method::Auto | Method::Asymptotic => None,
    };
    let p_value = exact.or_else(|| p_value_asymptotic(statistic, n, m)).unwrap_or(1.0);
    Ok(Ks { statistic, p_value, location, sign })
}

/// Statistic, location and sign. Of several locations with the same distance, scipy reports the first among the values of the
/// reference, and only then one of the window; equal distances in both directions count as upwards.
fn largest_distance(reference: &Sample, window: &Sample) -> (f64, f64, i8) {
    let (n, m) = (reference.rows() as f64, window.rows() as f64);
    let gap = |step: &Step| step.through[0] as f64 / n - step.through[1] as f64 / m;
    let (mut above, mut below) = ((f64::MIN, 0.0), (f64::MIN, 0.0));
    let mut only_window = below;
    for step in merged(reference, window) {
        let gap = gap(&step);
        if step.counts[0] > 0 {
            raise(&mut above, gap, step.value);
            raise(&mut below, -gap, step.value);
        } else {
            raise(&mut only_window, -gap, step.value);
        }
    }
    raise(&mut below, only_window.0, only_window.1);
    if below.0 > above.0 { (below.0.min(1.0), below.1, -1) } else { (above.0.clamp(0.0, 1.0), above.1, 1) }
}

fn raise(best: &mut (f64, f64), distance: f64, location: f64) {
    if distance > best.0 {
        *best = (distance, location);
    }
}

/// The exact probability of a distance of at least `distance` between samples of `n` and `m` rows of one continuous distribution: every
/// order of the pooled rows is a lattice path from (0, 0) to (n, m), and all are equally likely.
///
/// With ties it is conservative: the observed distance is at most the distance for any order of the tied rows.
///
/// Equal sizes take O(n) by reflection (Gnedenko and Korolyuk 1951), others O(n m distance) by the recursion over
/// probabilities of Viehmann (2021), "Numerically more stable computation of the p-values for the two-sample
/// Kolmogorov-Smirnov test". Neither overflows or cancels: the far tail keeps its relative
/// precision until it underflows to 0.
///
/// Absent without rows, for a distance outside [0, 1], and if it can take more than about a second: from an n of about
/// 10^8 for equal sizes, and from an n m of about 10^9 for others (less if one of them is tiny).
pub fn p_value_exact(distance: f64, n: u64, m: u64) -> Option<f64> {
    if n == 0 || m == 0 || exact_cost(n, m) > MAX_EXACT_COST || !(0.0..=1.0).contains(&distance) {
        return None;
    }
    let common = greatest_common_divisor(n, m);
    // Distances are whole multiples of 1 / lcm(n, m).
    let steps = (distance * (n / common * m) as f64).round_ties_even() as u64;
    if steps == 0 {
        Some(1.0)
    } else if n == m {
        Some(outside_square(n, steps).clamp(0.0, 1.0))
    } else {
        Some(outside_band(n.min(m), n.max(m), steps * common).clamp(0.0, 1.0))
    }
}

/// The large-sample counterpart of [`p_value_exact`]: the one-sample distribution at `n m / (n + m)` rows,
/// rounded (half to even) but at least one, which is more accurate than the limiting distribution of Kolmogorov. It is at least the
/// probability that the samples do not overlap, `2 / C(n + m, n)`, which is a lower bound for any distance; so it is
/// 0 only if that probability underflows. It takes microseconds at any size.
///
/// Absent without rows and for a distance outside [0, 1].
pub fn p_value_asymptotic(distance: f64, n: u64, m: u64) -> Option<f64> {
    if n == 0 || m == 0 || !(0.0..=1.0).contains(&distance) {
        return None;
    }
    Some(kolmogorov_survival(distance, effective_rows(n, m))?.max(chance_apart(n, m)))
}

/// The equivalent number of rows of a one-sample test: `n m / (n + m)`, rounded (half to even) but
/// at least one, as in scipy.
pub(crate) fn effective_rows(n: u64, m: u64) -> u64 {
    // A fixed order: two orders of multiplication could round differently.
    let (large, small) = (n.max(m) as f64, n.min(m) as f64);
    (large * small / (large + small)).round_ties_even().max(1.0) as u64
}

/// Probability that all rows of one sample are below all rows of the other: 2 of the `C(n + m, n)` orders.
fn chance_apart(n: u64, m: u64) -> f64 {
    let (large, small) = (n.max(m) as f64, n.min(m));
    let mut chance = 2.0;
    // Every factor is at most one half, so the loop ends soon.
    for i in 1..=small {
        chance *= i as f64 / (large + i as f64);
        if chance == 0.0 {
            break;
        }
    }
    chance
}

fn exact_cost(n: u64, m: u64) -> u64 {
    // One division costs as much as several points, and so does each antidiagonal, even a short one.
    if n == m { n.saturating_mul(8) } else { n.saturating_add(16).saturating_mul(m.saturating_add(16)) }
}

pub(super) fn greatest_common_divisor(n: u64, m: u64) -> u64 {
    if m == 0 { n } else { greatest_common_divisor(m, n % m) }
}

/// Share of the paths from (0, 0) to (n, n) that reach a distance of `h` >= 1 from the diagonal:
/// `2 (A1 - A2 + A3 - ..)` with `Ak = C(2n, n - k h) / C(2n, n)`, as nested ratios so that the terms do not cancel.
fn outside_square(n: u64, h: u64) -> f64 {
    let ratio = |k: u64| (0..h).map(|j| (n - k * h - j) as f64 / (n + k * h + j + 1) as f64).product::<f64>();
    2.0 * (0..n / h).rev().fold(0.0, |rest, k| ratio(k) * (1.0 - rest))
}

/// Share of the paths from (0, 0) to (n, m), n < m, that touch or pass `|i m - j n| = limit`.
///
/// `chances[i + 1]` is that share for the paths to (i, s - i); the last step of such a path is from (i - 1, s - i) in i of s
/// cases. The points of one antidiagonal depend only on the previous one.
fn outside_band(n: u64, m: u64, limit: u64) -> f64 {
    let ranks: Vec<f64> = (0..=n).map(|i| i as f64).collect();
    let mut chances = vec![1.0; ranks.len() + 2];
    let mut next = chances.clone();
    chances[1] = 0.0;
    for s in 1..=n + m {
        let Some((low, high)) = inside(s, n, m, limit) else { return 1.0 };
        let (rows, total) = (s as f64, 1.0 / s as f64);
        let previous = chances[low..=high].iter().zip(&chances[low + 1..=high + 1]);
        let points = next[low + 1..=high + 1].iter_mut().zip(&ranks[low..=high]).zip(previous);
        for ((chance, rank), (across, up)) in points {
            *chance = (rank * across + (rows - rank) * up) * total;
        }
        // The neighbours of the band are outside.
        (next[low], next[high + 2]) = (1.0, 1.0);
        std::mem::swap(&mut chances, &mut next);
    }
    chances[ranks.len()]
}

/// The first and last i of the points (i, s - i) with `|i m - (s - i) n| < limit`, if any.
fn inside(s: u64, n: u64, m: u64, limit: u64) -> Option<(usize, usize)> {
    // No i below: i (n + m) <= s n - limit. No i above: i (n + m) >= s n + limit.
    let low = (s * n).checked_sub(limit).map_or(0, |edge| edge / (n + m) + 1).max(s.saturating_sub(m));
    let high = ((s * n + limit).div_ceil(n + m) - 1).min(n).min(s);
    (low <= high).then_some((low as usize, high as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_samples_by_hand() {
        // Of the 10 orders of 2 and 3 rows, two separate them entirely.
        assert_eq!(p_value_exact(1.0, 2, 3), Some(0.2));
        assert_eq!(p_value_exact(1.0, 1, 1), Some(1.0));
        // scipy 1.17.1, ks_2samp of 6 and 6 rows at distance 1/2, and of 50 and 40 at distance 1.
        assert!((p_value_exact(0.5, 6, 6).expect("small") - 0.474_025_974_025_974).abs() < 1e-14);
        assert!((p_value_exact(1.0, 50, 40).expect("small") / 3.340_520_538_602_392e-26 - 1.0).abs() < 1e-12);
    }

    /// By hand: two of 2 and of 6 orders separate the samples; two of 20,002 have the single row at an end.
    #[test]
    fn samples_entirely_apart_have_the_chance_of_it() {
        for (n, m, chance) in
            [(1, 1, 1.0), (2, 2, 1.0 / 3.0), (20_001, 1, 2.0 / 20_002.0), (1, 1 << 50, 2.0_f64.powi(-49))]
        {
            for got in [p_value_asymptotic(1.0, n, m), p_value_asymptotic(1.0, m, n)] {
                assert!((got.expect("rows") / chance - 1.0).abs() < 1e-12, "{n} {m}: {got:?}");
            }
        }
        let (exact, limit) = (p_value_exact(1.0, 300, 200), p_value_asymptotic(1.0, 300, 200));
        assert!((limit.expect("rows") / exact.expect("few") - 1.0).abs() < 1e-12, "{exact:?} {limit:?}");
        assert_eq!(p_value_asymptotic(1.0, 1 << 60, 1 << 60), Some(0.0));
    }

    #[test]
    fn what_cannot_be_counted_is_absent() {
        assert_eq!(p_value_exact(0.5, 0, 3), None);
        assert_eq!(p_value_exact(1.5, 2, 3), None);
        assert_eq!(p_value_exact(f64::NAN, 2, 3), None);
        assert_eq!(p_value_exact(0.5, u64::MAX, 3), None);
        assert_eq!(p_value_exact(1.0, 1 << 16, 1 << 15), None);
        assert_eq!(p_value_asymptotic(0.5, 0, 3), None);
        assert_eq!(p_value_asymptotic(f64::NAN, 2, 3), None);
        assert!(p_value_asymptotic(0.5, u64::MAX, u64::MAX).is_some());
    }

    #[test]
    fn exact_and_asymptotic_meet_for_large_samples() {
        for (n, m) in [(9_000, 7_001), (8_000, 8_000)] {
            let (exact, limit) = (p_value_exact(0.02, n, m), p_value_asymptotic(0.02, n, m));
            let ratio = exact.expect("few rows") / limit.expect("rows");
            assert!((ratio - 1.0).abs() < 0.02, "{n} {m}: {ratio}");
        }
    }
}
