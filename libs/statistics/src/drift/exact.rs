use statrs::distribution::{DiscreteCDF as _, Hypergeometric};

/// Chance that two samples of one distribution differ at least this much in how often something rare occurs in them:
/// Fisher's exact test (1934), two-sided as twice the smaller tail. It holds for any counts.
///
/// `reference` and `window` are the rows that have it, `reference_rows` and `window_rows` all rows.
pub fn rare_event(reference: u64, reference_rows: u64, window: u64, window_rows: u64) -> f64 {
    let (rows, events) = (reference_rows + window_rows, reference + window);
    let Ok(of_window) = Hypergeometric::new(rows, events, window_rows) else { return 1.0 };
    let at_least = window.checked_sub(1).map_or(1.0, |below| of_window.sf(below));
    let at_most = of_window.cdf(window);
    (2.0 * f64::min(at_least, at_most)).clamp(0.0, 1.0)
}
