//! The manifest: canonical JSON that names every part of a bundle. Its digest is the model version's digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_domain::{Architecture, Digest, Recipe, Task};
use serde::{Deserialize, Serialize};

use crate::{Error, Signature};

/// The version of the manifest's format that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Role of the network's weights: safetensors.
pub const WEIGHTS: &str = "weights";
/// Role of the feature pipeline: JSON of [`crate::pipeline::Pipeline`].
pub const PIPELINE: &str = "pipeline";
/// Role of the reference profile: JSON of [`crate::Reference`].
pub const PROFILE: &str = "profile";
/// Role of the model card: Markdown.
pub const CARD: &str = "card";

/// Everything about a model but the bytes of its blobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What is predicted.
    pub task: Task,
    /// The classes, sorted; the last of two is the positive one. `None` for regression.
    pub classes: Option<Vec<String>>,
    /// The column that was learnt.
    pub target: String,
    /// The family of models.
    pub architecture: Architecture,
    /// What the model takes and gives.
    pub signature: Signature,
    /// The blobs, by role.
    pub blobs: BTreeMap<String, BlobRef>,
    /// Metrics of the validation rows, by name.
    pub metrics: BTreeMap<String, f64>,
    /// The loss that is to be expected.
    pub reference: ReferenceLoss,
    /// Where the model comes from.
    pub provenance: Provenance,
}

/// A blob by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// Of the bytes.
    pub digest: Digest,
    /// Bytes.
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
    /// Rows.
    pub rows: u64,
}

/// Where a model comes from: enough to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The run that made it.
    pub run_id: String,
    /// Content digests of the dataset versions it was made from.
    pub dataset_digests: Vec<Digest>,
    /// The revision of the code that made it.
    pub code_revision: String,
    /// The recipe's seed.
    pub seed: u64,
    /// The libraries whose arithmetic decides the weights.
    pub toolchain: String,
    /// No row at or after this event time was seen, neither for learning nor for deciding when to stop; milliseconds
    /// since 1970 UTC. `None` where the rows have no time.
    pub trained_until: Option<i64>,
    /// The recipe.
    pub recipe: Recipe,
}

impl Manifest {
    /// The canonical JSON (RFC 8785).
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        serde_json_canonicalizer::to_vec(self).map(Bytes::from).map_err(|error| Error::invalid("manifest", error))
    }

    /// Reads a manifest. Bytes that are not exactly what [`Self::to_bytes`] gives are refused, so that one model has
    /// one digest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| Error::invalid("manifest", error))?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(Error::invalid(
                "manifest",
                format!("format_version is {}, this program reads {FORMAT_VERSION}", manifest.format_version),
            ));
        }
        if manifest.to_bytes()?.as_ref() != bytes {
            return Err(Error::invalid("manifest", "it is not in canonical form"));
        }
        Ok(manifest)
    }
}
