//! Desired state out, actual state in, and between them the planner.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::jetstream::kv;
use chrono::{DateTime, Utc};
use rekindle_domain::{
    AliasName, DesiredState, ModelName, ReplicaState,
    rollout::{Action, Movement, Outcome, plan},
};
use rekindle_proto::{
    client::Context,
    registry::{Approval, get_model_version_request::Which},
};
use rekindle_store::in_transaction;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    Error,
    core::{Core, now},
    deployment::{self, Champion, Origin, Record},
    error::chain,
    store,
    wire::watch_to_wire,
};

/// How long a desired state that was written is believed to be there still.
const TRUST: Duration = Duration::from_secs(5);
/// Why a move that took too long is ended.
const LATE: &str = "it was not through before its deadline";
/// Actions on one deployment in a row before the others get their turn.
const ACTIONS: usize = 16;

/// What was written to the bucket, and when.
type Written = HashMap<ModelName, (DesiredState, Instant)>;

/// When an errand that failed may be tried again, by its name, and the pause after that.
type Pauses = HashMap<String, (Instant, Duration)>;

/// Moves deployments until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let mut happened = core.happened.subscribe();
    let mut written = Written::new();
    let mut pauses = Pauses::new();
    loop {
        if core.leadership.is_held() {
            if let Err(error) = look(&core, &mut written, &mut pauses).await {
                tracing::warn!(error = chain(&error), "cannot look after the deployments");
            }
        } else {
            written.clear();
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = happened.changed() => {}
            () = tokio::time::sleep(core.config.tick) => {}
        }
    }
}

async fn look(core: &Core, written: &mut Written, pauses: &mut Pauses) -> Result<(), Error> {
    for record in store::deployments::all(&core.db).await? {
        let model = record.deployment.model.clone();
        match drive(core, written, record).await {
            Ok(record) if record.owes_champion() => {
                errand(core, pauses, format!("champion/{model}"), point_champion(core, &record)).await;
            }
            Ok(_) | Err(Error::Raced { .. }) => {}
            Err(error) => tracing::warn!(%model, error = chain(&error), "cannot look after a deployment"),
        }
    }
    for policy in store::policies::with_watch_to_push(&core.db).await? {
        let name = format!("watch/{}", policy.policy.model);
        errand(core, pauses, name, push_watch(core, &policy)).await;
    }
    Ok(())
}

/// Writes what replicas should do, and does what the planner says until there is nothing left to do.
async fn drive(core: &Core, written: &mut Written, mut record: Record) -> Result<Record, Error> {
    for _ in 0..ACTIONS {
        publish(core, written, &record.deployment.desired()).await?;
        let now = now();
        match next_action(core, &record, &core.fleet.live(Instant::now()), now).await? {
            Action::Wait => break,
            action => record = core.apply(&record, &action, now).await?,
        }
    }
    Ok(record)
}

async fn next_action(core: &Core, record: &Record, live: &[ReplicaState], now: DateTime<Utc>) -> Result<Action, Error> {
    let action = plan(&record.deployment, live, now, &record.request.strategy);
    if matches!(action, Action::Return { .. } | Action::Fail { .. }) {
        return Ok(action);
    }
    let late = now >= record.request.deadline_at;
    match (&record.deployment.movement, action) {
        (Movement::First { .. }, Action::Complete) => Ok(Action::Complete),
        (Movement::First { since: None }, _) if late => {
            Ok(Action::Fail { reason: "no replica was there to serve it before its deadline".to_owned() })
        }
        (Movement::First { .. }, _) if late => Ok(Action::Fail { reason: LATE.to_owned() }),
        (Movement::Forward(_), _) if late => Ok(Action::Return { reason: LATE.to_owned() }),
        (Movement::Forward(_), Action::Move(_) | Action::Complete) if is_paused(core, record).await? => {
            Ok(Action::Wait)
        }
        (Movement::Forward(_), Action::Complete) => {
            let rejected = rejection(core, record).await?;
            Ok(rejected.map_or(Action::Complete, |reason| Action::Return { reason }))
        }
        (_, action) => Ok(action),
    }
}

/// Why the target must not become the stable version, where somebody rejected it while it was rolled out. A rollback is not
/// held up: what it leaves behind is worse.
async fn rejection(core: &Core, record: &Record) -> Result<Option<String>, Error> {
    if record.request.origin == Origin::Rollback {
        return Ok(None);
    }
    let number = record.request.target.version;
    let calls = core.peers.on_behalf_of(record.context());
    let version = calls.model_version(&record.deployment.model, Which::Version(number)).await?;
    let review = version.review.filter(|review| review.approval() == Approval::Rejected);
    Ok(review.map(|review| format!("{} rejected version {number}: {}", review.by, review.why)))
}

