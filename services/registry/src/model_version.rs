//! Model versions: bundles that were read and verified, and their reviews.

mod files;
mod import;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bundle::{Backend, Bundle, Manifest};
use rekindle_client::wire::event;
use rekindle_domain::{
    Alias, Digest, ModelName, RunId,
    audit::Entry,
    model_version::{Approval, ModelVersion, Review, VersionSelector, VersionStatus},
};
use rekindle_service::{Call, Intent, RequestError};
use rekindle_store::{audit, in_transaction};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) use self::{
    files::{Files, register_files},
    import::import,
};
use crate::{
    Error, alias,
    garbage::Present,
    isolation::{Isolation, MANIFEST, Outcome, Task},
    model, store,
};

/// A version as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Registered {
    /// The version. The aliases that point at it are stored apart.
    pub version: ModelVersion,
    /// Content digests of the datasets named by the provenance of the bundle.
    pub datasets: Vec<Digest>,
    /// Where MLflow's client has it from.
    pub origin: Origin,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What MLflow's client says about a version that it creates, beyond what every version has. Empty for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The address of the files.
    pub source: String,
    pub run_link: String,
    /// MLflow's stage; empty: none.
    pub stage: String,
    /// The logged model.
    pub logged_model: Option<Uuid>,
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
    pub evidence: BTreeMap<String, String>,
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
    let verified = verify(bundles, &registration, &call).await?;
    insert_next(db, &bundles.artifacts, call, Some(intent), verified).await
}

/// A version without a number, and the blobs that it needs.
struct Verified {
    registered: Registered,
    /// Beside the bundle itself.
    blobs: Vec<Digest>,
}

/// Creates the next version of its model, once per intent.
async fn insert_next(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    call: Call,
    intent: Option<Intent>,
    Verified { registered: verified, blobs }: Verified,
) -> Result<ModelVersion, Error> {
    let needed = [&[verified.version.bundle], blobs.as_slice()].concat();
    let present = Present::find(db, artifacts, needed).await?;
    let artifacts = artifacts.clone();
    let created = in_transaction(db, async move |txn| {
        if let Some(intent) = &intent
            && let Some(created) = intent.earlier::<Created, Error>(txn).await?
        {
            return Ok::<_, Error>(created);
        }
        let name = &verified.version.model;
        model::ensure(txn, &call, name).await?;
        let bundle = verified.version.bundle;
        present.hold(txn, &artifacts).await?;
        store::garbage::add_bundle(txn, &bundle, &blobs).await?;
        let number = store::models::take_number(txn, name).await?;
        let mut registered = verified.clone();
        registered.version.version = number;
        store::models::insert(txn, &registered).await?;
        let created = Created { model: name.clone(), version: number };
        if let Some(intent) = &intent {
            intent.record(txn, &created, call.now).await?;
        }
        let fact = event::model_version_registered(&registered.version);
        audit::record(txn, call.change(fact, name)).await?;
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
async fn verify(bundles: &Bundles, registration: &Registration, call: &Call) -> Result<Verified, Error> {
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
        tags: BTreeMap::new(),
        author: call.principal.to_string(),
        review: not_reviewed(),
        metrics: manifest.metrics,
        aliases: Vec::new(),
        created_at: call.now,
        deleted_at: None,
        revision: 1,
    };
    let datasets = provenance.dataset_digests;
    let blobs = manifest.blobs.values().map(|blob| blob.digest).collect();
    let registered = Registered { version, datasets, origin: Origin::default(), updated_at: call.now };
    Ok(Verified { registered, blobs })
}

fn not_reviewed() -> Review {
    Review { approval: Approval::Pending, by: String::new(), why: String::new(), at: None, evidence: BTreeMap::new() }
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
    let aliases = store::aliases::of_models(db, &models.iter().collect::<Vec<_>>()).await?;
    Ok(registered.into_iter().map(|registered| with_those_of(registered, &aliases)).collect())
}

/// The version with those of the aliases that point at it.
pub(crate) fn with_those_of(registered: Registered, aliases: &[Alias]) -> ModelVersion {
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
        model::read(db, model).await?;
    }
    with_aliases(db, versions).await
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
        store::models::add_review(txn, &reviewed.version, call.now).await?;
        let fact = event::model_version_reviewed(&reviewed.version);
        let change = call.change(fact, &request.model);
        audit::record(txn, change.over(before.version.review.approval.name())).await?;
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
        evidence: request.evidence.clone(),
    };
    let version = ModelVersion { review, revision: before.version.revision + 1, ..before.version.clone() };
    Registered { version, updated_at: call.now, ..before.clone() }
}

