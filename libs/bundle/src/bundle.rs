//! A model bundle in memory: the manifest and the blobs that it names.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_domain::Digest;

use crate::{
    Error, Manifest, Reference,
    manifest::{BlobRef, CARD, MANIFEST, PROFILE},
};

/// Maximum total size of a bundle's blobs, in bytes. Larger bundles are refused before their blobs are fetched.
pub const MAX_BUNDLE_BYTES: u64 = 1 << 30;

/// A manifest and all of its blobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Describes the model and its blobs.
    pub manifest: Manifest,
    /// The blobs, by role.
    pub blobs: BTreeMap<String, Bytes>,
}

impl Bundle {
    /// Assembles a bundle. `manifest.blobs` is replaced by references to `blobs`.
    pub fn seal(mut manifest: Manifest, blobs: BTreeMap<String, Bytes>) -> Self {
        let refer = |bytes: &Bytes| BlobRef { digest: Digest::of(bytes), size: bytes.len() as u64 };
        manifest.blobs = blobs.iter().map(|(role, bytes)| (role.clone(), refer(bytes))).collect();
        Self { manifest, blobs }
    }

    /// The stored form of the manifest.
    pub fn manifest_bytes(&self) -> Result<Bytes, Error> {
        self.manifest.to_bytes()
    }

    /// The bundle's identity: the digest of its manifest.
    pub fn digest(&self) -> Result<Digest, Error> {
        Ok(Digest::of(&self.manifest_bytes()?))
    }

    /// Everything to store, the manifest last: when the manifest can be read, so can all blobs that it names.
    pub fn parts(&self) -> Result<Vec<Bytes>, Error> {
        let mut parts: Vec<Bytes> = self.blobs.values().cloned().collect();
        parts.push(self.manifest_bytes()?);
        Ok(parts)
    }

    /// Fetches a bundle by digest and verifies every blob.
    ///
    /// # Errors
    /// [`Error::Fetch`] if `fetch` fails, [`Error::Corrupt`] if a blob does not match its digest, [`Error::Invalid`] if
    /// intact blobs do not form a bundle.
    pub async fn load<F, R, E>(digest: &Digest, fetch: F) -> Result<Self, Error>
    where
        F: Fn(Digest) -> R,
        R: Future<Output = Result<Bytes, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let manifest = Manifest::from_bytes(&fetch_verified(*digest, &fetch).await?)?;
        check_blobs(&manifest)?;
        let mut blobs = BTreeMap::new();
        for (role, reference) in &manifest.blobs {
            let bytes = fetch_verified(reference.digest, &fetch).await?;
            if bytes.len() as u64 != reference.size {
                let problem = format!("blob {role} has {} bytes, expected {}", bytes.len(), reference.size);
                return Err(Error::invalid(MANIFEST, problem));
            }
            blobs.insert(role.clone(), bytes);
        }
        Ok(Self { manifest, blobs })
    }

    /// The blob of a role that the backend requires.
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

fn check_blobs(manifest: &Manifest) -> Result<(), Error> {
    let roles = manifest.backend.roles();
    if let Some(unknown) = manifest.blobs.keys().find(|role| !roles.contains(&role.as_str())) {
        return Err(Error::invalid(MANIFEST, format!("unknown blob {unknown:?}, expected {}", roles.join(", "))));
    }
    if let Some(absent) = roles.iter().find(|&&role| !manifest.blobs.contains_key(role)) {
        return Err(Error::invalid(MANIFEST, format!("blob {absent} is missing")));
    }
    let total = manifest.blobs.values().fold(0u64, |sum, blob| sum.saturating_add(blob.size));
    if total > MAX_BUNDLE_BYTES {
        return Err(Error::invalid(MANIFEST, format!("blobs have {total} bytes, at most {MAX_BUNDLE_BYTES} allowed")));
    }
    Ok(())
}
