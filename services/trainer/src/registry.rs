//! The registry on behalf of one job: its calls are correlated with the job, and a run that a caller has ended is its own case.

use std::collections::BTreeMap;

use rekindle_client::{Connection, PageRequest, registry::VersionRegistration};
use rekindle_domain::{
    Digest, ModelName, RunId,
    dataset::DatasetVersion,
    event::EventContext,
    job::{DatasetRef, Job},
    model_version::{ModelImport, ModelVersion},
    run::{Metric, NewRun, Run, RunProgress, RunReport},
    text,
};
use rekindle_training::Trial;
use tonic::Code;

use crate::{Error, job, watch};

/// Versions of a model among which that of a run is searched.
const LATEST_VERSIONS: u32 = 100;

/// The registry, on behalf of one job.
#[derive(Debug, Clone)]
pub(crate) struct Registry(rekindle_client::Registry);

impl Registry {
    pub(crate) fn new(connection: &Connection, correlation_id: &str) -> Self {
        let connection = connection.clone().with_context(EventContext::correlated(correlation_id));
        Self(rekindle_client::Registry::new(connection))
    }

    /// The run; `None` if it does not exist.
    pub(crate) async fn run(&self, id: RunId) -> Result<Option<Run>, Error> {
        match self.0.run(id).await {
            Ok(run) => Ok(Some(run)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the run of a job, once.
    pub(crate) async fn create_run(&self, job: &Job, dataset: Digest, code_revision: &str) -> Result<(), Error> {
        let new = NewRun {
            id: Some(job.id),
            params: job::params(job),
            tags: job.tags.clone(),
            code_revision: code_revision.to_owned(),
            dataset_digests: vec![dataset],
            seed: job::seed(job),
            ..NewRun::new(job.experiment.clone())
        };
        self.0.create_run(&new, job.id.to_string()).await?;
        Ok(())
    }

    /// Records a trial as a nested run of that of the job, once.
    pub(crate) async fn record_trial(&self, job: &Job, trial: &Trial) -> Result<(), Error> {
        let new = NewRun {
            parent_id: Some(job.id),
            // The code revision is that of the run of the job: another trainer may repeat the trial.
            params: job::trial_params(job, trial),
            seed: trial.recipe.seed,
            ..NewRun::new(job.experiment.clone())
        };
        let run = self.0.create_run(&new, format!("{}/trial/{}", job.id, trial.number)).await?;
        if run.status.is_terminal() {
            return Ok(());
        }
        self.report_running(run.id).await?;
        let metrics: Vec<Metric> =
            trial.epochs.iter().flat_map(|epoch| watch::metrics(job::epoch_points(epoch))).collect();
        self.log_metrics(run.id, &metrics).await?;
        match &trial.result {
            Ok(_) => self.report_finished(run.id, BTreeMap::new()).await,
            Err(error) => self.report_failed(run.id, text::reason(error)).await,
        }
    }

    /// Renews the lease of the run; [`Error::Killed`] once a caller has ended it.
    pub(crate) async fn report_running(&self, id: RunId) -> Result<(), Error> {
        self.report(id, RunReport::Running).await
    }

    /// Renews the lease of the run, and says how far it is if that is given; [`Error::Killed`] once a caller has ended it.
    pub(crate) async fn report_progress(&self, id: RunId, progress: Option<RunProgress>) -> Result<(), Error> {
        self.report(id, progress.map_or(RunReport::Running, RunReport::Progressed)).await
    }

    /// Ends the run with its outputs.
    pub(crate) async fn report_finished(&self, id: RunId, outputs: BTreeMap<String, String>) -> Result<(), Error> {
        self.report(id, RunReport::Finished { outputs }).await
    }

    /// Ends the run with the error.
    pub(crate) async fn report_failed(&self, id: RunId, error: String) -> Result<(), Error> {
        self.report(id, RunReport::Failed { error }).await
    }

    /// Ends the run on behalf of a caller. A refusal of the registry is passed on.
    pub(crate) async fn report_killed(&self, id: RunId, why: String) -> Result<(), Error> {
        self.0.report_run(id, RunReport::Killed { error: why }).await?;
        Ok(())
    }

    async fn report(&self, id: RunId, report: RunReport) -> Result<(), Error> {
        match self.0.report_run(id, report).await {
            Ok(_) => Ok(()),
            // The lifecycle does not allow it: a caller has ended the run.
            Err(error) if error.code() == Code::FailedPrecondition => Err(Error::Killed),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends points to the metrics of the run; a repeated point replaces itself.
    pub(crate) async fn log_metrics(&self, id: RunId, metrics: &[Metric]) -> Result<(), Error> {
        Ok(self.0.log_metrics(id, metrics).await?)
    }

    /// A dataset version.
    pub(crate) async fn dataset(&self, dataset: &DatasetRef) -> Result<DatasetVersion, Error> {
        Ok(self.0.dataset(&dataset.name, dataset.version).await?)
    }

    /// Sets a tag of the run.
    pub(crate) async fn set_tag(&self, id: RunId, name: &str, value: String) -> Result<(), Error> {
        self.0.set_run_tags(id, &BTreeMap::from([(name.to_owned(), value)]), &[]).await?;
        Ok(())
    }

    /// The version that a run has made, if it is one of the latest of the model.
    pub(crate) async fn version_of(&self, model: &ModelName, run: RunId) -> Result<Option<ModelVersion>, Error> {
        let latest = match self.0.model_versions(model, PageRequest::first(LATEST_VERSIONS)).await {
            Ok(page) => page.items,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(latest.into_iter().find(|version| version.run == Some(run)))
    }

    /// Imports a file as the next version of a model, once per run.
    pub(crate) async fn import_model(&self, import: &ModelImport, run: RunId) -> Result<ModelVersion, Error> {
        Ok(self.0.import_version(import, run.to_string()).await?)
    }

    /// Registers the bundle as the next version of a model, once per run. Returns its number.
    pub(crate) async fn register_model(
        &self,
        run: RunId,
        model: &ModelName,
        bundle: &Digest,
        description: &str,
    ) -> Result<u32, Error> {
        let registration = VersionRegistration {
            idempotency_key: run.to_string(),
            model: model.clone(),
            bundle: *bundle,
            description: description.to_owned(),
        };
        Ok(self.0.register_version(&registration).await?.version)
    }
}