/// The reviews of a version with their numbers, newest first, before a number.
pub(crate) async fn reviews(
    db: &DatabaseConnection,
    model: &ModelName,
    version: u32,
    before: Option<u64>,
    limit: u64,
) -> Result<Vec<(u64, Review)>, Error> {
    read(db, model, version).await?;
    Ok(store::models::reviews(db, model, version, before, limit).await?)
}

/// One version, deleted or not, without its aliases.
pub(crate) async fn read(db: &impl ConnectionTrait, model: &ModelName, number: u32) -> Result<Registered, Error> {
    let found = store::models::get(db, model, Some(number)).await?;
    found.ok_or_else(|| Error::not_found("model version", format!("{model}/{number}")))
}

/// Changes a version that is not deleted.
pub(crate) async fn change(
    db: &DatabaseConnection,
    call: Call,
    model: ModelName,
    number: u32,
    apply: impl Fn(&mut Registered) -> Result<(), Error> + Send + Sync + 'static,
) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let before = read(txn, &model, number).await?;
        if before.version.deleted_at.is_some() {
            return Err(deleted(&before.version));
        }
        let mut after = before.clone();
        apply(&mut after)?;
        if after == before { Ok(()) } else { write(txn, &call, &before, after).await }
    })
    .await
}

/// Deletes a version without aliases, or restores it.
pub(crate) async fn set_deleted(
    db: &DatabaseConnection,
    call: Call,
    model: ModelName,
    number: u32,
    why: String,
    is_deleted: bool,
) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let before = read(txn, &model, number).await?;
        if before.version.deleted_at.is_some() == is_deleted {
            return Ok(());
        }
        if is_deleted {
            let aliases = store::aliases::of_models(txn, &[&model]).await?;
            let here: Vec<Alias> = aliases.into_iter().filter(|alias| alias.version == number).collect();
            model::must_not_be_used(&here, &format!("version {number} of model {model}"))?;
        }
        let deleted_at = is_deleted.then_some(call.now);
        let version = ModelVersion { deleted_at, ..before.version.clone() };
        let action = if is_deleted { "model-version.deleted" } else { "model-version.restored" };
        let entry = call.entry(action, format!("model-version/{model}/{number}"));
        audit::append(txn, Entry { reason: why.clone(), ..entry }).await?;
        write(txn, &call, &before, Registered { version, ..before.clone() }).await
    })
    .await
}

fn deleted(version: &ModelVersion) -> Error {
    let (model, number) = (version.model.to_string(), version.version.to_string());
    let message = format!("version {number} of model {model} is deleted: restore it first");
    Error::refused("VERSION_DELETED", message, [("model", model), ("version", number)])
}

/// Writes the next revision of a version.
async fn write(txn: &DatabaseTransaction, call: &Call, before: &Registered, after: Registered) -> Result<(), Error> {
    let revision = before.version.revision;
    let version = ModelVersion { revision: revision + 1, ..after.version };
    let after = Registered { version, updated_at: call.now, ..after };
    if !store::models::update(txn, &after, revision).await? {
        let resource = format!("version {} of model {}", after.version.version, after.version.model);
        return Err(RequestError::StaleRevision { resource, expected: revision, actual: revision + 1 }.into());
    }
    let change = call.change(event::model_version_changed(&after.version), &after.version.model);
    Ok(audit::record(txn, change.over(event::model_version_changed(&before.version).data)).await?)
}

/// Refuses a version that an alias must not be moved to.
pub(crate) fn check_servable(version: &ModelVersion) -> Result<(), Error> {
    if version.deleted_at.is_some() {
        return Err(deleted(version));
    }
    let review = &version.review;
    if review.approval != Approval::Rejected {
        return Ok(());
    }
    let (model, number) = (version.model.to_string(), version.version.to_string());
    let message =
        format!("version {number} of model {model} cannot have an alias: {} rejected it: {}", review.by, review.why);
    Err(Error::refused("VERSION_REJECTED", message, [("model", model), ("version", number)]))
}
