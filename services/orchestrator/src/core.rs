//! The state that reconcilers, consumers and calls share, and the changes of records that more than one of them makes.

use chrono::{DateTime, SubsecRound as _, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_domain::{ModelName, WorkflowId, audit::Entry, rollout::Action};
use rekindle_service::Call;
use rekindle_store::{Fence, audit, in_transaction};
use sea_orm::DatabaseConnection;
use tokio::sync::watch;

use crate::{
    Config, Error,
    clients::Peers,
    deployment::{self, Record, Request},
    fleet::Fleet,
    leader::{Leadership, Writer},
    routes::PublishedRoutes,
    store::{deployments, workflows},
    workflow::{self, Workflow},
};

/// How often a change that lost a race is repeated before its caller gets the error.
const RACES: usize = 8;

/// The shared state of the service.
#[derive(Debug)]
pub(crate) struct Core {
    pub config: Config,
    pub db: DatabaseConnection,
    pub bus: Bus,
    pub artifacts: Artifacts,
    pub peers: Peers,
    pub fleet: Fleet,
    pub routes: PublishedRoutes,
    pub leadership: Leadership,
    /// Counts notifications; waiters read the database again when it increases.
    pub happened: watch::Sender<u64>,
}

/// The time in microseconds, the precision that every database keeps.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

impl Core {
    /// Notifies every waiter.
    pub(crate) fn wake(&self) {
        self.happened.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A model's deployment.
    pub(crate) async fn deployment(&self, model: &ModelName) -> Result<Option<Record>, Error> {
        deployments::get(&self.db, model).await
    }

    /// Writes a workflow over what was read, with the entry of the audit trail for the call that asks for it.
    pub(crate) async fn change_workflow(
        &self,
        writer: Writer,
        before: &Workflow,
        after: Workflow,
        now: DateTime<Utc>,
        entry: Option<Entry>,
    ) -> Result<Workflow, Error> {
        let read = before.clone();
        // It holds several copies of the workflow.
        let written = Box::pin(in_transaction(&self.db, async move |txn| {
            writer.check(txn).await?;
            if let Some(entry) = &entry {
                audit::append(txn, entry.clone()).await?;
            }
            Box::pin(workflow::change(txn, &read, after.clone(), now)).await
        }));
        let after = written.await?;
        if after.state != before.state {
            tracing::info!(
                workflow = %after.id, model = %after.model, from = before.state.name(), to = after.state.name(),
                reason = after.reason, "workflow advanced"
            );
            metrics::counter!("rekindle_workflow_moves_total", "state" => after.state.name()).increment(1);
        }
        self.wake();
        Ok(after)
    }

    /// Reads a workflow, decides on a change, and writes it; repeats both if the workflow changed concurrently. If `decide` returns the
    /// workflow unchanged, nothing is written. `action` is the name of the change in the audit trail.
    pub(crate) async fn decide_workflow(
        &self,
        id: WorkflowId,
        call: &Call,
        (action, why): (&str, &str),
        decide: impl Fn(&Workflow) -> Result<Workflow, Error>,
    ) -> Result<Workflow, Error> {
        let mut attempt = 0;
        loop {
            let before = workflows::get(&self.db, id).await?.ok_or_else(|| Error::not_found("workflow", id))?;
            let after = decide(&before)?;
            if after == before {
                return Ok(before);
            }
            let entry = Entry { reason: why.to_owned(), ..call.entry(action, format!("workflow/{id}")) };
            match Box::pin(self.change_workflow(Writer::Caller, &before, after, call.now, Some(entry))).await {
                Err(Error::Raced { .. }) if attempt < RACES => attempt += 1,
                result => return result,
            }
        }
    }

    /// Starts a rollout.
    pub(crate) async fn begin_deployment(
        &self,
        fence: Fence,
        model: &ModelName,
        current: Option<&Record>,
        request: Request,
        now: DateTime<Utc>,
    ) -> Result<Record, Error> {
        let (model, current) = (model.clone(), current.cloned());
        let record = in_transaction(&self.db, async move |txn| {
            fence.check(txn).await?;
            deployment::begin(txn, &model, current.as_ref(), request.clone(), now).await
        })
        .await?;
        self.deployment_changed(&record);
        Ok(record)
    }

    /// Applies an action of the planner to a deployment.
    pub(crate) async fn apply(
        &self,
        fence: Fence,
        record: &Record,
        action: &Action,
        now: DateTime<Utc>,
    ) -> Result<Record, Error> {
        let next = {
            let (record, action) = (record.clone(), action.clone());
            in_transaction(&self.db, async move |txn| {
                fence.check(txn).await?;
                deployment::apply(txn, &record, &action, now).await
            })
            .await?
        };
        self.deployment_changed(&next);
        Ok(next)
    }

    /// Returns every replica to the stable version.
    pub(crate) async fn turn_back(
        &self,
        fence: Fence,
        record: &Record,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<Record, Error> {
        let next = {
            let (record, reason) = (record.clone(), reason.to_owned());
            in_transaction(&self.db, async move |txn| {
                fence.check(txn).await?;
                deployment::turn_back(txn, &record, &reason, now).await
            })
            .await?
        };
        self.deployment_changed(&next);
        Ok(next)
    }

    pub(crate) fn deployment_changed(&self, record: &Record) {
        let deployment = &record.deployment;
        tracing::info!(
            model = %deployment.model, phase = deployment::phase(&deployment.movement).name(),
            generation = deployment.generation, stable = deployment.stable.version,
            target = record.request.target.version, reason = deployment.reason, "deployment changed"
        );
        self.wake();
    }
}
