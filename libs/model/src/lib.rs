//! The model bundle: what it holds, how it is learnt from rows, and how it predicts.
//!
//! A [`Bundle`] is a canonical manifest that names content-addressed blobs: weights (safetensors), feature
//! pipeline, reference profile and model card. [`train::train`] makes one from a table with burn; [`Model`] answers
//! from one. Both encode rows with the same [`pipeline`] and compute validation metrics with the same [`network`],
//! so that what was measured while training is what is served.
//!
//! Refused here: executable formats, archives, URLs, the network, and the clock.
//!
//! Invariants:
//! - the same table, recipe and provenance give the same bundle digest on the same kind of machine;
//! - nothing is used from a bundle whose digests were not verified;
//! - a row is answered with the same bits whichever rows lie beside it.

pub mod bundle;
mod card;
mod column;
mod error;
mod learner;
pub mod manifest;
mod model;
pub mod network;
pub mod pipeline;
pub mod prediction;
pub mod reference;
mod score;
pub mod signature;
pub mod target;
pub mod train;

pub use bundle::Bundle;
pub use error::Error;
pub use manifest::{Manifest, Provenance};
pub use model::Model;
pub use prediction::{Prediction, Truth, Values};
pub use reference::Reference;
pub use signature::{Datatype, Input, Output, Signature};
