//! Deployments asked for by callers: to a version, and back.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    AliasName, ModelName, VersionRef,
    rollout::{Movement, Outcome, Strategy},
};
use rekindle_proto::{
    client::Context,
    orchestrator::{DeployRequest, Deployment, RollbackRequest},
    registry::{Approval, ModelVersion, VersionStatus, get_model_version_request::Which},
};
use rekindle_store::in_transaction;
use sea_orm::DatabaseTransaction;

use crate::{
    Error,
    clients::version_ref,
    core::Core,
    deployment::{self, Origin, Record, Request},
    intent::Intent,
    store::{deployments, policies, workflows},
    wire::{deployment_to_wire, model_from_wire},
    workflow::{self, Ending, EndingKind, Workflow},
};

/// Starts to move a model to a version; the answer tells how it stands, not that it is through.
pub(crate) async fn deploy(
    core: &Core,
    request: DeployRequest,
    context: Context,
    now: DateTime<Utc>,
) -> Result<Deployment, Error> {
    let intent = Intent::of("Deploy", &request.idempotency_key, &request)?;
    if let Some(earlier) = intent.earlier(&core.db).await? {
        return Ok(earlier);
    }
    let model = model_from_wire("model", &request.model)?;
    let target = deployable(core, &model, request.version, context).await?;
    tracing::info!(%model, version = target.version, by = request.by, why = request.why, "deployment asked for");
    let deadline_at = now + core.config.deploy_deadline;
    let answer = in_transaction(&core.db, async move |txn| {
        if let Some(earlier) = intent.earlier(txn).await? {
            return Ok::<_, Error>(earlier);
        }
        let current = deployments::get(txn, &model).await?;
        must_have_revision(&model, current.as_ref(), request.expected_revision)?;
        let wanted = Request {
            target,
            origin: Origin::Call,
            by: request.by.clone(),
            why: request.why.clone(),
            strategy: strategy(txn, &model).await?,
            deadline_at,
        };
        let record = begin(txn, &model, current, wanted, now).await?;
        let answer = deployment_to_wire(&record);
        intent.remember(txn, &answer, now).await?;
        Ok(answer)
    })
    .await?;
    core.wake();
    Ok(answer)
}

/// Goes back to the stable version before this one. Where a move to a target is under way, that is ended instead, and the
/// workflow that asked for it is cancelled. A rollback that is under way goes on.
pub(crate) async fn rollback(core: &Core, request: RollbackRequest, now: DateTime<Utc>) -> Result<Deployment, Error> {
    let intent = Intent::of("Rollback", &request.idempotency_key, &request)?;
    let model = model_from_wire("model", &request.model)?;
    tracing::info!(%model, by = request.by, why = request.why, "rollback asked for");
    let deadline_at = now + core.config.deploy_deadline;
    let answer = in_transaction(&core.db, async move |txn| {
        if let Some(earlier) = intent.earlier(txn).await? {
            return Ok::<_, Error>(earlier);
        }
        let current = deployments::get(txn, &model).await?;
        let current = current.ok_or_else(|| Error::not_found("deployment of", &model))?;
        let record = match current.deployment.movement {
            Movement::Forward(_) if current.request.origin == Origin::Rollback => current,
            Movement::Forward(_) => end_move(txn, &current, &request, now).await?,
            Movement::Returning { .. } => current,
            Movement::First { .. } | Movement::Settled => go_back(txn, current, &request, deadline_at, now).await?,
        };
        let answer = deployment_to_wire(&record);
        intent.remember(txn, &answer, now).await?;
        Ok(answer)
    })
    .await?;
    core.wake();
    Ok(answer)
}

