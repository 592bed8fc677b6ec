//! Rollouts of a deployment: a pure planner. From the record, the live replicas and the time it decides the next action, and applying the
//! action gives the next record.
//!
//! A rollout begins with the canary steps of its [`Strategy`], if it has any: every replica loads the target beside the stable version, and
//! the target gets a copy or a share of the requests. Then the replicas are updated one at a time, and then all of them are observed.
//!
//! Invariants:
//! - a deployment always has a stable version;
//! - a replica is assigned the target only when every other live replica that was assigned it serves it;
//! - after any failure the next record assigns the stable version to every replica.

mod plan;
mod strategy;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::{
    plan::plan,
    strategy::{CanaryStep, Strategy},
};
use crate::{
    ModelName, ReplicaId, Routes, VersionRef,
    routes::{Rollout, TOTAL_WEIGHT, WeightedVersion},
};

/// The planner's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Do nothing until time passes or a replica reports.
    Wait,
    /// Begin the next canary step: the target gets this share of the requests, or a copy of them at 0.
    Step(u32),
    /// Record that every live replica has loaded the target as the canary step requires.
    Run,
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
    /// The latest canary step; `None` before the first one, and in a rollout without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Replicas that were assigned the target.
    pub moved: BTreeMap<ReplicaId, Moved>,
    /// When the observation of all live replicas began; `None` while some do not serve the target.
    pub observing_since: Option<DateTime<Utc>>,
}

impl Forward {
    /// When the target was first assigned to a replica; `None` before.
    pub fn began_at(&self) -> Option<DateTime<Utc>> {
        let moved = self.moved.values().map(|moved| moved.assigned_at);
        self.canary.map(|canary| canary.first_at).into_iter().chain(moved).min()
    }
}

/// A canary step that has begun. The target keeps its share on replicas that are not updated until they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The step of the strategy, from 0.
    pub step: usize,
    /// The share of the requests, out of [`TOTAL_WEIGHT`]; at 0 the target gets a copy of them.
    pub weight: u32,
    /// When the first step began.
    pub first_at: DateTime<Utc>,
    /// The generation that assigned the target.
    pub generation: u64,
    /// Since when every live replica has loaded the target.
    pub running_since: Option<DateTime<Utc>>,
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
                let forward = Forward { target, canary: None, moved: BTreeMap::new(), observing_since: None };
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
            (&Action::Step(weight), Movement::Forward(forward)) => {
                next.generation += 1;
                forward.canary = Some(Canary {
                    step: forward.canary.map_or(0, |canary| canary.step + 1),
                    weight,
                    first_at: forward.canary.map_or(now, |canary| canary.first_at),
                    generation: next.generation,
                    running_since: None,
                });
            }
            (Action::Run, Movement::Forward(forward)) => {
                forward.canary = forward.canary.map(|canary| Canary { running_since: Some(now), ..canary });
            }
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
        let (weighted, shadow) = self.traffic();
        Routes { rollout, weighted, shadow, ..Routes::to(self.model.clone(), self.generation, self.stable) }
    }

    /// The weighted versions and the shadow version, those of a canary step included. A step takes what the other weighted versions leave,
    /// at most; its shadow version takes the place of another one, until the first replica is updated.
    fn traffic(&self) -> (Vec<WeightedVersion>, Option<VersionRef>) {
        let (mut weighted, mut shadow) = (self.weighted.clone(), self.shadow);
        let forward = self.forward();
        match forward.and_then(|forward| Some((forward, forward.canary?))) {
            Some((forward, canary)) if canary.weight > 0 => {
                let others: u32 = weighted.iter().map(|route| route.weight).sum();
                match canary.weight.min((TOTAL_WEIGHT - 1).saturating_sub(others)) {
                    // They leave nothing: it gets copies.
                    0 if forward.moved.is_empty() => shadow = Some(forward.target),
                    0 => {}
                    weight => weighted.push(WeightedVersion { version: forward.target, weight }),
                }
            }
            Some((forward, _)) if forward.moved.is_empty() => shadow = Some(forward.target),
            Some(_) | None => {}
        }
        (weighted, shadow)
    }

    /// The rollout, while one is under way.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.movement {
            Movement::Forward(forward) => Some(forward),
            Movement::Settled | Movement::First { .. } | Movement::Returning { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
