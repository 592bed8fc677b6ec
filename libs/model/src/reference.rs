//! What features and predictions looked like when the model was made: what drift is measured against.

use bytes::Bytes;
use rekindle_statistics::profile::ColumnProfile;
use serde::{Deserialize, Serialize};

use crate::{Error, manifest::PROFILE};

/// Profiles over every row that the model was made from, those held out for validation included. Timestamps have none:
/// time always moves on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// One per feature but timestamps, in the order of the signature.
    pub features: Vec<FeatureProfile>,
    /// Of the prediction: the probability of the positive class, the predicted class, or the predicted number.
    pub prediction: ColumnProfile,
}

/// The profile of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureProfile {
    /// The input's name.
    pub name: String,
    /// What its values looked like.
    pub profile: ColumnProfile,
}

impl Reference {
    /// The profile of a feature.
    pub fn feature(&self, name: &str) -> Option<&ColumnProfile> {
        self.features.iter().find(|feature| feature.name == name).map(|feature| &feature.profile)
    }

    /// The reference as it is stored.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        serde_json_canonicalizer::to_vec(self).map(Bytes::from).map_err(|error| Error::invalid(PROFILE, error))
    }

    /// Reads a reference.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(PROFILE, error))
    }
}