/// The version that may be deployed: registered, verified, and not refused by anybody.
async fn deployable(core: &Core, model: &ModelName, version: u32, context: Context) -> Result<VersionRef, Error> {
    let which = match version {
        0 => Which::Alias(AliasName::champion().to_string()),
        number => Which::Version(number),
    };
    let version = core.peers.on_behalf_of(context).model_version(model, which).await?;
    let number = version.version.to_string();
    if version.status() != VersionStatus::Ready {
        let status = version.status().as_str_name().trim_start_matches("VERSION_STATUS_").to_owned();
        let message = format!("version {number} of {model} is {status}: only one that is READY can be deployed");
        return Err(refused("NOT_READY", message, vec![("version", number), ("status", status)]));
    }
    if approval(&version) == Approval::Rejected {
        let message = format!("version {number} of {model} was rejected: approve it first, or deploy another");
        return Err(refused("REJECTED", message, vec![("version", number)]));
    }
    version_ref(&version)
}

fn approval(version: &ModelVersion) -> Approval {
    version.review.as_ref().map_or(Approval::Pending, |review| review.approval())
}

fn must_have_revision(model: &ModelName, current: Option<&Record>, expected: u64) -> Result<(), Error> {
    let actual = current.map_or(0, |record| record.revision);
    if expected == 0 || expected == actual {
        return Ok(());
    }
    Err(Error::Stale { what: format!("the deployment of {model}"), expected, actual })
}

async fn strategy(txn: &DatabaseTransaction, model: &ModelName) -> Result<Strategy, Error> {
    Ok(policies::get(txn, model).await?.map_or_else(Strategy::default, |revised| revised.policy.rollout))
}

/// Starts the move, unless the version is the stable one already; one that failed is tried anew.
async fn begin(
    txn: &DatabaseTransaction,
    model: &ModelName,
    current: Option<Record>,
    wanted: Request,
    now: DateTime<Utc>,
) -> Result<Record, Error> {
    match current {
        Some(current) if current.has_or_gets(wanted.target) => Ok(current),
        current => deployment::begin(txn, model, current.as_ref(), wanted, now).await,
    }
}

async fn end_move(
    txn: &DatabaseTransaction,
    current: &Record,
    request: &RollbackRequest,
    now: DateTime<Utc>,
) -> Result<Record, Error> {
    let reason = reason(request);
    if let Some(id) = current.workflow() {
        let workflow = workflows::get(txn, id).await?;
        if let Some(workflow) = workflow.filter(|workflow| !workflow.state.is_terminal() && workflow.ending.is_none()) {
            let ending = Ending { kind: EndingKind::Cancel, reason: reason.clone() };
            let after = Workflow { ending: Some(ending), ..workflow.clone() };
            workflow::change(txn, &workflow, after, now).await?;
        }
    }
    deployment::turn_back(txn, current, &reason, now).await
}

async fn go_back(
    txn: &DatabaseTransaction,
    current: Record,
    request: &RollbackRequest,
    deadline_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Record, Error> {
    let model = current.deployment.model.clone();
    let before = deployments::stable_before(txn, &model).await?;
    let Some(target) = before.filter(|_| current.deployment.outcome != Outcome::UnderWay) else {
        let message = format!("{model} had no stable version before version {}", current.deployment.stable.version);
        return Err(refused("NOTHING_BEFORE", message, vec![("model", model.to_string())]));
    };
    let wanted = Request {
        target,
        origin: Origin::Rollback,
        by: request.by.clone(),
        why: reason(request),
        // The way back to a version that held up is not ended by a request that fails on it.
        strategy: Strategy { max_error_rate: 1.0, ..strategy(txn, &model).await? },
        deadline_at,
    };
    deployment::begin(txn, &model, Some(&current), wanted, now).await
}

fn reason(request: &RollbackRequest) -> String {
    let by = if request.by.is_empty() { "a caller" } else { &request.by };
    let colon = if request.why.is_empty() { "" } else { ": " };
    format!("rolled back by {by}{colon}{}", request.why)
}

fn refused(reason: &'static str, message: String, facts: Vec<(&'static str, String)>) -> Error {
    Error::Refused { reason, message, facts }
}
