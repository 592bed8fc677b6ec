//! Reference data: profiles of features and predictions that drift is measured against.

use bytes::Bytes;
use rekindle_statistics::profile::ColumnProfile;
use serde::{Deserialize, Serialize};

use crate::{Error, manifest::PROFILE};

/// Profiles of all rows that the model was trained on, validation rows included. Timestamps have no profile, because their
/// distribution always changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// One per feature that is not a timestamp, in the order of the signature.
    pub features: Vec<FeatureProfile>,
    /// The profile of the prediction: the probability of the positive class, the predicted class, or the predicted number.
    pub prediction: ColumnProfile,
}

/// The profile of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureProfile {
    /// The input's name.
    pub name: String,
    /// The profile of its values.
    pub profile: ColumnProfile,
}

impl Reference {
    /// The profile of a feature; `None` if it has none.
    pub fn feature(&self, name: &str) -> Option<&ColumnProfile> {
        self.features.iter().find(|feature| feature.name == name).map(|feature| &feature.profile)
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        serde_json_canonicalizer::to_vec(self).map(Bytes::from).map_err(|error| Error::invalid(PROFILE, error))
    }

    /// Parses the stored form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(PROFILE, error))
    }
}
