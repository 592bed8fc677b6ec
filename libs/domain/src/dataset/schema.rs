//! What is declared of a dataset's columns: roles, units, and rules that rows must keep.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::validation::{Checks, Violations};

/// Columns of a schema at most.
const COLUMNS: usize = 10_000;
/// Allowed values of a column at most.
const ALLOWED: usize = 10_000;
/// Unique keys at most.
const KEYS: usize = 4;
/// Characters of a unit, a description or an allowed value at most.
const TEXT: usize = 1_000;

/// What is declared of a dataset, beside what its rows show.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatasetSchema {
    /// Columns; others may exist.
    pub columns: Vec<ColumnSchema>,
    /// No two rows have the same values in the columns of a key. Rows in which one of them is missing are not compared.
    pub unique: Vec<Vec<String>>,
    /// The latest event time is not older than this at the time of the registration.
    pub max_age: Option<Duration>,
}

/// What is declared of a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnSchema {
    /// The column.
    pub name: String,
    /// What it is used for.
    pub role: Option<ColumnRole>,
    /// Unit of the values, e.g. `km`.
    pub unit: String,
    /// The description.
    pub description: String,
    /// The values are not shown.
    pub sensitive: bool,
    /// No value is missing.
    pub required: bool,
    /// Numbers are not below it.
    pub min: Option<f64>,
    /// Numbers are not above it.
    pub max: Option<f64>,
    /// Values are among these, as text; empty allows all.
    pub allowed: BTreeSet<String>,
}

/// What a column is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnRole {
    /// Input of models.
    Feature,
    /// What models predict.
    Target,
    /// Time of the row.
    Time,
    /// Identifies what the row is about.
    EntityKey,
    /// Weight of the row.
    Weight,
}

impl ColumnRole {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Feature, Self::Target, Self::Time, Self::EntityKey, Self::Weight];

    /// The name in files and tables, e.g. `entity_key`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Target => "target",
            Self::Time => "time",
            Self::EntityKey => "entity_key",
            Self::Weight => "weight",
        }
    }
}

/// A rule that rows of a version break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleViolation {
    /// The rule, e.g. `columns[fare].min`, `unique[0]` or `max_age`.
    pub rule: String,
    /// Rows that break it.
    pub rows: u64,
    /// Names the first rows, counted from 1 over all sources.
    pub message: String,
}

impl DatasetSchema {
    /// What is declared of a column.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns of a role.
    pub fn with_role(&self, role: ColumnRole) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(move |column| column.role == Some(role)).map(|column| column.name.as_str())
    }

    /// Whether the values of a column are not shown.
    pub fn is_sensitive(&self, column: &str) -> bool {
        self.column(column).is_some_and(|column| column.sensitive)
    }

    /// Checks what can be checked without the rows.
    pub fn check(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require(self.columns.len() <= COLUMNS, "columns", self.columns.len(), "at most 10000 columns");
        checks.require(self.unique.len() <= KEYS, "unique", self.unique.len(), "at most 4 keys");
        let mut names = BTreeSet::new();
        for column in self.columns.iter().take(COLUMNS) {
            let field = |field: &str| format!("columns[{}].{field}", column.name);
            if !names.insert(column.name.as_str()) {
                checks.violation(field("name"), "occurs twice");
            }
            let bounds = [("min", column.min), ("max", column.max)];
            for (name, bound) in bounds {
                if let Some(bound) = bound {
                    checks.require(bound.is_finite(), &field(name), bound, "a finite number");
                }
            }
            if let (Some(min), Some(max)) = (column.min, column.max) {
                checks.require(min <= max, &field("max"), max, &format!("at least min = {min}"));
            }
            checks.require(
                column.allowed.len() <= ALLOWED,
                &field("allowed"),
                column.allowed.len(),
                "at most 10000 values",
            );
            let texts = [("unit", &column.unit), ("description", &column.description)];
            let allowed = column.allowed.iter().map(|value| ("allowed", value));
            for (name, text) in texts.into_iter().chain(allowed) {
                let length = text.chars().count();
                checks.require(
                    length <= TEXT,
                    &field(name),
                    format!("{length} characters long"),
                    "at most 1000 characters",
                );
                checks.require(!text.contains('\0'), &field(name), "text with a NUL character", "text without one");
            }
        }
        for role in [ColumnRole::Target, ColumnRole::Time, ColumnRole::Weight] {
            let columns: Vec<&str> = self.with_role(role).collect();
            if columns.len() > 1 {
                checks.violation(
                    "columns",
                    format!("{} have the role {}: one column has it", columns.join(", "), role.name()),
                );
            }
        }
        for (index, key) in self.unique.iter().enumerate() {
            let distinct = key.iter().collect::<BTreeSet<_>>().len();
            let is_new = !self.unique[..index].contains(key);
            checks.require(is_new, &format!("unique[{index}]"), "that of an earlier key", "another one");
            checks.require(!key.is_empty(), &format!("unique[{index}]"), "empty", "one column or more");
            checks.require(distinct == key.len(), &format!("unique[{index}]"), key.join(", "), "different columns");
        }
        if let Some(age) = self.max_age {
            checks.positive("max_age", age);
        }
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_without_sense_is_refused_with_each_field() {
        let column = |name: &str| ColumnSchema { name: name.to_owned(), ..ColumnSchema::default() };
        let schema = DatasetSchema {
            columns: vec![
                ColumnSchema { min: Some(2.0), max: Some(1.0), role: Some(ColumnRole::Target), ..column("a") },
                ColumnSchema { min: Some(f64::NAN), role: Some(ColumnRole::Target), ..column("b") },
                ColumnSchema { unit: "x".repeat(1_001), ..column("a") },
            ],
            unique: vec![vec![], vec!["a".into(), "a".into()]],
            max_age: Some(Duration::ZERO),
        };
        let fields: Vec<String> =
            schema.check().expect_err("refused").into_iter().map(|violation| violation.field).collect();
        let expected = [
            "columns[a].max",
            "columns[b].min",
            "columns[a].name",
            "columns[a].unit",
            "columns",
            "unique[0]",
            "unique[1]",
            "max_age",
        ];
        assert_eq!(fields, expected);
        assert_eq!(DatasetSchema::default().check(), Ok(()));
    }
}
