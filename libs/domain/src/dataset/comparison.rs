//! What differs between two dataset versions.

use super::{Column, ColumnSummary, DatasetVersion};

/// A column that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnChange {
    /// The column.
    pub column: String,
    /// [`ADDED`], [`REMOVED`], or names of fields such as `data_type`, `missing`, `mean`.
    pub differences: Vec<String>,
}

/// The difference of a column that only the later version has.
pub const ADDED: &str = "added";
/// The difference of a column that only the base has.
pub const REMOVED: &str = "removed";

/// The columns that differ in their type, kind, declaration or profile, in the order of the base; added ones last.
pub fn compare(base: &DatasetVersion, version: &DatasetVersion) -> Vec<ColumnChange> {
    let of = |version: &DatasetVersion, name: &str| version.columns.iter().find(|column| column.name == name).cloned();
    let mut changes = Vec::new();
    for column in &base.columns {
        let differences = match of(version, &column.name) {
            None => vec![REMOVED],
            Some(other) => {
                let mut differences = of_type(column, &other);
                differences.extend(of_declaration(base, version, &column.name));
                differences.extend(of_profile(base, version, &column.name));
                differences
            }
        };
        changes.push((column.name.clone(), differences));
    }
    let added = version.columns.iter().filter(|column| of(base, &column.name).is_none());
    changes.extend(added.map(|column| (column.name.clone(), vec![ADDED])));
    let differs = |(column, differences): (String, Vec<&str>)| {
        let differences: Vec<String> = differences.into_iter().map(str::to_owned).collect();
        (!differences.is_empty()).then_some(ColumnChange { column, differences })
    };
    changes.into_iter().filter_map(differs).collect()
}

fn of_type(base: &Column, column: &Column) -> Vec<&'static str> {
    named([
        ("data_type", base.data_type != column.data_type),
        ("kind", base.kind != column.kind),
        ("nullable", base.nullable != column.nullable),
    ])
}

fn of_declaration(base: &DatasetVersion, version: &DatasetVersion, name: &str) -> Vec<&'static str> {
    let of = |version: &DatasetVersion| {
        version.schema.as_ref().and_then(|schema| schema.column(name)).cloned().unwrap_or_default()
    };
    let (base, column) = (of(base), of(version));
    named([
        ("role", base.role != column.role),
        ("unit", base.unit != column.unit),
        ("description", base.description != column.description),
        ("sensitive", base.sensitive != column.sensitive),
        ("required", base.required != column.required),
        ("allowed_range", (base.min, base.max) != (column.min, column.max)),
        ("allowed", base.allowed != column.allowed),
    ])
}

fn of_profile(base: &DatasetVersion, version: &DatasetVersion, name: &str) -> Vec<&'static str> {
    let of = |version: &DatasetVersion| version.profile.iter().find(|profile| profile.name == name).cloned();
    let (Some(base), Some(profile)) = (of(base), of(version)) else { return Vec::new() };
    let number = |of: fn(&ColumnSummary) -> Option<f64>| of(&base) != of(&profile);
    named([
        ("missing", base.missing != profile.missing),
        ("distinct", base.distinct != profile.distinct),
        ("min", number(|profile| profile.min)),
        ("max", number(|profile| profile.max)),
        ("mean", number(|profile| profile.mean)),
        ("std", number(|profile| profile.std)),
        ("top", base.top != profile.top),
    ])
}

fn named<const N: usize>(differs: [(&'static str, bool); N]) -> Vec<&'static str> {
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{
        super::{ColumnSchema, DatasetSchema},
        *,
    };
    use crate::{ColumnKind, Digest};

    fn version(columns: &[&str]) -> DatasetVersion {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            data_type: "Int64".into(),
            kind: ColumnKind::Numeric,
            nullable: false,
        };
        let profile = |name: &&str| ColumnSummary {
            name: (*name).to_owned(),
            missing: 0,
            distinct: 5,
            min: Some(0.0),
            max: Some(4.0),
            mean: Some(2.0),
            std: None,
            top: vec![],
        };
        DatasetVersion {
            name: "d".parse().expect("a name"),
            version: 1,
            content: Digest::of(b"rows"),
            blob: Digest::of(b"file"),
            rows: 5,
            bytes: 1,
            columns: columns.iter().map(column).collect(),
            time_column: None,
            time_range: None,
            parents: vec![],
            description: String::new(),
            profile: columns.iter().map(profile).collect(),
            created_at: DateTime::UNIX_EPOCH,
            schema: None,
            violations: vec![],
            deleted_at: None,
        }
    }

    #[test]
    fn columns_that_differ_are_named_with_their_fields() {
        let base = version(&["a", "b", "c"]);
        let mut other = version(&["b", "a", "d"]);
        other.columns[1].data_type = "Float64".into();
        other.profile[1].mean = Some(2.5);
        let schema = ColumnSchema { name: "b".into(), unit: "km".into(), ..ColumnSchema::default() };
        other.schema = Some(DatasetSchema { columns: vec![schema], ..DatasetSchema::default() });
        let changes: Vec<(String, String)> =
            compare(&base, &other).into_iter().map(|change| (change.column, change.differences.join(" "))).collect();
        let expected = [("a", "data_type mean"), ("b", "unit"), ("c", "removed"), ("d", "added")];
        assert_eq!(changes, expected.map(|(column, differences)| (column.to_owned(), differences.to_owned())));
        assert_eq!(compare(&base, &base), []);
    }
}
