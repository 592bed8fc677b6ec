//! How a deployment moves from one version to another: a pure planner. From the record, the live
//! replicas and the time it says what to do next, and applying that gives the next record.
//!
//! Invariants:
//! - a deployment always has a stable version;
//! - a replica is asked to move only when every other one that was asked, and lives, serves the target;
//! - after any failure the next record assigns the stable version to every replica.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{DesiredState, ModelName, ReplicaId, ReplicaState, ServedModel, VersionRef, deployment::Rollout};

/// The next thing to do for a deployment, given what its live replicas report. `live` holds only replicas whose lease has not
/// run out: the others are not waited for.
pub fn plan(deployment: &Deployment, live: &[ReplicaState], now: DateTime<Utc>, strategy: &Strategy) -> Action {
    let served: BTreeMap<&ReplicaId, Option<&ServedModel>> =
        live.iter().map(|state| (&state.replica, state.models.get(&deployment.model))).collect();
    match &deployment.movement {
        Movement::Settled if deployment.outcome == Outcome::Failed && all_serve(deployment, &served) => {
            Action::Complete
        }
        Movement::Settled => Action::Wait,
        Movement::First { since } => plan_first(deployment, *since, &served, now, strategy),
        Movement::Forward(forward) => plan_forward(forward, &served, now, strategy),
        Movement::Returning { since } => plan_return(deployment, *since, &served, now, strategy),
    }
}

/// How carefully a rollout goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// How long a replica must take over a version, from asked to ready.
    #[serde(with = "humantime_serde")]
    pub replica_deadline: Duration,
    /// How long each moved replica is watched before the next one moves.
    #[serde(with = "humantime_serde")]
    pub bake: Duration,
    /// How long all replicas are watched before the target becomes the stable version.
    #[serde(with = "humantime_serde")]
    pub observe: Duration,
    /// Share of requests that may fail inside the target, in [0, 1]; above it the rollout goes back.
    pub max_error_rate: f64,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            replica_deadline: Duration::from_secs(60),
            bake: Duration::from_secs(1),
            observe: Duration::from_secs(5),
            max_error_rate: 0.0,
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until time passes or a replica reports.
    Wait,
    /// Ask one more replica to serve the target.
    Move(ReplicaId),
    /// Note that a replica serves the target.
    Arrive(ReplicaId),
    /// Note that a replica which had arrived began a new life and has to load the target again.
    Rejoin(ReplicaId),
    /// Forget a replica that vanished on its way; should it come back, its turn comes again.
    Drop(ReplicaId),
    /// Watch the replicas: every live one serves the target, or the first ones have come that a first version is for.
    Observe,
    /// The target becomes the stable version; the first version, which is that already, is served by every live replica.
    Complete,
    /// The first version is not served everywhere, and no other could be gone back to. It stays assigned to every replica.
    Fail {
        /// What went wrong.
        reason: String,
    },
    /// Assign the stable version to every replica.
    Return {
        /// What went wrong.
        reason: String,
    },
    /// The way back is over.
    Settle {
        /// Live replicas that did not confirm the stable version in time; they are still assigned it.
        stragglers: Vec<ReplicaId>,
    },
}

/// A deployment's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The model, and the deployment's name.
    pub model: ModelName,
    /// Grows by one whenever the desired state changes.
    pub generation: u64,
    /// What replicas serve unless they were moved.
    pub stable: VersionRef,
    /// What is going on.
    pub movement: Movement,
    /// When every live replica first served the latest target.
    pub everywhere_at: Option<DateTime<Utc>>,
    /// How the latest move ended.
    pub outcome: Outcome,
    /// Why it is as it is, in words.
    pub reason: String,
    /// When it last changed.
    pub changed_at: DateTime<Utc>,
}

/// What a deployment is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Movement {
    /// Nothing: every replica should serve the stable version.
    Settled,
    /// The first version goes to every replica at once, and not all of them serve it yet.
    First {
        /// Since when a live replica has been known; `None` before the first.
        since: Option<DateTime<Utc>>,
    },
    /// From the stable version to a target.
    Forward(Forward),
    /// Back to the stable version.
    Returning {
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// A move to a target under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The version to move to.
    pub target: VersionRef,
    /// Replicas that were asked to serve it.
    pub moved: BTreeMap<ReplicaId, Moved>,
    /// Since when every live replica is being watched; `None` while some have yet to move.
    pub observing_since: Option<DateTime<Utc>>,
}

/// A replica that was asked to serve the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// When it was asked.
    pub asked_at: DateTime<Utc>,
    /// The generation that asked it.
    pub generation: u64,
    /// When it was seen to serve the target.
    pub arrived_at: Option<DateTime<Utc>>,
}

/// How the latest move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is under way.
    UnderWay,
    /// The target is the stable version.
    Completed,
    /// Every replica went back.
    Returned,
    /// The first version was not served by every live replica. Once it is after all, this becomes [`Outcome::Completed`].
    Failed,
}

