use super::{
    ColumnDrift, Sides,
    bins::{Bin, BinKind},
    power::detectable_effect,
    significance::{MIN_EXPECTED, MIN_REFERENCE, TESTS},
};
use crate::profile::ColumnKind;

/// Rows that are needed to detect a shift of the size of the margin, with two significant digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsNeeded {
    /// Rows of the window, with the present reference.
    InWindow(u64),
    /// Rows of both sides: with the present reference, no window is large enough.
    InBoth(u64),
}

/// The largest number of rows that is useful advice.
const MAX_ROWS: u64 = 1_000_000_000_000;

/// Bins of a numeric column, with a small allowance for frequent values.
const NUMERIC_BINS: usize = 11;

/// The rows that a column needs for a verdict of stable or drifted: the condition of the verdict, solved for the rows. The number of bins
/// grows with the rows and is estimated from the column, conservatively. `None` if no number of rows is enough.
pub fn rows_needed(column: &ColumnDrift, rows: Sides<u64>, level: f64, margin: f64) -> Option<RowsNeeded> {
    let enough = |rows| detectable_effect(bins(column, rows), level / TESTS, rows).is_some_and(|least| least <= margin);
    let window = |current| Sides { reference: rows.reference, current };
    if rows.reference > 0 && enough(window(MAX_ROWS)) {
        return least(|current| enough(window(current))).map(RowsNeeded::InWindow);
    }
    least(|both| enough(Sides { reference: both, current: both })).map(RowsNeeded::InBoth)
}

/// The estimated number of bins for `rows` rows.
fn bins(column: &ColumnDrift, rows: Sides<u64>) -> usize {
    let smaller = rows.reference.min(rows.current) as f64;
    let is_interval = |bin: &&Bin| matches!(bin.kind, BinKind::Interval { .. });
    let intervals = column.bins.iter().filter(is_interval).count();
    if column.kind == ColumnKind::Numeric {
        let room = (smaller / MIN_EXPECTED).min(rows.reference as f64 / MIN_REFERENCE) as usize;
        return intervals.max(NUMERIC_BINS).min(room) + column.bins.len() - intervals + 1;
    }
    let (reference, current) = column.bins.iter().fold((0, 0), |sum, bin| (sum.0 + bin.reference, sum.1 + bin.current));
    let all = (reference + current).max(1) as f64;
    let expected = |bin: &Bin| (bin.reference + bin.current) as f64 / all * smaller;
    let (common, rare): (Vec<f64>, Vec<f64>) = column.bins.iter().map(expected).partition(|&e| e >= MIN_EXPECTED);
    common.len() + (rare.iter().sum::<f64>() / MIN_EXPECTED) as usize + 1
}

/// The smallest sufficient number of rows, rounded up, by doubling and bisection.
fn least(enough: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (0, 1);
    while !enough(high) {
        (low, high) = (high, high * 2);
        if high > MAX_ROWS {
            return None;
        }
    }
    while high - low > high / 100 + 1 {
        let middle = low.midpoint(high);
        if enough(middle) { high = middle } else { low = middle }
    }
    let unit = 10_u64.pow(high.ilog10().saturating_sub(1));
    Some(high.div_ceil(unit) * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        drift::{Settings, Verdict, compare_column},
        profile::ColumnProfile,
    };

    fn numbers(rows: u64) -> ColumnProfile {
        ColumnProfile::of_numbers((0..rows).map(|row| Some((row * 7919 % rows) as f64 / rows as f64)))
    }

    fn names(rows: u64) -> ColumnProfile {
        let names: Vec<String> = (0..rows).map(|row| format!("value {}", (row * row) % 31)).collect();
        ColumnProfile::of_texts(names.iter().map(|name| Some(name.as_str())))
    }

    fn check(of: impl Fn(u64) -> ColumnProfile, reference: u64) {
        let Settings { margin, .. } = Settings::default();
        let level = Settings::default().level(20);
        let verdict = |n, m| compare_column("x", &of(n), &of(m), level, margin);
        let few = verdict(reference, 50);
        assert_eq!(few.verdict, Verdict::Inconclusive);
        let needed = rows_needed(&few, Sides { reference, current: 50 }, level, margin).expect("some number will do");
        let (n, m, fewer) = match needed {
            RowsNeeded::InWindow(m) => (reference, m, (reference, m / 2)),
            RowsNeeded::InBoth(n) => (n, n, (n / 2, n / 2)),
        };
        assert_eq!(verdict(n, m).verdict, Verdict::Stable, "{needed:?}");
        assert_eq!(verdict(fewer.0, fewer.1).verdict, Verdict::Inconclusive, "{needed:?}");
    }

    #[test]
    fn the_rows_needed_are_enough_and_half_of_them_are_not() {
        check(numbers, 10_000);
        check(names, 10_000);
    }

    #[test]
    fn a_small_reference_needs_more_rows_on_both_sides() {
        check(numbers, 300);
        check(names, 300);
    }
}
