//! The file in which the schema of a dataset is declared, in YAML.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use rekindle_domain::dataset::{ColumnRole, ColumnSchema, DatasetSchema, DatasetVersion};
use serde::Deserialize;

/// A schema as people write it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SchemaFile {
    columns: BTreeMap<String, Option<ColumnFile>>,
    unique: Vec<Names>,
    #[serde(with = "humantime_serde")]
    max_age: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ColumnFile {
    role: Option<ColumnRole>,
    unit: String,
    description: String,
    sensitive: bool,
    required: bool,
    min: Option<f64>,
    max: Option<f64>,
    /// As the file has them: `7`, `NO` and `true` are texts here.
    allowed: Vec<String>,
}

/// One column, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

/// Reads a schema from a file.
pub(super) fn read(path: &Path) -> Result<DatasetSchema> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let schema = parse(&bytes).with_context(|| format!("--schema {}", path.display()))?;
    schema.check().with_context(|| format!("--schema {}", path.display()))?;
    Ok(schema)
}

fn parse(bytes: &[u8]) -> Result<DatasetSchema> {
    let SchemaFile { columns, unique, max_age } = serde_saphyr::from_slice(bytes)?;
    let column = |(name, column): (String, Option<ColumnFile>)| {
        let ColumnFile { role, unit, description, sensitive, required, min, max, allowed } = column.unwrap_or_default();
        let allowed = allowed.into_iter().collect();
        ColumnSchema { name, role, unit, description, sensitive, required, min, max, allowed }
    };
    let names = |names: Names| match names {
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    };
    Ok(DatasetSchema {
        columns: columns.into_iter().map(column).collect(),
        unique: unique.into_iter().map(names).collect(),
        max_age,
    })
}

/// The schema of a version as a file, with a comment for each column of the version that it does not have.
pub(super) fn write(version: &DatasetVersion) -> String {
    let schema = version.schema.clone().unwrap_or_default();
    let mut lines = vec![
        format!("# Schema of dataset {}, as of version {}.", version.name, version.version),
        "# Fields of a column: role (feature, target, time, entity_key, weight), unit, description, sensitive, required, min, max, allowed."
            .to_owned(),
        "columns:".to_owned(),
    ];
    for column in &version.columns {
        let declared = schema.column(&column.name).map(fields);
        // A column that is declared must exist in the next version, too. JSON is YAML.
        let comment = if declared.is_none() { "# " } else { "" };
        let (name, fields) = (quoted(&column.name), declared.unwrap_or_default().join(", "));
        lines.push(format!("  {comment}{name}: {{{fields}}} # {} {}", column.kind.name(), column.data_type));
    }
    if !schema.unique.is_empty() {
        lines.push(format!("unique: {}", serde_json::json!(schema.unique)));
    }
    if let Some(age) = schema.max_age {
        lines.push(format!("max_age: {}", humantime::format_duration(age)));
    }
    lines.join("\n")
}

fn fields(column: &ColumnSchema) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = |name: &str, value: String| fields.push(format!("{name}: {value}"));
    if let Some(role) = column.role {
        field("role", role.name().to_owned());
    }
    for (name, text) in [("unit", &column.unit), ("description", &column.description)] {
        if !text.is_empty() {
            field(name, quoted(text));
        }
    }
    for (name, is_set) in [("sensitive", column.sensitive), ("required", column.required)] {
        if is_set {
            field(name, "true".to_owned());
        }
    }
    for (name, bound) in [("min", column.min), ("max", column.max)] {
        if let Some(bound) = bound {
            field(name, bound.to_string());
        }
    }
    if !column.allowed.is_empty() {
        field("allowed", serde_json::json!(column.allowed).to_string());
    }
    fields
}

fn quoted(text: &str) -> String {
    serde_json::json!(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_it_is_written() {
        let text = "
columns:
  fare: {role: feature, unit: USD, min: 0, max: 500.5, required: true}
  company: {allowed: [north, south, 7, true, 0.5, NO, 007, 1.10]}
  'trip id': {role: entity_key, sensitive: true, description: 'the key: of a trip'}
  plain:
unique: ['trip id', [company, fare]]
max_age: 2days 3h
";
        let schema = parse(text.as_bytes()).expect("valid");
        assert_eq!(schema.check(), Ok(()));
        let fare = schema.column("fare").expect("declared");
        assert_eq!((fare.min, fare.max, fare.unit.as_str(), fare.required), (Some(0.0), Some(500.5), "USD", true));
        let company = schema.column("company").expect("declared");
        assert!(
            ["north", "south", "7", "true", "0.5", "NO", "007", "1.10"]
                .iter()
                .all(|value| company.allowed.contains(*value))
        );
        assert_eq!(schema.unique, [vec!["trip id".to_owned()], vec!["company".to_owned(), "fare".to_owned()]]);
        assert_eq!(schema.max_age, Some(Duration::from_secs((2 * 24 + 3) * 3600)));
        let column = |column: &ColumnSchema| rekindle_domain::dataset::Column {
            name: column.name.clone(),
            data_type: "Utf8".into(),
            kind: rekindle_domain::ColumnKind::Categorical,
            nullable: false,
        };
        let version = DatasetVersion {
            name: "trips".parse().expect("a name"),
            version: 3,
            content: rekindle_domain::Digest::of(b"rows"),
            blob: rekindle_domain::Digest::of(b"file"),
            rows: 1,
            bytes: 1,
            columns: schema.columns.iter().map(column).collect(),
            time_column: None,
            time_range: None,
            parents: vec![],
            description: String::new(),
            profile: vec![],
            created_at: chrono::DateTime::UNIX_EPOCH,
            schema: Some(schema.clone()),
            violations: vec![],
            deleted_at: None,
        };
        assert_eq!(parse(write(&version).as_bytes()).expect("valid"), schema);
    }

    #[test]
    fn a_misspelt_field_is_refused_by_its_name() {
        for text in ["columns: {a: {requird: true}}", "column: {a: {}}", "columns: {a: {role: label}}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"columns: {a: {requird: true}}").expect_err("misspelt").to_string().contains("requird"));
    }
}