async fn is_paused(core: &Core, record: &Record) -> Result<bool, Error> {
    let Some(id) = record.workflow() else { return Ok(false) };
    Ok(store::workflows::get(&core.db, id).await?.is_some_and(|workflow| workflow.paused))
}

/// Writes a desired state, unless it or a later one is there.
async fn publish(core: &Core, written: &mut Written, desired: &DesiredState) -> Result<(), Error> {
    let fresh = |(state, at): &(DesiredState, Instant)| state == desired && at.elapsed() < TRUST;
    if written.get(&desired.model).is_some_and(fresh) {
        return Ok(());
    }
    let bucket = core.bus.deployments().await?;
    write(&bucket, desired).await?;
    written.insert(desired.model.clone(), (desired.clone(), Instant::now()));
    Ok(())
}

async fn write(bucket: &kv::Store, desired: &DesiredState) -> Result<(), Error> {
    let key = desired.model.as_str();
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Bucket {
        operation: format!("write the desired state of {key}"),
        source,
    };
    let json = serde_json::to_vec(desired).map_err(|error| failed(error.into()))?;
    let entry = bucket.entry(key).await.map_err(|error| failed(error.into()))?;
    let entry = entry.filter(|entry| entry.operation == kv::Operation::Put);
    let present = entry.as_ref().and_then(|entry| serde_json::from_slice::<DesiredState>(&entry.value).ok());
    // An instance that lost the lease without noticing must not undo what its successor wrote.
    if present.is_some_and(|present| present.generation > desired.generation || present == *desired) {
        return Ok(());
    }
    let result = match entry {
        Some(entry) => bucket.update(key, json.into(), entry.revision).await.map_err(|error| failed(error.into())),
        None => bucket.put(key, json.into()).await.map_err(|error| failed(error.into())),
    };
    result.map(|_| ())
}

/// Runs an errand to another service, with a growing pause after each failure.
async fn errand(core: &Core, pauses: &mut Pauses, name: String, work: impl Future<Output = Result<(), Error>>) {
    if pauses.get(&name).is_some_and(|(until, _)| Instant::now() < *until) {
        return;
    }
    match work.await {
        Ok(()) => {
            pauses.remove(&name);
        }
        Err(error) => {
            let pause = pauses.get(&name).map_or(core.config.retry_first, |(_, pause)| *pause * 2);
            let pause = pause.min(core.config.retry_longest);
            tracing::warn!(errand = name, error = chain(&error), ?pause, "will try again");
            pauses.insert(name, (Instant::now() + pause, pause));
        }
    }
}

/// Points `champion` at the stable version, also after a move that came back: the alias may have been moved by hand before it.
async fn point_champion(core: &Core, record: &Record) -> Result<(), Error> {
    let (deployment, request) = (&record.deployment, &record.request);
    let (by, why) = match deployment.outcome {
        Outcome::Returned => {
            let why = format!("version {} did not take over: {}", request.target.version, deployment.reason);
            ("orchestrator", why)
        }
        Outcome::UnderWay | Outcome::Completed | Outcome::Failed => (request.by.as_str(), request.why.clone()),
    };
    let (calls, alias) = (core.peers.on_behalf_of(record.context()), AliasName::champion());
    let stable = deployment.stable.version;
    let champion = match calls.point_alias(&deployment.model, alias.as_str(), stable, by, &why).await {
        Ok(()) => Champion::Set,
        Err(Error::Call { status, .. }) if is_refusal(status.code()) => {
            tracing::warn!(model = %deployment.model, version = stable, why = status.message(), "champion refused");
            Champion::Refused { why: status.message().to_owned() }
        }
        Err(error) => return Err(error),
    };
    let read = record.clone();
    let noted =
        in_transaction(&core.db, async move |txn| deployment::note_champion(txn, &read, champion.clone()).await)
            .await?;
    core.deployment_changed(&noted);
    Ok(())
}

/// Whether the same call would be answered like that again.
const fn is_refusal(code: Code) -> bool {
    matches!(code, Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound)
}

async fn push_watch(core: &Core, policy: &store::policies::Revised) -> Result<(), Error> {
    if let Some(watch) = &policy.policy.watch {
        let calls = core.peers.on_behalf_of(Context::default());
        calls.set_watch(watch_to_wire(&policy.policy.model, watch)).await?;
    }
    store::policies::watch_pushed(&core.db, policy).await
}
