//! Notes on how a source was read.

use rekindle_dataset::Spelling;
use rekindle_drift_report::DataSource;
use rekindle_statistics::profile::{Column, ColumnProfile, Profile};

/// Some values of a column are not of its kind; `example` is one of them.
pub(super) fn of_unreadable(column: &Column, example: &str) -> Option<String> {
    let Column { name, profile } = column;
    let rows = profile.unreadable();
    let is_numeric = matches!(profile, ColumnProfile::Numeric(_));
    let spelling = Spelling::of(example).filter(|_| is_numeric).map(|spelling| format!(", a number {spelling}"));
    let spelling = spelling.unwrap_or_default();
    (rows > 0).then(|| {
        format!("{name:?} is {}, but {rows} of its values are not, such as {example:?}{spelling}", profile.kind())
    })
}

/// Columns that a profile, made without the reference, has in another kind.
pub(super) fn of_other_kinds(current: &DataSource, reference: &Profile) -> Vec<String> {
    let kind = |profile: Option<&ColumnProfile>| profile.map(ColumnProfile::kind);
    let differs = |column: &&Column| kind(reference.column(&column.name)) != Some(column.profile.kind());
    let note = |column: &Column| {
        format!(
            "{:?} is {} in the profile {}, but {} in the reference data; make the profile with `rekindle profile FILE --like REFERENCE`",
            column.name,
            column.profile.kind(),
            current.name,
            kind(reference.column(&column.name)).map(|kind| kind.to_string()).unwrap_or_default()
        )
    };
    current.profile.columns.iter().filter(differs).map(note).collect()
}
