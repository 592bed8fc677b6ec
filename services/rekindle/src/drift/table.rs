//! A comparison for people.

use rekindle_statistics::drift::{ColumnDrift, Verdict};

use super::{comparison::Comparison, figures::percent, summary};
use crate::client::output;

const HEADER: [&str; 8] = ["column", "kind", "verdict", "effect", "least shown", "of the shift", "missing", "reason"];

/// The columns, those first that the shift is to be laid to, and what it all comes to.
pub(super) fn of(comparison: &Comparison) -> String {
    let has_drifted = comparison.report.verdict == Verdict::Drifted;
    let columns = ordered(&comparison.report.columns).into_iter().map(|column| line(column, has_drifted));
    let mut lines = output::table(&HEADER, columns);
    lines.push(String::new());
    lines.extend(summary::of(comparison));
    lines.join("\n")
}

/// The columns by their share of the shift, and then by how much there is to say of them.
pub(super) fn ordered(columns: &[ColumnDrift]) -> Vec<&ColumnDrift> {
    let rank = |column: &ColumnDrift| match column.verdict {
        Verdict::Drifted => 0,
        Verdict::Unknown => 1,
        Verdict::Stable => 2,
    };
    let mut ordered: Vec<&ColumnDrift> = columns.iter().collect();
    ordered.sort_by(|a, b| b.cause_share.total_cmp(&a.cause_share).then_with(|| rank(a).cmp(&rank(b))));
    ordered
}

/// Where nothing has drifted there is no shift to be shared out.
fn line(column: &ColumnDrift, has_drifted: bool) -> Vec<String> {
    vec![
        printable(&column.name),
        column.kind.to_string(),
        verdict(column.verdict).to_owned(),
        format!("{:.3}", column.effect),
        column.minimum_detectable_effect.map(|least| format!("{least:.3}")).unwrap_or_default(),
        if has_drifted { percent(column.cause_share) } else { String::new() },
        missing(column),
        printable(&column.reason),
    ]
}

/// A verdict in a word.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Drifted => "drifted",
        Verdict::Stable => "stable",
        Verdict::Unknown => "unknown",
    }
}

/// Before and now, where there is anything to tell.
fn missing(column: &ColumnDrift) -> String {
    let (before, now) = (column.missing.reference, column.missing.current);
    if before == 0.0 && now == 0.0 { String::new() } else { format!("{} -> {}", percent(before), percent(now)) }
}

/// A text that does not break the table, nor the terminal, whatever the file calls its columns.
pub(super) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
