//! What to do about a column.

use rekindle_statistics::drift::{Bin, BinKind, ColumnDrift, RowsNeeded, Sides, Suspicion, Verdict, rows_needed};

use crate::drift::comparison::Comparison;
use crate::drift::figures::{counted, rows};

/// What a verdict comes down to. Each asks for something else to be done.
#[derive(Debug, Clone, PartialEq)]
enum Finding {
    Absent,
    Unsupported,
    OtherKind,
    Unit,
    Swapped(String),
    RunningNumber,
    Identifier,
    MoreMissing,
    FewerMissing,
    NonFinite,
    OutOfRange,
    NewValue(String),
    OtherMix,
    OtherNumbers,
    TooFew(Option<RowsNeeded>),
    TooClose,
    TooCoarse,
    Within,
}

/// What to do about a column, in a few sentences.
pub(super) fn of(column: &ColumnDrift, comparison: &Comparison) -> String {
    in_words(finding(column, comparison), comparison)
}

fn finding(column: &ColumnDrift, comparison: &Comparison) -> Finding {
    let (report, margin) = (&comparison.report, comparison.settings.margin);
    match column.verdict {
        Verdict::Drifted => drifted(column, comparison),
        Verdict::Unknown if column.suspicion == Some(Suspicion::Identifier) => Finding::Identifier,
        Verdict::Unknown if !column.is_comparable() => Finding::TooCoarse,
        Verdict::Unknown if column.is_large_enough(margin) => Finding::TooClose,
        Verdict::Unknown => Finding::TooFew(rows_needed(column, report.rows, report.level, margin)),
        Verdict::Stable => Finding::Within,
    }
}

fn drifted(column: &ColumnDrift, comparison: &Comparison) -> Finding {
    if comparison.current.profile.column(&column.name).is_none() {
        let is_there = comparison.current.skipped.iter().any(|skipped| skipped.name == column.name);
        return if is_there { Finding::Unsupported } else { Finding::Absent };
    }
    match &column.suspicion {
        Some(Suspicion::UnitChange { .. }) => Finding::Unit,
        Some(Suspicion::Swapped { with }) => Finding::Swapped(with.clone()),
        Some(Suspicion::RunningNumber) => Finding::RunningNumber,
        Some(Suspicion::Identifier) | None => by_bin(column, comparison.report.rows),
    }
}

/// By what moved most.
fn by_bin(column: &ColumnDrift, rows: Sides<u64>) -> Finding {
    match column.moved_most(rows).map(|bin| (&bin.kind, bin)) {
        Some((BinKind::Missing, _)) if column.missing.current < column.missing.reference => Finding::FewerMissing,
        Some((BinKind::Missing, _)) => Finding::MoreMissing,
        Some((BinKind::NonFinite, _)) => Finding::NonFinite,
        Some((BinKind::OtherKind, _)) => Finding::OtherKind,
        Some((BinKind::Below { .. } | BinKind::Above { .. }, _)) => Finding::OutOfRange,
        Some((BinKind::Category { name }, Bin { reference: 0, .. })) => Finding::NewValue(name.clone()),
        Some((BinKind::Interval { .. }, _)) => Finding::OtherNumbers,
        _ => Finding::OtherMix,
    }
}

fn in_words(finding: Finding, comparison: &Comparison) -> String {
    match finding {
        Finding::Absent => absent(comparison),
        Finding::Unsupported => "Look at the schema: the column arrives as a type that holds no single number or name, such as a list. \
             Mend it where it is written."
            .to_owned(),
        Finding::OtherKind => "Look at the schema: the values arrive as another type than they had, or with a word or a sign among them \
             that is no value. Mend it where it is written; retraining would learn the mistake."
            .to_owned(),
        Finding::RunningNumber => "Leave the column out (--ignore): a counter, a row number or an index always moves on, and no model \
             should read it."
            .to_owned(),
        Finding::Identifier => "Leave the column out (--ignore), or compare what it is made of, such as the domain of an address. Hardly \
             any value occurs twice, so neither its shares nor a shift of them mean anything."
            .to_owned(),
        Finding::Unit => "Ask the source whether a unit or a scale has changed. If so, convert the values back; if it is to stay, \
             convert the training data and retrain."
            .to_owned(),
        Finding::Swapped(with) => format!(
            "Compare the order and the names of the columns where the file is written: this one and {with:?} seem to have changed \
             places. Put them back; do not retrain."
        ),
        Finding::MoreMissing => "Look at the pipeline before the model: a source, a join or a field upstream has stopped to deliver. \
             Retrain only if the values will stay away, and then without counting on them."
            .to_owned(),
        Finding::FewerMissing => "Values arrive that used to be missing. Find out what was mended or is now filled in, and by what: a \
             default put in for a gap looks like a value. If they are real, retrain on rows that have them."
            .to_owned(),
        Finding::NonFinite => "Look at the step that computes the column for a division by zero, an overflow or a logarithm of zero, \
             and mend it there."
            .to_owned(),
        Finding::OutOfRange => "Look at some of these rows by hand. Errors are mended at the source; if the values are real, the model has \
             to guess beyond all that it has seen, and should be trained on rows that have them."
            .to_owned(),
        Finding::NewValue(name) => format!(
            "Find out what {name:?} is. A new spelling or code for an old value is mapped to it at the source; a new \
             thing takes labelled rows that have it, and retraining: until then the model knows nothing about it."
        ),
        Finding::OtherMix => "The same values come in other proportions. If a filter, a region or a source was added or lost, mend the \
             selection; if the world has changed, measure the model on recent labelled rows and retrain if it has become worse."
            .to_owned(),
        Finding::OtherNumbers => "The numbers have moved within the range that they always had. Rule out a change in how they are measured \
             or selected (a season counts, too); then measure the model on recent labelled rows and retrain if it has become worse."
            .to_owned(),
        Finding::TooFew(needed) => too_few(needed, comparison.report.rows),
        Finding::TooClose => "Nothing yet: look again with more rows, or decide whether so small a shift matters and set the margin.".to_owned(),
        Finding::TooCoarse => "Compare a transform of the column, such as its logarithm or its distance from the value that most of it is \
             close to: as it is, a shift among those values would not show."
            .to_owned(),
        Finding::Within => "Nothing.".to_owned(),
    }
}

fn absent(comparison: &Comparison) -> String {
    let advice = "Look at the pipeline: the column is no longer delivered, or has another name. A model that reads it cannot be \
                  trusted until it is back.";
    match comparison.report.new_columns.as_slice() {
        [] => advice.to_owned(),
        [one] => format!("{advice} The data have a column {one:?} that the reference does not have."),
        many => format!("{advice} The data have {} columns that the reference does not have.", many.len()),
    }
}

fn too_few(needed: Option<RowsNeeded>, have: Sides<u64>) -> String {
    let advice = match needed {
        Some(RowsNeeded::InWindow(window)) => format!(
            "Collect about {} (there are {}): then a shift of the margin's size would show.",
            counted(window, "row"),
            rows(have.current)
        ),
        Some(RowsNeeded::InBoth(both)) => format!(
            "The reference is too small itself. With about {} on each side (there are {} and {}) a shift of the margin's size would show.",
            counted(both, "row"),
            rows(have.reference),
            rows(have.current)
        ),
        None => "No number of rows would do.".to_owned(),
    };
    format!("{advice} Until then this is neither good news nor bad; a larger margin takes fewer rows.")
}
