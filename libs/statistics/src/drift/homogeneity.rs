use statrs::distribution::{ChiSquared, ContinuousCDF as _};

/// A test of whether two samples come from one distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Homogeneity {
    /// Pearson's statistic.
    pub statistic: f64,
    /// Degrees of freedom: bins that are not empty on both sides, less one.
    pub freedom: usize,
    /// Chance of a statistic at least this large if the distributions are the same.
    pub p_value: f64,
}

/// Pearson's chi-square test of homogeneity of two rows of counts, both taken as random, without continuity
/// correction (Pearson 1900; as `chi2_contingency(correction=False)` of scipy). Preferred to the likelihood
/// ratio (G), which alarms too often where bins are small.
///
/// With one bin, or without rows on a side, there is nothing to tell apart: statistic 0, p 1.
pub fn homogeneity(reference: &[u64], window: &[u64]) -> Homogeneity {
    let (n, m) = (reference.iter().sum::<u64>() as f64, window.iter().sum::<u64>() as f64);
    let pairs: Vec<(f64, f64)> =
        reference.iter().zip(window).filter(|(r, c)| **r + **c > 0).map(|(&r, &c)| (r as f64, c as f64)).collect();
    let freedom = pairs.len().saturating_sub(1);
    if n == 0.0 || m == 0.0 || freedom == 0 {
        return Homogeneity { statistic: 0.0, freedom, p_value: 1.0 };
    }
    let cell = |(r, c): &(f64, f64)| (r / n - c / m).powi(2) / (r + c);
    let statistic = n * m * pairs.iter().map(cell).sum::<f64>();
    Homogeneity { statistic, freedom, p_value: chi_squared(freedom).sf(statistic) }
}

/// The noncentrality of a chi-square statistic that exceeds its `level` critical value with probability
/// `1 - miss_chance`: what a shift must amount to for the test to find it.
///
/// With bins that are not rare, a population index `psi` gives a noncentrality of `psi / (1/n + 1/m)`.
/// The relative error is below 1e-3. `freedom` is at least 1, both chances are strictly between 0 and 1.
pub fn noncentrality(freedom: usize, level: f64, miss_chance: f64) -> f64 {
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

/// The value that the statistic exceeds with probability `level` if nothing moved, by bisection on the
/// upper tail, where the distribution function itself has run out of digits.
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
/// Poisson's middle outwards to ten standard deviations, beyond which they do not count.
fn noncentral_survival(x: f64, freedom: usize, lambda: f64) -> f64 {
    let mean = lambda / 2.0;
    let reach = 10.0 * mean.sqrt() + 10.0;
    let first = (mean - reach).max(0.0).floor();
    let mut ln_weight = first * mean.ln() - mean - statrs::function::gamma::ln_gamma(first + 1.0);
    let (mut sum, mut j) = (0.0, first);
    while j <= mean + reach {
        sum += ln_weight.exp() * chi_squared_f64(freedom as f64 + 2.0 * j).sf(x);
        j += 1.0;
        ln_weight += mean.ln() - j.ln();
    }
    sum
}

fn chi_squared(freedom: usize) -> ChiSquared {
    chi_squared_f64(freedom as f64)
}

fn chi_squared_f64(freedom: f64) -> ChiSquared {
    ChiSquared::new(freedom).expect("degrees of freedom are positive")
}
