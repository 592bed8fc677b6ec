//! Checks of the numbers of a report.

use rekindle_statistics::drift::ColumnDrift;

/// Every number of a column is finite and in its range.
pub(crate) fn has_numbers_only(column: &ColumnDrift) {
    let tests = [column.ks, column.chi_square].into_iter().flatten();
    let (statistics, p_values): (Vec<f64>, Vec<f64>) = tests.map(|test| (test.statistic, test.p_value)).unzip();
    let optional = [column.minimum_detectable_effect, column.wasserstein].into_iter().flatten();
    let mut sizes = [column.effect, column.psi].into_iter().chain(optional).chain(statistics);
    assert!(sizes.all(|size| size.is_finite() && size >= 0.0), "{column:?}");
    let shares = [column.out_of_range_share, column.unseen_share].into_iter().flatten();
    let pairs = [column.missing, column.non_finite].into_iter().flat_map(|pair| [pair.reference, pair.current]);
    let own = [column.p_value, column.jensen_shannon, column.cause_share];
    let mut shares = shares.chain(pairs).chain(p_values).chain(own);
    assert!(shares.all(|share| (0.0..=1.0).contains(&share)), "{column:?}");
    assert!(!column.reason.is_empty(), "{column:?}");
}
