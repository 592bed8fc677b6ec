//! The model bundle and the model that it describes.
//!
//! A [`Bundle`] is a canonical manifest that names content-addressed blobs: weights (safetensors), feature pipeline,
//! reference profile and model card. A [`Model`] is loaded from a bundle and predicts. The manifest names the
//! [`Backend`] that computes the model's outputs. The network backend runs in plain Rust, without a learning framework. The ONNX backend
//! loads ONNX Runtime at run time, with the first ONNX model; where it is not installed, everything else works.
//!
//! Training uses the same [`pipeline`], [`network`] and [`score`] as serving, so the validation metrics in a bundle
//! are those of the model that serves.
//!
//! Out of scope: training, executable formats, archives, URLs, network access and the clock.
//!
//! Invariants:
//! - every blob is verified against its digest before use;
//! - one model has one manifest encoding, and so one digest;
//! - the prediction of a row by a network has the same bits in every batch; by an ONNX model, the same up to [`onnx::TOLERANCE`].

mod backend;
mod bundle;
pub mod card;
pub mod column;
pub mod dependence;
mod engine;
mod error;
pub mod explanation;
pub mod importance;
mod loss_sample;
pub mod manifest;
mod model;
pub mod network;
pub mod onnx;
mod outlier;
pub mod pipeline;
pub mod prediction;
pub mod reference;
mod repeated;
pub mod score;
pub mod signature;
pub mod slice;
pub mod target;
pub mod validation;

pub use backend::Backend;
pub use bundle::{Bundle, MAX_BUNDLE_BYTES};
pub use error::Error;
pub use explanation::Explanation;
pub use loss_sample::LossSample;
pub use manifest::{Manifest, Provenance};
pub use model::Model;
pub use outlier::OutlierScorer;
pub use prediction::{Prediction, Values};
pub use reference::Reference;
pub use repeated::repeated_rows;
pub use signature::{Datatype, Input, Output, Signature};
pub use target::{Label, Targets};
pub use validation::{Validation, ValidationRows};
