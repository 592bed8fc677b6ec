//! What a comparison comes to, in sentences.

use rekindle_statistics::drift::{ColumnDrift, RowsNeeded, Suspicion, Verdict, rows_needed};

use super::{
    comparison::{Comparison, Skipped, Source},
    figures::percent,
    table::printable,
};

/// Names that a sentence has room for.
const NAMES: usize = 8;

/// What drifted, what could not be told and what that would take, what was not compared, and what it all rests on.
pub(super) fn of(comparison: &Comparison) -> Vec<String> {
    let mut sentences = vec![verdicts(comparison)];
    sentences.extend(unknown(comparison));
    sentences.extend(identifiers(comparison));
    sentences.extend(left_out(&comparison.reference));
    sentences.extend(left_out(&comparison.current));
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
        Verdict::Stable if all == 1 => format!("Stable; {rows}."),
        Verdict::Stable => format!("Stable: all {all} columns; {rows}."),
        Verdict::Unknown if stable > 0 => format!("Unknown: only {stable} of {all} columns are surely stable; {rows}."),
        Verdict::Unknown => format!("Unknown: nothing can be told of any column; {rows}."),
    }
}

fn unknown(comparison: &Comparison) -> Option<String> {
    let report = &comparison.report;
    let unknown = |column: &&ColumnDrift| column.verdict == Verdict::Unknown && !is_identifier(column);
    let columns: Vec<&ColumnDrift> = super::table::ordered(&report.columns).into_iter().filter(unknown).collect();
    let margin = comparison.settings.margin;
    let too_small = columns.iter().filter(|column| !column.is_large_enough(margin));
    let needed = too_small.filter_map(|column| rows_needed(column, report.rows, report.level, margin));
    let takes = in_words(needed.collect());
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("Cannot be told: {}{takes}.", named(names.into_iter())))
}

/// The rows that tell of one half of the columns, and those that tell of all, if that takes many more.
fn in_words(mut needed: Vec<RowsNeeded>) -> String {
    needed.sort_unstable_by_key(|needed| match needed {
        RowsNeeded::InWindow(rows) => (0, *rows),
        RowsNeeded::InBoth(rows) => (1, *rows),
    });
    let Some(&all) = needed.last() else { return String::new() };
    let half = needed[(needed.len() - 1) / 2];
    let rows = |needed| match needed {
        RowsNeeded::InWindow(rows) => format!("{rows} rows"),
        RowsNeeded::InBoth(rows) => format!("{rows} rows in each file"),
    };
    if half == all {
        return format!("; about {} would tell", rows(all));
    }
    format!("; about {} would tell of half of them, {} of all", rows(half), rows(all))
}

fn is_identifier(column: &ColumnDrift) -> bool {
    column.suspicion == Some(Suspicion::Identifier)
}

fn identifiers(comparison: &Comparison) -> Option<String> {
    let found = comparison.report.columns.iter().filter(|column| is_identifier(column));
    let names: Vec<&str> = found.map(|column| column.name.as_str()).collect();
    let list = named(names.iter().copied());
    (!names.is_empty())
        .then(|| format!("Most values are new, as of identifiers: {list}; leave such columns out with --ignore."))
}

fn left_out(source: &Source) -> Option<String> {
    let told = |skipped: &Skipped| format!("{} ({})", printable(&skipped.name), skipped.reason);
    let mut parts: Vec<String> = source.unsupported().map(told).collect();
    let more = parts.len().saturating_sub(NAMES);
    parts.truncate(NAMES);
    parts.extend((more > 0).then(|| format!("and {more} more")));
    (!parts.is_empty()).then(|| format!("Left out of {}: {}.", source.name, parts.join(", ")))
}

fn budget(comparison: &Comparison) -> String {
    let settings = comparison.settings;
    let windows = match settings.looks {
        1 => "in this window".to_owned(),
        looks => format!("in {looks} windows such as this one"),
    };
    format!(
        "An effect is the population stability index less what chance makes of it, \"least shown\" the smallest one that so many rows \
         show. The chance of any false alarm {windows} is at most {}, over all columns together; effects up to {} do not matter.",
        percent(settings.false_alarms),
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
