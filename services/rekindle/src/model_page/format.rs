//! Dates, durations and numbers, as a page shows them.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A date, in UTC.
pub(crate) fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// Seconds between two times.
pub(crate) fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
    (until - from).as_seconds_f64()
}

/// A duration: `1 day`, `7 days`, `6h`.
pub(crate) fn words(span: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    match span.as_secs() {
        DAY => "1 day".to_owned(),
        seconds if seconds > 0 && seconds % DAY == 0 => format!("{} days", seconds / DAY),
        _ => humantime::format_duration(span).to_string(),
    }
}

/// A count with thousands separators.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A score: two decimals from 10 on, else four.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) if value.abs() >= 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_separators() {
        assert_eq!([0, 999, 1000, 221_950, 1_234_567].map(grouped), ["0", "999", "1,000", "221,950", "1,234,567"]);
    }
}
