//! Model versions: bundles that were read and verified whole, and what people think of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_domain::{
    AliasName, Digest, ModelName, RunId,
    event::EventKind,
    model_version::{Approval, VersionStatus},
};
use rekindle_model::Bundle;
use rekindle_proto::events::{ModelVersionRegistered, ModelVersionReviewed};
use rekindle_store::{in_transaction, outbox};
use sea_orm::DatabaseConnection;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    alias::{self, AliasMove},
    call::{Call, Intent},
    store,
};

/// One version of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelVersion {
    pub model: ModelName,
    pub version: u32,
    pub status: VersionStatus,
    /// Why it has its status, where there is something to say.
    pub status_reason: String,
    pub bundle: Digest,
    /// The run that the bundle's provenance names, if it names one. The run may be another registry's.
    pub run: Option<RunId>,
    /// The datasets that the bundle's provenance names, by content.
    pub datasets: Vec<Digest>,
    pub description: String,
    pub review: Review,
    /// Final validation metrics, from the bundle.
    pub metrics: BTreeMap<String, f64>,
    /// Aliases that point here; read only for answers.
    pub aliases: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub revision: u64,
}

/// Whether a version may serve, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Review {
    pub approval: Approval,
    pub by: String,
    pub why: String,
    pub at: Option<DateTime<Utc>>,
}

/// What is to become the next version of a model.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub model: ModelName,
    pub bundle: Digest,
    pub description: String,
}

/// A judgement on one version.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    pub model: ModelName,
    pub version: u32,
    pub approval: Approval,
    pub by: String,
    pub why: String,
    pub expected_revision: u64,
}

/// A model with its latest version and its aliases.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub latest: ModelVersion,
    pub aliases: Vec<AliasMove>,
}

/// How a version is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Latest,
    Number(u32),
    Alias(AliasName),
}

/// Which version a call has made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    model: ModelName,
    version: u32,
}

/// Makes the next version of a model, once per intent. Every blob of the bundle is read and verified first.
pub(crate) async fn register(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    call: Call,
    intent: Intent,
    registration: Registration,
) -> Result<ModelVersion, Error> {
    if let Some(made) = intent.earlier::<Made>(db).await? {
        return get(db, &made.model, &Which::Number(made.version)).await;
    }
    let verified = verify(artifacts, &registration, call.now).await?;
    let made = in_transaction(db, async move |txn| {
        if let Some(made) = intent.earlier::<Made>(txn).await? {
            return Ok::<_, Error>(made);
        }
        let number = store::models::take_number(txn, &registration.model, call.now).await?;
        let version = ModelVersion { version: number, ..verified.clone() };
        store::models::insert(txn, &version).await?;
        let made = Made { model: version.model.clone(), version: number };
        intent.remember(txn, &made, call.now).await?;
        let data = ModelVersionRegistered {
            model: version.model.to_string(),
            version: number,
            bundle_digest: version.bundle.to_string(),
            run_id: version.run.map(|run| run.to_string()).unwrap_or_default(),
        };
        let event = call.event(EventKind::MODEL_VERSION_REGISTERED, &version.model, &version.model, &data);
        outbox::enqueue(txn, event).await?;
        Ok(made)
    })
    .await?;
    get(db, &made.model, &Which::Number(made.version)).await
}

/// Reads the whole bundle; gives the version that it makes, without a number.
async fn verify(artifacts: &Artifacts, registration: &Registration, now: DateTime<Utc>) -> Result<ModelVersion, Error> {
    let digest = registration.bundle;
    let bundle = Bundle::load(&digest, |digest| async move { artifacts.get(&digest).await })
        .await
        .map_err(|source| Error::Bundle { digest, source })?;
    let provenance = bundle.manifest.provenance;
    let run = match provenance.run_id.as_str() {
        "" => None,
        id => Some(
            id.parse::<RunId>().map_err(|error| Error::invalid("bundle_digest", format!("its provenance: {error}")))?,
        ),
    };
    Ok(ModelVersion {
        model: registration.model.clone(),
        version: 0,
        status: VersionStatus::PendingRegistration.after_verification(true),
        status_reason: String::new(),
        bundle: digest,
        run,
        datasets: provenance.dataset_digests,
        description: registration.description.clone(),
        review: Review { approval: Approval::Pending, by: String::new(), why: String::new(), at: None },
        metrics: bundle.manifest.metrics,
        aliases: Vec::new(),
        created_at: now,
        revision: 1,
    })
}

