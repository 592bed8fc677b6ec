//! The result of a comparison in sentences.

use rekindle_statistics::drift::{ColumnDrift, RowsNeeded, Suspicion, Verdict, rows_needed};

use crate::{
    DataSource, DriftReport, SkippedColumn,
    figures::{counted, percent, rows},
    list_names, printable,
};

/// Column names in a sentence.
const NAMES: usize = 8;

/// The verdict; the inconclusive columns and the rows that a verdict needs; the columns that are not compared; the meaning of
/// the numbers.
pub(crate) fn of(report: &DriftReport) -> Vec<String> {
    let mut sentences = vec![verdicts(report)];
    sentences.extend(inconclusive(report));
    sentences.extend(identifiers(report));
    sentences.extend(skipped(&report.reference));
    sentences.extend(skipped(&report.current));
    if !report.comparison.new_columns.is_empty() {
        let names = named(report.comparison.new_columns.iter().map(String::as_str));
        sentences.push(format!("New columns, not in the reference data: {names}."));
    }
    sentences.extend(blocks(report));
    sentences.push(definitions(report));
    sentences
}

fn verdicts(report: &DriftReport) -> String {
    let comparison = &report.comparison;
    let sizes = format!(
        "{} compared with {} of reference data",
        counted(comparison.rows.current, "row"),
        counted(comparison.rows.reference, "row")
    );
    let all = counted(comparison.columns.len() as u64, "column");
    let drifted = names(report, Verdict::Drifted);
    let stable = comparison.columns.iter().filter(|column| column.verdict == Verdict::Stable).count();
    match comparison.verdict {
        Verdict::Drifted => format!("Drifted: {} of {all} ({}); {sizes}.", drifted.len(), named(drifted)),
        Verdict::Stable => format!("Stable: {all}; {sizes}."),
        Verdict::Inconclusive if stable > 0 => {
            format!("Inconclusive: {stable} of {all} stable, the others inconclusive; {sizes}.")
        }
        Verdict::Inconclusive => format!("Inconclusive: neither drift nor stability can be shown for {all}; {sizes}."),
    }
}

fn inconclusive(report: &DriftReport) -> Option<String> {
    let (comparison, margin) = (&report.comparison, report.options.settings.margin);
    let is_inconclusive = |column: &&ColumnDrift| column.verdict == Verdict::Inconclusive && !is_identifier(column);
    let columns: Vec<&ColumnDrift> = report.columns_by_share().into_iter().filter(is_inconclusive).collect();
    let too_few = columns.iter().filter(|column| !column.is_large_enough(margin));
    let needed = too_few.filter_map(|column| rows_needed(column, comparison.rows, comparison.level, margin));
    let needed = in_words(needed.collect());
    let names = named(columns.iter().map(|column| column.name.as_str()));
    (!columns.is_empty()).then(|| format!("Inconclusive columns: {names}{needed}."))
}

/// The rows that half of the columns need, and the rows that all need, if that is more.
fn in_words(mut needed: Vec<RowsNeeded>) -> String {
    needed.sort_unstable_by_key(|needed| match needed {
        RowsNeeded::InWindow(rows) => (0, *rows),
        RowsNeeded::InBoth(rows) => (1, *rows),
    });
    let Some(&all) = needed.last() else { return String::new() };
    let half = needed[(needed.len() - 1) / 2];
    let phrase = |needed| match needed {
        RowsNeeded::InWindow(window) => format!("about {} rows", rows(window)),
        RowsNeeded::InBoth(both) => format!("about {} rows on each side", rows(both)),
    };
    if half == all {
        return format!("; {} are needed", phrase(all));
    }
    format!("; {} are needed for half of them, {} for all", phrase(half), phrase(all))
}

fn is_identifier(column: &ColumnDrift) -> bool {
    column.suspicion == Some(Suspicion::Identifier)
}

fn identifiers(report: &DriftReport) -> Option<String> {
    let found = report.comparison.columns.iter().filter(|column| is_identifier(column));
    let names: Vec<&str> = found.map(|column| column.name.as_str()).collect();
    (!names.is_empty())
        .then(|| format!("Possible identifiers, with mostly new values: {}. Exclude such columns.", named(names)))
}

fn skipped(source: &DataSource) -> Option<String> {
    let in_words = |column: &SkippedColumn| format!("{} ({})", printable(&column.name), column.reason);
    let columns: Vec<String> = source.unsupported().map(in_words).collect();
    (!columns.is_empty())
        .then(|| format!("Skipped in {}: {}.", printable(&source.name), named(columns.iter().map(String::as_str))))
}

/// The blocks that the rows were compared with, if they were.
fn blocks(report: &DriftReport) -> Option<String> {
    let columns = &report.comparison.columns;
    let tests = || columns.iter().filter_map(|column| column.blocks);
    let first = tests().next()?;
    let of_rows = columns.iter().filter(|column| column.blocks.is_none()).map(|column| column.name.as_str());
    let of_rows: Vec<&str> = of_rows.collect();
    let others = match of_rows.is_empty() {
        true => String::new(),
        false => format!(" Compared as random samples of rows: {}.", named(of_rows)),
    };
    Some(format!(
        "Beside the differences between {} of {} of the reference data: a column has drifted only if it differs by more.{others}",
        counted(first.blocks, "block"),
        first.length_in_words()
    ))
}

fn definitions(report: &DriftReport) -> String {
    let settings = report.options.settings;
    let windows = match settings.looks {
        1 => "in this window".to_owned(),
        looks => format!("in {looks} windows like this one"),
    };
    format!(
        "Effect: the population stability index minus its expected value without drift. Min. detectable: the smallest effect that is \
         significant with this number of rows. The probability of any false alarm {windows} is at most {}, over all columns together; \
         effects up to the margin of {} do not matter.",
        percent(settings.false_alarms),
        settings.margin
    )
}

fn names(report: &DriftReport, verdict: Verdict) -> Vec<&str> {
    let columns = report.columns_by_share();
    columns.into_iter().filter(|column| column.verdict == verdict).map(|column| column.name.as_str()).collect()
}

fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    list_names(names, NAMES)
}
