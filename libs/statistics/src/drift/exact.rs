use crate::two_sample::proportions::{Part, fisher_exact};

/// Chance that two samples of one distribution differ at least this much in how often something rare occurs in them:
/// Fisher's exact test (1934), two-sided as twice the smaller tail. It holds for any counts.
///
/// `reference` and `window` are the rows that have it, `reference_rows` and `window_rows` all rows. Where a side has no rows, or
/// fewer than have it, nothing can be told: 1. The time grows with the square root of the rows.
pub fn rare_event(reference: u64, reference_rows: u64, window: u64, window_rows: u64) -> f64 {
    let test = fisher_exact(Part { hits: reference, rows: reference_rows }, Part { hits: window, rows: window_rows });
    test.map_or(1.0, |test| test.doubled_tail)
}
