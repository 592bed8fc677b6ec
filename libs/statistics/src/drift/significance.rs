//! The significance of a difference.

use super::{
    Sides,
    bins::Bin,
    exact::rare_event,
    psi::{expected_psi, psi},
};
use crate::two_sample::contingency::{Correction, Statistic, homogeneity};

/// The smallest expected number of rows of a bin in the smaller sample for the chi-square approximation.
///
/// A budget shared by many columns and windows leads to levels of 1e-4 and less, where no single statistic follows the approximation with
/// eight rows per bin. The statistic of Cressie and Read rejects up to 23 times too often if a few bins are rare beside a large one (to
/// 5e-8), and up to 14 times if the bins are quantiles of the reference and the window is larger (to 3e-5); the likelihood ratio rejects
/// up to 2 times too often with equal bins. They fail in different samples: the probability that both reject is at most nominal in all of
/// these cases, except for quantiles of less than twenty reference rows, where it is 1.4 times that. (Simulated, and for one to three
/// rare bins summed over all counts.)
pub const MIN_EXPECTED: f64 = 8.0;

/// The smallest number of reference rows of an interval: with fewer, its probability is too uncertain for any chi-square approximation,
/// for any size of the window.
pub(super) const MIN_REFERENCE: f64 = 20.0;

/// Tests that share the level of a column. The number is constant, since the applicable tests depend on the rows.
pub(super) const TESTS: f64 = 3.0;

/// The evidence from the bins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    /// Probability of a difference at least this large without drift, over all tests.
    pub(super) p_value: f64,
    /// The population stability index over the pooled bins.
    pub(super) psi: f64,
    /// Its expected value without drift.
    pub(super) psi_by_chance: f64,
    /// The number of pooled bins.
    pub(super) bins: usize,
}

/// Bins of two samples by the test that is valid for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pooled {
    /// Reference and window rows of the bins, and groups of bins, that are large enough for the chi-square approximation.
    common: Vec<(u64, u64)>,
    /// The others, each with an exact test: the remainder, and every bin without ordinary values.
    rare: Vec<(u64, u64)>,
    /// Values below and above the range of the reference, also with an exact test: with `n` and `m` rows, `k` rows of the window are above
    /// all of the reference with probability `C(m, k) / C(n + m, k)`, which is one tail of Fisher's test. The two ends use its two tails.
    beyond: Vec<(u64, u64)>,
    /// Whether values can be there.
    has_ends: bool,
    /// Whether the first common bin begins at the smallest value of the reference. The rows of the window fall into the gaps between values
    /// of the reference. An interval of k values spans k gaps, but the first one only k - 1.
    begins_at_minimum: bool,
}

/// Tests whether the shares of the bins are equal: common bins by both the power divergence of Cressie and Read (1984) and the likelihood
/// ratio, of which the larger p-value counts; rare ones by Fisher's exact test; and the `other` test of the same rows, if any. The result
/// is the smallest p-value times [`TESTS`] (Bonferroni), after the exact ones are multiplied by their number. That number depends on the
/// rows of both samples together, which are not random. Values outside of the range of the reference count as one test, present or not,
/// since the limits of the range are random.
pub(super) fn evidence(bins: &[Bin], rows: Sides<u64>, other: Option<f64>) -> Evidence {
    let pooled = pool(bins, rows);
    let p_values: Vec<f64> = [pooled.chi_square(), pooled.exact(rows), other].into_iter().flatten().collect();
    let smallest = p_values.iter().copied().fold(1.0, f64::min);
    let (reference, current) = pooled.all();
    Evidence {
        p_value: (smallest * TESTS).min(1.0),
        psi: psi(&reference, &current),
        psi_by_chance: expected_psi(reference.len(), rows),
        bins: reference.len(),
    }
}

impl Pooled {
    fn chi_square(&self) -> Option<f64> {
        let (mut reference, current): (Vec<u64>, Vec<u64>) = self.common.iter().copied().unzip();
        if self.begins_at_minimum {
            reference.first_mut().into_iter().for_each(|rows| *rows -= 1);
        }
        let p_value = |statistic| {
            let test = homogeneity(&reference, &current, statistic, Correction::None);
            test.ok().filter(|test| test.freedom > 0).map(|test| test.p_value)
        };
        Some(p_value(Statistic::CressieRead)?.max(p_value(Statistic::LikelihoodRatio)?))
    }

    fn exact(&self, rows: Sides<u64>) -> Option<f64> {
        let p_value = |&(reference, current): &(u64, u64)| rare_event(reference, rows.reference, current, rows.current);
        let smallest = self.rare.iter().chain(&self.beyond).map(p_value).reduce(f64::min)?;
        Some((smallest * (self.rare.len() + usize::from(self.has_ends)) as f64).min(1.0))
    }

    /// Reference and window rows of all bins.
    fn all(&self) -> (Vec<u64>, Vec<u64>) {
        self.common.iter().chain(&self.rare).chain(&self.beyond).copied().unzip()
    }
}

