//! The manifest: canonical JSON that describes a model and names its blobs. Its digest is the model version's digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_domain::{Architecture, Digest, Recipe, Task, recipe::FlatRecipe};
use rekindle_statistics::paired;
use serde::{Deserialize, Serialize, Serializer};

use crate::{Backend, Error, Signature, onnx::Onnx};

/// The version of the manifest format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Role of the network's weights: safetensors.
pub const WEIGHTS: &str = "weights";
/// Role of a model in the ONNX format: the protobuf message `ModelProto`.
pub const MODEL: &str = "model";
/// Role of the feature pipeline: JSON of [`crate::pipeline::Pipeline`].
pub const PIPELINE: &str = "pipeline";
/// Role of the reference profile: JSON of [`crate::Reference`].
pub const PROFILE: &str = "profile";
/// Role of the sample of validation rows with their losses: JSON of [`crate::LossSample`]. Optional.
pub const LOSS_SAMPLE: &str = "loss_sample";
/// Role of the model card: Markdown.
pub const CARD: &str = "card";
/// The manifest itself, as a part that errors name.
pub(crate) const MANIFEST: &str = "manifest";

/// A model without the content of its blobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What computes the outputs.
    #[serde(default, skip_serializing_if = "Backend::is_default")]
    pub backend: Backend,
    /// The type of prediction.
    pub task: Task,
    /// The classes; the last of two is the positive class. Sorted, but for ONNX in the order of the model's scores. `None` for regression.
    pub classes: Option<Vec<String>>,
    /// The predicted column.
    pub target: String,
    /// The architecture of the network, for [`Backend::Network`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// How rows and scores are those of the file, for [`Backend::Onnx`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnx: Option<Box<Onnx>>,
    /// Inputs and outputs.
    pub signature: Signature,
    /// The blobs, by role.
    pub blobs: BTreeMap<String, BlobRef>,
    /// Metrics on the validation rows, by name.
    pub metrics: BTreeMap<String, f64>,
    /// The expected loss.
    pub reference: ReferenceLoss,
    /// The origin of the model.
    pub provenance: Provenance,
}

/// A reference to a blob by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// The digest of the content.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// Loss per row on the validation rows: log loss in nats, or squared error in the target's units squared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceLoss {
    /// Mean loss of a row.
    pub loss_mean: f64,
    /// Sample standard deviation of the loss of a row.
    pub loss_std: f64,
    /// The number of validation rows.
    pub rows: u64,
    /// Sample standard deviation of the means of [`BATCHES`](paired::BATCHES) batches of rows in order of time; `None` if the rows have no time,
    /// or are fewer than [`LEAST_ROWS_IN_BATCHES`](Self::LEAST_ROWS_IN_BATCHES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_std: Option<f64>,
}

impl ReferenceLoss {
    /// The fewest rows whose batch means are compared.
    pub const LEAST_ROWS_IN_BATCHES: usize = paired::LEAST_ROWS_IN_BATCHES;

    /// The expected loss by the losses of rows in order of time.
    pub fn in_order(losses: &[f64]) -> Self {
        let means = Some(losses).filter(|losses| losses.len() >= Self::LEAST_ROWS_IN_BATCHES);
        let means = means.and_then(|losses| paired::batch_means(losses).ok());
        Self { batch_std: means.map(|means| Self::of(&means).loss_std), ..Self::of(losses) }
    }

    /// The expected loss by the losses of rows; of no rows, 0.
    pub fn of(losses: &[f64]) -> Self {
        let rows = losses.len() as f64;
        let loss_mean = losses.iter().sum::<f64>() / rows.max(1.0);
        let squares = losses.iter().map(|loss| (loss - loss_mean).powi(2)).sum::<f64>();
        let loss_std = (squares / (rows - 1.0).max(1.0)).sqrt();
        Self { loss_mean, loss_std, rows: losses.len() as u64, batch_std: None }
    }
}

/// Where a model comes from: sufficient to train it again, unless it was imported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The training run; empty for an imported model.
    pub run_id: String,
    /// Content digests of the dataset versions with the training rows.
    pub dataset_digests: Vec<Digest>,
    /// The code revision of the training program.
    pub code_revision: String,
    /// The recipe's seed.
    pub seed: u64,
    /// The library and platform whose arithmetic determines the weights.
    pub toolchain: String,
    /// Exclusive upper bound of the event times used for training and early stopping, in milliseconds since 1970 UTC.
    /// `None` if the rows have no time column.
    pub trained_until: Option<i64>,
    /// The recipe, written in its flat form: manifests keep the form that their digest was computed from. `None` for an imported model.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "flat")]
    pub recipe: Option<Box<Recipe>>,
}

fn flat<S: Serializer>(recipe: &Option<Box<Recipe>>, serializer: S) -> Result<S::Ok, S::Error> {
    recipe.as_deref().map(FlatRecipe::from).serialize(serializer)
}

impl Manifest {
    /// The canonical JSON (RFC 8785).
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        serde_json_canonicalizer::to_vec(self).map(Bytes::from).map_err(|error| Error::invalid(MANIFEST, error))
    }

    /// Parses a manifest. Bytes that differ from the output of [`Self::to_bytes`] are refused, so that one model has
    /// one digest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| Error::invalid(MANIFEST, error))?;
        if manifest.format_version != FORMAT_VERSION {
            let problem = format!("format_version is {}, expected {FORMAT_VERSION}", manifest.format_version);
            return Err(Error::invalid(MANIFEST, problem));
        }
        if manifest.to_bytes()?.as_ref() != bytes {
            return Err(Error::invalid(MANIFEST, "not canonical JSON (RFC 8785)"));
        }
        manifest.check_sections()?;
        Ok(manifest)
    }

    /// Each backend has its own section and no other's.
    fn check_sections(&self) -> Result<(), Error> {
        let of_network = self.architecture.is_some() && self.provenance.recipe.is_some() && self.onnx.is_none();
        let of_onnx = self.architecture.is_none() && self.onnx.is_some();
        match self.backend {
            Backend::Network if !of_network => {
                Err(Error::invalid(MANIFEST, "a network has architecture and provenance.recipe, and no onnx"))
            }
            Backend::Onnx if !of_onnx => Err(Error::invalid(MANIFEST, "an ONNX model has onnx, and no architecture")),
            _ => Ok(()),
        }
    }
}
