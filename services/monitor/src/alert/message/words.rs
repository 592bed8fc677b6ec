//! Columns, numbers and times in words.

use chrono::{DateTime, SecondsFormat, Utc};
use rekindle_domain::report::{ColumnDrift, ExampleRow, Impact};

use super::{MOST_CAUSES, NAMED};

/// The first columns by name, e.g. `a, b, c and 2 more`.
pub(super) fn names(columns: &[&ColumnDrift]) -> String {
    let named: Vec<&str> = columns.iter().take(NAMED).map(|column| column.name.as_str()).collect();
    let more = columns.len() - named.len();
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

pub(super) fn causes(columns: &[&ColumnDrift]) -> Vec<String> {
    let described = columns.iter().take(MOST_CAUSES).map(|column| {
        let reason = if column.reason.is_empty() { String::new() } else { format!(": {}", column.reason) };
        let since = column.since.map(|since| format!(", since {}", time(since))).unwrap_or_default();
        let impact = column.impact.map(|Impact { score_change, loss_change, .. }| {
            format!(
                "; alone, it changes the mean loss by {} and the mean score by {}",
                signed(loss_change),
                signed(score_change)
            )
        });
        let example = column
            .examples
            .first()
            .map(|ExampleRow { prediction, row }| format!("; such as row {row} of prediction {prediction}"));
        format!(
            "{} (PSI {}, {:.0} % of the shift{since}){reason}{}{}",
            column.name,
            number(column.psi),
            100.0 * column.cause_share,
            impact.unwrap_or_default(),
            example.unwrap_or_default()
        )
    });
    let more = columns.len().saturating_sub(MOST_CAUSES);
    described.chain((more > 0).then(|| format!("and {}", counted(more as u64, "more column")))).collect()
}

/// A number of things, e.g. `1 row` or `20 rows`.
pub(super) fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// With about three digits.
pub(super) fn number(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if (0.001..1000.0).contains(&size) => {
            let decimals = if size >= 100.0 {
                0
            } else if size >= 10.0 {
                1
            } else if size >= 1.0 {
                2
            } else {
                3
            };
            format!("{number:.decimals$}")
        }
        _ => format!("{number:.2e}"),
    }
}

pub(super) fn signed(change: f64) -> String {
    if change > 0.0 { format!("+{}", number(change)) } else { number(change) }
}

pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
