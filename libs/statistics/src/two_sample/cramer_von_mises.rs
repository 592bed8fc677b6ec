use std::{cmp::Ordering, f64::consts::PI};

use super::{
    Method, Sample,
    kolmogorov_smirnov::greatest_common_divisor,
    sample::{check_samples, merged},
};
use crate::{Error, error::check_size};

/// The largest sample whose p-value is counted exactly, in at most about a tenth of a second.
pub const MAX_EXACT_ROWS: u64 = 20;

/// Beyond, the statistic's numerator might not fit its integer.
const MAX_INTEGER_ROWS: u64 = 1 << 30;

const WHAT: &str = "Cramer-von Mises test";

/// The two-sample test of Cramer and von Mises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CramerVonMises {
    /// Anderson's T, the squared distance of the two distribution functions, averaged over the pooled rows and times
    /// `n m / (n + m)`; no unit.
    pub statistic: f64,
    /// Chance of a statistic at least this large if both samples have one continuous distribution.
    pub p_value: f64,
}

/// The test of Anderson (1962), "On the distribution of the two-sample Cramer-von Mises criterion", Ann. Math. Stat. 33;
/// as `scipy.stats.cramervonmises_2samp`. It weighs the whole distance between two distribution functions,
/// where the test of Kolmogorov and Smirnov sees the largest one alone.
///
/// Ties take midranks; the p-value is then, as a rule, too large. Infinities sort like numbers. [`Method::Auto`] is exact
/// up to [`MAX_EXACT_ROWS`] on either side. There the asymptotic p-value is within 0.01 of the exact one, and 0.002
/// below 0.1; against a sample of two rows it can be off by 0.08.
///
/// # Errors
/// Fewer than two rows in a sample; more than 2^30; more than [`MAX_EXACT_ROWS`] with [`Method::Exact`].
pub fn cramer_von_mises(reference: &Sample, window: &Sample, method: Method) -> Result<CramerVonMises, Error> {
    check_samples(WHAT, 2, reference, window)?;
    let (n, m) = (reference.rows(), window.rows());
    check_size(WHAT, MAX_INTEGER_ROWS, n.max(m))?;
    let exact = match method {
        Method::Auto => n.max(m) <= MAX_EXACT_ROWS,
        Method::Exact => check_size(WHAT, MAX_EXACT_ROWS, n.max(m)).map(|()| true)?,
        Method::Asymptotic => false,
    };
    let numerator = numerator(reference, window);
    let pairs = n as f64 * m as f64;
    let statistic = numerator as f64 / (12.0 * pairs * (n + m) as f64);
    let p_value =
        if exact { p_value_exact(numerator, n, m) } else { p_value_asymptotic(statistic, n as f64, m as f64) };
    Ok(CramerVonMises { statistic, p_value: p_value.clamp(0.0, 1.0) })
}

/// `12 n m (n + m) T`, a whole number: Anderson's formula 9 with his U of formula 10. In floats its two large
/// parts would cancel to nothing beyond some millions of rows.
fn numerator(reference: &Sample, window: &Sample) -> i128 {
    let (n, m) = (i128::from(reference.rows()), i128::from(window.rows()));
    let mut twelve_u = 0;
    for step in merged(reference, window) {
        let [left, right] = step.counts.map(i128::from);
        let below = [i128::from(step.through[0]) - left, i128::from(step.through[1]) - right];
        twelve_u += n * squared_rank_shifts(left, below[1], right) + m * squared_rank_shifts(right, below[0], left);
    }
    twelve_u - 2 * n * m * (4 * n * m - 1)
}

/// Twelve times the sum of `(rank in the pooled rows - rank in its own sample)^2` over the `count` rows of one value, of which
/// the other sample has `tied`, and `below` rows that are smaller. The pooled rank is the mean one of all equal rows.
fn squared_rank_shifts(count: i128, below: i128, tied: i128) -> i128 {
    count * (3 * (2 * below + tied).pow(2) + count * count - 1)
}