/// One version with the aliases that point at it.
pub(crate) async fn get(db: &DatabaseConnection, model: &ModelName, which: &Which) -> Result<ModelVersion, Error> {
    let number = match which {
        Which::Latest => None,
        Which::Number(number) => Some(*number),
        Which::Alias(alias) => Some(alias::get(db, model, alias).await?.version),
    };
    let found = store::models::get(db, model, number).await?;
    let version = found.ok_or_else(|| match number {
        Some(number) => Error::not_found("model version", format!("{model}/{number}")),
        None => Error::not_found("model", model),
    })?;
    Ok(with_aliases(db, vec![version]).await?.remove(0))
}

/// Fills in the aliases that point at each of these versions.
pub(crate) async fn with_aliases(
    db: &DatabaseConnection,
    mut versions: Vec<ModelVersion>,
) -> Result<Vec<ModelVersion>, Error> {
    let mut models: Vec<ModelName> = versions.iter().map(|version| version.model.clone()).collect();
    models.sort();
    models.dedup();
    let aliases = store::aliases::of_models(db, &models).await?;
    for version in &mut versions {
        version.aliases = pointing_at(version, &aliases).map(|alias| alias.alias.to_string()).collect();
    }
    Ok(versions)
}

fn pointing_at<'a>(version: &'a ModelVersion, aliases: &'a [AliasMove]) -> impl Iterator<Item = &'a AliasMove> {
    aliases.iter().filter(|alias| alias.model == version.model && alias.version == version.version)
}

/// The versions of one model, newest first, before a version; one more than `limit` where there are.
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

/// Models by name after one; one more than `limit` where there are.
pub(crate) async fn models(db: &DatabaseConnection, after: Option<&str>, limit: u64) -> Result<Vec<Model>, Error> {
    let latest = with_aliases(db, store::models::latest_of_each(db, after, limit).await?).await?;
    let names: Vec<ModelName> = latest.iter().map(|version| version.model.clone()).collect();
    let aliases = store::aliases::of_models(db, &names).await?;
    let model = |latest: ModelVersion| Model {
        aliases: aliases.iter().filter(|alias| alias.model == latest.model).cloned().collect(),
        latest,
    };
    Ok(latest.into_iter().map(model).collect())
}

/// Writes a judgement down, if the version still has the expected revision. Aliases that point at it stay where they are: moving
/// what serves is the rollback's business.
pub(crate) async fn review(db: &DatabaseConnection, call: Call, judgement: Judgement) -> Result<ModelVersion, Error> {
    let (model, number) = (judgement.model.clone(), judgement.version);
    in_transaction(db, async move |txn| {
        let version = store::models::get(txn, &judgement.model, Some(judgement.version)).await?;
        let version = version
            .ok_or_else(|| Error::not_found("model version", format!("{}/{}", judgement.model, judgement.version)))?;
        let stale = |actual| Error::Stale {
            what: format!("version {} of model {}", judgement.version, judgement.model),
            expected: judgement.expected_revision,
            actual,
        };
        if version.revision != judgement.expected_revision {
            return Err(stale(version.revision));
        }
        let reviewed = reviewed(&version, &judgement, call.now);
        if !store::models::update(txn, &reviewed, version.revision).await? {
            return Err(stale(reviewed.revision));
        }
        let data = ModelVersionReviewed {
            model: reviewed.model.to_string(),
            version: reviewed.version,
            approval: approval_text(judgement.approval).to_owned(),
            by: judgement.by.clone(),
            why: judgement.why.clone(),
        };
        let event = call.event(EventKind::MODEL_VERSION_REVIEWED, &reviewed.model, &reviewed.model, &data);
        outbox::enqueue(txn, event).await?;
        Ok::<_, Error>(())
    })
    .await?;
    get(db, &model, &Which::Number(number)).await
}

fn reviewed(version: &ModelVersion, judgement: &Judgement, now: DateTime<Utc>) -> ModelVersion {
    let review =
        Review { approval: judgement.approval, by: judgement.by.clone(), why: judgement.why.clone(), at: Some(now) };
    ModelVersion { review, revision: version.revision + 1, ..version.clone() }
}

fn approval_text(approval: Approval) -> &'static str {
    match approval {
        Approval::Pending => "PENDING",
        Approval::Approved => "APPROVED",
        Approval::Rejected => "REJECTED",
    }
}
