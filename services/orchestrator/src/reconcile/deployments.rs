//! The reconciler of deployments: it writes routes, reads the state of replicas, and carries out the planner's decisions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_domain::{
    AliasName, Principal, ReplicaState,
    event::EventContext,
    model_version::{Approval, VersionSelector},
    rollout::{Action, Movement, Outcome, plan},
};
use rekindle_service::chain;
use rekindle_store::{Fence, in_transaction};
use sea_orm::DatabaseConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    Error,
    clients::{Author, Lease, principal},
    core::{Core, now},
    deployment::{self, Champion, Origin, Record},
    routes, store,
};

/// Why a rollout that takes too long is ended.
const LATE: &str = "it did not complete before its deadline";
/// Consecutive actions on one deployment before the others have their turn.
const ACTIONS: usize = 16;
/// After this time the records are read again and all are reconciled, whether or not one is known to have changed. A lease of a replica that
/// runs out is no event.
const RESYNC: Duration = Duration::from_secs(10);

/// When a side effect that failed is retried, by its name, and the pause after that.
type Pauses = HashMap<String, (Instant, Duration)>;

/// Reconciles deployments until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let mut happened = core.happened.subscribe();
    let (mut pauses, mut known, mut is_woken, mut has_failed) = (Pauses::new(), Known::default(), true, false);
    loop {
        match core.leadership.fence() {
            Some(fence) => {
                // It holds several copies of a record.
                let reconciled =
                    Box::pin(reconcile(&core, &fence, &mut pauses, &mut known, is_woken || has_failed)).await;
                has_failed = !reconciled.unwrap_or_else(|error| {
                    tracing::warn!(error = chain(&error), "deployment reconciliation failed");
                    false
                });
            }
            None => known = Known::default(),
        }
        is_woken = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = happened.changed() => true,
            () = tokio::time::sleep(core.config.tick) => false,
        };
    }
}

/// The records of all deployments, as far as this instance knows.
#[derive(Default)]
struct Known {
    records: Vec<Record>,
    /// Of the records, and when they were read.
    read: Option<(store::deployments::Stamp, Instant)>,
}

impl Known {
    /// Reads the records again if one has changed, or if it is time. Returns whether they were read.
    async fn refresh(&mut self, db: &DatabaseConnection) -> Result<bool, Error> {
        let stamp = store::deployments::stamp(db).await?;
        if self.read.is_some_and(|(known, at)| known == stamp && at.elapsed() < RESYNC) {
            return Ok(false);
        }
        self.read = None;
        self.records = store::deployments::all(db).await?;
        self.read = Some((stamp, Instant::now()));
        Ok(true)
    }
}

/// Reconciles every deployment if something has happened, and else only those that are not idle. Returns whether all could be reconciled.
async fn reconcile(
    core: &Core,
    fence: &Fence,
    pauses: &mut Pauses,
    known: &mut Known,
    is_woken: bool,
) -> Result<bool, Error> {
    let includes_idle = known.refresh(&core.db).await? || is_woken;
    let mut has_failed = false;
    for record in known.records.iter().filter(|record| includes_idle || !record.is_idle()) {
        let model = &record.deployment.model;
        match drive(core, fence, record.clone()).await {
            Ok(record) if record.owes_champion() => {
                side_effect(core, pauses, format!("champion/{model}"), point_champion(core, fence, &record)).await;
            }
            Ok(_) => {}
            Err(error) if error.is_overtaken() => {}
            Err(error) => {
                has_failed = true;
                tracing::warn!(%model, error = chain(&error), "deployment reconciliation failed");
            }
        }
    }
    for policy in store::policies::with_watch_to_push(&core.db).await? {
        let name = format!("watch/{}", policy.policy.model);
        side_effect(core, pauses, name, push_watch(core, fence, &policy)).await;
    }
    Ok(!has_failed)
}

/// Writes the routes, and applies the actions of the planner until there are none.
async fn drive(core: &Core, fence: &Fence, mut record: Record) -> Result<Record, Error> {
    for _ in 0..ACTIONS {
        routes::publish(core, fence, &record.deployment.routes()).await?;
        let now = now();
        match next_action(core, &record, &core.fleet.live(Instant::now()), now).await? {
            Action::Wait => break,
            action => record = core.apply(fence.clone(), &record, &action, now).await?,
        }
    }
    Ok(record)
}

