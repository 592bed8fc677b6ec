//! Deployments that callers request: to a version, and back.

use rekindle_domain::{
    AliasName, ModelName, VersionRef,
    event::EventContext,
    model_version::{Approval, VersionSelector, VersionStatus},
    rollout::{Movement, Outcome, Strategy},
    routes::WeightedVersion,
};
use rekindle_service::{Call, Intent, RequestError};
use rekindle_store::in_transaction;
use sea_orm::DatabaseTransaction;
use tokio::time::Instant;

use crate::{
    Error,
    core::Core,
    deployment::{self, Origin, Record, Request},
    store::{deployments, policies, workflows},
    workflow::{self, Ending, EndingKind, Workflow},
};

/// A deployment that a caller requests.
#[derive(Debug, Clone)]
pub(crate) struct Deploy {
    pub model: ModelName,
    /// `None` is the version that `champion` points at.
    pub version: Option<u32>,
    /// `None` is any revision.
    pub expected_revision: Option<u64>,
    pub why: String,
}

/// A rollback that a caller requests.
#[derive(Debug, Clone)]
pub(crate) struct Rollback {
    pub model: ModelName,
    pub why: String,
}

/// Versions that get requests beside the stable one.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    pub model: ModelName,
    /// Versions and their shares.
    pub weighted: Vec<(u32, u32)>,
    pub shadow: Option<u32>,
    /// `None` is any revision.
    pub expected_revision: Option<u64>,
    pub why: String,
}

/// Starts the rollout of a version, once per intent. The result is the deployment in progress.
pub(crate) async fn deploy(core: &Core, call: &Call, intent: Intent, deploy: Deploy) -> Result<Record, Error> {
    if intent.earlier::<ModelName, Error>(&core.db).await?.is_some() {
        return current(core, &deploy.model).await;
    }
    let model = deploy.model.clone();
    let target = deployable(core, &model, deploy.version, call.context.clone()).await?;
    let (version, by) = (target.version, &call.principal);
    tracing::info!(%model, version, %by, why = deploy.why, "deployment requested");
    let (call, deadline_at) = (call.clone(), call.now + core.config.deploy_deadline);
    let replicas = core.fleet.live(Instant::now()).len();
    in_transaction(&core.db, async move |txn| {
        if intent.earlier::<ModelName, Error>(txn).await?.is_some() {
            return Ok::<_, Error>(());
        }
        let present = deployments::get(txn, &deploy.model).await?;
        must_have_revision(&deploy.model, deploy.expected_revision, present.as_ref())?;
        let strategy = strategy(txn, &deploy.model).await?;
        let request = Request {
            target,
            origin: Origin::Call,
            by: call.principal.to_string(),
            why: deploy.why.clone(),
            deadline_at: deadline_at + strategy.planned(replicas),
            strategy,
        };
        begin(txn, &deploy.model, present, request, call.now).await?;
        Ok(intent.record(txn, &deploy.model, call.now).await?)
    })
    .await?;
    core.wake();
    current(core, &model).await
}

/// Returns to the previous stable version, once per intent. A rollout in progress is ended instead, and the workflow that started it is
/// cancelled; a rollback in progress continues.
pub(crate) async fn rollback(core: &Core, call: &Call, intent: Intent, rollback: Rollback) -> Result<Record, Error> {
    let model = rollback.model.clone();
    tracing::info!(%model, by = %call.principal, why = rollback.why, "rollback requested");
    let (call, deadline_at) = (call.clone(), call.now + core.config.deploy_deadline);
    in_transaction(&core.db, async move |txn| {
        if intent.earlier::<ModelName, Error>(txn).await?.is_some() {
            return Ok::<_, Error>(());
        }
        let present = deployments::get(txn, &rollback.model).await?;
        let present = present.ok_or_else(|| Error::not_found("deployment of", &rollback.model))?;
        // Both hold several copies of the record.
        match present.deployment.movement {
            Movement::Forward(_) if present.request.origin != Origin::Rollback => {
                Box::pin(end_rollout(txn, &present, &call, &rollback.why)).await?;
            }
            Movement::Forward(_) | Movement::Returning { .. } => {}
            Movement::First { .. } | Movement::Settled => {
                Box::pin(go_back(txn, present, &call, &rollback.why, deadline_at)).await?;
            }
        }
        Ok(intent.record(txn, &rollback.model, call.now).await?)
    })
    .await?;
    core.wake();
    current(core, &model).await
}

/// Sets the versions that get requests beside the stable one, once per intent.
pub(crate) async fn set_traffic(core: &Core, call: &Call, intent: Intent, traffic: Traffic) -> Result<Record, Error> {
    let model = traffic.model.clone();
    if intent.earlier::<ModelName, Error>(&core.db).await?.is_some() {
        return current(core, &model).await;
    }
    let mut weighted = Vec::new();
    for &(number, weight) in &traffic.weighted {
        let version = deployable(core, &model, Some(number), call.context.clone()).await?;
        weighted.push(WeightedVersion { version, weight });
    }
    let shadow = match traffic.shadow {
        Some(number) => Some(deployable(core, &model, Some(number), call.context.clone()).await?),
        None => None,
    };
    tracing::info!(%model, weighted = ?traffic.weighted, shadow = ?traffic.shadow, by = %call.principal, "traffic set");
    let call = call.clone();
    in_transaction(&core.db, async move |txn| {
        if intent.earlier::<ModelName, Error>(txn).await?.is_some() {
            return Ok::<_, Error>(());
        }
        let present = deployments::get(txn, &traffic.model).await?;
        must_have_revision(&traffic.model, traffic.expected_revision, present.as_ref())?;
        let present = present.ok_or_else(|| Error::not_found("deployment of", &traffic.model))?;
        let colon = if traffic.why.is_empty() { "" } else { ": " };
        let reason = format!("traffic set by {}{colon}{}", call.principal, traffic.why);
        deployment::set_traffic(txn, &present, weighted.clone(), shadow, reason, call.now).await?;
        Ok(intent.record(txn, &traffic.model, call.now).await?)
    })
    .await?;
    core.wake();
    current(core, &model).await
}

