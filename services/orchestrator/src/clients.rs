//! Calls to the registry, the trainer and the monitor, on behalf of a workflow or a caller.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_client::{Connection, Monitor, PageRequest, Registry, Trainer, registry::ReviewRequest};
use rekindle_domain::{
    Alias, AliasName, Digest, ModelName, Principal, RunId, WatchSettings,
    alias::AliasMove,
    dataset::{DatasetRegistration, DatasetVersion},
    event::EventContext,
    job::Job,
    lineage::Lineage,
    model_version::{Approval, ModelVersion, VersionSelector},
    prediction_log::{ExportRequest, LabelledExport},
    report::WindowReport,
    run::Run,
    text,
};
use rekindle_store::{Fence, in_transaction};
use sea_orm::DatabaseConnection;
use tonic::Code;

use crate::{Error, workflow::progress::DatasetRef};

/// Deadline of a call that reads or changes one record.
const SHORT: Duration = Duration::from_secs(10);
/// Deadline of a call that reads or writes many rows.
const LONG: Duration = Duration::from_secs(300);
/// Reports of a model among which those of the versions of a rollout are searched.
const REPORTS_PER_PAGE: u32 = 100;
const MOST_PAGES: usize = 20;

/// Connections to the other services.
#[derive(Debug, Clone)]
pub struct Peers {
    /// The registry.
    pub registry: Connection,
    /// The trainer.
    pub trainer: Connection,
    /// The monitor.
    pub monitor: Connection,
}

/// The other services, called on behalf of a workflow or a caller.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    peers: Peers,
    context: EventContext,
    principal: Principal,
}

/// Who changes a record of another service, and why. The reason is cut to what that service takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Author<'a> {
    pub principal: &'a Principal,
    pub why: &'a str,
}

/// Orders the writes to other services of successive holders of a lease. The holder reads the revision of the record, then checks the lease,
/// then writes over that revision. If another instance takes the lease over after the check, its own write changes the revision, so that the
/// former holder's write is refused as stale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease<'a> {
    pub db: &'a DatabaseConnection,
    pub fence: &'a Fence,
}

impl Lease<'_> {
    async fn check(&self) -> Result<(), Error> {
        let fence = self.fence.clone();
        in_transaction(self.db, async move |txn| Ok::<_, Error>(fence.check(txn).await?)).await
    }
}

impl Peers {
    /// Calls that carry `context`, as the orchestrator.
    pub(crate) fn on_behalf_of(&self, context: EventContext) -> Calls {
        Calls { peers: self.clone(), context, principal: principal() }
    }
}

/// The orchestrator as a principal.
pub(crate) fn principal() -> Principal {
    Principal::service("orchestrator")
}

impl Calls {
    fn carrying(&self, peer: &Connection, deadline: Duration) -> Connection {
        let connection = peer.clone().with_context(self.context.clone()).with_principal(self.principal.clone());
        connection.with_deadline(deadline)
    }

    fn registry(&self) -> Registry {
        Registry::new(self.carrying(&self.peers.registry, SHORT))
    }

    fn trainer(&self) -> Trainer {
        Trainer::new(self.carrying(&self.peers.trainer, SHORT))
    }

    fn monitor(&self) -> Monitor {
        Monitor::new(self.carrying(&self.peers.monitor, SHORT))
    }

    /// The same calls as another principal.
    fn acting_as(&self, principal: &Principal) -> Self {
        Self { principal: principal.clone(), ..self.clone() }
    }

    /// A model version.
    pub(crate) async fn model_version(
        &self,
        model: &ModelName,
        selector: VersionSelector,
    ) -> Result<ModelVersion, Error> {
        Ok(self.registry().model_version(model, &selector).await?)
    }

    /// The run and the datasets of a bundle.
    pub(crate) async fn lineage(&self, bundle: Digest) -> Result<Lineage, Error> {
        Ok(self.registry().lineage(bundle).await?)
    }

    async fn alias(&self, model: &ModelName, alias: &AliasName) -> Result<Option<Alias>, Error> {
        found(self.registry().alias(model, alias).await)
    }

