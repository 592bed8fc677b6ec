//! Aliases: pointers to model versions, moved by compare-and-set, with their history.

use chrono::{DateTime, Utc};
use rekindle_client::wire::event;
use rekindle_domain::{
    Alias, AliasName, ModelName,
    alias::AliasMove,
    model_version::{Approval, ModelVersion},
};
use rekindle_service::{Call, RequestError};
use rekindle_store::{in_transaction, outbox};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::{Error, store};

/// Moves an alias if it has the expected revision and the version may be served.
pub(crate) async fn set(db: &DatabaseConnection, call: Call, target: AliasMove) -> Result<Alias, Error> {
    in_transaction(db, async move |txn| {
        let found = store::models::get(txn, &target.model, Some(target.version)).await?;
        let missing = || Error::not_found("model version", format!("{}/{}", target.model, target.version));
        let version = found.ok_or_else(missing)?.version;
        check_servable(&version)?;
        let before = store::aliases::get(txn, &target.model, &target.alias).await?;
        let moved = next_move(&target, &version, before.as_ref(), &call)?;
        if !store::aliases::apply(txn, &moved).await? {
            return Err(stale(&target, moved.revision));
        }
        let fact = event::alias_moved(&moved, before.map(|before| before.version));
        outbox::enqueue(txn, call.event(fact, &moved.model)).await?;
        Ok::<_, Error>(moved)
    })
    .await
}

/// The alias after its next move. Its time is never before that of the previous move, whatever the clocks say.
fn next_move(target: &AliasMove, version: &ModelVersion, before: Option<&Alias>, call: &Call) -> Result<Alias, Error> {
    let actual = before.map_or(0, |before| before.revision);
    if actual != target.expected_revision {
        return Err(stale(target, actual));
    }
    Ok(Alias {
        model: target.model.clone(),
        alias: target.alias.clone(),
        version: version.version,
        bundle: version.bundle,
        revision: actual + 1,
        by: call.principal.to_string(),
        why: target.why.clone(),
        moved_at: before.map_or(call.now, |before| call.now.max(before.moved_at)),
    })
}

fn stale(target: &AliasMove, actual: u64) -> Error {
    let resource = format!("alias {} of model {}", target.alias, target.model);
    RequestError::StaleRevision { resource, expected: target.expected_revision, actual }.into()
}

fn check_servable(version: &ModelVersion) -> Result<(), Error> {
    let review = &version.review;
    if review.approval != Approval::Rejected {
        return Ok(());
    }
    let (model, number) = (version.model.to_string(), version.version.to_string());
    let message =
        format!("version {number} of model {model} cannot have an alias: {} rejected it: {}", review.by, review.why);
    Err(Error::refused("VERSION_REJECTED", message, [("model", model), ("version", number)]))
}

/// Where an alias points.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName, alias: &AliasName) -> Result<Alias, Error> {
    let found = store::aliases::get(db, model, alias).await?;
    found.ok_or_else(|| Error::not_found("alias", format!("{model}/{alias}")))
}

/// The moves of an alias, newest first, before a revision, at most `limit`.
pub(crate) async fn history(
    db: &DatabaseConnection,
    model: &ModelName,
    alias: &AliasName,
    before: Option<u64>,
    limit: u64,
) -> Result<Vec<Alias>, Error> {
    get(db, model, alias).await?;
    Ok(store::aliases::history(db, model, alias, before, limit).await?)
}

/// The move in force at a time; `None` if the alias did not exist.
pub(crate) async fn at(
    db: &DatabaseConnection,
    model: &ModelName,
    alias: &AliasName,
    time: DateTime<Utc>,
) -> Result<Option<Alias>, Error> {
    get(db, model, alias).await?;
    Ok(store::aliases::at(db, model, alias, time).await?)
}
