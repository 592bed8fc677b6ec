//! Bytes as stored in a profile: base64.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

/// Bytes in base64 without padding.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Base64Bytes(String);

impl Base64Bytes {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(BASE64.encode(bytes))
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        BASE64.decode(&self.0).map_err(|error| error.to_string())
    }
}
