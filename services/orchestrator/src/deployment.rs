//! A deployment: its record, how it is changed, and what the rest of the world is told of that. What to do next is decided by
//! the planner in [`rekindle_domain::rollout`]; here it is written down.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ModelName, ReplicaId, VersionRef, WorkflowId,
    event::EventKind,
    rollout::{Action, Deployment, Movement, Outcome, Strategy},
};
use rekindle_proto::{
    client::Context,
    events::{DeploymentChanged, ReplicaUpdated},
    json::{self, Named},
};
use rekindle_store::outbox::{self, NewEvent};
use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};

use crate::{Error, store::deployments, workflow::derived_id};

/// A deployment and the latest request that concerns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub deployment: Deployment,
    /// Grows with every change; the first is 1.
    pub revision: u64,
    pub request: Request,
    pub champion: Champion,
}

/// Where the registry's `champion` points, as far as is known since the latest move began. Whoever moves the alias by hand and
/// deploys it is followed or, where the version does not take over, contradicted: it ends at the stable version either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Champion {
    /// It has to be pointed at the stable version once the move is over.
    Owed,
    /// It points at the stable version.
    Set,
    /// The registry does not let it point there, and asking again would not help.
    Refused {
        /// What the registry said.
        why: String,
    },
}

/// What a deployment was asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub target: VersionRef,
    pub origin: Origin,
    pub by: String,
    pub why: String,
    pub strategy: Strategy,
    /// When it goes back if it is not through.
    pub deadline_at: DateTime<Utc>,
}

/// Who asked.
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
    /// The workflow that asked for the latest move.
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

    /// Whether `champion` has yet to be pointed at the stable version. One that failed is nobody's champion.
    pub(crate) fn owes_champion(&self) -> bool {
        let over = matches!(self.deployment.outcome, Outcome::Completed | Outcome::Returned);
        self.deployment.movement == Movement::Settled && over && self.champion == Champion::Owed
    }

    /// What calls and events on its behalf carry.
    pub(crate) fn context(&self) -> Context {
        self.workflow().map_or_else(Context::default, |id| Context::correlated(id.to_string()))
    }

    fn event<M: Named>(&self, kind: EventKind, data: &M, now: DateTime<Utc>) -> NewEvent {
        let model = &self.deployment.model;
        NewEvent {
            id: derived_id(&format!("{kind}/{model}/{}/{}", self.revision, now.timestamp_micros())),
            kind,
            name: model.to_string(),
            data: json::to_value(data),
            context: self.context(),
            partition_key: model.to_string(),
            time: now,
        }
    }
}

/// The phase's name in events: STABLE, ROLLING_OUT, OBSERVING or RETURNING.
pub(crate) fn phase(movement: &Movement) -> &'static str {
    match movement {
        Movement::Settled => "STABLE",
        Movement::First { .. } => "OBSERVING",
        Movement::Forward(forward) if forward.observing_since.is_some() => "OBSERVING",
        Movement::Forward(_) => "ROLLING_OUT",
        Movement::Returning { .. } => "RETURNING",
    }
}

/// Starts to move a model to the target of `request`, within a transaction; without a deployment yet, makes the first.
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
    tell_change(txn, &record, now).await?;
    Ok(record)
}

/// Writes down the planner's action, within a transaction, and tells of what others care about.
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
        tell_change(txn, &next, now).await?;
    }
    match action {
        Action::Arrive(replica) => tell_arrival(txn, &next, replica, now).await?,
        Action::Complete if next.request.origin == Origin::Rollback => {
            deployments::withdraw_newest(txn, &next.deployment.model).await?;
        }
        Action::Complete => deployments::remember_stable(txn, &next).await?,
        _ => {}
    }
    Ok(next)
}

/// Sends every replica back to the stable version, within a transaction. A deployment that is not moving forward stays as it is.
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

/// Notes what became of `champion`, within a transaction; a refusal is told in the reason, too.
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

/// How the latest move ended, as told to callers.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::UnderWay => "",
        Outcome::Completed => "completed",
        Outcome::Returned => "returned",
        Outcome::Failed => "failed",
    }
}

fn in_progress(current: &Record, problem: &str) -> Error {
    let model = current.deployment.model.to_string();
    let target = current.request.target.version;
    let whose = current.workflow().map_or_else(String::new, |id| format!(" by workflow {id}"));
    Error::Refused {
        reason: "ROLLOUT_IN_PROGRESS",
        message: format!(
            "{model} is moving to version {target}{whose}: {problem}; wait until it ends, or roll it back"
        ),
        facts: vec![("model", model), ("target_version", target.to_string())],
    }
}

async fn tell_change(txn: &impl ConnectionTrait, record: &Record, now: DateTime<Utc>) -> Result<(), Error> {
    let deployment = &record.deployment;
    let data = DeploymentChanged {
        model: deployment.model.to_string(),
        generation: deployment.generation,
        phase: phase(&deployment.movement).to_owned(),
        stable_version: deployment.stable.version,
        target_version: deployment.forward().map_or(0, |forward| forward.target.version),
        reason: deployment.reason.clone(),
    };
    outbox::enqueue(txn, record.event(EventKind::DEPLOYMENT_CHANGED, &data, now)).await?;
    Ok(())
}

async fn tell_arrival(
    txn: &impl ConnectionTrait,
    record: &Record,
    replica: &ReplicaId,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let data = ReplicaUpdated {
        model: record.deployment.model.to_string(),
        replica: replica.to_string(),
        version: record.request.target.version,
        generation: record.deployment.generation,
    };
    outbox::enqueue(txn, record.event(EventKind::REPLICA_UPDATED, &data, now)).await?;
    Ok(())
}
