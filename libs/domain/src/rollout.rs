//! Rolling updates of a deployment: a pure planner. From the record, the live replicas and the time it decides the next action, and
//! applying the action gives the next record.
//!
//! Invariants:
//! - a deployment always has a stable version;
//! - a replica is assigned the target only when every other live replica that was assigned it serves it;
//! - after any failure the next record assigns the stable version to every replica.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ModelName, ReplicaId, ReplicaState, Routes, ServedModel, VersionRef,
    routes::{Rollout, WeightedVersion},
};

/// The next action for a deployment, given what its live replicas report. `live` has only the replicas whose lease is valid: the planner
/// does not wait for others.
pub fn plan<'a>(
    deployment: &Deployment,
    live: impl IntoIterator<Item = &'a ReplicaState>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Action {
    let served: BTreeMap<&ReplicaId, Option<&ServedModel>> =
        live.into_iter().map(|state| (&state.replica, state.models.get(&deployment.model))).collect();
    match &deployment.movement {
        Movement::Settled if deployment.outcome == Outcome::Failed && all_serve(deployment, &served) => {
            Action::Complete
        }
        Movement::Settled => Action::Wait,
        Movement::First { since } => plan_first(deployment, *since, &served, now, strategy),
        Movement::Forward(forward) => plan_forward(deployment, forward, &served, now, strategy),
        Movement::Returning { since } => plan_return(deployment, *since, &served, now, strategy),
    }
}

/// The pace and the limits of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// How long a replica may take to serve a version that it was assigned.
    #[serde(with = "humantime_serde")]
    pub replica_deadline: Duration,
    /// How long each updated replica is observed before the next one is updated.
    #[serde(with = "humantime_serde")]
    pub bake: Duration,
    /// How long all replicas are observed before the target becomes the stable version.
    #[serde(with = "humantime_serde")]
    pub observe: Duration,
    /// Share of requests that may fail inside the target version, in [0, 1]. Above it the rollout is rolled back.
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

/// The planner's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Do nothing until time passes or a replica reports.
    Wait,
    /// Assign the target to one more replica.
    Move(ReplicaId),
    /// Record that a replica serves the target.
    Arrive(ReplicaId),
    /// Record that a replica which served the target has restarted and loads it again.
    Rejoin(ReplicaId),
    /// Remove a replica whose lease expired while it loaded the target. If it returns, it is updated again.
    Drop(ReplicaId),
    /// Start to observe: every live replica serves the target, or the first replicas for a first version are known.
    Observe,
    /// Make the target the stable version. A first version is stable already: every live replica serves it.
    Complete,
    /// Record that some replica does not serve the first version. There is no earlier version to return to, so it stays assigned.
    Fail {
        /// Why.
        reason: String,
    },
    /// Assign the stable version to every replica.
    Return {
        /// Why.
        reason: String,
    },
    /// End the return to the stable version.
    Settle {
        /// Live replicas that did not report the stable version in time. It stays assigned to them.
        stragglers: Vec<ReplicaId>,
    },
}

/// A deployment's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The model, and the deployment's name.
    pub model: ModelName,
    /// Increases by one whenever the routes change.
    pub generation: u64,
    /// The version of replicas that were not updated, and the version to return to.
    pub stable: VersionRef,
    /// Further versions that answer a share of the requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weighted: Vec<WeightedVersion>,
    /// The version that gets a copy of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<VersionRef>,
    /// The current phase.
    pub movement: Movement,
    /// When every live replica first served the latest target.
    pub everywhere_at: Option<DateTime<Utc>>,
    /// How the latest rollout ended.
    pub outcome: Outcome,
    /// Why it is in this phase, for people.
    pub reason: String,
    /// When it last changed.
    pub changed_at: DateTime<Utc>,
}

/// The phase of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Movement {
    /// No rollout is under way: the stable version is assigned to every replica.
    Settled,
    /// The first version is assigned to every replica at once, and not all of them serve it yet.
    First {
        /// When the first live replica was known; `None` before that.
        since: Option<DateTime<Utc>>,
    },
    /// A rollout from the stable version to a target.
    Forward(Forward),
    /// A return to the stable version.
    Returning {
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// A rollout under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The version to roll out.
    pub target: VersionRef,
    /// Replicas that were assigned the target.
    pub moved: BTreeMap<ReplicaId, Moved>,
    /// When the observation of all live replicas began; `None` while some do not serve the target.
    pub observing_since: Option<DateTime<Utc>>,
}

