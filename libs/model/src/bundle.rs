//! A model bundle in memory: the manifest and the blobs that it names.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_domain::Digest;

use crate::{
    Error, Manifest, Reference,
    manifest::{BlobRef, CARD, PIPELINE, PROFILE, WEIGHTS},
};

/// Blobs of one bundle together, in bytes, beyond which it is not fetched.
pub const MAX_BUNDLE_BYTES: u64 = 1 << 30;

/// A manifest and its blobs, whole and verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// What the blobs are.
    pub manifest: Manifest,
    /// The blobs, by role.
    pub blobs: BTreeMap<String, Bytes>,
}

impl Bundle {
    /// Puts a bundle together; whatever `manifest.blobs` held is replaced by references to `blobs`.
    pub fn seal(mut manifest: Manifest, blobs: BTreeMap<String, Bytes>) -> Self {
        let refer = |bytes: &Bytes| BlobRef { digest: Digest::of(bytes), size: bytes.len() as u64 };
        manifest.blobs = blobs.iter().map(|(role, bytes)| (role.clone(), refer(bytes))).collect();
        Self { manifest, blobs }
    }

    /// The manifest as it is stored.
    pub fn manifest_bytes(&self) -> Result<Bytes, Error> {
        self.manifest.to_bytes()
    }

    /// The bundle's identity: the digest of its manifest.
    pub fn digest(&self) -> Result<Digest, Error> {
        Ok(Digest::of(&self.manifest_bytes()?))
    }

    /// Everything to be stored, the manifest last: who can read the manifest can then read all that it names.
    pub fn parts(&self) -> Result<Vec<Bytes>, Error> {
        let mut parts: Vec<Bytes> = self.blobs.values().cloned().collect();
        parts.push(self.manifest_bytes()?);
        Ok(parts)
    }

    /// Fetches a bundle by digest, and verifies each byte of it.
    ///
    /// Fails with [`Error::Fetch`] where `fetch` does, [`Error::Corrupt`] where bytes are not what their digest says,
    /// and [`Error::Invalid`] where intact parts do not make a bundle.
    pub async fn load<F, R, E>(digest: &Digest, fetch: F) -> Result<Self, Error>
    where
        F: Fn(Digest) -> R,
        R: Future<Output = Result<Bytes, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let manifest = Manifest::from_bytes(&fetch_verified(*digest, &fetch).await?)?;
        check_roles(&manifest)?;
        let mut blobs = BTreeMap::new();
        for (role, reference) in &manifest.blobs {
            let bytes = fetch_verified(reference.digest, &fetch).await?;
            if bytes.len() as u64 != reference.size {
                return Err(Error::invalid("manifest", format!("the size of {role} is not {}", reference.size)));
            }
            blobs.insert(role.clone(), bytes);
        }
        Ok(Self { manifest, blobs })
    }

    /// The bytes of a role that every bundle has.
    pub(crate) fn blob(&self, role: &'static str) -> Result<&Bytes, Error> {
        self.blobs.get(role).ok_or_else(|| Error::invalid(role, "the bundle has no such blob"))
    }

    /// The reference profile of features and predictions.
    pub fn reference(&self) -> Result<Reference, Error> {
        Reference::from_bytes(self.blob(PROFILE)?)
    }

    /// The model card, in Markdown.
    pub fn card(&self) -> Result<&str, Error> {
        std::str::from_utf8(self.blob(CARD)?).map_err(|error| Error::invalid(CARD, error))
    }
}

async fn fetch_verified<F, R, E>(digest: Digest, fetch: &F) -> Result<Bytes, Error>
where
    F: Fn(Digest) -> R,
    R: Future<Output = Result<Bytes, E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = fetch(digest).await.map_err(|error| Error::Fetch { digest, source: error.into() })?;
    let got = Digest::of(&bytes);
    if got == digest { Ok(bytes) } else { Err(Error::Corrupt { expected: digest, got }) }
}

fn check_roles(manifest: &Manifest) -> Result<(), Error> {
    const ROLES: [&str; 4] = [WEIGHTS, PIPELINE, PROFILE, CARD];
    if let Some(unknown) = manifest.blobs.keys().find(|role| !ROLES.contains(&role.as_str())) {
        return Err(Error::invalid("manifest", format!("it names a blob of unknown role {unknown:?}")));
    }
    if let Some(absent) = ROLES.iter().find(|&&role| !manifest.blobs.contains_key(role)) {
        return Err(Error::invalid("manifest", format!("it names no {absent}")));
    }
    let total = manifest.blobs.values().fold(0u64, |sum, blob| sum.saturating_add(blob.size));
    if total > MAX_BUNDLE_BYTES {
        return Err(Error::invalid("manifest", format!("{total} bytes are more than {MAX_BUNDLE_BYTES}")));
    }
    Ok(())
}
