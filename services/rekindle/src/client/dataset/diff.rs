//! `rekindle dataset diff`.

use chrono::DateTime;
use rekindle_domain::{
    ColumnKind,
    dataset::{ColumnChange, ColumnSummary, DatasetVersion, comparison},
};

use crate::client::output::{self, Fields, number, when};

/// Prints what differs between two versions.
pub(super) fn print(base: &DatasetVersion, version: &DatasetVersion, changes: &[ColumnChange]) {
    let rows = i128::from(version.rows) - i128::from(base.rows);
    let content = if base.content == version.content { "the same" } else { "different" };
    let fields: Fields = vec![
        ("base", base.reference()),
        ("version", version.reference()),
        ("rows", format!("{} → {} ({rows:+})", base.rows, version.rows)),
        ("content", content.to_owned()),
    ];
    output::print_fields(&fields);
    if changes.is_empty() {
        return output::emit("no column differs");
    }
    output::emit("");
    let lines = changes.iter().map(|change| {
        let differences = change.differences.iter().map(|field| difference(base, version, &change.column, field));
        vec![change.column.clone(), differences.collect::<Vec<_>>().join(", ")]
    });
    output::print_table(&["column", "differences"], lines);
}

/// E.g. `mean 1.5 → 2`.
fn difference(base: &DatasetVersion, version: &DatasetVersion, column: &str, field: &str) -> String {
    let of = |version: &DatasetVersion, shown: fn(f64) -> String| value(version, column, field, shown);
    match (of(base, number), of(version, number)) {
        // They differ in later digits.
        (Some(before), Some(after)) if before == after => {
            let all = |number: f64| number.to_string();
            let (before, after) = (of(base, all).unwrap_or_default(), of(version, all).unwrap_or_default());
            format!("{field} {before} → {after}")
        }
        (Some(before), Some(after)) => format!("{field} {before} → {after}"),
        _ => field.to_owned(),
    }
}

fn value(version: &DatasetVersion, name: &str, field: &str, shown: fn(f64) -> String) -> Option<String> {
    if [comparison::ADDED, comparison::REMOVED].contains(&field) {
        return None;
    }
    let column = version.columns.iter().find(|column| column.name == name)?;
    let profile = version.profile.iter().find(|profile| profile.name == name);
    let shown = |value: f64| match column.kind {
        // Milliseconds since 1970; a deviation is none.
        ColumnKind::Timestamp if field != "std" => when(DateTime::from_timestamp_millis(value as i64)),
        _ => shown(value),
    };
    let some = |of: fn(&ColumnSummary) -> Option<f64>| {
        profile.map(|profile| of(profile).map_or_else(|| "none".to_owned(), shown))
    };
    match field {
        "data_type" => Some(column.data_type.clone()),
        "kind" => Some(column.kind.name().to_owned()),
        "nullable" => Some(column.nullable.to_string()),
        "missing" => profile.map(|profile| profile.missing.to_string()),
        "distinct" => profile.map(|profile| profile.distinct.to_string()),
        "min" => some(|profile| profile.min),
        "max" => some(|profile| profile.max),
        "mean" => some(|profile| profile.mean),
        "std" => some(|profile| profile.std),
        _ => None,
    }
}
