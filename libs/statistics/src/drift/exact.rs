use crate::two_sample::proportions::{Part, fisher_exact};

/// p-value of the difference in the frequency of a rare event between two samples: Fisher's exact test (1934), two-sided as twice the
/// smaller tail. It is valid for any counts.
///
/// `reference` and `window` are the rows with the event, `reference_rows` and `window_rows` all rows. 1 if a side has no rows, or fewer
/// rows than events. The time grows with the square root of the rows.
pub fn rare_event(reference: u64, reference_rows: u64, window: u64, window_rows: u64) -> f64 {
    let test = fisher_exact(Part { hits: reference, rows: reference_rows }, Part { hits: window, rows: window_rows });
    test.map_or(1.0, |test| test.doubled_tail)
}
