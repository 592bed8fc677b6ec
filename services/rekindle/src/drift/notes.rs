//! What a reader must know of how a source was read.

use rekindle_dataset::Stray;
use rekindle_statistics::profile::{Column, ColumnProfile, Profile};

use super::comparison::Source;

/// That a column of numbers has a value for which it is taken for text.
pub(super) fn of_stray(stray: &Stray) -> String {
    let Stray { column, value } = stray;
    format!(
        "{column:?} is taken for text, as {value:?} among its numbers is none; if that stands for a missing value, say so with --missing"
    )
}

/// That a column has values of another kind than its own, with one of them.
pub(super) fn of_unreadable(column: &Column, example: &str) -> Option<String> {
    let Column { name, profile } = column;
    let rows = profile.unreadable();
    (rows > 0).then(|| format!("{name:?} is {}, and {rows} of its values are not, such as {example:?}", profile.kind()))
}

/// Of a profile that was made without knowing the reference, and has columns in other kinds for it.
pub(super) fn of_other_kinds(current: &Source, reference: &Profile) -> Vec<String> {
    let kind = |profile: Option<&ColumnProfile>| profile.map(ColumnProfile::kind);
    let differs = |column: &&Column| kind(reference.column(&column.name)) != Some(column.profile.kind());
    let told = |column: &Column| {
        format!(
            "{:?} is {} in the profile {}, and {} in the reference; `rekindle profile FILE --like REFERENCE` takes the reference's kinds",
            column.name,
            column.profile.kind(),
            current.name,
            kind(reference.column(&column.name)).map(|kind| kind.to_string()).unwrap_or_default()
        )
    };
    current.profile.columns.iter().filter(differs).map(told).collect()
}
