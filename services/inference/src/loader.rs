//! From a version to something that answers: fetch, verify, build, warm up.
//!
//! Every blob is hashed on its way in, from the local cache as from the object store, so that what is served is what was
//! registered. Nothing here touches what answers now.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_domain::{Digest, ModelName, ReplicaId, VersionRef};
use rekindle_model::{Bundle, Model};
use tokio::{sync::watch, task, time::sleep};

use crate::{
    Error,
    cache::BlobCache,
    log::LogShape,
    output::OutputPlan,
    serving::{Serving, provenance_parameters},
    tensor::InputPlan,
};

/// First wait before a blob is tried again; it doubles with each try.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Makes versions ready to answer.
pub(crate) struct Loader {
    /// Who serves; told in every answer.
    pub(crate) replica: ReplicaId,
    /// Blobs on this machine.
    pub(crate) cache: BlobCache,
    /// Where all blobs are, once connected.
    pub(crate) artifacts: watch::Receiver<Option<Artifacts>>,
    /// Tries per blob.
    pub(crate) attempts: u32,
}

impl Loader {
    /// The version, warmed up. Fails where a blob cannot be had or is corrupt, and where the bundle does not make a
    /// model that predicts.
    pub(crate) async fn load(&self, model: &ModelName, version: VersionRef) -> Result<Arc<Serving>, Error> {
        let bundle = Bundle::load(&version.bundle, |digest| self.fetch(digest))
            .await
            .map_err(|source| Error::Bundle { bundle: version.bundle, source: source.into() })?;
        let (model, replica) = (model.clone(), self.replica.clone());
        task::spawn_blocking(move || build(&model, version, &bundle, &replica))
            .await
            .unwrap_or(Err(Error::LoadPanicked { bundle: version.bundle }))
            .map(Arc::new)
    }

    async fn fetch(&self, digest: Digest) -> Result<Bytes, Error> {
        if let Some(bytes) = self.cache.get(digest).await? {
            return Ok(bytes);
        }
        let bytes = self.fetch_patiently(digest).await?;
        self.cache.put(digest, bytes.clone()).await?;
        Ok(bytes)
    }

    async fn fetch_patiently(&self, digest: Digest) -> Result<Bytes, Error> {
        let (mut attempt, mut wait) = (1, FIRST_WAIT);
        loop {
            match self.fetch_once(digest).await {
                Err(error) if error.is_transient() && attempt < self.attempts => {
                    tracing::warn!(error = %error.chain(), attempt, "cannot fetch a blob yet");
                    sleep(wait).await;
                    (attempt, wait) = (attempt + 1, wait * 2);
                }
                outcome => return outcome,
            }
        }
    }

    async fn fetch_once(&self, digest: Digest) -> Result<Bytes, Error> {
        let artifacts = self.artifacts.borrow().clone().ok_or(Error::NoArtifacts { digest })?;
        artifacts.get(&digest).await.map_err(|source| Error::Fetch { digest, source: source.into() })
    }
}

fn build(model: &ModelName, version: VersionRef, bundle: &Bundle, replica: &ReplicaId) -> Result<Serving, Error> {
    let unservable = |source: rekindle_model::Error| Error::Bundle { bundle: version.bundle, source: source.into() };
    let ready = Model::from_bundle(bundle).map_err(unservable)?;
    ready.warm_up().map_err(unservable)?;
    let signature = ready.signature();
    let inputs = InputPlan::new(signature).map_err(|problem| Error::Signature { bundle: version.bundle, problem })?;
    let blobs = bundle.manifest.blobs.values().map(|blob| blob.digest).chain([version.bundle]).collect();
    Ok(Serving {
        version,
        number: version.version.to_string(),
        inputs,
        outputs: OutputPlan::new(signature),
        log: Arc::new(LogShape::new(model.clone(), version, signature)),
        parameters: provenance_parameters(&bundle.manifest, version.bundle, replica),
        blobs,
        answered: 0.into(),
        failed: 0.into(),
        model: ready,
    })
}
