//! A model bundle in memory: the manifest and the blobs that it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    task::Poll,
};

use bytes::Bytes;
use rekindle_domain::{ColumnKind, Digest};
use sha2::{Digest as _, Sha256};

use crate::{
    Backend, Error, LossSample, Manifest, Model, Output, Reference,
    manifest::{BlobRef, CARD, LOSS_SAMPLE, MANIFEST, MODEL, PIPELINE, PROFILE, WEIGHTS},
    onnx,
};

/// Maximum total size of a bundle's blobs, in bytes. Larger bundles are refused before their blobs are fetched.
pub const MAX_BUNDLE_BYTES: u64 = 1 << 30;
/// Bytes that are hashed without a pause: about half a millisecond.
const HASHED_AT_ONCE: usize = 1 << 20;
/// Maximum size of a manifest, in bytes.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Maximum size of the blob of a role, in bytes: of those that take many times more memory once they are parsed.
fn max_bytes(role: &str) -> u64 {
    match role {
        PIPELINE | PROFILE => 64 << 20,
        CARD => 1 << 20,
        LOSS_SAMPLE => LossSample::MOST_BYTES as u64,
        MODEL => onnx::MAX_FILE_BYTES,
        _ => MAX_BUNDLE_BYTES,
    }
}

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

    /// Fetches a bundle by digest and verifies every blob. `fetch` gets the digest of a blob and the bytes that it may have at most;
    /// it need not read one that has more.
    ///
    /// # Errors
    /// [`Error::Fetch`] if `fetch` fails, [`Error::Corrupt`] if a blob does not match its digest, [`Error::Invalid`] if
    /// intact blobs do not form a bundle.
    pub async fn load<F, R, E>(digest: &Digest, fetch: F) -> Result<Self, Error>
    where
        F: Fn(Digest, u64) -> R,
        R: Future<Output = Result<Bytes, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let manifest = Manifest::from_bytes(&fetch_verified(*digest, MAX_MANIFEST_BYTES, &fetch).await?)?;
        check_blobs(&manifest)?;
        let mut blobs = BTreeMap::new();
        for (role, reference) in &manifest.blobs {
            let bytes = fetch_verified(reference.digest, reference.size, &fetch).await?;
            if bytes.len() as u64 != reference.size {
                let problem = format!("blob {role} has {} bytes, expected {}", bytes.len(), reference.size);
                return Err(Error::invalid(MANIFEST, problem));
            }
            blobs.insert(role.clone(), bytes);
        }
        Ok(Self { manifest, blobs })
    }

    /// Checks every part of the bundle, and that the parts fit each other: that a replica can load it. Whether its predictions are finite
    /// only the replica finds out, which warms it up.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first part that is not valid.
    pub fn validate(&self) -> Result<(), Error> {
        self.card()?;
        let (model, reference) = (Model::from_bundle(self)?, self.reference()?);
        check_signature(&self.manifest)?;
        check_reference(&self.manifest, &reference)?;
        self.loss_sample()?;
        let typed = model.predict_default();
        typed
            .map(drop)
            .map_err(|error| Error::invalid(MANIFEST, format!("its signature does not fit the model: {error}")))?;
        model.check_rows()
    }

    /// About what the loaded model takes of memory, in bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a model in the ONNX format cannot be read.
    pub fn loaded_bytes(&self) -> Result<u64, Error> {
        match self.manifest.backend {
            // Weights are kept as they are, and vocabularies in tables of several times their size.
            Backend::Network => {
                let bytes = |role| self.blob(role).map(|blob| blob.len() as u64);
                Ok(bytes(WEIGHTS)?.saturating_add(4 * bytes(PIPELINE)?))
            }
            Backend::Onnx => Ok(onnx::loaded_bytes(&onnx::File::parse(self.blob(MODEL)?)?)),
        }
    }

    /// The blob of a role that the backend requires.
    pub(crate) fn blob(&self, role: &'static str) -> Result<&Bytes, Error> {
        self.blobs.get(role).ok_or_else(|| Error::invalid(role, "the bundle has no such blob"))
    }

    /// The reference profile of features and predictions.
    pub fn reference(&self) -> Result<Reference, Error> {
        Reference::from_bytes(self.blob(PROFILE)?)
    }

    /// The sample of the validation rows, if the bundle has one.
    pub fn loss_sample(&self) -> Result<Option<LossSample>, Error> {
        self.blobs.get(LOSS_SAMPLE).map(|bytes| LossSample::from_bytes(bytes)).transpose()
    }

    /// The model card, in Markdown.
    pub fn card(&self) -> Result<&str, Error> {
        std::str::from_utf8(self.blob(CARD)?).map_err(|error| Error::invalid(CARD, error))
    }
}

