//! Model versions: bundles that were read and verified, and their reviews.

mod import;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bundle::{Backend, Bundle, Manifest};
use rekindle_client::wire::event;
use rekindle_domain::{
    Alias, Digest, ModelName, Namespace, RunId,
    model_version::{Approval, ModelVersion, RegisteredModel, Review, VersionSelector, VersionStatus},
};
use rekindle_service::{Call, Intent, RequestError};
use rekindle_store::{in_transaction, outbox};
use sea_orm::DatabaseConnection;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub(crate) use self::import::import;
use crate::{
    Error, alias,
    isolation::{Isolation, MANIFEST, Outcome, Task},
    store,
};

/// A version as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Registered {
    /// The version. The aliases that point at it are stored apart.
    pub version: ModelVersion,
    /// Content digests of the datasets named by the provenance of the bundle.
    pub datasets: Vec<Digest>,
}

/// A version to be registered.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub model: ModelName,
    pub bundle: Digest,
    pub description: String,
}

/// A review to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct ReviewRequest {
    pub model: ModelName,
    pub version: u32,
    pub approval: Approval,
    pub why: String,
    pub expected_revision: u64,
}

/// The version that a call has created.
#[derive(Debug, Serialize, Deserialize)]
struct Created {
    model: ModelName,
    version: u32,
}

/// Creates the next version of a model, once per intent. Every blob of the bundle is read, verified and parsed first.
pub(crate) async fn register(
    db: &DatabaseConnection,
    bundles: &Bundles,
    call: Call,
    intent: Intent,
    registration: Registration,
) -> Result<ModelVersion, Error> {
    if let Some(created) = intent.earlier::<Created, Error>(db).await? {
        return get(db, &created.model, &VersionSelector::Number(created.version)).await;
    }
    let verified = verify(bundles, &registration, call.now).await?;
    let created = in_transaction(db, async move |txn| {
        if let Some(created) = intent.earlier::<Created, Error>(txn).await? {
            return Ok::<_, Error>(created);
        }
        let number = store::models::take_number(txn, &registration.model, call.now).await?;
        let mut registered = verified.clone();
        registered.version.version = number;
        store::models::insert(txn, &registered).await?;
        let created = Created { model: registration.model.clone(), version: number };
        intent.record(txn, &created, call.now).await?;
        let fact = event::model_version_registered(&registered.version);
        outbox::enqueue(txn, call.event(fact, &registration.model)).await?;
        Ok(created)
    })
    .await?;
    get(db, &created.model, &VersionSelector::Number(created.version)).await
}

/// The bundles of registrations. Few are in memory at the same time, however many registrations wait.
#[derive(Debug)]
pub(crate) struct Bundles {
    artifacts: Artifacts,
    permits: Arc<Semaphore>,
    isolation: Isolation,
}

impl Bundles {
    /// Reads at most `at_once` bundles at a time.
    pub(crate) fn new(artifacts: Artifacts, at_once: usize, isolation: Isolation) -> Self {
        Self { artifacts, permits: Arc::new(Semaphore::new(at_once)), isolation }
    }

    /// Reads a whole bundle and checks that a replica can load it; returns its manifest.
    async fn manifest(&self, digest: Digest) -> Result<Manifest, Error> {
        let refused = |source| Error::Bundle { digest, source };
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let artifacts = &self.artifacts;
        let fetch = |digest, at_most| async move { artifacts.get_at_most(&digest, at_most).await };
        let bundle = Bundle::load(&digest, fetch).await.map_err(refused)?;
        if bundle.manifest.backend == Backend::Onnx {
            return self.checked_apart(digest, bundle).await;
        }
        // The thread returns the permit after it has dropped the bundle, also if the caller goes away meanwhile.
        let checked = tokio::task::spawn_blocking(move || {
            let checked = bundle.validate();
            let manifest = bundle.manifest;
            drop((bundle.blobs, permit));
            checked.map(|()| manifest)
        });
        checked.await?.map_err(refused)
    }

    /// Checks a model in the ONNX format, which this process does not read.
    async fn checked_apart(&self, digest: Digest, bundle: Bundle) -> Result<Manifest, Error> {
        let folder = self.isolation.folder()?;
        let manifest = bundle.manifest_bytes().map_err(|source| Error::Bundle { digest, source })?;
        folder.write(MANIFEST, &manifest).await?;
        let Bundle { manifest, blobs } = bundle;
        for (role, bytes) in blobs {
            folder.write(&role, &bytes).await?;
        }
        match self.isolation.run(&folder, Task::Validate).await? {
            Outcome::Done => Ok(manifest),
            Outcome::NoLibrary(problem) => Err(Error::NoOnnxRuntime(problem)),
            Outcome::Refused { problem, .. } => Err(Error::invalid("bundle_digest", problem)),
        }
    }
}

