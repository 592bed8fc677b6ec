//! The rules of a schema, checked on the rows as they are read.

use std::collections::BTreeSet;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use chrono::{DateTime, SecondsFormat};
use rekindle_domain::dataset::{DatasetSchema, RuleViolation};

use super::{IngestError, IngestOptions, Part, columns::Columns, unique::Repeats};
use crate::{Error, schema::type_name};

/// Rows that a violation names.
const NAMED: usize = 10;
/// Characters of a value that a violation shows.
const VALUE_CHARS: usize = 40;

/// The rules, and the rows that break them so far.
pub(super) struct Rules {
    checks: Vec<Check>,
    keys: Vec<Key>,
    /// The index of the time column, and the half-open range of the rows that are kept.
    range: Option<(usize, i64, i64)>,
}

/// A rule about the values of one column.
struct Check {
    column: usize,
    rule: Rule,
    /// Values are not shown.
    sensitive: bool,
    broken: Broken,
}

enum Rule {
    Required,
    Min(f64),
    Max(f64),
    Allowed(BTreeSet<String>),
}

/// Columns whose values no two rows share.
struct Key {
    columns: Vec<usize>,
    names: Vec<String>,
    rows: Repeats,
}

/// Rows that break a rule.
#[derive(Default)]
struct Broken {
    name: String,
    /// What is wrong, e.g. `less than 0`.
    problem: String,
    rows: u64,
    first: Vec<String>,
}

impl Broken {
    fn new(name: String, problem: impl Into<String>) -> Self {
        Self { name, problem: problem.into(), ..Self::default() }
    }

    /// Adds a row, counted from 0, with its value if it is shown.
    fn add(&mut self, row: u64, value: impl FnOnce() -> Option<String>) {
        self.rows += 1;
        if self.first.len() < NAMED {
            let row = row + 1;
            self.first.push(value().map_or_else(|| format!("row {row}"), |value| format!("row {row} ({value})")));
        }
    }

    fn violation(self) -> Option<RuleViolation> {
        let Self { name, problem, rows, first } = self;
        let more = rows - first.len() as u64;
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        let are = if rows == 1 { "row is" } else { "rows are" };
        let message = format!("{rows} {are} {problem}: {}{more}", first.join(", "));
        (rows > 0).then_some(RuleViolation { rule: name, rows, message })
    }
}

impl Rules {
    /// The rules of the options.
    ///
    /// # Errors
    /// A column that does not exist; bounds of a column that is not numeric.
    pub(super) fn new(options: &IngestOptions, columns: &Columns) -> Result<Self, IngestError> {
        let range = columns.time().map(|(index, _)| {
            let millis = |time: chrono::DateTime<chrono::Utc>| time.timestamp_millis();
            (index, options.from.map_or(i64::MIN, millis), options.until.map_or(i64::MAX, millis))
        });
        let mut rules = Self { checks: Vec::new(), keys: Vec::new(), range };
        if let Some(schema) = &options.schema {
            rules.declare(schema, options, columns).map_err(Part::Schema.error())?;
        }
        Ok(rules)
    }

    fn declare(&mut self, schema: &DatasetSchema, options: &IngestOptions, columns: &Columns) -> Result<(), Error> {
        for column in &schema.columns {
            let index = columns.index(&column.name)?;
            let mut add = |field: &str, problem: String, rule| {
                let broken = Broken::new(format!("columns[{}].{field}", column.name), problem);
                self.checks.push(Check { column: index, rule, sensitive: column.sensitive, broken });
            };
            if column.required {
                add("required", "without a value".to_owned(), Rule::Required);
            }
            let found = columns.names_and_types().nth(index).map(|(_, data_type)| data_type.clone());
            let found = found.unwrap_or(DataType::Null);
            if column.min.or(column.max).is_some() && !matches!(found, DataType::Int64 | DataType::Float64) {
                let expected = "numbers, to which min and max apply";
                return Err(Error::Type { column: column.name.clone(), found: type_name(&found), expected });
            }
            if let Some(min) = column.min {
                add("min", format!("less than {min}"), Rule::Min(min));
            }
            if let Some(max) = column.max {
                add("max", format!("greater than {max}"), Rule::Max(max));
            }
            if !column.allowed.is_empty() {
                // As the values of the column are written: 1.0 and 1 are the same number.
                let written = |text: &String| match text.parse::<f64>() {
                    Ok(number) if found == DataType::Float64 => number.to_string(),
                    _ => text.clone(),
                };
                let allowed = column.allowed.iter().map(written).collect();
                add("allowed", "not among the allowed values".to_owned(), Rule::Allowed(allowed));
            }
        }
        for names in &schema.unique {
            let columns = names.iter().map(|name| columns.index(name)).collect::<Result<_, _>>()?;
            let rows = Repeats::new(&options.scratch);
            self.keys.push(Key { columns, names: names.clone(), rows });
        }
        Ok(())
    }