    /// Points an alias at a version, as the holder of `lease`. An alias that points there already is left unchanged; one that moved between
    /// reading and writing is a transient error.
    pub(crate) async fn point_alias(
        &self,
        lease: Lease<'_>,
        model: &ModelName,
        alias: AliasName,
        version: u32,
        author: Author<'_>,
    ) -> Result<(), Error> {
        let present = self.alias(model, &alias).await?;
        if present.as_ref().is_some_and(|alias| alias.version == version) {
            return Ok(());
        }
        let target = AliasMove {
            model: model.clone(),
            alias,
            version,
            expected_revision: present.map_or(0, |alias| alias.revision),
            why: text::reason(author.why),
        };
        lease.check().await?;
        self.acting_as(author.principal).registry().set_alias(&target).await?;
        Ok(())
    }

    /// Records a review of a version, unless the same one is in force.
    pub(crate) async fn review(
        &self,
        model: &ModelName,
        version: u32,
        approval: Approval,
        author: Author<'_>,
        evidence: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let present = self.model_version(model, VersionSelector::Number(version)).await?;
        if present.review.approval == approval && present.review.by == author.principal.as_str() {
            return Ok(());
        }
        let review = ReviewRequest {
            model: model.clone(),
            version,
            approval,
            why: text::reason(author.why),
            expected_revision: present.revision,
            evidence,
        };
        self.acting_as(author.principal).registry().review(&review).await?;
        Ok(())
    }

    /// A dataset version.
    pub(crate) async fn dataset(&self, dataset: &DatasetRef) -> Result<DatasetVersion, Error> {
        Ok(self.registry().dataset(&dataset.name, Some(dataset.version)).await?)
    }

    /// Registers a dataset version, once per key.
    pub(crate) async fn register_dataset(
        &self,
        registration: &DatasetRegistration,
        idempotency_key: String,
    ) -> Result<DatasetVersion, Error> {
        let registry = Registry::new(self.carrying(&self.peers.registry, LONG));
        Ok(registry.register_dataset(registration, idempotency_key).await?)
    }

    /// A run; `None` if it does not exist.
    pub(crate) async fn run(&self, id: RunId) -> Result<Option<Run>, Error> {
        found(self.registry().run(id).await)
    }

    /// Enqueues a job, once per id.
    pub(crate) async fn submit(&self, job: &Job) -> Result<(), Error> {
        self.trainer().submit(job).await?;
        Ok(())
    }

    /// Ends a job. A job that has ended, or does not exist, counts as cancelled.
    pub(crate) async fn cancel_job(&self, id: RunId, why: &str) -> Result<(), Error> {
        match self.trainer().cancel(id, &text::reason(why)).await {
            Err(error) if !matches!(error.code(), Code::NotFound | Code::FailedPrecondition) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Exports labelled rows.
    pub(crate) async fn export_labelled(&self, export: &ExportRequest) -> Result<LabelledExport, Error> {
        Ok(Monitor::new(self.carrying(&self.peers.monitor, LONG)).export_labelled(export).await?)
    }

    /// The reports of a model, newest first, back to the windows before the one that ends at `until`.
    pub(crate) async fn reports_since(
        &self,
        model: &ModelName,
        until: DateTime<Utc>,
    ) -> Result<Vec<WindowReport>, Error> {
        let mut reports: Vec<WindowReport> = Vec::new();
        let mut page = PageRequest::first(REPORTS_PER_PAGE);
        for _ in 0..MOST_PAGES {
            let found = self.monitor().reports(model, page.clone()).await?;
            let is_enough = found.items.last().is_none_or(|report| report.window.until < until);
            reports.extend(found.items);
            if is_enough || found.next_page_token.is_empty() {
                break;
            }
            page = PageRequest { token: found.next_page_token, ..PageRequest::first(REPORTS_PER_PAGE) };
        }
        Ok(reports)
    }

    /// Sets the monitoring settings of a model as the holder of `lease`, unless they are in force.
    pub(crate) async fn set_watch(
        &self,
        lease: Lease<'_>,
        model: &ModelName,
        settings: &WatchSettings,
    ) -> Result<(), Error> {
        let present = self.monitor().watch(model).await?;
        if present.revision > 0 && present.settings == *settings {
            return Ok(());
        }
        lease.check().await?;
        self.monitor().set_watch(model, settings, present.revision).await?;
        Ok(())
    }
}

fn found<T>(result: Result<T, rekindle_client::Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
