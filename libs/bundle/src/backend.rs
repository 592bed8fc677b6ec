//! The backends that compute a model's outputs.

use serde::{Deserialize, Serialize};

use crate::manifest::{CARD, LOSS_SAMPLE, MODEL, PIPELINE, PROFILE, WEIGHTS};

/// What computes the outputs of a model.
///
/// The manifest's key is `backend`. A manifest without the key names [`Backend::Network`]. That is the only spelling of
/// this backend: an explicit `"network"` is not canonical and is refused, because it would give one model two digests.
/// Every other backend is always written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// A feed-forward network behind a feature pipeline: [`crate::network::Network`].
    #[default]
    Network,
    /// A model in the ONNX format, computed by ONNX Runtime: [`crate::onnx`].
    Onnx,
}

impl Backend {
    /// The roles of the blobs that a bundle of any backend may have.
    pub const OPTIONAL_ROLES: &'static [&'static str] = &[LOSS_SAMPLE];

    /// Whether this is the backend of a manifest without the key.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The name of the platform in the metadata of the Open Inference Protocol.
    pub const fn platform(self) -> &'static str {
        match self {
            Self::Network => "rekindle_burn",
            Self::Onnx => "onnxruntime_onnx",
        }
    }

    /// The roles of the blobs that a bundle of this backend has; besides them, it may have those of [`Self::OPTIONAL_ROLES`], and no others.
    pub const fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Network => &[WEIGHTS, PIPELINE, PROFILE, CARD],
            Self::Onnx => &[MODEL, PROFILE, CARD],
        }
    }
}