async fn current(core: &Core, model: &ModelName) -> Result<Record, Error> {
    core.deployment(model).await?.ok_or_else(|| Error::not_found("deployment of", model))
}

/// The version to deploy: registered, servable, and neither deleted nor rejected. `None` is the one that `champion` points at.
async fn deployable(
    core: &Core,
    model: &ModelName,
    number: Option<u32>,
    context: EventContext,
) -> Result<VersionRef, Error> {
    let selector = match number {
        None => VersionSelector::Alias(AliasName::champion()),
        Some(number) => VersionSelector::Number(number),
    };
    let version = core.peers.on_behalf_of(context).model_version(model, selector).await?;
    if version.status == VersionStatus::NotServable {
        let number = version.version.to_string();
        let message = format!("version {number} of {model} cannot be served: {}", version.status_reason);
        return Err(Error::refused("NOT_SERVABLE", message, [("version", number)]));
    }
    if version.deleted_at.is_some() {
        let number = version.version.to_string();
        let message = format!("version {number} of {model} is deleted: restore it first, or deploy another version");
        return Err(Error::refused("DELETED", message, [("version", number)]));
    }
    if version.review.approval == Approval::Rejected {
        let number = version.version.to_string();
        let message = format!("version {number} of {model} is rejected: approve it first, or deploy another version");
        return Err(Error::refused("REJECTED", message, [("version", number)]));
    }
    Ok(version.reference())
}

fn must_have_revision(model: &ModelName, expected: Option<u64>, present: Option<&Record>) -> Result<(), RequestError> {
    let actual = present.map_or(0, |record| record.revision);
    match expected {
        Some(expected) if expected != actual => {
            Err(RequestError::StaleRevision { resource: format!("deployment of {model}"), expected, actual })
        }
        _ => Ok(()),
    }
}

async fn strategy(txn: &DatabaseTransaction, model: &ModelName) -> Result<Strategy, Error> {
    Ok(policies::get(txn, model).await?.map_or_else(Strategy::default, |revised| revised.policy.rollout))
}

/// Starts the rollout, unless the version is the stable one already; one that failed is repeated.
async fn begin(
    txn: &DatabaseTransaction,
    model: &ModelName,
    present: Option<Record>,
    request: Request,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), Error> {
    if !present.as_ref().is_some_and(|present| present.has_or_gets(request.target)) {
        deployment::begin(txn, model, present.as_ref(), request, now).await?;
    }
    Ok(())
}

async fn end_rollout(txn: &DatabaseTransaction, present: &Record, call: &Call, why: &str) -> Result<(), Error> {
    let reason = reason(call, why);
    if let Some(id) = present.workflow() {
        let workflow = workflows::get(txn, id).await?;
        if let Some(workflow) = workflow.filter(|workflow| !workflow.state.is_terminal() && workflow.ending.is_none()) {
            let ending = Ending { kind: EndingKind::Cancel, reason: reason.clone() };
            let after = Workflow { ending: Some(ending), ..workflow.clone() };
            workflow::change(txn, &workflow, after, call.now).await?;
        }
    }
    deployment::turn_back(txn, present, &reason, call.now).await?;
    Ok(())
}

async fn go_back(
    txn: &DatabaseTransaction,
    present: Record,
    call: &Call,
    why: &str,
    deadline_at: chrono::DateTime<chrono::Utc>,
) -> Result<(), Error> {
    let model = present.deployment.model.clone();
    let before = deployments::stable_before(txn, &model).await?;
    let Some(target) = before.filter(|_| present.deployment.outcome != Outcome::UnderWay) else {
        let message = format!("{model} had no stable version before version {}", present.deployment.stable.version);
        return Err(Error::refused("NOTHING_BEFORE", message, [("model", model.to_string())]));
    };
    let request = Request {
        target,
        origin: Origin::Rollback,
        by: call.principal.to_string(),
        why: reason(call, why),
        // A return to a version that was stable before is not tried out first, and neither failing nor slow requests end it.
        strategy: Strategy {
            max_error_rate: 1.0,
            max_latency: None,
            canary: Vec::new(),
            ..strategy(txn, &model).await?
        },
        deadline_at,
    };
    deployment::begin(txn, &model, Some(&present), request, call.now).await?;
    Ok(())
}

fn reason(call: &Call, why: &str) -> String {
    let colon = if why.is_empty() { "" } else { ": " };
    format!("rolled back by {}{colon}{why}", call.principal)
}
