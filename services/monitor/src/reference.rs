//! The reference data of a model version: the manifest and the reference profile of its bundle, fetched once and cached.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_bundle::{
    Error as ModelError, Manifest,
    manifest::{LOSS_SAMPLE, PROFILE},
};
use rekindle_domain::Digest;

use crate::Error;

/// The parts of a bundle that the monitor needs; the weights are not fetched.
pub(crate) struct Reference {
    /// Task, classes, signature, reference loss.
    pub(crate) manifest: Manifest,
    /// Profiles of the features and of the prediction.
    pub(crate) profiles: rekindle_bundle::Reference,
}

impl Reference {
    /// Whether the bundle has a sample of the validation rows.
    pub(crate) fn has_loss_sample(&self) -> bool {
        self.manifest.blobs.contains_key(LOSS_SAMPLE)
    }
}

/// A cache of references. Bundles are immutable, so an entry is never stale.
pub(crate) struct References {
    artifacts: Artifacts,
    limit: usize,
    /// Most recently used first.
    cached: Mutex<VecDeque<(Digest, Arc<Reference>)>>,
}

impl References {
    /// A cache of at most `limit` references; the least recently used is evicted.
    pub(crate) fn new(artifacts: Artifacts, limit: usize) -> Self {
        Self { artifacts, limit: limit.max(1), cached: Mutex::default() }
    }

    /// The reference of a bundle, verified when it is fetched.
    pub(crate) async fn get(&self, bundle: &Digest) -> Result<Arc<Reference>, Error> {
        if let Some(reference) = self.cached(bundle) {
            return Ok(reference);
        }
        let manifest = Manifest::from_bytes(&self.artifacts.get(bundle).await?)?;
        let profile = manifest
            .blobs
            .get(PROFILE)
            .ok_or(ModelError::Invalid { part: PROFILE, problem: "the bundle has no reference profile".to_owned() })?;
        let profiles = rekindle_bundle::Reference::from_bytes(&self.artifacts.get(&profile.digest).await?)?;
        let reference = Arc::new(Reference { manifest, profiles });
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.push_front((*bundle, reference.clone()));
        cached.truncate(self.limit);
        Ok(reference)
    }

    /// The stored form of the sample of the validation rows; `None` if the bundle has none. It is not cached: it is needed once for each
    /// window.
    pub(crate) async fn loss_sample(&self, reference: &Reference) -> Result<Option<Bytes>, Error> {
        let Some(blob) = reference.manifest.blobs.get(LOSS_SAMPLE) else { return Ok(None) };
        Ok(Some(self.artifacts.get(&blob.digest).await?))
    }

    fn cached(&self, bundle: &Digest) -> Option<Arc<Reference>> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let index = cached.iter().position(|(digest, _)| digest == bundle)?;
        let entry = cached.remove(index)?;
        let reference = entry.1.clone();
        cached.push_front(entry);
        Some(reference)
    }
}
