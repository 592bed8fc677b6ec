//! What a version's windows are measured against: its bundle's manifest and reference profile, fetched once and kept.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use rekindle_artifacts::Artifacts;
use rekindle_domain::Digest;
use rekindle_model::{Error as ModelError, Manifest, manifest::PROFILE};

use crate::Error;

/// The parts of a bundle that the monitor needs; the weights stay where they are.
pub(crate) struct Reference {
    /// Task, classes, signature, reference loss.
    pub(crate) manifest: Manifest,
    /// Profiles of the features and of the prediction.
    pub(crate) profiles: rekindle_model::Reference,
}

/// The references used last.
pub(crate) struct References {
    artifacts: Artifacts,
    limit: usize,
    /// Most recently used first.
    kept: Mutex<VecDeque<(Digest, Arc<Reference>)>>,
}

impl References {
    /// Keeps at most `limit` references.
    pub(crate) fn new(artifacts: Artifacts, limit: usize) -> Self {
        Self { artifacts, limit: limit.max(1), kept: Mutex::default() }
    }

    /// The reference of a bundle, verified when it was fetched.
    pub(crate) async fn get(&self, bundle: &Digest) -> Result<Arc<Reference>, Error> {
        if let Some(reference) = self.kept(bundle) {
            return Ok(reference);
        }
        let manifest = Manifest::from_bytes(&self.artifacts.get(bundle).await?)?;
        let profile = manifest
            .blobs
            .get(PROFILE)
            .ok_or(ModelError::Invalid { part: PROFILE, problem: "the bundle has none".to_owned() })?;
        let profiles = rekindle_model::Reference::from_bytes(&self.artifacts.get(&profile.digest).await?)?;
        let reference = Arc::new(Reference { manifest, profiles });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((*bundle, reference.clone()));
        kept.truncate(self.limit);
        Ok(reference)
    }

    fn kept(&self, bundle: &Digest) -> Option<Arc<Reference>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(digest, _)| digest == bundle)?;
        let entry = kept.remove(place)?;
        let reference = entry.1.clone();
        kept.push_front(entry);
        Some(reference)
    }
}
