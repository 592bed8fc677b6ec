//! The recommended action for a column.

use rekindle_statistics::{
    drift::{Bin, BinKind, ColumnDrift, RowsNeeded, Sides, Suspicion, Verdict, rows_needed},
    profile::ColumnProfile,
};

use crate::{
    DataSource, DriftReport,
    figures::{counted, rows},
};

/// The finding behind a verdict. Each has an action of its own.
#[derive(Debug, Clone, PartialEq)]
enum Finding {
    Absent,
    Unsupported,
    OtherKind,
    Unit,
    Swapped(String),
    Target,
    RunningNumber,
    Identifier,
    MoreMissing,
    FewerMissing,
    NonFinite,
    OutOfRange,
    NewValue(String),
    OtherMix,
    OtherNumbers,
    /// The reference has a single value, the current data have others.
    WasConstant,
    /// The current data have a single value, the reference has others.
    IsConstant,
    TooFew(Option<RowsNeeded>),
    TooClose,
    TooCoarse,
    Within,
}

/// The recommended action for a column, in a few sentences.
pub(super) fn of(column: &ColumnDrift, report: &DriftReport) -> String {
    in_words(finding(column, report), report)
}

fn finding(column: &ColumnDrift, report: &DriftReport) -> Finding {
    let (comparison, margin) = (&report.comparison, report.options.settings.margin);
    match column.verdict {
        Verdict::Drifted => drifted(column, report),
        Verdict::Inconclusive if column.suspicion == Some(Suspicion::Identifier) => Finding::Identifier,
        Verdict::Inconclusive if !column.is_comparable() => Finding::TooCoarse,
        Verdict::Inconclusive if column.is_large_enough(margin) => Finding::TooClose,
        Verdict::Inconclusive => Finding::TooFew(rows_needed(column, comparison.rows, comparison.level, margin)),
        Verdict::Stable => Finding::Within,
    }
}

fn drifted(column: &ColumnDrift, report: &DriftReport) -> Finding {
    if report.current.profile.column(&column.name).is_none() {
        return if report.current.has(&column.name) { Finding::Unsupported } else { Finding::Absent };
    }
    match &column.suspicion {
        Some(Suspicion::UnitChange { .. }) => Finding::Unit,
        Some(Suspicion::Swapped { with }) => Finding::Swapped(with.clone()),
        Some(Suspicion::RunningNumber) => Finding::RunningNumber,
        Some(Suspicion::Identifier) | None => by_values(column, report),
    }
}

/// A column with one value has neither a range nor proportions.
fn by_values(column: &ColumnDrift, report: &DriftReport) -> Finding {
    let finding = by_bin(column, report.comparison.rows);
    if !matches!(finding, Finding::OutOfRange | Finding::OtherMix | Finding::OtherNumbers) {
        return finding;
    }
    let value = |source: &DataSource| source.profile.column(&column.name).and_then(only_value);
    match (value(&report.reference), value(&report.current)) {
        (Some(before), Some(now)) if before == now => without_values(column),
        (Some(_), _) => Finding::WasConstant,
        (None, Some(_)) => Finding::IsConstant,
        (None, None) if report.is_target(column) => Finding::Target,
        (None, None) => finding,
    }
}

/// The value, as text, of all rows that have one; `None` if there are none or several.
fn only_value(side: &ColumnProfile) -> Option<String> {
    match side {
        ColumnProfile::Numeric(numbers) => {
            numbers.range().filter(|(least, most)| least == most).map(|range| range.0.to_string())
        }
        ColumnProfile::Categorical(names) | ColumnProfile::Boolean(names) if names.is_exact() => {
            match names.top(2).as_slice() {
                [(name, _)] => Some(name.clone()),
                _ => None,
            }
        }
        ColumnProfile::Categorical(_) | ColumnProfile::Boolean(_) | ColumnProfile::Timestamp(_) => None,
    }
}

/// What has changed where the values have not: the rows that have none.
fn without_values(column: &ColumnDrift) -> Finding {
    let changed = |shares: Sides| shares.current - shares.reference;
    match (changed(column.missing), changed(column.non_finite)) {
        (missing, non_finite) if missing > 0.0 && missing >= non_finite => Finding::MoreMissing,
        (_, non_finite) if non_finite > 0.0 => Finding::NonFinite,
        (missing, _) if missing < 0.0 => Finding::FewerMissing,
        _ => Finding::OtherKind,
    }
}

/// By the bin with the largest change.
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

