//! A deployment: its record, its changes, and the events that they cause. The planner in [`rekindle_domain::rollout`] decides what to do
//! next; this module records it.

use chrono::{DateTime, Utc};
use rekindle_client::wire::event::{self, DeploymentChange};
use rekindle_domain::{
    ModelName, ReplicaId, VersionRef, WorkflowId,
    deployment_status::{DeploymentPhase, DeploymentStatus, RolloutOutcome},
    event::{EventContext, Fact},
    rollout::{Action, Deployment, Movement, Outcome, Strategy},
    routes::WeightedVersion,
};
use rekindle_store::{
    audit::{self, Change},
    outbox::NewEvent,
};
use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};

use crate::{Error, store::deployments, workflow::derived_id};

/// A deployment and the latest request that concerns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub deployment: Deployment,
    /// Increases with every change; the first is 1.
    pub revision: u64,
    pub request: Request,
    pub champion: Champion,
}

/// Where the alias `champion` points since the latest rollout began. If a caller moved the alias before deploying, it stays when the
/// rollout completes, and returns to the stable version when it does not: it ends at the stable version either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Champion {
    /// It must be pointed at the stable version once the rollout has ended.
    Owed,
    /// It points at the stable version.
    Set,
    /// The registry refuses it, and a retry cannot help.
    Refused {
        /// The message of the registry.
        why: String,
    },
}

/// A requested rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub target: VersionRef,
    pub origin: Origin,
    pub by: String,
    pub why: String,
    pub strategy: Strategy,
    /// When it is rolled back if it has not completed.
    pub deadline_at: DateTime<Utc>,
}

/// Who requested a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// A Deploy call.
    Call,
    /// A Rollback call.
    Rollback,
    /// A workflow.
    Workflow(WorkflowId),
}

impl Record {
    /// The workflow that requested the latest rollout.
    pub(crate) fn workflow(&self) -> Option<WorkflowId> {
        match self.request.origin {
            Origin::Workflow(id) => Some(id),
            Origin::Call | Origin::Rollback => None,
        }
    }

    /// Whether every replica is assigned that version, and no failure to serve it is known.
    pub(crate) fn has_or_gets(&self, version: VersionRef) -> bool {
        let moving = matches!(self.deployment.movement, Movement::Forward(_) | Movement::Returning { .. });
        !moving && self.deployment.outcome != Outcome::Failed && self.deployment.stable == version
    }

    /// Whether `champion` must still be pointed at the stable version. A version that failed does not become the champion.
    pub(crate) fn owes_champion(&self) -> bool {
        let over = matches!(self.deployment.outcome, Outcome::Completed | Outcome::Returned);
        self.deployment.movement == Movement::Settled && over && self.champion == Champion::Owed
    }

    /// Whether nothing is to be done as long as neither it nor what replicas report changes.
    pub(crate) fn is_idle(&self) -> bool {
        let deployment = &self.deployment;
        deployment.movement == Movement::Settled && deployment.outcome != Outcome::Failed && !self.owes_champion()
    }

    /// What calls and events on its behalf carry.
    pub(crate) fn context(&self) -> EventContext {
        self.workflow().map_or_else(EventContext::default, |id| EventContext::correlated(id.to_string()))
    }

    /// The deployment as its callers see it.
    pub(crate) fn status(&self) -> DeploymentStatus {
        let deployment = &self.deployment;
        let forward = deployment.forward();
        // Those of a canary step included, until every replica is updated.
        let is_updated = forward.is_some_and(|forward| forward.observing_since.is_some());
        let routes = deployment.routes();
        DeploymentStatus {
            model: deployment.model.clone(),
            generation: deployment.generation,
            phase: phase(&deployment.movement),
            stable: deployment.stable,
            weighted: if is_updated { deployment.weighted.clone() } else { routes.weighted },
            shadow: routes.shadow,
            canary_step: forward.and_then(|forward| u32::try_from(forward.canary?.step + 1).ok()),
            target: forward.map(|forward| forward.target),
            moved: forward.map_or_else(Vec::new, |forward| forward.moved.keys().cloned().collect()),
            reason: deployment.reason.clone(),
            revision: self.revision,
            changed_at: deployment.changed_at,
            outcome: outcome(deployment.outcome),
        }
    }

    fn change(&self, fact: Fact<serde_json::Value>, now: DateTime<Utc>) -> Change {
        let model = &self.deployment.model;
        let event = NewEvent {
            id: derived_id(&format!("{}/{model}/{}/{}", fact.kind, self.revision, now.timestamp_micros())),
            kind: fact.kind,
            name: fact.name,
            data: fact.data,
            context: self.context(),
            partition_key: model.to_string(),
            time: now,
        };
        Change { event, actor: self.request.by.clone(), before: None }
    }
}

/// The phase of a movement.
pub(crate) fn phase(movement: &Movement) -> DeploymentPhase {
    match movement {
        Movement::Settled => DeploymentPhase::Stable,
        Movement::First { .. } => DeploymentPhase::Observing,
        Movement::Forward(forward) if forward.observing_since.is_some() => DeploymentPhase::Observing,
        Movement::Forward(_) => DeploymentPhase::RollingOut,
        Movement::Returning { .. } => DeploymentPhase::Returning,
    }
}