/// Why a deployment cannot start to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another move is under way")]
pub struct Busy;

impl Deployment {
    /// The first deployment of a model.
    pub fn first(model: ModelName, version: VersionRef, reason: String, now: DateTime<Utc>) -> Self {
        Self {
            model,
            generation: 1,
            stable: version,
            movement: Movement::First { since: None },
            everywhere_at: None,
            outcome: Outcome::UnderWay,
            reason,
            changed_at: now,
        }
    }

    /// Starts to move to `target`. A first version that was never served everywhere is simply replaced: nothing is known of it
    /// that would make it worth going back to.
    pub fn begin(&self, target: VersionRef, reason: String, now: DateTime<Utc>) -> Result<Self, Busy> {
        let (stable, movement) = match self.movement {
            Movement::First { .. } => (target, Movement::First { since: None }),
            Movement::Settled if self.outcome == Outcome::Failed => (target, Movement::First { since: None }),
            Movement::Settled => {
                let forward = Forward { target, moved: BTreeMap::new(), observing_since: None };
                (self.stable, Movement::Forward(forward))
            }
            Movement::Forward(_) | Movement::Returning { .. } => return Err(Busy),
        };
        Ok(Self {
            generation: self.generation + 1,
            stable,
            movement,
            everywhere_at: None,
            outcome: Outcome::UnderWay,
            reason,
            changed_at: now,
            ..self.clone()
        })
    }

    /// The record after `action`. An action that does not fit the movement changes nothing.
    pub fn apply(&self, action: &Action, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        match (action, &mut next.movement) {
            (Action::Move(replica), Movement::Forward(forward)) => {
                next.generation += 1;
                forward.observing_since = None;
                let moved = Moved { asked_at: now, generation: next.generation, arrived_at: None };
                forward.moved.insert(replica.clone(), moved);
            }
            (Action::Arrive(replica), Movement::Forward(forward)) => {
                forward.moved.entry(replica.clone()).and_modify(|moved| moved.arrived_at = Some(now));
            }
            (Action::Rejoin(replica), Movement::Forward(forward)) => {
                let again = |moved: &mut Moved| (moved.asked_at, moved.arrived_at) = (now, None);
                forward.moved.entry(replica.clone()).and_modify(again);
            }
            (Action::Drop(replica), Movement::Forward(forward)) => {
                forward.moved.remove(replica);
                next.generation += 1;
            }
            (Action::Observe, Movement::First { since }) => *since = Some(now),
            (Action::Observe, Movement::Forward(forward)) => {
                forward.observing_since = Some(now);
                next.everywhere_at = next.everywhere_at.or(Some(now));
            }
            (Action::Complete, Movement::Forward(forward)) => {
                next.stable = forward.target;
                next.generation += 1;
                next.settle(Outcome::Completed);
            }
            (Action::Complete, Movement::First { .. }) => {
                next.everywhere_at = Some(now);
                next.settle(Outcome::Completed);
            }
            (Action::Complete, Movement::Settled) if self.outcome == Outcome::Failed => {
                next.everywhere_at = Some(now);
                next.reason = format!("every live replica serves it after all; before: {}", self.reason);
                next.settle(Outcome::Completed);
            }
            (Action::Fail { reason }, Movement::First { .. }) => {
                next.reason.clone_from(reason);
                next.settle(Outcome::Failed);
            }
            (Action::Return { reason }, Movement::Forward(_)) => {
                next.reason.clone_from(reason);
                next.generation += 1;
                next.movement = Movement::Returning { since: now };
            }
            (Action::Settle { stragglers }, Movement::Returning { .. }) => {
                if !stragglers.is_empty() {
                    let names: Vec<&str> = stragglers.iter().map(ReplicaId::as_str).collect();
                    next.reason = format!("{}; not confirmed by {}", next.reason, names.join(", "));
                }
                next.settle(Outcome::Returned);
            }
            _ => return next,
        }
        next.changed_at = now;
        next
    }

    fn settle(&mut self, outcome: Outcome) {
        self.movement = Movement::Settled;
        self.outcome = outcome;
    }

    /// What the replicas are told.
    pub fn desired(&self) -> DesiredState {
        let rollout = self.forward().map(|forward| Rollout {
            target: forward.target,
            moved: forward.moved.keys().cloned().collect::<BTreeSet<_>>(),
        });
        DesiredState { model: self.model.clone(), generation: self.generation, stable: self.stable, rollout }
    }

    /// The move to a target, where one is under way.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.movement {
            Movement::Forward(forward) => Some(forward),
            Movement::Settled | Movement::First { .. } | Movement::Returning { .. } => None,
        }
    }
}

