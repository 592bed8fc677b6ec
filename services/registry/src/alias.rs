//! Aliases: moved by compare-and-set, with a history that is kept, and protected by approvals.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rekindle_client::wire::event;
use rekindle_domain::{
    Alias, AliasName, ModelName,
    alias::{AliasMove, AliasProtection, AliasSwap},
    model_version::{Approval, ModelVersion},
};
use rekindle_service::{Call, RequestError};
use rekindle_store::{audit, in_transaction};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};

use crate::{Error, model, model_version, store};

/// The most approvals that a protection can require.
pub(crate) const MAX_APPROVALS: u32 = 10;
/// Reviews of a version that count towards a protection: the last ones.
const REVIEWS: u64 = 1000;

/// Moves an alias if it has the expected revision and the version may be served.
pub(crate) async fn set(db: &DatabaseConnection, call: Call, target: AliasMove) -> Result<Alias, Error> {
    check_new_name(&target.alias)?;
    in_transaction(db, async move |txn| move_to(txn, &call, &target).await).await
}

/// Moves an alias to a version whatever its revision is: of those who move it at the same time, the last one wins.
pub(crate) async fn set_any(
    db: &DatabaseConnection,
    call: Call,
    model: ModelName,
    alias: AliasName,
    version: u32,
) -> Result<Alias, Error> {
    check_new_name(&alias)?;
    in_transaction(db, async move |txn| {
        let before = store::aliases::get(txn, &model, &alias).await?;
        let present = before.filter(|before| !before.deleted);
        if let Some(present) = &present
            && present.version == version
        {
            return Ok(present.clone());
        }
        let expected_revision = present.map_or(0, |present| present.revision);
        let (model, alias, why) = (model.clone(), alias.clone(), String::new());
        move_to(txn, &call, &AliasMove { model, alias, version, expected_revision, why }).await
    })
    .await
}

/// A number would be taken for a version.
fn check_new_name(alias: &AliasName) -> Result<(), Error> {
    if alias.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::invalid("alias", format!("is {alias}: expected a name that is not a number")));
    }
    Ok(())
}

async fn move_to(txn: &DatabaseTransaction, call: &Call, target: &AliasMove) -> Result<Alias, Error> {
    model::must_not_be_deleted(&model::read(txn, &target.model).await?)?;
    let version = model_version::read(txn, &target.model, target.version).await?.version;
    model_version::check_servable(&version)?;
    let before = store::aliases::get(txn, &target.model, &target.alias).await?;
    let moved = next_move(target, &version, before.as_ref(), call)?;
    check_protection(txn, &target.alias, &version).await?;
    if !store::aliases::apply(txn, &moved).await? {
        return Err(stale(&target.model, &target.alias, (target.expected_revision, moved.revision)));
    }
    let from = before.filter(|before| !before.deleted).map(|before| before.version);
    let change = call.change(event::alias_moved(&moved, from), &moved.model);
    let change = if let Some(from) = from { change.over(from) } else { change };
    audit::record(txn, change).await?;
    Ok(moved)
}

/// The alias after its next move. Its time is never before that of the previous move, whatever the clocks say.
fn next_move(target: &AliasMove, version: &ModelVersion, before: Option<&Alias>, call: &Call) -> Result<Alias, Error> {
    let actual = before.filter(|before| !before.deleted).map_or(0, |before| before.revision);
    if actual != target.expected_revision {
        return Err(stale(&target.model, &target.alias, (target.expected_revision, actual)));
    }
    Ok(Alias {
        model: target.model.clone(),
        alias: target.alias.clone(),
        version: version.version,
        bundle: version.bundle,
        revision: before.map_or(0, |before| before.revision) + 1,
        by: call.principal.to_string(),
        why: target.why.clone(),
        moved_at: before.map_or(call.now, |before| call.now.max(before.moved_at)),
        deleted: false,
    })
}

fn stale(model: &ModelName, alias: &AliasName, (expected, actual): (u64, u64)) -> Error {
    RequestError::StaleRevision { resource: format!("alias {alias} of model {model}"), expected, actual }.into()
}

/// Refuses a version that does not have the approvals that the alias requires.
async fn check_protection(txn: &DatabaseTransaction, alias: &AliasName, version: &ModelVersion) -> Result<(), Error> {
    let Some(protection) = store::aliases::protection(txn, &version.model, alias).await? else { return Ok(()) };
    let mut decided = BTreeSet::new();
    let mut approved_by = BTreeSet::new();
    for (_, review) in store::models::reviews(txn, &version.model, version.version, None, REVIEWS).await? {
        let counts = !(protection.except_author && review.by == version.author);
        // The last review of each principal counts.
        if decided.insert(review.by.clone()) && counts && review.approval == Approval::Approved {
            approved_by.insert(review.by);
        }
    }
    let has = u32::try_from(approved_by.len()).unwrap_or(u32::MAX);
    if has >= protection.approvals {
        return Ok(());
    }
    let (model, number) = (version.model.to_string(), version.version.to_string());
    let others = if protection.except_author { " other than its author" } else { "" };
    let by = approved_by.into_iter().collect::<Vec<_>>().join(", ");
    let by = if by.is_empty() { String::new() } else { format!(" ({by})") };
    let message = format!(
        "alias {alias} of model {model} is protected: version {number} has {has}{by} of {} approvals by different \
         principals{others}",
        protection.approvals
    );
    Err(Error::refused("ALIAS_PROTECTED", message, [("model", model), ("version", number)]))
}