async fn next_action(
    core: &Core,
    record: &Record,
    live: &[Arc<ReplicaState>],
    now: DateTime<Utc>,
) -> Result<Action, Error> {
    let action = plan(&record.deployment, live.iter().map(AsRef::as_ref), now, &record.request.strategy);
    if matches!(action, Action::Return { .. } | Action::Fail { .. }) {
        return Ok(action);
    }
    let late = now >= record.request.deadline_at;
    match (&record.deployment.movement, action) {
        (Movement::First { .. }, Action::Complete) => Ok(Action::Complete),
        (Movement::First { since: None }, _) if late => {
            Ok(Action::Fail { reason: "no replica was available before its deadline".to_owned() })
        }
        (Movement::First { .. }, _) if late => Ok(Action::Fail { reason: LATE.to_owned() }),
        (Movement::Forward(_), _) if late => Ok(Action::Return { reason: LATE.to_owned() }),
        (Movement::Forward(_), Action::Step(_) | Action::Move(_) | Action::Complete)
            if is_paused(core, record).await? =>
        {
            Ok(Action::Wait)
        }
        (Movement::Forward(_), Action::Complete) => {
            let rejected = rejection(core, record).await?;
            Ok(rejected.map_or(Action::Complete, |reason| Action::Return { reason }))
        }
        (_, action) => Ok(action),
    }
}

/// Why the target must not become the stable version, if it was rejected while it was rolled out. A rollback continues: it replaces a
/// version that is worse.
async fn rejection(core: &Core, record: &Record) -> Result<Option<String>, Error> {
    if record.request.origin == Origin::Rollback {
        return Ok(None);
    }
    let number = record.request.target.version;
    let calls = core.peers.on_behalf_of(record.context());
    let review = calls.model_version(&record.deployment.model, VersionSelector::Number(number)).await?.review;
    let rejected = review.approval == Approval::Rejected;
    Ok(rejected.then(|| format!("{} rejected version {number}: {}", review.by, review.why)))
}

async fn is_paused(core: &Core, record: &Record) -> Result<bool, Error> {
    let Some(id) = record.workflow() else { return Ok(false) };
    Ok(store::workflows::get(&core.db, id).await?.is_some_and(|workflow| workflow.paused))
}

/// Calls another service, with a growing pause after each failure.
async fn side_effect(core: &Core, pauses: &mut Pauses, name: String, work: impl Future<Output = Result<(), Error>>) {
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
            tracing::warn!(side_effect = name, error = chain(&error), ?pause, "side effect failed, retrying");
            pauses.insert(name, (Instant::now() + pause, pause));
        }
    }
}

/// Points `champion` at the stable version, also after a rollout that was rolled back: the alias may have been moved before it.
async fn point_champion(core: &Core, fence: &Fence, record: &Record) -> Result<(), Error> {
    let (deployment, request) = (&record.deployment, &record.request);
    let (author, why) = match deployment.outcome {
        Outcome::Returned => {
            let why = format!("version {} was rolled back: {}", request.target.version, deployment.reason);
            (principal(), why)
        }
        Outcome::UnderWay | Outcome::Completed | Outcome::Failed => (author_of(record), request.why.clone()),
    };
    let calls = core.peers.on_behalf_of(record.context());
    let (stable, author) = (deployment.stable.version, Author { principal: &author, why: &why });
    let lease = Lease { db: &core.db, fence };
    let champion = match calls.point_alias(lease, &deployment.model, AliasName::champion(), stable, author).await {
        Ok(()) => Champion::Set,
        Err(Error::Peer(error)) if is_refusal(error.code()) => {
            let why = error.status().map(|status| status.message().to_owned()).unwrap_or_default();
            tracing::warn!(model = %deployment.model, version = stable, why, "alias champion refused");
            Champion::Refused { why }
        }
        Err(error) => return Err(error),
    };
    let (fence, read) = (fence.clone(), record.clone());
    let noted = in_transaction(&core.db, async move |txn| {
        fence.check(txn).await?;
        deployment::note_champion(txn, &read, champion.clone()).await
    })
    .await?;
    core.deployment_changed(&noted);
    Ok(())
}

/// Who requested the rollout. What is recorded may stem from a build that did not restrict it, so it may not be a principal.
fn author_of(record: &Record) -> Principal {
    record.request.by.parse().unwrap_or_else(|_| principal())
}

/// Whether the same call would be refused again.
const fn is_refusal(code: Code) -> bool {
    matches!(code, Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound)
}

async fn push_watch(core: &Core, fence: &Fence, policy: &store::policies::Revised) -> Result<(), Error> {
    if let Some(settings) = &policy.policy.watch {
        let calls = core.peers.on_behalf_of(EventContext::default());
        calls.set_watch(Lease { db: &core.db, fence }, &policy.policy.model, settings).await?;
    }
    let (fence, pushed) = (fence.clone(), policy.clone());
    in_transaction(&core.db, async move |txn| {
        fence.check(txn).await?;
        store::policies::watch_pushed(txn, &pushed).await
    })
    .await
}