/// Pools ordinary bins with too few rows with the following ones until each group has enough. Categories are in the order of their rows in
/// both samples together: given these sums, the distribution of the rows over the samples is random, so that the grouping is unbiased;
/// the remainder is rare. Intervals depend on the reference and are grouped by its rows, since their sums depend on the window; the
/// remainder joins the neighbouring group.
///
/// Bins without ordinary values are never pooled: missing values must not compensate for values out of range.
fn pool(bins: &[Bin], rows: Sides<u64>) -> Pooled {
    let (n, m) = (rows.reference as f64, rows.current as f64);
    let expected = |bin: &Bin| match bin.is_cut_by_reference() {
        true => bin.reference as f64 * (m / n).min(MIN_EXPECTED / MIN_REFERENCE),
        false => (bin.reference + bin.current) as f64 * n.min(m) / (n + m),
    };
    let has_ends = bins.iter().any(Bin::is_cut_by_reference);
    let mut pooled = Pooled { has_ends, ..Pooled::default() };
    let (mut specials, mut open, mut open_expected) = (Vec::new(), (0, 0), 0.0);
    for bin in bins {
        let own = (bin.reference, bin.current);
        if !bin.is_ordinary() {
            let apart = match bin.is_beyond() {
                true => &mut pooled.beyond,
                false if expected(bin) >= MIN_EXPECTED => &mut specials,
                false => &mut pooled.rare,
            };
            apart.push(own);
            continue;
        }
        open = sum(open, own);
        open_expected += expected(bin);
        if open_expected >= MIN_EXPECTED {
            pooled.common.push(std::mem::take(&mut open));
            open_expected = 0.0;
        }
    }
    match pooled.common.last_mut() {
        Some(neighbour) if has_ends => *neighbour = sum(*neighbour, open),
        Some(_) => pooled.rare.extend(Some(open).filter(|left| *left != (0, 0))),
        None => pooled.rare.extend(in_two(bins)),
    }
    pooled.begins_at_minimum =
        pooled.common.first().is_some_and(|first| first.0 > 1) && bins.first().is_some_and(Bin::is_span);
    pooled.common.extend(specials);
    pooled
}

/// If all ordinary bins together have too few rows: the first, which has the most rows of a categorical column, and the others.
fn in_two(bins: &[Bin]) -> impl Iterator<Item = (u64, u64)> {
    let mut ordinary = bins.iter().filter(|bin| bin.is_ordinary()).map(|bin| (bin.reference, bin.current));
    let first = ordinary.next();
    let others = ordinary.reduce(sum);
    first.into_iter().chain(others)
}

fn sum(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0 + other.0, one.1 + other.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::bins::BinKind;

    fn interval(at: u32, reference: u64, current: u64) -> Bin {
        let at = f64::from(at);
        Bin::new(BinKind::Interval { low: at, high: at }, reference, current)
    }

    fn pooled(bins: &[Bin]) -> Pooled {
        let rows = bins.iter().fold((0, 0), |all, bin| sum(all, (bin.reference, bin.current)));
        pool(bins, Sides { reference: rows.0, current: rows.1 })
    }

    #[test]
    fn intervals_with_too_few_rows_join_their_neighbours() {
        let found = pooled(&[interval(1, 50, 40), interval(2, 2, 3), interval(3, 40, 48), interval(4, 8, 9)]);
        assert_eq!((found.common, found.rare), (vec![(50, 40), (50, 60)], vec![]));
    }

    #[test]
    fn a_window_distributed_over_the_gaps_between_values_is_not_significant() {
        let span = |low: u32, reference| {
            Bin::new(BinKind::Interval { low: f64::from(low), high: f64::from(low) + 0.9 }, reference, 20_000)
        };
        // The first interval begins at the smallest value, so that 21 values have 20 gaps between them.
        let found = pooled(&[span(0, 21), span(1, 20), span(2, 20)]).chi_square().expect("three bins");
        assert!((found - 1.0).abs() < 1e-9, "{found}");
    }

    #[test]
    fn bins_without_ordinary_values_are_not_pooled() {
        let bins = [
            interval(1, 990, 180),
            interval(2, 6, 4),
            Bin::new(BinKind::Above { than: 2.0 }, 0, 9),
            Bin::new(BinKind::Missing, 0, 5),
            Bin::new(BinKind::NonFinite, 4, 2),
        ];
        let found = pooled(&bins);
        assert_eq!((found.common, found.rare, found.beyond), (vec![(996, 184)], vec![(0, 5), (4, 2)], vec![(0, 9)]));
    }

    #[test]
    fn rare_categories_have_the_exact_test() {
        let category = |rows: (u64, u64)| Bin::new(BinKind::Category { name: String::new() }, rows.0, rows.1);
        let found = pooled(&[(60, 55), (10, 10), (5, 5), (3, 4), (1, 0)].map(category));
        assert_eq!((found.common, found.rare), (vec![(60, 55), (10, 10), (8, 9)], vec![(1, 0)]));
        let few = pooled(&[(9000, 3), (900, 2), (100, 2)].map(category));
        assert_eq!((few.common, few.rare), (vec![], vec![(9000, 3), (1000, 4)]));
    }
}
