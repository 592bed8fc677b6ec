//! Is the difference real?

use super::{
    Sides,
    bins::Bin,
    exact::rare_event,
    psi::{expected_psi, psi},
};
use crate::two_sample::contingency::{Correction, Statistic, homogeneity};

/// The fewest rows that a bin must lead one to expect in the smaller sample for the chi-square approximation to take
/// it. A budget shared by many columns and windows is spent in the far tail, at levels of 1e-4 and less. There Pearson's statistic is
/// up to 1.8 times as likely as the approximation has it with eight rows to a bin (and up to 2.8 times with the customary five);
/// that of Cressie and Read is never more likely, which is why the verdict takes it (simulated, 3 to 100 equal bins, to 1e-5).
pub const MIN_EXPECTED: f64 = 8.0;

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

/// Bins of two samples, apart by whether the chi-square approximation holds for them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pooled {
    /// Reference and window rows of the bins that are large enough, and of the others in groups that are.
    common: Vec<(u64, u64)>,
    /// What was left over. Its test has to be exact.
    rare: (u64, u64),
}

/// Tests whether the bins' shares are equal: the common ones by the power divergence of Cressie and Read (1984), what is too rare for that
/// by Fisher's exact test, and with them what `other` test there is of the same rows. The smallest p-value counts,
/// multiplied by [`TESTS`] (Bonferroni).
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
        let (reference, current): (Vec<u64>, Vec<u64>) = self.common.iter().copied().unzip();
        let test = homogeneity(&reference, &current, Statistic::CressieRead, Correction::None);
        test.ok().filter(|test| test.freedom > 0).map(|test| test.p_value)
    }

    fn exact(&self, rows: Sides<u64>) -> Option<f64> {
        let (reference, current) = self.rare;
        (reference + current > 0).then(|| rare_event(reference, rows.reference, current, rows.current))
    }

    /// Reference and window rows of all bins, the rare one last if it has rows.
    fn all(&self) -> (Vec<u64>, Vec<u64>) {
        self.common.iter().copied().chain(Some(self.rare).filter(|rare| *rare != (0, 0))).unzip()
    }
}

/// Puts bins with too few rows together, in their order, until each group has enough. Categories come in the order of their rows in both
/// samples together: given these sums, how a category's rows fall to the two samples is chance alone, so grouping by them favours
/// neither. Bins cut by the reference are judged by its rows, as their sums would give the window's away.
fn pool(bins: &[Bin], rows: Sides<u64>) -> Pooled {
    let (n, m) = (rows.reference as f64, rows.current as f64);
    let expected = |bin: &Bin| match bin.is_cut_by_reference() {
        true => bin.reference as f64 * (m / n).min(1.0),
        false => (bin.reference + bin.current) as f64 * n.min(m) / (n + m),
    };
    let (mut common, mut rare, mut rare_expected) = (Vec::new(), (0, 0), 0.0);
    for bin in bins {
        let expected = expected(bin);
        if expected >= MIN_EXPECTED {
            common.push((bin.reference, bin.current));
            continue;
        }
        rare = (rare.0 + bin.reference, rare.1 + bin.current);
        rare_expected += expected;
        if rare_expected >= MIN_EXPECTED {
            common.push(std::mem::take(&mut rare));
            rare_expected = 0.0;
        }
    }
    Pooled { common, rare }
}
