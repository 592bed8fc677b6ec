//! Errors of bundles and of rows to predict.

use std::path::PathBuf;

use rekindle_domain::Digest;

/// Why a bundle cannot be read, or rows cannot be predicted or scored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input of the model is not among the columns.
    #[error("input {0} is missing: send every input that the model metadata lists")]
    InputMissing(String),
    /// A column has another type than its input.
    #[error("input {input} must be {expected}, got {got}")]
    InputType {
        /// The input.
        input: String,
        /// The Arrow type of the input.
        expected: String,
        /// The Arrow type of the column.
        got: String,
    },
    /// A missing value in an input that is not nullable.
    #[error("input {input}, row {row}: value is missing, but the input is not nullable: send a value")]
    ValueMissing {
        /// The input.
        input: String,
        /// The row, from 0.
        row: usize,
    },
    /// An infinity, or not-a-number in an input that is not nullable.
    #[error("input {input}, row {row}: {value} is not a finite number")]
    NotFinite {
        /// The input.
        input: String,
        /// The row, from 0.
        row: usize,
        /// The value.
        value: f64,
    },
    /// A whole number that the model's own type of the input cannot hold.
    #[error("input {input}, row {row}: {value} is out of range: the model takes 32-bit integers")]
    OutOfRange {
        /// The input.
        input: String,
        /// The row, from 0.
        row: usize,
        /// The value.
        value: i64,
    },
    /// ONNX Runtime failed to compute a prediction.
    #[error("the model failed: {problem}")]
    Run {
        /// What ONNX Runtime says.
        problem: String,
    },
    /// ONNX Runtime is not installed, or its library cannot be used.
    #[error(
        "ONNX models need ONNX Runtime, and its library {path} is not usable ({problem}): install it (pip install onnxruntime) and set \
         {variable} to the file onnxruntime/capi/libonnxruntime.so.* of that package",
        path = path.display(), variable = crate::onnx::library::VARIABLE
    )]
    NoLibrary {
        /// The library that was looked for.
        path: PathBuf,
        /// Why it cannot be used.
        problem: String,
    },
    /// An option of an import is missing, or does not fit the file.
    #[error("{field}: {problem}")]
    Import {
        /// The option.
        field: &'static str,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// The target column has no usable labels.
    #[error("column {column}: {problem}")]
    Target {
        /// The column.
        column: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A label that the model cannot predict.
    #[error("{given:?} is not a label of this model: expected {expected}")]
    Label {
        /// The label.
        given: String,
        /// The labels that the model can predict.
        expected: String,
    },
    /// A blob cannot be fetched.
    #[error("failed to fetch blob {digest} of the bundle")]
    Fetch {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A blob does not match its digest.
    #[error("blob {expected} of the bundle is corrupt: its content has digest {got}")]
    Corrupt {
        /// The digest in the bundle.
        expected: Digest,
        /// The digest of the fetched content.
        got: Digest,
    },
    /// A part of a bundle is intact but invalid, or does not fit the other parts.
    #[error("{part} of the bundle is invalid: {problem}")]
    Invalid {
        /// The part, e.g. `manifest` or `weights`.
        part: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    pub(crate) fn target(column: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Target { column: column.into(), problem: problem.into() }
    }

    pub(crate) fn invalid(part: &'static str, problem: impl ToString) -> Self {
        Self::Invalid { part, problem: problem.to_string() }
    }
}
