//! The registry as the trainer needs it: each call names what it is for, and carries the job's context.

use std::collections::BTreeMap;

use rekindle_domain::{DatasetName, Digest, ModelName, RunId};
use rekindle_proto::{
    client::{Context, with_context},
    registry::{self as wire, datasets_client::DatasetsClient, models_client::ModelsClient, runs_client::RunsClient},
};
use tonic::{Code, Status, transport::Channel};

use crate::{Error, job::Job};

/// Largest answer that is read: schemas and profiles of wide datasets.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// The registry, on behalf of one job.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    channel: Channel,
    context: Context,
}

fn failed(operation: &'static str) -> impl FnOnce(Status) -> Error {
    move |status| Error::Registry { operation, source: Box::new(status) }
}

impl Registry {
    pub(crate) fn new(channel: Channel, correlation_id: &str) -> Self {
        Self { channel, context: Context::correlated(correlation_id) }
    }

    fn runs(&self) -> RunsClient<tonic::service::interceptor::InterceptedService<Channel, Context>> {
        RunsClient::new(with_context(self.channel.clone(), self.context.clone()))
    }

    /// The run, if there is one of that id.
    pub(crate) async fn run(&self, id: RunId) -> Result<Option<wire::Run>, Error> {
        match self.runs().get_run(wire::GetRunRequest { id: id.to_string() }).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed("read the run")(status)),
        }
    }

    /// Makes the job's run, once.
    pub(crate) async fn create_run(&self, job: &Job, dataset: &Digest, code_revision: &str) -> Result<(), Error> {
        let request = wire::CreateRunRequest {
            idempotency_key: job.id.to_string(),
            id: job.id.to_string(),
            experiment: job.experiment.to_string(),
            params: job.params().into_iter().collect(),
            tags: job.tags.clone().into_iter().collect(),
            code_revision: code_revision.to_owned(),
            dataset_digests: vec![dataset.to_string()],
            seed: job.seed(),
        };
        self.runs().create_run(request).await.map_err(failed("create the run"))?;
        Ok(())
    }

    /// Says that the run is being carried out; [`Error::Killed`] once a caller has ended it.
    pub(crate) async fn report_running(&self, id: RunId) -> Result<(), Error> {
        self.report(id, wire::RunReport::Running, BTreeMap::new(), String::new()).await
    }

    /// Ends the run with what it made.
    pub(crate) async fn report_finished(&self, id: RunId, outputs: BTreeMap<String, String>) -> Result<(), Error> {
        self.report(id, wire::RunReport::Finished, outputs, String::new()).await
    }

    /// Ends the run with why it failed.
    pub(crate) async fn report_failed(&self, id: RunId, error: String) -> Result<(), Error> {
        self.report(id, wire::RunReport::Failed, BTreeMap::new(), error).await
    }

    /// Ends the run on a caller's behalf; what the registry says is passed on.
    pub(crate) async fn report_killed(&self, id: RunId, why: String) -> Result<(), Error> {
        let request = report_request(id, wire::RunReport::Killed, BTreeMap::new(), why);
        self.runs().report_run(request).await.map_err(failed("end the run"))?;
        Ok(())
    }

    async fn report(
        &self,
        id: RunId,
        report: wire::RunReport,
        outputs: BTreeMap<String, String>,
        error: String,
    ) -> Result<(), Error> {
        match self.runs().report_run(report_request(id, report, outputs, error)).await {
            Ok(_) => Ok(()),
            // The lifecycle does not allow it: somebody else has ended the run.
            Err(status) if status.code() == Code::FailedPrecondition => Err(Error::Killed),
            Err(status) => Err(failed("take a report on the run")(status)),
        }
    }

    /// Adds points to the run's metrics; the same point again replaces itself.
    pub(crate) async fn log_metrics(&self, id: RunId, metrics: Vec<wire::Metric>) -> Result<(), Error> {
        let request = wire::LogMetricsRequest { run_id: id.to_string(), metrics };
        self.runs().log_metrics(request).await.map_err(failed("log metrics"))?;
        Ok(())
    }

    /// A version of a dataset; 0 is the latest.
    pub(crate) async fn dataset(&self, name: &DatasetName, version: u32) -> Result<wire::DatasetVersion, Error> {
        let channel = with_context(self.channel.clone(), self.context.clone());
        let mut datasets = DatasetsClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let request = wire::GetVersionRequest { name: name.to_string(), version };
        Ok(datasets.get_version(request).await.map_err(failed("find the dataset"))?.into_inner())
    }

    /// Makes the bundle the next version of a model, once per run. Returns its number.
    pub(crate) async fn register_model(
        &self,
        run: RunId,
        model: &ModelName,
        bundle: &Digest,
        description: &str,
    ) -> Result<u32, Error> {
        let request = wire::RegisterModelVersionRequest {
            idempotency_key: run.to_string(),
            model: model.to_string(),
            bundle_digest: bundle.to_string(),
            description: description.to_owned(),
        };
        let mut models = ModelsClient::new(with_context(self.channel.clone(), self.context.clone()));
        let version = models.register_model_version(request).await.map_err(failed("register the model version"))?;
        Ok(version.into_inner().version)
    }
}

fn report_request(
    id: RunId,
    report: wire::RunReport,
    outputs: BTreeMap<String, String>,
    error: String,
) -> wire::ReportRunRequest {
    wire::ReportRunRequest { id: id.to_string(), report: report.into(), outputs: outputs.into_iter().collect(), error }
}
