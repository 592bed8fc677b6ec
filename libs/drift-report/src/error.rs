/// Why a report cannot be built or rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings are out of range.
    #[error("cannot compare the profiles")]
    Comparison(#[from] rekindle_statistics::Error),
    /// A comparison that was computed from another reference profile.
    #[error(
        "column {position} of the comparison is {found:?}, but {expected:?} in the reference profile; pass the profiles that were compared"
    )]
    ColumnMismatch {
        /// Position of the column, counted from 0.
        position: usize,
        /// Its name in the comparison; `None` if the comparison has fewer columns.
        found: Option<String>,
        /// Its name in the reference profile; `None` if the profile has fewer columns.
        expected: Option<String>,
    },
    /// A column that the reference data do not have.
    #[error("no column {name:?} in the reference data; its columns are: {columns}")]
    UnknownColumn {
        /// The column given.
        name: String,
        /// The columns of the reference.
        columns: String,
    },
    /// An importance that is negative or not finite.
    #[error("the importance of {name:?} is {importance}; expected a finite number of at least 0")]
    Importance {
        /// The column.
        name: String,
        /// The importance given.
        importance: f64,
    },
    /// A prediction column without a finite number in any row.
    #[error("column {name:?} has no numbers; name a column of predicted values or scores")]
    NotNumeric {
        /// The column given.
        name: String,
    },
    /// Rows that cannot be converted to numbers.
    #[error("cannot read the rows of column {name:?} as numbers")]
    Rows {
        /// The column.
        name: String,
        /// Why.
        source: arrow::error::ArrowError,
    },
    /// The report cannot be rendered as JSON.
    #[error("cannot render the report as JSON")]
    Json(#[from] serde_json::Error),
    /// The report cannot be rendered as HTML.
    #[error("cannot render the report as HTML")]
    Html(#[from] askama::Error),
}
