//! Columns: what a value of a column means.

use serde::{Deserialize, Serialize};

/// The kind of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Numbers, whole or not.
    Numeric,
    /// Texts out of a set.
    Categorical,
    /// Instants.
    Timestamp,
    /// True or false.
    Boolean,
}

impl ColumnKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Numeric, Self::Categorical, Self::Timestamp, Self::Boolean];

    /// The name in configuration, tables and JSON, e.g. `numeric`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Categorical => "categorical",
            Self::Timestamp => "timestamp",
            Self::Boolean => "boolean",
        }
    }
}
