use std::{cmp::Ordering, f64::consts::PI};

use super::{
    Method, Sample,
    kolmogorov_smirnov::greatest_common_divisor,
    sample::{check_samples, merged},
};
use crate::{Error, error::check_size};

/// The largest sample with an exact p-value, which takes at most about a tenth of a second.
pub const MAX_EXACT_ROWS: u64 = 20;

const WHAT: &str = "Cramer-von Mises test";

/// The two-sample test of Cramer and von Mises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CramerVonMises {
    /// Anderson's T, the squared distance of the two distribution functions, averaged over the pooled rows and times
    /// `n m / (n + m)`; without unit. 0 only for samples of equal shares.
    pub statistic: f64,
    /// Probability of a statistic at least this large if both samples are from one continuous distribution.
    pub p_value: f64,
}

/// The test of Anderson (1962), "On the distribution of the two-sample Cramer-von Mises criterion", Ann. Math. Stat. 33;
/// without ties as `scipy.stats.cramervonmises_2samp`. It depends on the distance of the distribution functions
/// everywhere, while the Kolmogorov-Smirnov test depends on the largest distance only.
///
/// Over tied rows the difference of the distribution functions changes in equal steps between its values before and at the tied value,
/// which is its mean over all orders of these rows. The statistic is therefore at most its mean over these orders, and the p-value is
/// conservative. (The midranks of scipy do not have that property: at unequal sizes, equal constants have a highly significant
/// difference.) Infinities sort like numbers.
///
/// [`Method::Auto`] is exact up to [`MAX_EXACT_ROWS`] on either side. There the error of the asymptotic p-value is up to
/// 0.006 for 20 and 20 rows, and 0.0030 if the exact one is below 0.1; 0.014 and 0.0040 for 20 and 10;
/// and 0.077 and 0.030 for 20 and 2.
///
/// # Errors
/// Fewer than two rows in a sample; more than [`MAX_EXACT_ROWS`] with [`Method::Exact`].
pub fn cramer_von_mises(reference: &Sample, window: &Sample, method: Method) -> Result<CramerVonMises, Error> {
    check_samples(WHAT, 2, reference, window)?;
    let (n, m) = (reference.rows(), window.rows());
    let exact = match method {
        Method::Auto => n.max(m) <= MAX_EXACT_ROWS,
        Method::Exact => check_size(WHAT, MAX_EXACT_ROWS, n.max(m)).map(|()| true)?,
        Method::Asymptotic => false,
    };
    let squares = squares(reference, window);
    let (pairs, total) = (n as f64 * m as f64, (n + m) as f64);
    let statistic = squares / pairs / (total * total);
    let p_value = if exact { p_value_exact(squares, n, m) } else { p_value_asymptotic(statistic, n as f64, m as f64) };
    Ok(CramerVonMises { statistic, p_value: p_value.clamp(0.0, 1.0) })
}

/// The sum over the pooled rows of the squared difference of the two distribution functions, times `n m` so that the
/// differences are integers: `n m (n + m)^2 T`.
///
/// With `c` rows of one value, over which the difference goes from `a` to `b` in equal steps, the squares sum to
/// `c (a^2 + a b + b^2) / 3 + (b^2 - a^2) / 2 + (b - a)^2 / (6 c)`. Over all values the middle terms cancel, since
/// the difference is 0 at both ends. The remaining terms are not negative, and equal in either direction.
fn squares(reference: &Sample, window: &Sample) -> f64 {
    let (n, m) = (i128::from(reference.rows()), i128::from(window.rows()));
    let mut before = 0;
    merged(reference, window).fold(0.0, |sum, step| {
        let after = i128::from(step.through[0]) * m - i128::from(step.through[1]) * n;
        let (from, to, rows) = (before as f64, after as f64, step.counts.iter().sum::<u64>() as f64);
        let moved = (after - before) as f64;
        before = after;
        sum + rows * (from * from + from * to + to * to) / 3.0 + moved * moved / (6.0 * rows)
    })
}