/// A replica that was assigned the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// When it was assigned.
    #[serde(alias = "asked_at")]
    pub assigned_at: DateTime<Utc>,
    /// The generation that assigned it.
    pub generation: u64,
    /// When it first reported that it serves the target.
    pub arrived_at: Option<DateTime<Utc>>,
}

/// How the latest rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is under way.
    UnderWay,
    /// The target became the stable version.
    Completed,
    /// Every replica was assigned the stable version again.
    Returned,
    /// Some live replica did not serve the first version. Once every one does, this becomes [`Outcome::Completed`].
    Failed,
}

/// Why a rollout cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another rollout is under way")]
pub struct Busy;

impl Deployment {
    /// The first deployment of a model.
    pub fn first(model: ModelName, version: VersionRef, reason: String, now: DateTime<Utc>) -> Self {
        Self {
            model,
            generation: 1,
            stable: version,
            weighted: Vec::new(),
            shadow: None,
            movement: Movement::First { since: None },
            everywhere_at: None,
            outcome: Outcome::UnderWay,
            reason,
            changed_at: now,
        }
    }

    /// The record with other weighted versions and another shadow version. They stay during later rollouts, except for the version that
    /// is rolled out.
    pub fn with_traffic(
        &self,
        weighted: Vec<WeightedVersion>,
        shadow: Option<VersionRef>,
        reason: String,
        now: DateTime<Utc>,
    ) -> Result<Self, Busy> {
        match self.movement {
            Movement::Settled => {
                let generation = self.generation + 1;
                Ok(Self { generation, weighted, shadow, reason, changed_at: now, ..self.clone() })
            }
            Movement::First { .. } | Movement::Forward(_) | Movement::Returning { .. } => Err(Busy),
        }
    }

    /// Starts a rollout of `target`. A first version that some replica has never served is replaced at once: it is not a version to
    /// return to.
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
        let weighted = self.weighted.iter().filter(|route| route.version.version != target.version).copied();
        Ok(Self {
            generation: self.generation + 1,
            stable,
            weighted: weighted.collect(),
            shadow: self.shadow.filter(|shadow| shadow.version != target.version),
            movement,
            everywhere_at: None,
            outcome: Outcome::UnderWay,
            reason,
            changed_at: now,
            ..self.clone()
        })
    }

    /// The record after `action`. An action that does not apply to the current phase changes nothing.
    pub fn apply(&self, action: &Action, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        match (action, &mut next.movement) {
            (Action::Move(replica), Movement::Forward(forward)) => {
                next.generation += 1;
                forward.observing_since = None;
                let moved = Moved { assigned_at: now, generation: next.generation, arrived_at: None };
                forward.moved.insert(replica.clone(), moved);
            }
            (Action::Arrive(replica), Movement::Forward(forward)) => {
                forward.moved.entry(replica.clone()).and_modify(|moved| moved.arrived_at = Some(now));
            }
            (Action::Rejoin(replica), Movement::Forward(forward)) => {
                let restart = |moved: &mut Moved| (moved.assigned_at, moved.arrived_at) = (now, None);
                forward.moved.entry(replica.clone()).and_modify(restart);
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
                next.reason = format!("every live replica now serves the version; earlier failure: {}", self.reason);
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
                    next.reason = format!(
                        "{}; replicas that did not report the return to the stable version: {}",
                        next.reason,
                        names.join(", ")
                    );
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

    /// The routes that carry this record out.
    pub fn routes(&self) -> Routes {
        let rollout = self.forward().map(|forward| Rollout {
            target: forward.target,
            moved: forward.moved.keys().cloned().collect::<BTreeSet<_>>(),
        });
        let (weighted, shadow) = (self.weighted.clone(), self.shadow);
        Routes { rollout, weighted, shadow, ..Routes::to(self.model.clone(), self.generation, self.stable) }
    }

    /// The rollout, while one is under way.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.movement {
            Movement::Forward(forward) => Some(forward),
            Movement::Settled | Movement::First { .. } | Movement::Returning { .. } => None,
        }
    }
}

