//! Aliases: pointers to model versions, moved by compare-and-set, with every move kept.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    AliasName, Digest, ModelName,
    event::EventKind,
    model_version::{Approval, VersionStatus},
};
use rekindle_proto::events::AliasMoved;
use rekindle_store::{in_transaction, outbox};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::{Error, call::Call, model_version::ModelVersion, store};

/// One move of an alias; the latest one tells where it points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AliasMove {
    pub model: ModelName,
    pub alias: AliasName,
    pub version: u32,
    pub bundle: Digest,
    /// 1 for the first move.
    pub revision: u64,
    pub by: String,
    pub why: String,
    pub moved_at: DateTime<Utc>,
}

/// Where to move an alias.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub model: ModelName,
    pub alias: AliasName,
    pub version: u32,
    /// 0 where the alias must not exist yet.
    pub expected_revision: u64,
    pub by: String,
    pub why: String,
}

/// Moves an alias if it still has the expected revision and the version may be served.
pub(crate) async fn set(db: &DatabaseConnection, call: Call, target: Target) -> Result<AliasMove, Error> {
    in_transaction(db, async move |txn| {
        let version = store::models::get(txn, &target.model, Some(target.version)).await?;
        let version =
            version.ok_or_else(|| Error::not_found("model version", format!("{}/{}", target.model, target.version)))?;
        check_servable(&version)?;
        let before = store::aliases::get(txn, &target.model, &target.alias).await?;
        let to = next_move(&target, &version, before.as_ref(), call.now)?;
        if !store::aliases::apply(txn, &to).await? {
            return Err(stale(&target, to.revision));
        }
        let data = AliasMoved {
            model: to.model.to_string(),
            alias: to.alias.to_string(),
            version: to.version,
            from_version: before.map_or(0, |before| before.version),
            revision: to.revision,
            by: to.by.clone(),
            why: to.why.clone(),
        };
        outbox::enqueue(txn, call.event(EventKind::ALIAS_MOVED, &to.model, &to.model, &data)).await?;
        Ok::<_, Error>(to)
    })
    .await
}

/// The move after `before`; its time never lies before the one before, whatever the clocks say.
fn next_move(
    target: &Target,
    version: &ModelVersion,
    before: Option<&AliasMove>,
    now: DateTime<Utc>,
) -> Result<AliasMove, Error> {
    let actual = before.map_or(0, |before| before.revision);
    if actual != target.expected_revision {
        return Err(stale(target, actual));
    }
    Ok(AliasMove {
        model: target.model.clone(),
        alias: target.alias.clone(),
        version: version.version,
        bundle: version.bundle,
        revision: actual + 1,
        by: target.by.clone(),
        why: target.why.clone(),
        moved_at: before.map_or(now, |before| now.max(before.moved_at)),
    })
}

fn stale(target: &Target, actual: u64) -> Error {
    Error::Stale {
        what: format!("alias {} of model {}", target.alias, target.model),
        expected: target.expected_revision,
        actual,
    }
}

fn check_servable(version: &ModelVersion) -> Result<(), Error> {
    let (reason, why) = if version.status != VersionStatus::Ready {
        ("VERSION_NOT_READY", format!("its bundle is not verified: {}", version.status_reason))
    } else if version.review.approval == Approval::Rejected {
        ("VERSION_REJECTED", format!("{} rejected it: {}", version.review.by, version.review.why))
    } else {
        return Ok(());
    };
    Err(Error::Refused {
        reason,
        message: format!("version {} of model {} may not be pointed at: {why}", version.version, version.model),
        facts: vec![("model", version.model.to_string()), ("version", version.version.to_string())],
    })
}

/// Where an alias points.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName, alias: &AliasName) -> Result<AliasMove, Error> {
    let found = store::aliases::get(db, model, alias).await?;
    found.ok_or_else(|| Error::not_found("alias", format!("{model}/{alias}")))
}

/// The moves of an alias, newest first, before a revision; one more than `limit` where there are.
pub(crate) async fn history(
    db: &DatabaseConnection,
    model: &ModelName,
    alias: &AliasName,
    before: Option<u64>,
    limit: u64,
) -> Result<Vec<AliasMove>, Error> {
    get(db, model, alias).await?;
    Ok(store::aliases::history(db, model, alias, before, limit).await?)
}

/// The move in force at a time; `None` where the alias did not exist yet.
pub(crate) async fn at(
    db: &DatabaseConnection,
    model: &ModelName,
    alias: &AliasName,
    time: DateTime<Utc>,
) -> Result<Option<AliasMove>, Error> {
    get(db, model, alias).await?;
    Ok(store::aliases::at(db, model, alias, time).await?)
}