/// By counting all orders of the pooled rows: Xiao, Gordon and Yakovlev (2006), "A C++ program for the Cramer-von Mises
/// two-sample test", J. Stat. Software 17(8), whose zeta is the integer that all orders give the statistic by.
fn p_value_exact(numerator: i128, n: u64, m: u64) -> f64 {
    let common = greatest_common_divisor(n, m);
    let (across, up) = (m / common, n / common);
    let (lcm, pairs) = (i128::from(n / common * m), i128::from(n * m));
    // Ties may put the statistic between two of the integers; the lower one is conservative.
    let zeta = (lcm * lcm * i128::from(n + m) * numerator).div_euclid(12 * pairs * pairs);
    let orders = zeta_of_all_orders(n, m, across, up);
    let all: f64 = orders.iter().map(|(_, count)| count).sum();
    let reached = orders.iter().filter(|(value, _)| i128::from(*value) >= zeta);
    reached.map(|(_, count)| count).sum::<f64>() / all
}

/// How many paths from (0, 0) to (n, m) have which sum of `(across i - up j)^2` over their points (i, j), ascending.
fn zeta_of_all_orders(n: u64, m: u64, across: u64, up: u64) -> Vec<(u64, f64)> {
    let mut column: Vec<Vec<(u64, f64)>> = vec![Vec::new(); m as usize + 1];
    column[0].push((0, 1.0));
    for i in 0..=n {
        let mut below: Vec<(u64, f64)> = Vec::new();
        for (j, paths) in (0..).zip(&mut column) {
            below = add(&below, paths);
            below.iter_mut().for_each(|(value, _)| *value += (across * i).abs_diff(up * j).pow(2));
            paths.clone_from(&below);
        }
    }
    column.pop().unwrap_or_default()
}

/// The sum of two tables of counts, both ascending.
fn add(left: &[(u64, f64)], right: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let (mut left, mut right) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    let mut sum = Vec::with_capacity(left.len() + right.len());
    while let (Some(l), Some(r)) = (left.peek().copied(), right.peek().copied()) {
        let (value, count) = match l.0.cmp(&r.0) {
            Ordering::Less => (l.0, l.1),
            Ordering::Equal => (l.0, l.1 + r.1),
            Ordering::Greater => (r.0, r.1),
        };
        left.next_if(|l| l.0 == value);
        right.next_if(|r| r.0 == value);
        sum.push((value, count));
    }
    sum.extend(left.chain(right));
    sum
}

/// The limiting law at the statistic, moved and stretched to the mean and variance that T has at these sizes: Anderson's
/// formulas 11, 14 and 15.
fn p_value_asymptotic(statistic: f64, n: f64, m: f64) -> f64 {
    let (total, pairs) = (n + m, n * m);
    let mean = (1.0 + 1.0 / total) / 6.0;
    let spread = 4.0 * pairs * total - 3.0 * (n * n + m * m) - 2.0 * pairs;
    let variance = (total + 1.0) / (45.0 * total * total) * (spread / (4.0 * pairs));
    limit_survival(1.0 / 6.0 + (statistic - mean) / (45.0 * variance).sqrt())
}

/// Chance that the limiting variable, `sum of Z_k^2 / (k pi)^2` over all k >= 1 with standard normal Z_k, is above `x`: the
/// alternating series of Smirnov (1936), "Sur la distribution de omega^2", whose j-th term is
///
/// `2/pi * integral over t from (2j - 1) pi to 2j pi of exp(-x t^2 / 2) / sqrt(t |sin t|)`.
///
/// Unlike 1 less the better known series in Bessel functions, it keeps its relative precision in the upper tail.
fn limit_survival(x: f64) -> f64 {
    // Below, the chance differs from 1 by less than 2e-18.
    if x < 0.003 {
        return 1.0;
    }
    let terms = (1..).map(|j| f64::from(2 * j - 1) * PI).take_while(|from| x * from * from < 1500.0);
    let signed = terms.zip([1.0, -1.0].into_iter().cycle()).map(|(from, sign)| sign * half_wave(x, from));
    2.0 / PI * signed.fold(0.0, |sum, term| sum + term)
}

/// The integral over [from, from + pi], at whose ends the sine vanishes: quadrature of Gauss and Chebyshev, which takes
/// these two inverse square roots as its weight.
fn half_wave(x: f64, from: f64) -> f64 {
    const NODES: u32 = 64;
    let at = |k: u32| {
        // Distance from the nearer end, so that it keeps its precision there.
        let angle = PI * (f64::from(k) + 0.5) / f64::from(NODES);
        let (left, right) = (PI * (angle / 2.0).sin().powi(2), PI * (angle / 2.0).cos().powi(2));
        let t = from + left;
        (-x * t * t / 2.0).exp() * (left * right / (t * left.min(right).sin())).sqrt()
    };
    PI / f64::from(NODES) * (0..NODES).map(at).sum::<f64>()
}
