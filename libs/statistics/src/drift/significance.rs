//! Is the difference real?

use super::{
    Sides,
    bins::Bin,
    exact::rare_event,
    psi::{expected_psi, psi},
};
use crate::two_sample::contingency::{Correction, Statistic, homogeneity};

/// The fewest rows that a bin must lead one to expect in the smaller sample for the chi-square approximation to take it.
///
/// A budget shared by many columns and windows is spent in the far tail, at levels of 1e-4 and less, where no one statistic keeps to
/// the approximation with eight rows to a bin. That of Cressie and Read is up to 23 times as likely as it should be where a few bins
/// are rare beside a large one (to 5e-8), and up to 14 times where the bins are the reference's quantiles and the window is larger
/// (to 3e-5); the likelihood ratio is up to 2 times as likely among equal bins. They fail in different samples: that both reject
/// has at most the nominal chance in all of these cases but quantiles of less than twenty reference rows, where it has 1.4 times that. (Simulated,
/// and for one to three rare bins summed over all counts.)
pub const MIN_EXPECTED: f64 = 8.0;

/// The fewest rows of the reference that an interval cut by it may have: of one with fewer, the part of the window's distribution is too
/// uncertain for any chi-square approximation, however large the window.
pub(super) const MIN_REFERENCE: f64 = 20.0;

/// Tests that share a column's level. All three always do, since which of them apply depends on the rows.
pub(super) const TESTS: f64 = 3.0;

/// What the bins tell.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    /// Chance of a difference at least this large if nothing had moved, over all tests made.
    pub(super) p_value: f64,
    /// The population stability index over the pooled bins.
    pub(super) psi: f64,
    /// What it would be on average if nothing had moved.
    pub(super) psi_by_chance: f64,
    /// Pooled bins.
    pub(super) bins: usize,
}

/// Bins of two samples, apart by the test that holds for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pooled {
    /// Reference and window rows of the bins that are large enough for the chi-square approximation, and of the others in groups that
    /// are.
    common: Vec<(u64, u64)>,
    /// Those that are not, each to be tested exactly: what was left over, and every bin that holds no ordinary value.
    rare: Vec<(u64, u64)>,
    /// What lies below and above all of the reference, to be tested exactly as well: with `n` and `m` rows, `k` of the window lie above
    /// all of the reference with a chance of `C(m, k) / C(n + m, k)`, which is one tail of Fisher's test. The two ends take its two.
    beyond: Vec<(u64, u64)>,
    /// Whether anything could lie there.
    has_ends: bool,
    /// Whether the first common bin begins at the reference's smallest value. An interval that ends at the reference's k-th value after
    /// the one before it spans k of the gaps between them, by which the window's rows fall; the first has one gap less than values.
    begins_at_minimum: bool,
}

/// Tests whether the bins' shares are equal: the common ones by both the power divergence of Cressie and Read (1984) and the likelihood
/// ratio, of which the larger p-value counts, what is too rare for that by Fisher's exact test, and with them what `other` test there is of the same rows. The smallest p-value counts,
/// multiplied by [`TESTS`] (Bonferroni), and the exact ones by their number before. That is decided by what was not chance: the rows
/// of both samples together. Values below and above all of the reference count as one test, there or not: its limits are chance.
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

/// Puts ordinary bins with too few rows together with those that follow until each group has enough. Categories come in the order of
/// their rows in both samples together: given these sums, how a category's rows fall to the two samples is chance alone, so
/// grouping by them favours neither; what is left of them is rare. Intervals are cut by the reference and judged by its rows, as
/// their sums would give the window's away; what is left of them joins its neighbours.
///
/// Bins that hold no ordinary value are never put together with others: what is missing must not make up for what is out of range.
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

/// Where not even all ordinary bins together have enough rows: the first, which has most of a categorical column's, and the others.
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
    fn a_window_that_falls_by_the_gaps_between_the_values_is_no_surprise() {
        let span = |low: u32, reference| {
            Bin::new(BinKind::Interval { low: f64::from(low), high: f64::from(low) + 0.9 }, reference, 20_000)
        };
        // The first interval begins at the smallest value, so that 21 values have 20 gaps between them.
        let found = pooled(&[span(0, 21), span(1, 20), span(2, 20)]).chi_square().expect("three bins");
        assert!((found - 1.0).abs() < 1e-9, "{found}");
    }

    #[test]
    fn what_holds_no_ordinary_value_stands_alone() {
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
    fn rare_categories_are_left_to_the_exact_test() {
        let category = |rows: (u64, u64)| Bin::new(BinKind::Category { name: String::new() }, rows.0, rows.1);
        let found = pooled(&[(60, 55), (10, 10), (5, 5), (3, 4), (1, 0)].map(category));
        assert_eq!((found.common, found.rare), (vec![(60, 55), (10, 10), (8, 9)], vec![(1, 0)]));
        let few = pooled(&[(9000, 3), (900, 2), (100, 2)].map(category));
        assert_eq!((few.common, few.rare), (vec![], vec![(9000, 3), (1000, 4)]));
    }
}