    /// Checks rows, before which there were `start`.
    pub(super) fn check(&mut self, batch: &RecordBatch, start: u64) -> Result<(), IngestError> {
        if self.checks.is_empty() && self.keys.is_empty() {
            return Ok(());
        }
        let is_kept = |row: usize| {
            self.range.is_none_or(|(time, from, until)| {
                let time = batch.column(time).as_primitive::<TimestampMillisecondType>().value(row);
                time >= from && time < until
            })
        };
        for check in &mut self.checks {
            let array = batch.column(check.column);
            for row in check.rule.broken_by(array).into_iter().filter(|&row| is_kept(row)) {
                let value = || (!check.sensitive && array.is_valid(row)).then(|| cut(&text(array, row)));
                check.broken.add(start + row as u64, value);
            }
        }
        let mut encoded = Vec::new();
        for key in &mut self.keys {
            let arrays: Vec<&ArrayRef> = key.columns.iter().map(|&column| batch.column(column)).collect();
            for row in (0..batch.num_rows()).filter(|&row| is_kept(row)) {
                if arrays.iter().any(|array| array.is_null(row)) {
                    continue;
                }
                encoded.clear();
                for array in &arrays {
                    let text = text(array, row);
                    encoded.extend_from_slice(&(text.len() as u64).to_le_bytes());
                    encoded.extend_from_slice(text.as_bytes());
                }
                key.rows.add(&encoded, start + row as u64).map_err(Part::Scratch.error())?;
            }
        }
        Ok(())
    }

    /// The rules that rows break.
    pub(super) fn finish(self) -> Result<Vec<RuleViolation>, IngestError> {
        let mut violations: Vec<RuleViolation> =
            self.checks.into_iter().filter_map(|check| check.broken.violation()).collect();
        for (index, key) in self.keys.into_iter().enumerate() {
            let (rows, first) = key.rows.finish(NAMED).map_err(Part::Scratch.error())?;
            let problem = format!("equal to an earlier one in {}", key.names.join(", "));
            let mut broken = Broken::new(format!("unique[{index}]"), problem);
            for (row, earlier) in first {
                broken.add(row, || Some(format!("as row {}", earlier + 1)));
            }
            broken.rows = rows;
            violations.extend(broken.violation());
        }
        Ok(violations)
    }
}

impl Rule {
    /// The rows of an array that break the rule.
    fn broken_by(&self, array: &ArrayRef) -> Vec<usize> {
        let rows = 0..array.len();
        match self {
            Self::Required if array.null_count() == 0 => Vec::new(),
            Self::Required => rows.filter(|&row| array.is_null(row)).collect(),
            Self::Min(min) => {
                rows.filter(|&row| number(array, row).is_some_and(|value| value.is_below(*min))).collect()
            }
            Self::Max(max) => {
                rows.filter(|&row| number(array, row).is_some_and(|value| value.is_above(*max))).collect()
            }
            Self::Allowed(allowed) => {
                rows.filter(|&row| array.is_valid(row) && !allowed.contains(&text(array, row))).collect()
            }
        }
    }
}

/// A number of a column. Integers are compared as such: not every one has a float.
enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    fn is_below(&self, min: f64) -> bool {
        match *self {
            Self::Integer(integer) => i128::from(integer) < min.ceil() as i128,
            Self::Float(float) => float < min,
        }
    }

    fn is_above(&self, max: f64) -> bool {
        match *self {
            Self::Integer(integer) => i128::from(integer) > max.floor() as i128,
            Self::Float(float) => float > max,
        }
    }
}

fn number(array: &ArrayRef, row: usize) -> Option<Number> {
    let is_valid = array.is_valid(row);
    match array.data_type() {
        DataType::Int64 => is_valid.then(|| Number::Integer(array.as_primitive::<Int64Type>().value(row))),
        DataType::Float64 => is_valid.then(|| Number::Float(array.as_primitive::<Float64Type>().value(row))),
        _ => None,
    }
}

/// A value of a canonical type as text; instants in RFC 3339.
fn text(array: &ArrayRef, row: usize) -> String {
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Timestamp(..) => {
            let millis = array.as_primitive::<TimestampMillisecondType>().value(row);
            let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
            time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
        }
        _ => array.as_string::<i32>().value(row).to_owned(),
    }
}

/// A value as a message shows it: cut, and without control characters.
fn cut(text: &str) -> String {
    let shown = text.chars().take(VALUE_CHARS).map(|char| if char.is_control() { '\u{fffd}' } else { char });
    let cut = if text.chars().nth(VALUE_CHARS).is_some() { "…" } else { "" };
    shown.chain(cut.chars()).collect()
}
