//! Loads a version: fetch, verify, build, warm up.
//!
//! One model is built at a time, on a thread of low priority, and only if it fits the memory for models.
//!
//! Every blob is hashed on every load, from the local cache as from the object store, so that what is served is what was
//! registered. Loading does not affect the versions that answer requests.

use std::{sync::Arc, thread, time::Duration};

use arrow::array::RecordBatch;
use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_bundle::Bundle;
use rekindle_domain::{Digest, ModelName, ReplicaId, VersionRef};
use rekindle_service::chain;
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};

use crate::{
    Error,
    budget::Budget,
    cache::BlobCache,
    config::{Guardrails, LogConfig},
    serving::{LoadedVersion, ModelSettings},
};

/// The delay before a blob is fetched again; it doubles with each attempt.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The nice value of a thread that loads: beside busy threads of the usual priority, it gets about a tenth of a core.
const NICE: i32 = 10;

/// Loads versions.
pub(crate) struct Loader {
    /// The replica that every answer names.
    pub(crate) replica: ReplicaId,
    /// Blobs on this machine.
    pub(crate) cache: BlobCache,
    /// The object store, once it is connected.
    pub(crate) artifacts: watch::Receiver<Option<Artifacts>>,
    /// Attempts per blob.
    pub(crate) attempts: u32,
    /// The memory for models.
    pub(crate) budget: Arc<Budget>,
    /// What inputs and outputs may be.
    pub(crate) guardrails: Guardrails,
    /// How requests are logged.
    pub(crate) log: LogConfig,
}

impl Loader {
    /// The version, warmed up. Fails if a blob is not available or is corrupt, if the bundle does not predict, or if it does not fit.
    /// `recorded` are the rows of requests with which it is warmed up.
    pub(crate) async fn load(
        &self,
        model: &ModelName,
        version: VersionRef,
        recorded: Vec<RecordBatch>,
    ) -> Result<Arc<LoadedVersion>, Error> {
        let bundle = Bundle::load(&version.bundle, |digest, _| self.fetch(digest))
            .await
            .map_err(|source| Error::Bundle { bundle: version.bundle, source: source.into() })?;
        let settings = ModelSettings { guardrails: self.guardrails.of(model).cloned(), log: self.log.of(model) };
        let (model, replica, turn) = (model.clone(), self.replica.clone(), self.budget.turn().await);
        let built = in_the_background(move || {
            turn.admit(version.bundle, &bundle, || {
                LoadedVersion::build(model, version, &bundle, &replica, &settings, &recorded)
            })
        });
        built.await.unwrap_or(Err(Error::LoadPanicked { bundle: version.bundle }))
    }

    async fn fetch(&self, digest: Digest) -> Result<Bytes, Error> {
        if let Some(bytes) = self.cache.get(digest).await? {
            return Ok(bytes);
        }
        let bytes = self.fetch_with_retries(digest).await?;
        self.cache.put(digest, bytes.clone()).await?;
        Ok(bytes)
    }

    async fn fetch_with_retries(&self, digest: Digest) -> Result<Bytes, Error> {
        let (mut attempt, mut delay) = (1, FIRST_DELAY);
        loop {
            match self.fetch_once(digest).await {
                Err(error) if error.is_transient() && attempt < self.attempts => {
                    tracing::warn!(error = chain(&error), attempt, "failed to fetch a blob, retrying");
                    sleep(delay).await;
                    (attempt, delay) = (attempt + 1, delay * 2);
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

/// Runs `work` on a thread of its own that gives way to those that answer requests. `None` if it panics, or no thread can be started.
async fn in_the_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let started = thread::Builder::new().name("load".to_owned()).spawn(move || {
        // On Linux, this is the priority of the thread.
        let _ = rustix::process::nice(NICE);
        // Whoever waits for a load that is no longer wanted has gone.
        let _ = sender.send(work());
    });
    if let Err(error) = started {
        tracing::error!(%error, "failed to start the thread of a load");
    }
    receiver.await.ok()
}
