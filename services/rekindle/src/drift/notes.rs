//! Notes on how a source was read.

use rekindle_dataset::Stray;
use rekindle_drift_report::DataSource;
use rekindle_statistics::profile::{Column, ColumnProfile, Profile};

/// A numeric column is read as text because of one value.
pub(super) fn of_stray(stray: &Stray) -> String {
    let Stray { column, value } = stray;
    format!(
        "{column:?} is read as text since it has the value {value:?}; if that stands for a missing value, use --missing"
    )
}

/// Some values of a column are not of its kind; `example` is one of them.
pub(super) fn of_unreadable(column: &Column, example: &str) -> Option<String> {
    let Column { name, profile } = column;
    let rows = profile.unreadable();
    (rows > 0).then(|| format!("{name:?} is {}, but {rows} of its values are not, such as {example:?}", profile.kind()))
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
