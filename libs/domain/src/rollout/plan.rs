//! The planner: the next action for a deployment, given what its replicas report.

use std::{collections::BTreeMap, ops::RangeInclusive};

use chrono::{DateTime, Utc};

use super::{Action, Canary, Deployment, Forward, Movement, Outcome, Strategy};
use crate::{ReplicaId, ReplicaState, ServedModel, ServedVersion, VersionRef};

/// What each live replica reports about the model.
type Live<'a> = BTreeMap<&'a ReplicaId, Option<&'a ServedModel>>;

/// The next action for a deployment, given what its live replicas report. `live` has only the replicas whose lease is valid: the planner
/// does not wait for others.
pub fn plan<'a>(
    deployment: &Deployment,
    live: impl IntoIterator<Item = &'a ReplicaState>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Action {
    let served: Live<'_> =
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

/// A first version is complete once every live replica serves it. It has failed once every live replica serves it, reports a failure
/// or has exceeded its deadline, and some replica does not serve it.
fn plan_first(
    deployment: &Deployment,
    since: Option<DateTime<Utc>>,
    live: &Live<'_>,
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
fn all_serve(deployment: &Deployment, live: &Live<'_>) -> bool {
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
    live: &Live<'_>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Action {
    if let Some(action) = plan_canary(deployment, forward, live, now, strategy) {
        return action;
    }
    let mut is_loading = false;
    for (replica, moved) in &forward.moved {
        let asked = Asked { at: moved.assigned_at, generations: moved.generation..=deployment.generation };
        let model = live.get(replica).copied();
        match (update_of(forward.target, &asked, Role::Primary, model, now, strategy), moved.arrived_at) {
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

/// The next action as far as the canary steps decide it. `None`: the next replica may be updated. A replica that is not updated yet has the
/// target beside the stable version until then, and a failure of the target there ends the rollout.
fn plan_canary(
    deployment: &Deployment,
    forward: &Forward,
    live: &Live<'_>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Option<Action> {
    let steps = strategy.canary.len();
    let Some(canary) = &forward.canary else {
        let is_due = forward.moved.is_empty() && steps > 0;
        return is_due.then(|| if live.is_empty() { Action::Wait } else { Action::Step(strategy.canary[0].weight) });
    };
    if canary.weight == 0 && !forward.moved.is_empty() {
        return None;
    }
    // No replica is late: one may have joined since, and no replica has been updated yet. The deadline of the rollout bounds the wait.
    let asked = Asked { at: now, generations: canary.generation..=deployment.generation };
    let (mut is_loading, mut is_loaded) = (false, false);
    for (replica, model) in live.iter().filter(|(replica, _)| !forward.moved.contains_key(**replica)) {
        match update_of(forward.target, &asked, role(canary), Some(*model), now, strategy) {
            Update::Failed(why) => return Some(Action::Return { reason: format!("replica {replica}: {why}") }),
            Update::Loading | Update::Late => is_loading = true,
            Update::Serving => is_loaded = true,
            Update::Gone => {}
        }
    }
    if !forward.moved.is_empty() {
        return None;
    }
    let Some(since) = canary.running_since else {
        return Some(if is_loaded && !is_loading { Action::Run } else { Action::Wait });
    };
    let lasts = strategy.canary.get(canary.step).map(|step| step.duration).unwrap_or_default();
    if since + lasts > now {
        return Some(Action::Wait);
    }
    strategy.canary.get(canary.step + 1).map(|next| Action::Step(next.weight))
}

/// What the target is on a replica.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its primary version.
    Primary,
    /// A version that answers a share of the requests.
    Canary,
    /// A version that gets a copy of the requests.
    Shadow,
}

fn role(canary: &Canary) -> Role {
    if canary.weight == 0 { Role::Shadow } else { Role::Canary }
}

/// When a replica was assigned the target, and the generations of the routes that assign it.
struct Asked {
    at: DateTime<Utc>,
    generations: RangeInclusive<u64>,
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
    asked: &Asked,
    role: Role,
    model: Option<Option<&ServedModel>>,
    now: DateTime<Utc>,
    strategy: &Strategy,
) -> Update {
    let loading = if asked.at + strategy.replica_deadline <= now { Update::Late } else { Update::Loading };
    let Some(model) = model else { return Update::Gone };
    let Some(model) = model.filter(|model| asked.generations.contains(&model.generation)) else { return loading };
    let is_in_place = role != Role::Primary || model.primary == Some(target.version);
    let Some(loaded) = model.loaded(target).filter(|_| is_in_place) else {
        return model.failure.as_ref().map_or(loading, |why| Update::Failed(why.clone()));
    };
    let problem = if role == Role::Shadow { shadow_problem(target, model, strategy) } else { None };
    problem.or_else(|| problem_of(target, loaded, strategy)).map_or(Update::Serving, Update::Failed)
}

/// Why the target does not serve well enough.
fn problem_of(target: VersionRef, loaded: &ServedVersion, strategy: &Strategy) -> Option<String> {
    let requests = loaded.answered.saturating_add(loaded.failed);
    if loaded.failed as f64 > strategy.max_error_rate * requests as f64 {
        return Some(format!("{} of {requests} requests failed in version {}", loaded.failed, target.version));
    }
    if loaded.answered < Strategy::LEAST_REQUESTS {
        return None;
    }
    if let Some(limit) = strategy.max_guardrail_rate
        && loaded.guarded as f64 > limit * loaded.answered as f64
    {
        let ServedVersion { answered, guarded, .. } = loaded;
        let version = target.version;
        return Some(format!(
            "guardrails clipped or flagged {guarded} of {answered} requests to version {version}, the limit is {limit}"
        ));
    }
    let limit = strategy.max_latency?;
    let latency = std::time::Duration::from_micros(loaded.p99_micros);
    (latency > limit).then(|| {
        let (version, answered) = (target.version, loaded.answered);
        format!("99 % of {answered} requests to version {version} took up to {latency:?}, the limit is {limit:?}")
    })
}

/// Why the target does not answer the copies of requests well enough.
fn shadow_problem(target: VersionRef, model: &ServedModel, strategy: &Strategy) -> Option<String> {
    let compared = model.shadow.filter(|shadow| shadow.version == target.version)?;
    let rows = compared.rows.saturating_add(compared.failed);
    (compared.failed as f64 > strategy.max_error_rate * rows as f64)
        .then(|| format!("{} of {rows} copied rows failed in shadow version {}", compared.failed, target.version))
}

fn missed_deadline(replica: &ReplicaId, version: VersionRef, strategy: &Strategy) -> String {
    let limit = strategy.replica_deadline;
    format!("replica {replica} did not start serving version {} within {limit:?}", version.version)
}

fn plan_return(
    deployment: &Deployment,
    since: DateTime<Utc>,
    live: &Live<'_>,
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