/// Starts the rollout of `request`, within a transaction; without a deployment, creates the first.
pub(crate) async fn begin(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    current: Option<&Record>,
    request: Request,
    now: DateTime<Utc>,
) -> Result<Record, Error> {
    let deployment = match current {
        None => Deployment::first(model.clone(), request.target, request.why.clone(), now),
        Some(current) => current
            .deployment
            .begin(request.target, request.why.clone(), now)
            .map_err(|busy| in_progress(current, &busy.to_string()))?,
    };
    let revision = current.map_or(1, |current| current.revision + 1);
    let record = Record { deployment, revision, request, champion: Champion::Owed };
    deployments::write(txn, &record).await?;
    publish_change(txn, &record, now).await?;
    Ok(record)
}

/// Records other weighted versions and another shadow version, within a transaction.
pub(crate) async fn set_traffic(
    txn: &impl ConnectionTrait,
    record: &Record,
    weighted: Vec<WeightedVersion>,
    shadow: Option<VersionRef>,
    reason: String,
    now: DateTime<Utc>,
) -> Result<Record, Error> {
    let deployment = record
        .deployment
        .with_traffic(weighted, shadow, reason, now)
        .map_err(|busy| in_progress(record, &busy.to_string()))?;
    deployment.routes().validate()?;
    let next = Record { deployment, revision: record.revision + 1, ..record.clone() };
    deployments::write(txn, &next).await?;
    publish_change(txn, &next, now).await?;
    Ok(next)
}

/// Records the action of the planner, within a transaction, with its events.
pub(crate) async fn apply(
    txn: &impl ConnectionTrait,
    record: &Record,
    action: &Action,
    now: DateTime<Utc>,
) -> Result<Record, Error> {
    let deployment = record.deployment.apply(action, now);
    let next = Record { deployment, revision: record.revision + 1, ..record.clone() };
    deployments::write(txn, &next).await?;
    let phases = [record, &next].map(|record| (phase(&record.deployment.movement), record.deployment.outcome));
    if phases[0] != phases[1] {
        publish_change(txn, &next, now).await?;
    }
    match action {
        Action::Arrive(replica) => publish_arrival(txn, &next, replica, now).await?,
        Action::Complete if next.request.origin == Origin::Rollback => {
            deployments::withdraw_newest(txn, &next.deployment.model).await?;
        }
        Action::Complete => deployments::remember_stable(txn, &next).await?,
        _ => {}
    }
    Ok(next)
}

/// Returns every replica to the stable version, within a transaction. A deployment without a rollout is left unchanged.
pub(crate) async fn turn_back(
    txn: &impl ConnectionTrait,
    record: &Record,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Record, Error> {
    match record.deployment.movement {
        Movement::Forward(_) => apply(txn, record, &Action::Return { reason: reason.to_owned() }, now).await,
        Movement::Settled | Movement::First { .. } | Movement::Returning { .. } => Ok(record.clone()),
    }
}

/// Records where `champion` points, within a transaction; a refusal is part of the reason, too.
pub(crate) async fn note_champion(
    txn: &impl ConnectionTrait,
    record: &Record,
    champion: Champion,
) -> Result<Record, Error> {
    let mut next = Record { revision: record.revision + 1, ..record.clone() };
    if let Champion::Refused { why } = &champion {
        let version = next.deployment.stable.version;
        next.deployment.reason =
            format!("{}; champion does not point at version {version}: {why}", next.deployment.reason);
    }
    next.champion = champion;
    deployments::write(txn, &next).await?;
    Ok(next)
}

fn outcome(outcome: Outcome) -> Option<RolloutOutcome> {
    match outcome {
        Outcome::UnderWay => None,
        Outcome::Completed => Some(RolloutOutcome::Completed),
        Outcome::Returned => Some(RolloutOutcome::Returned),
        Outcome::Failed => Some(RolloutOutcome::Failed),
    }
}

fn in_progress(current: &Record, problem: &str) -> Error {
    let model = current.deployment.model.to_string();
    let target = current.request.target.version;
    let whose = current.workflow().map_or_else(String::new, |id| format!(" by workflow {id}"));
    let message =
        format!("{model} is being rolled out to version {target}{whose}: {problem}; wait for its end, or roll it back");
    Error::refused("ROLLOUT_IN_PROGRESS", message, [("model", model), ("target_version", target.to_string())])
}

async fn publish_change(txn: &impl ConnectionTrait, record: &Record, now: DateTime<Utc>) -> Result<(), Error> {
    let deployment = &record.deployment;
    let fact = event::deployment_changed(&DeploymentChange {
        model: &deployment.model,
        generation: deployment.generation,
        phase: phase(&deployment.movement),
        stable: deployment.stable.version,
        target: deployment.forward().map(|forward| forward.target.version),
        reason: &deployment.reason,
        outcome: outcome(deployment.outcome),
        is_rollback: record.request.origin == Origin::Rollback,
    });
    audit::record(txn, record.change(fact, now)).await?;
    Ok(())
}

async fn publish_arrival(
    txn: &impl ConnectionTrait,
    record: &Record,
    replica: &ReplicaId,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (deployment, target) = (&record.deployment, record.request.target.version);
    let fact = event::replica_updated(&deployment.model, replica, target, deployment.generation);
    audit::record(txn, record.change(fact, now)).await?;
    Ok(())
}
