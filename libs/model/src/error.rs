//! What can go wrong with a bundle, a training table or a request's rows.

use rekindle_domain::{Digest, recipe::InvalidRecipe};

/// Everything that this crate refuses. Messages about data name the column and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe is out of bounds.
    #[error(transparent)]
    Recipe(#[from] InvalidRecipe),
    /// The table cannot be learnt from.
    #[error("column {column}: {problem}")]
    Training {
        /// The column to blame.
        column: String,
        /// What is wrong with it, and the fix.
        problem: String,
    },
    /// There are not enough rows to learn from and to validate on.
    #[error("{rows} rows are too few to train on: at least {needed} are needed, register a dataset with more")]
    TooFewRows {
        /// Rows in the table.
        rows: usize,
        /// Rows that are needed.
        needed: usize,
    },
    /// Training was stopped by the caller.
    #[error("training was stopped after epoch {epoch}")]
    Stopped {
        /// The last epoch that was finished, from 1.
        epoch: u32,
    },
    /// The loss became infinite or undefined.
    #[error("the loss was no longer finite in epoch {epoch}: lower the recipe's learning_rate")]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
    },
    /// An input of the model is not among the columns.
    #[error("input {0} is missing: send every input that the model's metadata lists")]
    InputMissing(String),
    /// A column has another type than the input it feeds.
    #[error("input {input} must be {expected}, got {got}")]
    InputType {
        /// The input.
        input: String,
        /// The Arrow type that the signature asks for.
        expected: String,
        /// The Arrow type that came.
        got: String,
    },
    /// A missing value where training had none.
    #[error("input {input}, row {row}: a value is required, since no training row lacked one")]
    ValueMissing {
        /// The input.
        input: String,
        /// The row, from 0.
        row: usize,
    },
    /// Infinity, or not a number where a value is required.
    #[error("input {input}, row {row}: {value} is not a finite number")]
    NotFinite {
        /// The input.
        input: String,
        /// The row, from 0.
        row: usize,
        /// What came.
        value: f64,
    },
    /// A truth that the model could not have predicted.
    #[error("{given:?} is not a truth for this model: expected {expected}")]
    Truth {
        /// What came.
        given: String,
        /// What would do.
        expected: String,
    },
    /// A blob could not be fetched.
    #[error("blob {digest} of the bundle could not be fetched")]
    Fetch {
        /// The blob.
        digest: Digest,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes that are not what their digest says.
    #[error("blob {expected} of the bundle is corrupt: its bytes have digest {got}")]
    Corrupt {
        /// The digest that the bundle names.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// A bundle whose parts are all intact, and yet do not make a model.
    #[error("{part} of the bundle is invalid: {problem}")]
    Invalid {
        /// The part, e.g. `manifest` or `weights`.
        part: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    pub(crate) fn training(column: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Training { column: column.into(), problem: problem.into() }
    }

    pub(crate) fn invalid(part: &'static str, problem: impl ToString) -> Self {
        Self::Invalid { part, problem: problem.to_string() }
    }
}
