//! The manifest: canonical JSON that describes a model and names its blobs. Its digest is the model version's digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_domain::{Architecture, Digest, Recipe, Task, recipe::FlatRecipe};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Backend, Error, Signature};

/// The version of the manifest format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Role of the network's weights: safetensors.
pub const WEIGHTS: &str = "weights";
/// Role of the feature pipeline: JSON of [`crate::pipeline::Pipeline`].
pub const PIPELINE: &str = "pipeline";
/// Role of the reference profile: JSON of [`crate::Reference`].
pub const PROFILE: &str = "profile";
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
    /// The classes, sorted; the last of two is the positive class. `None` for regression.
    pub classes: Option<Vec<String>>,
    /// The predicted column.
    pub target: String,
    /// The architecture of the network.
    pub architecture: Architecture,
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
}

/// Where a model comes from: sufficient to train it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The training run.
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
    /// The recipe, written in its flat form: manifests keep the form that their digest was computed from.
    #[serde(serialize_with = "flat")]
    pub recipe: Recipe,
}

fn flat<S: Serializer>(recipe: &Recipe, serializer: S) -> Result<S::Ok, S::Error> {
    FlatRecipe::from(recipe).serialize(serializer)
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
        Ok(manifest)
    }
}
