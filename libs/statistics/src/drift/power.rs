//! The power of a comparison.

use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use super::{MISS_CHANCE, Sides};

/// The smallest effect that the chi-square test over `bins` bins detects at `level` with a probability of at least `1 - MISS_CHANCE`:
/// `noncentrality * (1/n + 1/m)`. `None` without rows on a side.
pub(super) fn detectable_effect(bins: usize, level: f64, rows: Sides<u64>) -> Option<f64> {
    if rows.reference == 0 || rows.current == 0 {
        return None;
    }
    // A single bin has no degree of freedom, but a new value would add a second bin.
    let freedom = bins.saturating_sub(1).max(1);
    Some(noncentrality(freedom, level, MISS_CHANCE) * rows.noise())
}

/// The noncentrality of a chi-square statistic that exceeds its `level` critical value with probability
/// `1 - miss_chance`: the size of a shift that the test detects.
///
/// With bins that are not rare, a population index `psi` gives a noncentrality of `psi / (1/n + 1/m)`.
/// The relative error is below 1e-3. It is 0 if the level is at least that probability, and infinite if an argument is not
/// strictly between 0 and 1.
pub fn noncentrality(freedom: usize, level: f64, miss_chance: f64) -> f64 {
    let is_share = |share: f64| share > 0.0 && share < 1.0;
    if !is_share(level) || !is_share(miss_chance) || level >= 1.0 - miss_chance {
        // Reached without a shift, or unreachable.
        return if level >= 1.0 - miss_chance { 0.0 } else { f64::INFINITY };
    }
    let critical = critical_value(freedom, level);
    let found = |lambda: f64| noncentral_survival(critical, freedom, lambda) >= 1.0 - miss_chance;
    let (mut low, mut high) = (0.0, 1.0);
    while !found(high) {
        (low, high) = (high, high * 2.0);
    }
    while high - low > 1e-3 * high {
        let middle = f64::midpoint(low, high);
        if found(middle) { high = middle } else { low = middle }
    }
    high
}

/// The probability of an index of at most `psi` over `bins` bins and `rows` rows if the true effect is `margin`.
pub(super) fn chance_of_so_little(psi: f64, margin: f64, bins: usize, rows: Sides<u64>) -> f64 {
    let (noise, freedom) = (rows.noise(), bins.saturating_sub(1).max(1));
    let (x, lambda) = (psi / noise, margin / noise);
    if lambda <= MANY_ROWS {
        return 1.0 - noncentral_survival(x, freedom, lambda);
    }
    let (mean, deviation) = (freedom as f64 + lambda, (2.0 * (freedom as f64 + 2.0 * lambda)).sqrt());
    if mean.is_finite() { normal_share_below((x - mean) / deviation) } else { 0.0 }
}

/// The noncentrality above which the normal distribution approximates the chi-square distribution within 1e-3.
const MANY_ROWS: f64 = 1e6;

fn normal_share_below(z: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(-z / std::f64::consts::SQRT_2)
}

/// The value that the statistic exceeds with probability `level` without a shift, by bisection on the upper tail, since the distribution
/// function rounds to 1 there.
fn critical_value(freedom: usize, level: f64) -> f64 {
    let distribution = chi_squared(freedom);
    let (mut low, mut high) = (0.0, freedom as f64 + 1.0);
    while distribution.sf(high) > level {
        (low, high) = (high, high * 2.0);
    }
    while high - low > 1e-6 * high {
        let middle = f64::midpoint(low, high);
        if distribution.sf(middle) > level { low = middle } else { high = middle }
    }
    high
}

/// Upper tail of the noncentral chi-square distribution: a mixture of central ones whose degrees of freedom grow by
/// twice a Poisson count of mean `lambda / 2` (Johnson, Kotz and Balakrishnan 1995, chapter 29). Terms run from the
/// mode of the Poisson distribution to ten standard deviations on both sides, beyond which they are negligible. Each central tail follows
/// from the previous one by `Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1)` (Abramowitz and Stegun 1964, 6.5.21).
fn noncentral_survival(x: f64, freedom: usize, lambda: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let mean = lambda / 2.0;
    let reach = 10.0 * mean.sqrt() + 10.0;
    let first = (mean - reach).max(0.0).floor();
    let ln_gamma = statrs::function::gamma::ln_gamma;
    let mut weight = (first * mean.ln() - mean - ln_gamma(first + 1.0)).exp();
    let (half, mut a) = (x / 2.0, freedom as f64 / 2.0 + first);
    let mut tail = chi_squared_f64(2.0 * a).sf(x);
    let mut step = (a * half.ln() - half - ln_gamma(a + 1.0)).exp();
    let (mut sum, mut j) = (0.0, first);
    while j <= mean + reach {
        sum += weight * tail;
        (j, a) = (j + 1.0, a + 1.0);
        weight *= mean / j;
        tail += step;
        step *= half / a;
    }
    sum
}

fn chi_squared(freedom: usize) -> ChiSquared {
    chi_squared_f64(freedom as f64)
}

fn chi_squared_f64(freedom: f64) -> ChiSquared {
    ChiSquared::new(freedom).expect("degrees of freedom are positive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_ends_for_any_level_and_rows() {
        for level in [-1.0, 0.0, 1e-300, 0.8, 0.9, 1.0, 7.0, f64::NAN] {
            assert!(noncentrality(1, level, 0.2) >= 0.0, "{level}");
        }
        assert_eq!((noncentrality(1, 0.9, 0.2), noncentrality(3, -1.0, 0.2)), (0.0, f64::INFINITY));
        for (margin, rows) in [(f64::MAX, 10), (1e-300, u64::MAX), (0.02, 1 << 40), (f64::INFINITY, 0)] {
            let rows = Sides { reference: rows, current: rows };
            let chance = chance_of_so_little(0.01, margin, 5, rows);
            assert!((0.0..=1.0).contains(&chance), "{margin} {rows:?}: {chance}");
        }
    }

    #[test]
    fn the_approximation_agrees_with_the_exact_distribution() {
        let at = |rows: u64| {
            let noise = 2.0 / rows as f64;
            // One standard deviation below the expectation.
            let psi = 0.02 - (2.0 * 2.0 * 0.02 / noise).sqrt() * noise;
            chance_of_so_little(psi, 0.02, 10, Sides { reference: rows, current: rows })
        };
        // Standard normal: 0.1587 below minus one.
        assert!(
            (at(99_000_000) - 0.1587).abs() < 2e-3 && (at(101_000_000) - 0.1587).abs() < 2e-3,
            "{}",
            at(99_000_000)
        );
    }
}