fn in_words(finding: Finding, report: &DriftReport) -> String {
    let action = match finding {
        Finding::Absent => return absent(report),
        Finding::Swapped(with) => return swapped(&with),
        Finding::NewValue(name) => return new_value(&name),
        Finding::TooFew(needed) => return too_few(needed, report.comparison.rows),
        Finding::Unsupported => {
            "Check the schema: the column has a type that is neither a number, a text, a boolean nor a timestamp, such as a list. \
             Fix it where the data are written."
        }
        Finding::OtherKind => {
            "Check the schema: the values have another type than in the reference data, or contain words or signs that are not \
             values of this type. Fix it where the data are written; retraining would fit the error."
        }
        Finding::Target => {
            "The target is what the model predicts: it has changed as a consequence, so it is not counted as a cause. Evaluate the \
             model on recent labelled rows, and retrain if its quality has degraded."
        }
        Finding::WasConstant => {
            "The reference data have a single value in this column, so that a model has learned nothing from it. Find out why the values \
             differ now. If they are real, retrain on rows that have them."
        }
        Finding::IsConstant => {
            "All current rows have the same value. Check for a default value, a filter or a sensor that no longer changes; fix it at \
             the source. Retrain only if the value will stay the same, and without depending on the column."
        }
        Finding::RunningNumber => {
            "Exclude the column: a counter, row number or index always increases, and no model should use it."
        }
        Finding::Identifier => {
            "Exclude the column, or compare a feature derived from it, such as the domain of an e-mail address. Hardly any value \
             occurs twice, so neither the shares of its values nor a shift of them are meaningful."
        }
        Finding::Unit => {
            "Check with the data source whether a unit or a scale has changed. If so, convert the values back; if the change is \
             permanent, convert the training data and retrain."
        }
        Finding::MoreMissing => {
            "Check the data pipeline before the model: a source, a join or an upstream field no longer delivers values. Retrain only \
             if the values will stay missing, and without depending on them."
        }
        Finding::FewerMissing => {
            "Values arrive that used to be missing. Find out whether they are measured or imputed: a default value looks like a \
             measurement. If they are real, retrain on rows that have them."
        }
        Finding::NonFinite => {
            "Check the step that computes the column for a division by zero, an overflow or a logarithm of zero, and fix it there."
        }
        Finding::OutOfRange => {
            "Inspect some of these rows. Fix errors at the source; if the values are real, the model extrapolates beyond its training \
             data and should be trained on rows that have them."
        }
        Finding::OtherMix => {
            "The same values occur in different proportions. If a filter, a region or a source was added or removed, correct the \
             selection; otherwise evaluate the model on recent labelled rows, and retrain if its quality has degraded."
        }
        Finding::OtherNumbers => {
            "The distribution has shifted within the range of the reference data. Rule out a change of measurement or selection, and a \
             season; then evaluate the model on recent labelled rows, and retrain if its quality has degraded."
        }
        Finding::TooClose => {
            "None yet: compare again with more rows, or change the margin if a shift of this size does or does not matter."
        }
        Finding::TooCoarse => {
            "Compare a transform of the column, such as its logarithm or its distance from the value that most of it is close to: as \
             it is, a shift among those values is not visible."
        }
        Finding::Within => "None.",
    };
    action.to_owned()
}

fn swapped(with: &str) -> String {
    format!(
        "Check the order and the names of the columns where the data are written: this column and {with:?} appear to be swapped. \
         Restore the order; do not retrain."
    )
}

fn new_value(name: &str) -> String {
    format!(
        "Find out what {name:?} is. Map a new spelling or code of a known value to that value at the source. A new category needs \
         labelled rows and retraining: until then the model has no information about it."
    )
}

fn absent(report: &DriftReport) -> String {
    let advice = "Check the data pipeline: the column is no longer delivered, or has another name. Do not trust a model that uses it \
                  until it is restored.";
    match report.comparison.new_columns.as_slice() {
        [] => advice.to_owned(),
        [one] => format!("{advice} The current data have a column {one:?} that the reference data do not have."),
        many => {
            format!("{advice} The current data have {} columns that the reference data do not have.", many.len())
        }
    }
}

fn too_few(needed: Option<RowsNeeded>, have: Sides<u64>) -> String {
    let advice = match needed {
        Some(RowsNeeded::InWindow(window)) => format!(
            "Collect about {} (now: {}), so that a shift of the size of the margin is detectable.",
            counted(window, "row"),
            rows(have.current)
        ),
        Some(RowsNeeded::InBoth(both)) => format!(
            "The reference data are too few. Collect about {} on each side (now: {} and {}), so that a shift of the size of the margin \
             is detectable.",
            counted(both, "row"),
            rows(have.reference),
            rows(have.current)
        ),
        None => "No number of rows is enough.".to_owned(),
    };
    format!("{advice} Until then the column may have drifted or not. A larger margin needs fewer rows.")
}
