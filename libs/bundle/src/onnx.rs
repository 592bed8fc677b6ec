//! Models in the ONNX format, computed by ONNX Runtime.
//!
//! A file is checked before ONNX Runtime reads it ([`File::parse`]): in memory that does not depend on what the file claims, it is refused
//! if it refers to other files, runs operators of other domains than `ai.onnx` and `ai.onnx.ml`, has control flow or functions, or is
//! larger than [`MAX_FILE_BYTES`]. [`import`] makes a bundle of it. ONNX Runtime itself is a library that is loaded at run time
//! ([`library`]).
//!
//! Rows are given as one tensor per feature, or as one float tensor of all features ([`InputForm`]). A missing number is NaN and a missing
//! text is empty. Doubles are rounded to the element type of the file. Scores are mapped to the outputs of the signature by the task
//! ([`Scores`]); the label is the class with the largest score, and a label output of the file is not computed.
//!
//! The answer to a row never depends on what the other rows of its batch are, and depends on their number by rounding alone
//! ([`TOLERANCE`]): kernels choose the order of their sums by the shape of the batch. A model of which this is not true is refused.

mod external;
mod feed;
mod file;
mod import;
pub mod library;
mod probe;
mod session;
mod tensor;
mod wire;

pub use rekindle_domain::model_version::Scores;
use serde::{Deserialize, Serialize};

pub use self::{
    external::embed,
    file::{Element, File, MAX_FILE_BYTES, MAX_NODES, Outlet},
    import::{Data, Import, Training, import},
};
pub(crate) use self::{
    probe::check as check_rows,
    session::{Sessions, loaded_bytes},
};

/// How far the score of a row may differ between two batches: this share of the score, and at least this much.
pub const TOLERANCE: f32 = 1e-5;

/// How rows and scores are those of the file: the section `onnx` of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Onnx {
    /// How the inputs of the signature are given to the file's.
    pub inputs: InputForm,
    /// The output of the file that has the scores.
    pub output: String,
    /// What the scores are.
    pub scores: Scores,
}

/// How the inputs of the signature are given to the inputs of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputForm {
    /// One tensor per feature, `[n]` or `[n, 1]`, with the feature's name.
    Columns,
    /// One tensor of floats or doubles, `[n, features]`, with the features in the order of the signature. A boolean is 0 or 1.
    Matrix {
        /// The name of the tensor.
        tensor: String,
    },
}
