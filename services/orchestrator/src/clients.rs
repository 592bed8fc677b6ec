//! Calls to the registry, the trainer and the monitor, on behalf of a workflow or a caller. Answers are parsed here; the rest of
//! the service sees domain types.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, ModelName, VersionRef};
use rekindle_proto::{
    client::{Context, with_context},
    monitor::{
        ExportLabelledRequest, ExportLabelledResponse, GetWatchRequest, SetWatchRequest, Watch,
        monitor_client::MonitorClient,
    },
    registry::{
        Alias, Approval, DatasetVersion, GetAliasRequest, GetLineageRequest, GetModelVersionRequest, GetRunRequest,
        Lineage, ModelVersion, RegisterVersionRequest, ReviewModelVersionRequest, Run, SetAliasRequest,
        datasets_client::DatasetsClient, get_model_version_request::Which, models_client::ModelsClient,
        runs_client::RunsClient,
    },
    trainer::{CancelJobRequest, Job, SubmitJobRequest, trainer_client::TrainerClient},
};
use tonic::{Code, Request, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::Error;

/// Longest time for a call that only reads or changes a record.
const QUICK: Duration = Duration::from_secs(10);
/// Longest time for a call that reads or writes many rows.
const LONG: Duration = Duration::from_secs(300);

/// Largest answer that is read: schemas and profiles of wide datasets, and lineages of many.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// The other services.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    pub registry: Channel,
    pub trainer: Channel,
    pub monitor: Channel,
}

/// The other services, called on somebody's behalf.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    peers: Peers,
    context: Context,
}

type Carrying = InterceptedService<Channel, Context>;

impl Peers {
    /// Calls that carry `context`.
    pub(crate) fn on_behalf_of(&self, context: Context) -> Calls {
        Calls { peers: self.clone(), context }
    }
}

impl Calls {
    fn carrying(&self, peer: &Channel) -> Carrying {
        with_context(peer.clone(), self.context.clone())
    }