/// Reads and checks the bundle; returns the version without a number.
async fn verify(bundles: &Bundles, registration: &Registration, now: DateTime<Utc>) -> Result<Registered, Error> {
    let digest = registration.bundle;
    let manifest = bundles.manifest(digest).await?;
    let provenance = manifest.provenance;
    let run = match provenance.run_id.as_str() {
        "" => None,
        id => Some(
            id.parse::<RunId>()
                .map_err(|error| Error::invalid("bundle_digest", format!("invalid provenance: {error}")))?,
        ),
    };
    let version = ModelVersion {
        model: registration.model.clone(),
        version: 0,
        status: VersionStatus::Ready,
        status_reason: String::new(),
        bundle: digest,
        run,
        description: registration.description.clone(),
        review: Review { approval: Approval::Pending, by: String::new(), why: String::new(), at: None },
        metrics: manifest.metrics,
        aliases: Vec::new(),
        created_at: now,
        revision: 1,
    };
    Ok(Registered { version, datasets: provenance.dataset_digests })
}

/// One version with the aliases that point at it.
pub(crate) async fn get(
    db: &DatabaseConnection,
    model: &ModelName,
    selector: &VersionSelector,
) -> Result<ModelVersion, Error> {
    let number = match selector {
        VersionSelector::Latest => None,
        VersionSelector::Number(number) => Some(*number),
        VersionSelector::Alias(alias) => Some(alias::get(db, model, alias).await?.version),
    };
    let found = store::models::get(db, model, number).await?;
    let version = found.ok_or_else(|| match number {
        Some(number) => Error::not_found("model version", format!("{model}/{number}")),
        None => Error::not_found("model", model),
    })?;
    Ok(with_aliases(db, vec![version]).await?.remove(0))
}

/// These versions, each with the aliases that point at it.
pub(crate) async fn with_aliases(
    db: &DatabaseConnection,
    registered: Vec<Registered>,
) -> Result<Vec<ModelVersion>, Error> {
    let mut models: Vec<ModelName> = registered.iter().map(|registered| registered.version.model.clone()).collect();
    models.sort();
    models.dedup();
    let aliases = store::aliases::of_models(db, &models).await?;
    Ok(registered.into_iter().map(|registered| with_those_of(registered, &aliases)).collect())
}

/// The version with those of the aliases that point at it.
fn with_those_of(registered: Registered, aliases: &[Alias]) -> ModelVersion {
    let version = registered.version;
    let points = |alias: &&Alias| alias.model == version.model && alias.version == version.version;
    let aliases = aliases.iter().filter(points).map(|alias| alias.alias.to_string()).collect();
    ModelVersion { aliases, ..version }
}

/// The versions of one model, newest first, before a version, at most `limit`.
pub(crate) async fn versions(
    db: &DatabaseConnection,
    model: &ModelName,
    before: Option<u32>,
    limit: u64,
) -> Result<Vec<ModelVersion>, Error> {
    let versions = store::models::versions(db, model, before, limit).await?;
    if versions.is_empty() && before.is_none() {
        return Err(Error::not_found("model", model));
    }
    with_aliases(db, versions).await
}

/// Models of a namespace by name after one, at most `limit`.
pub(crate) async fn models(
    db: &DatabaseConnection,
    namespace: &Namespace,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<RegisteredModel>, Error> {
    let latest = store::models::latest_of_each(db, namespace, after.as_deref(), limit).await?;
    let names: Vec<ModelName> = latest.iter().map(|registered| registered.version.model.clone()).collect();
    let aliases = store::aliases::of_models(db, &names).await?;
    let model = |latest: Registered| RegisteredModel {
        aliases: aliases.iter().filter(|alias| alias.model == latest.version.model).cloned().collect(),
        latest: with_those_of(latest, &aliases),
    };
    Ok(latest.into_iter().map(model).collect())
}

/// Records a review, if the version has the expected revision. Aliases that point at the version stay: a rollback changes what is
/// served.
pub(crate) async fn review(db: &DatabaseConnection, call: Call, request: ReviewRequest) -> Result<ModelVersion, Error> {
    let (model, number) = (request.model.clone(), request.version);
    in_transaction(db, async move |txn| {
        let found = store::models::get(txn, &request.model, Some(request.version)).await?;
        let missing = || Error::not_found("model version", format!("{}/{}", request.model, request.version));
        let before = found.ok_or_else(missing)?;
        let stale = |actual| {
            let resource = format!("version {} of model {}", request.version, request.model);
            Error::from(RequestError::StaleRevision { resource, expected: request.expected_revision, actual })
        };
        let revision = before.version.revision;
        if revision != request.expected_revision {
            return Err(stale(revision));
        }
        let reviewed = reviewed(&before, &request, &call);
        if !store::models::update(txn, &reviewed, revision).await? {
            return Err(stale(revision + 1));
        }
        let fact = event::model_version_reviewed(&reviewed.version);
        outbox::enqueue(txn, call.event(fact, &request.model)).await?;
        Ok::<_, Error>(())
    })
    .await?;
    get(db, &model, &VersionSelector::Number(number)).await
}

fn reviewed(before: &Registered, request: &ReviewRequest, call: &Call) -> Registered {
    let review = Review {
        approval: request.approval,
        by: call.principal.to_string(),
        why: request.why.clone(),
        at: Some(call.now),
    };
    let version = ModelVersion { review, revision: before.version.revision + 1, ..before.version.clone() };
    Registered { version, ..before.clone() }
}