/// A first version is complete once every live replica serves it. It has failed once every live replica serves it, reports a failure
/// or has exceeded its deadline, and some replica does not serve it.
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
        let model = model.filter(|model| model.generation == deployment.generation);
        match model.and_then(|model| model.failure.as_ref()) {
            Some(why) => problems.push(format!("replica {replica}: {why}")),
            None if late => {
                problems.push(missed_deadline(replica, deployment.stable, strategy));
            }
            None => return Action::Wait,
        }
    }
    if problems.is_empty() { Action::Wait } else { Action::Fail { reason: problems.join("; ") } }
}

/// Whether there are live replicas and each of them has reached the current generation and serves the stable version.
fn all_serve(deployment: &Deployment, live: &BTreeMap<&ReplicaId, Option<&ServedModel>>) -> bool {
    !live.is_empty() && live.values().all(|model| is_at(*model, deployment))
}

/// Whether a replica has reached the current generation and serves the stable version.
fn is_at(model: Option<&ServedModel>, deployment: &Deployment) -> bool {
    model.is_some_and(|model| {
        model.serving() == Some(deployment.stable)
            && model.generation == deployment.generation
            && model.failure.is_none()
    })
}

fn plan_forward(
    deployment: &Deployment,
    forward: &Forward,
    live: &BTreeMap<&ReplicaId, Option<&ServedModel>>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Action {
    let mut is_loading = false;
    for (replica, moved) in &forward.moved {
        let generations = moved.generation..=deployment.generation;
        let model = live.get(replica).copied();
        match (update_of(forward.target, *moved, generations, model, now, strategy), moved.arrived_at) {
            (Update::Gone, None) => return Action::Drop(replica.clone()),
            (Update::Gone, Some(_)) | (Update::Serving, Some(_)) => {}
            (Update::Serving, None) => return Action::Arrive(replica.clone()),
            (Update::Loading | Update::Late, Some(_)) => return Action::Rejoin(replica.clone()),
            (Update::Loading, None) => is_loading = true,
            (Update::Late, None) => {
                return Action::Return { reason: missed_deadline(replica, forward.target, strategy) };
            }
            (Update::Failed(why), _) => return Action::Return { reason: format!("replica {replica}: {why}") },
        }
    }
    if is_loading {
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

/// How far the update of one replica is.
enum Update {
    /// Its lease has expired.
    Gone,
    /// It serves the target.
    Serving,
    /// It does not serve the target yet.
    Loading,
    /// It does not serve the target, and its deadline has passed.
    Late,
    /// It does not serve the target, or not well enough.
    Failed(String),
}

/// The update of a replica that was assigned the target; `model` is `None` for one whose lease has expired. What it reports of other
/// generations counts as nothing: they are earlier ones, or those of a record that was replaced by a backup.
fn update_of(
    target: VersionRef,
    moved: Moved,
    generations: RangeInclusive<u64>,
    model: Option<Option<&ServedModel>>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Update {
    let loading = if moved.assigned_at + strategy.replica_deadline <= now { Update::Late } else { Update::Loading };
    let Some(model) = model else { return Update::Gone };
    let Some(model) = model.filter(|model| generations.contains(&model.generation)) else { return loading };
    let Some(loaded) = model.loaded(target).filter(|_| model.primary == Some(target.version)) else {
        return model.failure.as_ref().map_or(loading, |why| Update::Failed(why.clone()));
    };
    let requests = loaded.answered.saturating_add(loaded.failed);
    if loaded.failed as f64 > strategy.max_error_rate * requests as f64 {
        return Update::Failed(format!(
            "{} of {requests} requests failed in version {}",
            loaded.failed, target.version
        ));
    }
    Update::Serving
}

fn missed_deadline(replica: &ReplicaId, version: VersionRef, strategy: &Strategy) -> String {
    let limit = strategy.replica_deadline;
    format!("replica {replica} did not start serving version {} within {limit:?}", version.version)
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
