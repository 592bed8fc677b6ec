use arrow::datatypes::{DataType, TimeUnit};
use rekindle_domain::ColumnKind;

use crate::Error;

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Unique in its table, and not empty.
    pub name: String,
    /// One of the five canonical types.
    pub data_type: DataType,
    /// Follows from the type: integers and floats are numeric, text is categorical.
    pub kind: ColumnKind,
    /// Whether the table has a row without a value in this column.
    pub nullable: bool,
}

/// The columns of a table, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// The columns.
    pub columns: Vec<Column>,
}

impl Schema {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }
}

/// The canonical type of an instant: milliseconds since 1970 in UTC.
pub fn canonical_timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// The kind of a canonical type; `None` for any other type.
pub(crate) fn kind_of(data_type: &DataType) -> Option<ColumnKind> {
    match data_type {
        DataType::Int64 | DataType::Float64 => Some(ColumnKind::Numeric),
        DataType::Utf8 => Some(ColumnKind::Categorical),
        DataType::Boolean => Some(ColumnKind::Boolean),
        DataType::Timestamp(TimeUnit::Millisecond, None) => Some(ColumnKind::Timestamp),
        _ => None,
    }
}

/// The name of a canonical type on the wire and in messages, e.g. `Timestamp(ms)`.
pub fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int64 => "Int64",
        DataType::Float64 => "Float64",
        DataType::Utf8 => "Utf8",
        DataType::Boolean => "Boolean",
        DataType::Timestamp(TimeUnit::Millisecond, None) => "Timestamp(ms)",
        _ => "another type",
    }
}

/// Refuses column names that are empty, have surrounding space, contain control characters, or occur twice.
pub(crate) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = std::collections::HashMap::new();
    for (index, name) in names.enumerate() {
        let position = index + 1;
        let problem = if name.is_empty() {
            Some("give it a name")
        } else if name.trim() != name {
            Some("remove the space around the name")
        } else if name.chars().any(char::is_control) {
            Some("remove the control character")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(Error::ColumnName { position, name: name.to_owned(), problem });
        }
        if let Some(first) = seen.insert(name, position) {
            return Err(Error::DuplicateColumn { name: name.to_owned(), first, second: position });
        }
    }
    Ok(())
}