async fn fetch_verified<F, R, E>(digest: Digest, at_most: u64, fetch: &F) -> Result<Bytes, Error>
where
    F: Fn(Digest, u64) -> R,
    R: Future<Output = Result<Bytes, E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = fetch(digest, at_most).await.map_err(|error| Error::Fetch { digest, source: error.into() })?;
    let got = digest_of(&bytes).await;
    if got == digest { Ok(bytes) } else { Err(Error::Corrupt { expected: digest, got }) }
}

/// The digest of bytes, with a pause for other tasks after every part: hashing a large model takes longer than they may wait.
async fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    for part in bytes.chunks(HASHED_AT_ONCE) {
        hasher.update(part);
        let mut has_paused = false;
        poll_fn(|context| {
            if has_paused {
                return Poll::Ready(());
            }
            has_paused = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
    Digest::from_bytes(hasher.finalize().into())
}

fn check_blobs(manifest: &Manifest) -> Result<(), Error> {
    let roles = manifest.backend.roles();
    let is_known = |role: &str| roles.contains(&role) || Backend::OPTIONAL_ROLES.contains(&role);
    if let Some(unknown) = manifest.blobs.keys().find(|role| !is_known(role)) {
        return Err(Error::invalid(MANIFEST, format!("unknown blob {unknown:?}, expected {}", roles.join(", "))));
    }
    if let Some(absent) = roles.iter().find(|&&role| !manifest.blobs.contains_key(role)) {
        return Err(Error::invalid(MANIFEST, format!("blob {absent} is missing")));
    }
    for (role, blob) in &manifest.blobs {
        let (size, limit) = (blob.size, max_bytes(role));
        if size > limit {
            return Err(Error::invalid(MANIFEST, format!("blob {role} has {size} bytes, at most {limit} allowed")));
        }
    }
    let total = manifest.blobs.values().fold(0u64, |sum, blob| sum.saturating_add(blob.size));
    if total > MAX_BUNDLE_BYTES {
        return Err(Error::invalid(MANIFEST, format!("blobs have {total} bytes, at most {MAX_BUNDLE_BYTES} allowed")));
    }
    Ok(())
}

/// The outputs follow from the task, and the inputs have a name each.
fn check_signature(manifest: &Manifest) -> Result<(), Error> {
    let signature = &manifest.signature;
    let classes = manifest.classes.as_ref().map_or(0, Vec::len);
    if signature.outputs != Output::of_task(manifest.task, classes) {
        return Err(Error::invalid(MANIFEST, format!("signature.outputs are not those of {:?}", manifest.task)));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = signature.inputs.iter().find(|input| !names.insert(input.name.as_str())) {
        return Err(Error::invalid(MANIFEST, format!("signature.inputs has {:?} twice", twice.name)));
    }
    match &signature.time_input {
        Some(time) if !names.contains(time.as_str()) => {
            Err(Error::invalid(MANIFEST, format!("signature.time_input is {time:?}, which is no input")))
        }
        _ => Ok(()),
    }
}

/// Every feature that drift is measured of has a profile.
fn check_reference(manifest: &Manifest, reference: &Reference) -> Result<(), Error> {
    let mut profiled = manifest.signature.inputs.iter().filter(|input| input.kind != ColumnKind::Timestamp);
    match profiled.find(|input| reference.feature(&input.name).is_none()) {
        Some(without) => Err(Error::invalid(PROFILE, format!("it has no profile of the input {:?}", without.name))),
        None => Ok(()),
    }
}