/// The exact p-value over all orders of the pooled rows: Xiao, Gordon and Yakovlev (2006), "A C++ program for the Cramer-von Mises
/// two-sample test", J. Stat. Software 17(8), whose zeta is an integer that determines the statistic.
fn p_value_exact(squares: f64, n: u64, m: u64) -> f64 {
    let common = greatest_common_divisor(n, m);
    let (across, up) = (m / common, n / common);
    // With ties the statistic may be between two integers, at least 1/240 from either; the lower one is
    // conservative. Without ties it is an integer up to rounding.
    let zeta = (squares / (common * common) as f64 + 1e-6).floor();
    let orders = zeta_of_all_orders(n, m, across, up);
    let count = |least: f64| {
        let reached = orders.iter().filter(|(value, _)| *value as f64 >= least);
        reached.fold(0.0, |sum, (_, count)| sum + count)
    };
    count(zeta) / count(0.0)
}

/// The number of paths from (0, 0) to (n, m) by their sum of `(across i - up j)^2` over their points (i, j), ascending.
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

/// The limiting distribution at the statistic, shifted and scaled to the mean and variance of T at these sizes: Anderson's
/// formulas 11, 14 and 15.
fn p_value_asymptotic(statistic: f64, n: f64, m: f64) -> f64 {
    let (total, pairs) = (n + m, n * m);
    let mean = (1.0 + 1.0 / total) / 6.0;
    let spread = 4.0 * pairs * total - 3.0 * (n * n + m * m) - 2.0 * pairs;
    let variance = (total + 1.0) / (45.0 * total * total) * (spread / (4.0 * pairs));
    limit_survival(1.0 / 6.0 + (statistic - mean) / (45.0 * variance).sqrt())
}

/// Probability that the limiting variable, `sum of Z_k^2 / (k pi)^2` over all k >= 1 with standard normal Z_k, is above `x`: the
/// alternating series of Smirnov (1936), "Sur la distribution de omega^2", whose j-th term is
///
/// `2/pi * integral over t from (2j - 1) pi to 2j pi of exp(-x t^2 / 2) / sqrt(t |sin t|)`.
///
/// Unlike one minus the better known series in Bessel functions, it keeps its relative precision in the upper tail.
fn limit_survival(x: f64) -> f64 {
    // Below, the probability differs from 1 by less than 2e-18.
    if x < 0.003 {
        return 1.0;
    }
    let terms = (1..).map(|j| f64::from(2 * j - 1) * PI).take_while(|from| x * from * from < 1500.0);
    let signed = terms.zip([1.0, -1.0].into_iter().cycle()).map(|(from, sign)| sign * half_wave(x, from));
    2.0 / PI * signed.fold(0.0, |sum, term| sum + term)
}

/// The integral over [from, from + pi], at whose ends the sine vanishes: Gauss-Chebyshev quadrature, whose weight has
/// these two inverse square roots.
fn half_wave(x: f64, from: f64) -> f64 {
    const NODES: u32 = 64;
    let at = |k: u32| {
        // The distance from the nearer end keeps its precision there.
        let angle = PI * (f64::from(k) + 0.5) / f64::from(NODES);
        let (left, right) = (PI * (angle / 2.0).sin().powi(2), PI * (angle / 2.0).cos().powi(2));
        let t = from + left;
        (-x * t * t / 2.0).exp() * (left * right / (t * left.min(right).sin())).sqrt()
    };
    PI / f64::from(NODES) * (0..NODES).map(at).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of the asymptotic p-value, of all and of those below 0.1.
    fn largest_errors(n: u64, m: u64) -> [f64; 2] {
        let common = greatest_common_divisor(n, m);
        let orders = zeta_of_all_orders(n, m, m / common, n / common);
        let all: f64 = orders.iter().map(|(_, count)| count).sum();
        let (mut above, mut errors) = (0.0, [0.0_f64; 2]);
        for (zeta, count) in orders.iter().rev() {
            above += count;
            let scale = (common * common) as f64 / ((n * m * (n + m) * (n + m)) as f64);
            let limit = p_value_asymptotic(*zeta as f64 * scale, n as f64, m as f64).clamp(0.0, 1.0);
            let (exact, error) = (above / all, (above / all - limit).abs());
            errors = [errors[0].max(error), if exact < 0.1 { errors[1].max(error) } else { errors[1] }];
        }
        errors
    }

    #[test]
    fn the_asymptotic_p_value_has_the_documented_error() {
        for (n, m, all, small) in [(20, 20, 0.006, 0.0030), (20, 10, 0.014, 0.0040), (20, 2, 0.077, 0.030)] {
            let got = largest_errors(n, m);
            println!("{n} against {m}: {got:?}");
            assert!(got[0] <= all && got[1] <= small, "{n} against {m}: {got:?}");
        }
    }
}