/// Exchanges the versions of two aliases. The second call has the id of the second event.
pub(crate) async fn swap(
    db: &DatabaseConnection,
    calls: (Call, Call),
    swap: AliasSwap,
) -> Result<(Alias, Alias), Error> {
    in_transaction(db, async move |txn| {
        let AliasSwap { model, one, other, why } = &swap;
        let (first, second) = (get(txn, model, &one.0).await?, get(txn, model, &other.0).await?);
        let target = |(alias, expected_revision): &(AliasName, u64), to: &Alias| AliasMove {
            model: model.clone(),
            alias: alias.clone(),
            version: to.version,
            expected_revision: *expected_revision,
            why: why.clone(),
        };
        let moved = move_to(txn, &calls.0, &target(one, &second)).await?;
        Ok((moved, move_to(txn, &calls.1, &target(other, &first)).await?))
    })
    .await
}

/// Deletes an alias; without an expected revision, the present one.
pub(crate) async fn delete(
    db: &DatabaseConnection,
    call: Call,
    model: ModelName,
    alias: AliasName,
    expected: Option<u64>,
    why: String,
) -> Result<Alias, Error> {
    in_transaction(db, async move |txn| {
        let present = get(txn, &model, &alias).await?;
        if let Some(expected) = expected.filter(|expected| *expected != present.revision) {
            return Err(stale(&model, &alias, (expected, present.revision)));
        }
        let deleted = Alias {
            revision: present.revision + 1,
            by: call.principal.to_string(),
            why: why.clone(),
            moved_at: call.now.max(present.moved_at),
            deleted: true,
            ..present.clone()
        };
        if !store::aliases::apply(txn, &deleted).await? {
            return Err(stale(&model, &alias, (present.revision, deleted.revision)));
        }
        audit::record(txn, call.change(event::alias_deleted(&deleted), &model).over(present.version)).await?;
        Ok(deleted)
    })
    .await
}

/// Sets what a version needs before the alias is moved to it.
pub(crate) async fn protect(
    db: &DatabaseConnection,
    call: Call,
    model: ModelName,
    alias: AliasName,
    (approvals, except_author): (u32, bool),
    why: String,
) -> Result<AliasProtection, Error> {
    if approvals > MAX_APPROVALS {
        return Err(Error::invalid("approvals", format!("is {approvals}: expected at most {MAX_APPROVALS}")));
    }
    check_new_name(&alias)?;
    in_transaction(db, async move |txn| {
        model::read(txn, &model).await?;
        let before = store::aliases::protection(txn, &model, &alias).await?;
        let protection = AliasProtection {
            model: model.clone(),
            alias: alias.clone(),
            approvals,
            except_author,
            by: call.principal.to_string(),
            why: why.clone(),
            at: Some(call.now),
        };
        store::aliases::protect(txn, &protection, call.now).await?;
        let change = call.change(event::alias_protected(&protection), &model);
        let change = match before {
            Some(before) => change.over(event::alias_protected(&before).data),
            None => change,
        };
        audit::record(txn, change).await?;
        Ok(protection)
    })
    .await
}

/// What a version needs before the alias is moved to it.
pub(crate) async fn protection(
    db: &DatabaseConnection,
    model: ModelName,
    alias: AliasName,
) -> Result<AliasProtection, Error> {
    model::read(db, &model).await?;
    let found = store::aliases::protection(db, &model, &alias).await?;
    let none = AliasProtection {
        model,
        alias,
        approvals: 0,
        except_author: false,
        by: String::new(),
        why: String::new(),
        at: None,
    };
    Ok(found.unwrap_or(none))
}

/// Where an alias points.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName, alias: &AliasName) -> Result<Alias, Error> {
    let found = store::aliases::get(db, model, alias).await?.filter(|alias| !alias.deleted);
    found.ok_or_else(|| Error::not_found("alias", format!("{model}/{alias}")))
}

/// The moves of an alias, newest first, before a revision, at most `limit`. Those of a deleted one are kept.
pub(crate) async fn history(
    db: &DatabaseConnection,
    model: &ModelName,
    alias: &AliasName,
    before: Option<u64>,
    limit: u64,
) -> Result<Vec<Alias>, Error> {
    must_have_been(db, model, alias).await?;
    Ok(store::aliases::history(db, model, alias, before, limit).await?)
}

/// The move in force at a time; `None` if the alias did not exist.
pub(crate) async fn at(
    db: &DatabaseConnection,
    model: &ModelName,
    alias: &AliasName,
    time: DateTime<Utc>,
) -> Result<Option<Alias>, Error> {
    must_have_been(db, model, alias).await?;
    Ok(store::aliases::at(db, model, alias, time).await?.filter(|alias| !alias.deleted))
}

async fn must_have_been(db: &DatabaseConnection, model: &ModelName, alias: &AliasName) -> Result<(), Error> {
    match store::aliases::get(db, model, alias).await? {
        Some(_) => Ok(()),
        None => Err(Error::not_found("alias", format!("{model}/{alias}"))),
    }
}