/// The first version is through once every live replica serves it, and has failed once each of them has either done so or said
/// why not, or has had its time.
fn plan_first(
    deployment: &Deployment,
    since: Option<DateTime<Utc>>,
    live: &BTreeMap<&ReplicaId, Option<&ServedModel>>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Action {
    if all_serve(deployment, live) {
        return Action::Complete;
    }
    let Some(since) = since else { return if live.is_empty() { Action::Wait } else { Action::Observe } };
    let late = since + strategy.replica_deadline <= now;
    let mut problems = Vec::new();
    for (replica, model) in live.iter().filter(|(_, model)| !is_at(**model, deployment)) {
        let model = model.filter(|model| model.generation >= deployment.generation);
        match model.and_then(|model| model.failure.as_ref()) {
            Some(why) => problems.push(format!("replica {replica}: {why}")),
            None if late => {
                problems.push(format!("replica {replica} did not take over within {:?}", strategy.replica_deadline));
            }
            None => return Action::Wait,
        }
    }
    if problems.is_empty() { Action::Wait } else { Action::Fail { reason: problems.join("; ") } }
}

/// Whether replicas live and each of them has carried out the present generation by serving the stable version.
fn all_serve(deployment: &Deployment, live: &BTreeMap<&ReplicaId, Option<&ServedModel>>) -> bool {
    !live.is_empty() && live.values().all(|model| is_at(*model, deployment))
}

/// Whether a replica serves the stable version, and because the present generation says so.
fn is_at(model: Option<&ServedModel>, deployment: &Deployment) -> bool {
    model.is_some_and(|model| {
        model.serving == Some(deployment.stable) && model.generation >= deployment.generation && model.failure.is_none()
    })
}

fn plan_forward(
    forward: &Forward,
    live: &BTreeMap<&ReplicaId, Option<&ServedModel>>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Action {
    let mut on_its_way = false;
    for (replica, moved) in &forward.moved {
        match (standing(forward.target, *moved, live.get(replica).copied(), now, strategy), moved.arrived_at) {
            (Standing::Gone, None) => return Action::Drop(replica.clone()),
            (Standing::Gone, Some(_)) | (Standing::InPlace, Some(_)) => {}
            (Standing::InPlace, None) => return Action::Arrive(replica.clone()),
            (Standing::Loading { .. }, Some(_)) => return Action::Rejoin(replica.clone()),
            (Standing::Loading { late: false }, None) => on_its_way = true,
            (Standing::Loading { late: true }, None) => {
                let limit = strategy.replica_deadline;
                return Action::Return { reason: format!("replica {replica} did not take over within {limit:?}") };
            }
            (Standing::Failed(why), _) => return Action::Return { reason: format!("replica {replica}: {why}") },
        }
    }
    if on_its_way {
        return Action::Wait;
    }
    let next = live.keys().find(|replica| !forward.moved.contains_key(**replica));
    let baked = forward.moved.values().filter_map(|moved| moved.arrived_at).all(|at| at + strategy.bake <= now);
    let anyone = forward.moved.keys().any(|replica| live.contains_key(replica));
    match (next, forward.observing_since) {
        (Some(next), _) if baked => Action::Move((*next).clone()),
        (Some(_), _) => Action::Wait,
        (None, _) if !anyone => Action::Wait,
        (None, None) => Action::Observe,
        (None, Some(since)) if since + strategy.observe <= now => Action::Complete,
        (None, Some(_)) => Action::Wait,
    }
}

enum Standing {
    Gone,
    InPlace,
    Loading { late: bool },
    Failed(String),
}

/// Where a replica stands that was asked to serve the target; `model` is `None` for one that does not live.
fn standing(
    target: VersionRef,
    moved: Moved,
    model: Option<Option<&ServedModel>>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Standing {
    let late = moved.asked_at + strategy.replica_deadline <= now;
    let Some(model) = model else { return Standing::Gone };
    let Some(model) = model.filter(|model| model.generation >= moved.generation) else {
        return Standing::Loading { late };
    };
    if model.serving != Some(target) {
        return model.failure.as_ref().map_or(Standing::Loading { late }, |why| Standing::Failed(why.clone()));
    }
    let requests = model.answered.saturating_add(model.failed);
    if model.failed as f64 > strategy.max_error_rate * requests as f64 {
        return Standing::Failed(format!("{} of {requests} requests failed in the new version", model.failed));
    }
    Standing::InPlace
}

fn plan_return(
    deployment: &Deployment,
    since: DateTime<Utc>,
    live: &BTreeMap<&ReplicaId, Option<&ServedModel>>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Action {
    let stragglers: Vec<ReplicaId> =
        live.iter().filter(|(_, model)| !is_at(**model, deployment)).map(|(replica, _)| (*replica).clone()).collect();
    if stragglers.is_empty() || since + strategy.replica_deadline <= now {
        Action::Settle { stragglers }
    } else {
        Action::Wait
    }
}

#[cfg(test)]
mod tests;
