//! What a comparison comes to, in sentences.

use rekindle_statistics::drift::{RowsNeeded, Verdict, rows_needed};

use super::{
    comparison::{Comparison, Skipped},
    table::printable,
};

/// Names that a sentence has room for.
const NAMES: usize = 8;

/// What drifted, what could not be told and what that would take, what was not compared, and what it all rests on.
pub(super) fn of(comparison: &Comparison) -> Vec<String> {
    let mut sentences = vec![verdicts(comparison)];
    sentences.extend(unknown(comparison));
    sentences.extend(left_out(&comparison.reference.name, &comparison.reference.skipped));
    sentences.extend(left_out(&comparison.current.name, &comparison.current.skipped));
    if !comparison.report.new_columns.is_empty() {
        let names = named(comparison.report.new_columns.iter().map(String::as_str));
        sentences.push(format!("New, with nothing to compare them with: {names}."));
    }
    sentences.push(budget(comparison));
    sentences
}

fn verdicts(comparison: &Comparison) -> String {
    let report = &comparison.report;
    let rows = format!("{} rows against {}", report.rows.current, report.rows.reference);
    let all = report.columns.len();
    let drifted = names(comparison, Verdict::Drifted);
    let stable = report.columns.iter().filter(|column| column.verdict == Verdict::Stable).count();
    match report.verdict {
        Verdict::Drifted => {
            format!("Drifted: {} of {all} columns ({}); {rows}.", drifted.len(), named(drifted.into_iter()))
        }
        Verdict::Stable => format!("Stable: all {all} columns; {rows}."),
        Verdict::Unknown if stable > 0 => format!("Unknown: only {stable} of {all} columns are surely stable; {rows}."),
        Verdict::Unknown => format!("Unknown: nothing can be told of any column; {rows}."),
    }
}

fn unknown(comparison: &Comparison) -> Option<String> {
    let names = names(comparison, Verdict::Unknown);
    let report = &comparison.report;
    let unknown = report.columns.iter().filter(|column| column.verdict == Verdict::Unknown);
    let needed =
        unknown.filter_map(|column| rows_needed(column, report.rows, report.level, comparison.settings.margin));
    let takes = needed.max_by_key(|needed| match needed {
        RowsNeeded::InWindow(rows) => (0, *rows),
        RowsNeeded::InBoth(rows) => (1, *rows),
    });
    let takes = match takes {
        Some(RowsNeeded::InWindow(rows)) => format!("; about {rows} rows would tell"),
        Some(RowsNeeded::InBoth(rows)) => format!("; about {rows} rows in each file would tell"),
        None => String::new(),
    };
    (!names.is_empty()).then(|| format!("Cannot be told: {}{takes}.", named(names.into_iter())))
}

fn left_out(file: &str, skipped: &[Skipped]) -> Option<String> {
    let told = |skipped: &Skipped| format!("{} ({})", printable(&skipped.name), skipped.reason);
    let more = skipped.len().saturating_sub(NAMES);
    let mut parts: Vec<String> = skipped.iter().take(NAMES).map(told).collect();
    parts.extend((more > 0).then(|| format!("and {more} more")));
    (!parts.is_empty()).then(|| format!("Left out of {file}: {}.", parts.join(", ")))
}

fn budget(comparison: &Comparison) -> String {
    let settings = comparison.settings;
    let windows = match settings.looks {
        1 => "in this window".to_owned(),
        looks => format!("in {looks} windows such as this one"),
    };
    format!(
        "The chance of any false alarm {windows} is at most {} %, over all columns together; effects up to {} do not matter.",
        100.0 * settings.false_alarms,
        settings.margin
    )
}

fn names(comparison: &Comparison, verdict: Verdict) -> Vec<&str> {
    let columns = super::table::ordered(&comparison.report.columns);
    columns.into_iter().filter(|column| column.verdict == verdict).map(|column| column.name.as_str()).collect()
}

fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMES);
    let mut named: Vec<String> = names.take(NAMES).map(printable).collect();
    named.extend((more > 0).then(|| format!("{more} more")));
    named.join(", ")
}
