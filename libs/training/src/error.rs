//! Errors of training.

use rekindle_domain::validation::Violations;

/// Why a table cannot be trained on, or training ended without a model. Messages about data name the column and the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe is invalid.
    #[error("invalid recipe: {0}")]
    Recipe(Violations),
    /// A column is not usable for training.
    #[error("column {column}: {problem}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// The table has too few rows for training and validation.
    #[error("{rows} rows are too few for training: register a dataset with at least {needed}")]
    TooFewRows {
        /// Rows of the table.
        rows: usize,
        /// Minimum number of rows.
        needed: usize,
    },
    /// The caller stopped training.
    #[error("training was stopped after epoch {epoch}")]
    Stopped {
        /// The last completed epoch of the network in training, from 1; 0 if none is.
        epoch: u32,
    },
    /// The loss became infinite or undefined.
    #[error("the loss was not finite in epoch {epoch}: lower the recipe's learning_rate")]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
    },
    /// A checkpoint cannot be written or read.
    #[error("the checkpoint is not usable: {0}")]
    Checkpoint(String),
    /// The threads of a training cannot be started.
    #[error("cannot start the threads of a training: {0}")]
    Threads(String),
    /// burn failed to compute or return a tensor.
    #[error("failed to read {tensor} from burn")]
    Tensor {
        /// The tensor.
        tensor: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The rows cannot be encoded or scored, or the bundle cannot be sealed.
    #[error(transparent)]
    Bundle(#[from] rekindle_bundle::Error),
}

impl Error {
    pub(crate) fn column(column: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Column { column: column.into(), problem: problem.into() }
    }

    pub(crate) fn unreadable(tensor: &'static str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Tensor { tensor, source: error.into() }
    }
}
