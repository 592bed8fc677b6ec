//! The schedules of policies.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Trigger, WorkflowId,
    schedule::{Due, Schedule},
    trigger::IgnoredReason,
};
use rekindle_service::chain;
use rekindle_store::{Fence, in_transaction};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    admit, announce,
    decision::{About, Ignored, Request},
    note,
};
use crate::{
    Error,
    core::{Core, now},
    store::policies::{self, Scheduled},
    workflow::Cause,
};

/// How often the schedules are read. Their times are whole minutes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Starts scheduled workflows until `shutdown`, while this instance is the leader.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    loop {
        if let Some(fence) = core.leadership.fence() {
            match policies::scheduled(&core.db).await {
                Ok(scheduled) => start_due(&core, &fence, scheduled).await,
                Err(error) => tracing::warn!(error = chain(&error), "the schedules cannot be read"),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn start_due(core: &Core, fence: &Fence, scheduled: Vec<Scheduled>) {
    for policy in scheduled {
        let Some(schedule) = policy.policy.schedule.clone() else { continue };
        let model = policy.policy.model.clone();
        let now = now();
        let Some(due) = schedule.due(model.as_str(), policy.since, now) else { continue };
        match fire(core, fence, policy, &schedule, due, now).await {
            Ok(()) => {}
            Err(error) if error.is_overtaken() => {}
            Err(error) => tracing::warn!(%model, error = chain(&error), "a scheduled workflow cannot be started"),
        }
    }
}

/// Starts the workflow of a time that has come, and notes the time, in one transaction.
async fn fire(
    core: &Core,
    fence: &Fence,
    policy: Scheduled,
    schedule: &Schedule,
    due: Due,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let model = policy.policy.model.clone();
    let request = Request { model, cause: cause(schedule, due, Uuid::now_v7()), about: About::Schedule };
    let (fence, given) = (fence.clone(), request.clone());
    let processed = in_transaction(&core.db, async move |txn| {
        fence.check(txn).await?;
        policies::note_time(txn, &policy, due.at).await?;
        if due.is_missed {
            let why = format!("it came at {}, more than {:?} ago", due.at, Schedule::GRACE);
            let ignored = Ignored::Because(IgnoredReason::Missed, why);
            note(txn, &given, &ignored, now).await?;
            return Ok(Err(ignored));
        }
        admit(txn, given.clone(), now).await
    })
    .await?;
    announce(core, &request, processed);
    Ok(())
}

fn cause(schedule: &Schedule, due: Due, id: Uuid) -> Cause {
    let at = due.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    Cause {
        id: WorkflowId::new(id),
        first: None,
        trigger: Trigger::Schedule,
        words: format!("scheduled for {at} ({}, {})", schedule.cron, schedule.time_zone),
        causation_id: String::new(),
        window_until: None,
        window_closed_at: None,
        dataset: None,
    }
}