    fn models(&self) -> ModelsClient<Carrying> {
        ModelsClient::new(self.carrying(&self.peers.registry)).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn trainer(&self) -> TrainerClient<Carrying> {
        TrainerClient::new(self.carrying(&self.peers.trainer)).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn monitor(&self) -> MonitorClient<Carrying> {
        MonitorClient::new(self.carrying(&self.peers.monitor)).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// A model version by number, or by alias where `which` says so.
    pub(crate) async fn model_version(&self, model: &ModelName, which: Which) -> Result<ModelVersion, Error> {
        let request = GetModelVersionRequest { model: model.to_string(), which: Some(which) };
        let call = self.models().get_model_version(within(QUICK, request)).await;
        Ok(call.map_err(Error::call("read the model version"))?.into_inner())
    }

    /// The run and the datasets behind a bundle.
    pub(crate) async fn lineage(&self, bundle: &Digest) -> Result<Lineage, Error> {
        let request = GetLineageRequest { bundle_digest: bundle.to_string() };
        let call = self.models().get_lineage(within(QUICK, request)).await;
        Ok(call.map_err(Error::call("read the champion's lineage"))?.into_inner())
    }

    /// An alias; `None` where it does not exist.
    pub(crate) async fn alias(&self, model: &ModelName, alias: &str) -> Result<Option<Alias>, Error> {
        let request = GetAliasRequest { model: model.to_string(), alias: alias.to_owned() };
        found(self.models().get_alias(within(QUICK, request)).await, "read an alias")
    }

    /// Points an alias at a version. An alias that already does stays as it is, and one that moved meanwhile is an
    /// [`Error::Call`] that passes.
    pub(crate) async fn point_alias(
        &self,
        model: &ModelName,
        alias: &str,
        version: u32,
        by: &str,
        why: &str,
    ) -> Result<(), Error> {
        let present = self.alias(model, alias).await?;
        if present.as_ref().is_some_and(|alias| alias.version == version) {
            return Ok(());
        }
        let request = SetAliasRequest {
            model: model.to_string(),
            alias: alias.to_owned(),
            version,
            expected_revision: present.map_or(0, |alias| alias.revision),
            by: by.to_owned(),
            why: why.to_owned(),
        };
        self.models().set_alias(within(QUICK, request)).await.map_err(Error::call("move an alias"))?;
        Ok(())
    }

    /// Records a review of a version, unless the same one is in force.
    pub(crate) async fn review(
        &self,
        model: &ModelName,
        version: u32,
        approval: Approval,
        by: &str,
        why: &str,
    ) -> Result<(), Error> {
        let present = self.model_version(model, Which::Version(version)).await?;
        if present.review.as_ref().is_some_and(|review| review.approval() == approval && review.by == by) {
            return Ok(());
        }
        let request = ReviewModelVersionRequest {
            model: model.to_string(),
            version,
            approval: approval.into(),
            by: by.to_owned(),
            why: why.to_owned(),
            expected_revision: present.revision,
        };
        let call = self.models().review_model_version(within(QUICK, request)).await;
        call.map_err(Error::call("review the challenger"))?;
        Ok(())
    }

    /// Makes a dataset version.
    pub(crate) async fn register_dataset(&self, request: RegisterVersionRequest) -> Result<DatasetVersion, Error> {
        let mut datasets =
            DatasetsClient::new(self.carrying(&self.peers.registry)).max_decoding_message_size(MAX_ANSWER_BYTES);
        let call = datasets.register_version(within(LONG, request)).await;
        Ok(call.map_err(Error::call("register the dataset"))?.into_inner())
    }

    /// A run; `None` where it does not exist.
    pub(crate) async fn run(&self, id: &str) -> Result<Option<Run>, Error> {
        let mut runs = RunsClient::new(self.carrying(&self.peers.registry)).max_decoding_message_size(MAX_ANSWER_BYTES);
        found(runs.get_run(within(QUICK, GetRunRequest { id: id.to_owned() })).await, "read a run")
    }

    /// Puts a job on the queue; the same id again changes nothing.
    pub(crate) async fn submit(&self, job: Job) -> Result<(), Error> {
        let call = self.trainer().submit_job(within(QUICK, SubmitJobRequest { job: Some(job) })).await;
        call.map_err(Error::call("submit a job"))?;
        Ok(())
    }

    /// Ends a job; one that has ended, or never was, is as good as cancelled.
    pub(crate) async fn cancel_job(&self, id: &str, why: &str) -> Result<(), Error> {
        let request = CancelJobRequest { job_id: id.to_owned(), why: why.to_owned() };
        match self.trainer().cancel_job(within(QUICK, request)).await {
            Err(status) if !matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {
                Err(Error::call("cancel a job")(status))
            }
            _ => Ok(()),
        }
    }

    /// Has the labelled rows of a span written.
    pub(crate) async fn export_labelled(
        &self,
        request: ExportLabelledRequest,
    ) -> Result<ExportLabelledResponse, Error> {
        let call = self.monitor().export_labelled(within(LONG, request)).await;
        Ok(call.map_err(Error::call("export the labelled rows"))?.into_inner())
    }

    /// Makes the monitor watch a model like that, over whatever it watched before.
    pub(crate) async fn set_watch(&self, watch: Watch) -> Result<(), Error> {
        let request = GetWatchRequest { model: watch.model.clone() };
        let present = found(self.monitor().get_watch(within(QUICK, request)).await, "read the watch")?;
        let expected_revision = present.as_ref().map_or(0, |watch| watch.revision);
        if present.is_some_and(|present| expected_revision > 0 && Watch { revision: 0, ..present } == watch) {
            return Ok(());
        }
        let request = SetWatchRequest { watch: Some(watch), expected_revision };
        self.monitor().set_watch(within(QUICK, request)).await.map_err(Error::call("set the watch"))?;
        Ok(())
    }
}

/// A version's number and bundle.
pub(crate) fn version_ref(version: &ModelVersion) -> Result<VersionRef, Error> {
    let bundle = version
        .bundle_digest
        .parse()
        .map_err(|error| Error::answer("read the model version", format!("has a bundle that is none: {error}")))?;
    Ok(VersionRef { version: version.version, bundle })
}

/// A digest that another service told.
pub(crate) fn digest(operation: &'static str, text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|error| Error::answer(operation, format!("has no digest: {error}")))
}

/// A time that another service told.
pub(crate) fn time(
    operation: &'static str,
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Result<DateTime<Utc>, Error> {
    time.and_then(rekindle_proto::time::from_wire).ok_or_else(|| Error::answer(operation, format!("has no {field}")))
}

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn found<T>(result: Result<tonic::Response<T>, Status>, operation: &'static str) -> Result<Option<T>, Error> {
    match result {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(Error::call(operation)(status)),
    }
}
