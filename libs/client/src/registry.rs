//! The registry: blobs, datasets, runs, models and lineage.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use rekindle_domain::{
    Alias, AliasName, DatasetName, Digest, ExperimentName, IdPrefix, ModelName, RunId,
    alias::{AliasMove, AliasProtection, AliasSwap},
    blob::{Garbage, Scrubbed},
    dataset::{ColumnChange, DatasetRegistration, DatasetRows, DatasetVersion},
    lineage::{Extent, Lineage, LineageGraph, LineageSubject},
    model_version::{Approval, ModelImport, ModelVersion, RegisteredModel, Review, Update, VersionSelector},
    run::{Metric, NewRun, Run, RunReport},
    validation::Violations,
};
use rekindle_proto::registry::{
    self as proto, artifacts_client::ArtifactsClient, datasets_client::DatasetsClient, models_client::ModelsClient,
    runs_client::RunsClient,
};
use tonic::{Status, service::interceptor::InterceptedService, transport::Channel};

use crate::{
    Connection, Error, Identity, Page, PageRequest,
    wire::{alias, blob, dataset, field, lineage, model_import, model_version, run, time},
};

/// Largest response about datasets, in bytes.
const MAX_DATASET_BYTES: usize = 32 << 20;

/// A client of the registry; clones share the connection.
#[derive(Debug, Clone)]
pub struct Registry(Connection);

/// What an upload is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadPurpose {
    /// A blob, e.g. a part of a bundle. Kept.
    Blob,
    /// A file to register as a dataset version. Removed once a version is registered from it, or 24 hours after the upload.
    DatasetSource,
}

/// A model version to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRegistration {
    /// A repeated key registers nothing twice.
    pub idempotency_key: String,
    /// The model.
    pub model: ModelName,
    /// The manifest of the stored bundle.
    pub bundle: Digest,
    /// The description.
    pub description: String,
}

/// Which runs are listed, and in which order: as `ListRunsRequest` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSearch {
    /// Of all experiments of the namespace if there is none.
    pub experiment: Option<ExperimentName>,
    /// E.g. `metrics.auc > 0.9 AND tags.team = 'risk'`; empty finds all.
    pub filter: String,
    /// E.g. `metrics.auc DESC`; without one, newest first.
    pub order_by: Vec<String>,
}

/// A review to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewRequest {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: u32,
    /// The approval.
    pub approval: Approval,
    /// The reason.
    pub why: String,
    /// The revision of the version.
    pub expected_revision: u64,
    /// What the decision is based on, by name.
    pub evidence: BTreeMap<String, String>,
}

impl Registry {
    /// A client on a connection.
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Stores a blob, given in chunks of at most 1 MiB. Returns its digest and size. It is not retried, since the chunks are consumed.
    pub async fn upload(
        &self,
        purpose: UploadPurpose,
        chunks: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<(Digest, u64), Error> {
        let operation = "upload a blob";
        let purpose = match purpose {
            UploadPurpose::Blob => proto::UploadPurpose::Blob,
            UploadPurpose::DatasetSource => proto::UploadPurpose::DatasetSource,
        };
        let requests = chunks.map(move |chunk| proto::UploadRequest { chunk, purpose: purpose.into() });
        let answer = self.0.call_once(operation, ArtifactsClient::new(self.0.stub()).upload(requests)).await?;
        let digest = field::parse("digest", &answer.digest).map_err(Error::response(operation))?;
        Ok((digest, answer.size))
    }

    /// Stores a blob that is in memory.
    pub async fn upload_bytes(&self, purpose: UploadPurpose, bytes: Bytes) -> Result<(Digest, u64), Error> {
        const CHUNK: usize = 1 << 20;
        let starts = (0..bytes.len()).step_by(CHUNK);
        let chunks: Vec<Bytes> = starts.map(|from| bytes.slice(from..bytes.len().min(from + CHUNK))).collect();
        self.upload(purpose, stream::iter(chunks)).await
    }

    /// Deletes blobs that nothing refers to and that are older than the grace period; without one, that of the registry.
    pub async fn collect_garbage(&self, dry_run: bool, grace: Option<std::time::Duration>) -> Result<Garbage, Error> {
        let request = proto::CollectGarbageRequest { dry_run, grace: grace.map(time::span_to_wire) };
        let call = || async { ArtifactsClient::new(self.0.stub()).collect_garbage(request).await };
        Ok(blob::garbage_from_wire(self.0.call("collect garbage", call).await?))
    }

    /// Reads a page of the blobs and compares them with their digests. Returns what was found, and the token of the next page.
    pub async fn scrub(&self, page: PageRequest) -> Result<(Scrubbed, String), Error> {
        let operation = "check the blobs";
        let request = proto::ScrubRequest { page_size: page.size, page_token: page.token };
        let call = || async { ArtifactsClient::new(self.0.stub()).scrub(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        let next = answer.next_page_token.clone();
        Ok((blob::scrubbed_from_wire(answer).map_err(Error::response(operation))?, next))
    }

    /// Streams a blob. The server verifies its digest before it sends the last chunk.
    pub async fn download(&self, digest: Digest) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        let operation = "download a blob";
        let request = proto::DownloadRequest { digest: digest.to_string() };
        let call = || async { ArtifactsClient::new(self.0.stub()).download(request.clone()).await };
        let chunks = self.0.call(operation, call).await?;
        let chunk = move |answer: Result<proto::DownloadResponse, Status>| {
            answer.map(|answer| answer.chunk).map_err(|status| Error::call(operation, status))
        };
        Ok(chunks.map(chunk))
    }

    /// Schemas and profiles of wide datasets exceed the default limit of a client.
    fn datasets_stub(&self) -> DatasetsClient<InterceptedService<Channel, Identity>> {
        DatasetsClient::new(self.0.stub()).max_decoding_message_size(MAX_DATASET_BYTES)
    }

    /// Creates the next version of a dataset.
    pub async fn register_dataset(
        &self,
        registration: &DatasetRegistration,
        idempotency_key: impl Into<String>,
    ) -> Result<DatasetVersion, Error> {
        let operation = "register the dataset";
        let request = dataset::registration_to_wire(registration, idempotency_key.into());
        let call = || async { self.datasets_stub().register_version(request.clone()).await };
        dataset::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// One version of a dataset; `None` is the latest.
    pub async fn dataset(&self, name: &DatasetName, version: Option<u32>) -> Result<DatasetVersion, Error> {
        let operation = "read the dataset";
        let request = proto::GetVersionRequest { name: name.to_string(), version };
        let call = || async { self.datasets_stub().get_version(request.clone()).await };
        dataset::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The latest version of every dataset, by name.
    pub async fn datasets(&self, page: PageRequest) -> Result<Page<DatasetVersion>, Error> {
        let operation = "list the datasets";
        let request = proto::ListDatasetsRequest { page_size: page.size, page_token: page.token };
        let call = || async { self.datasets_stub().list_datasets(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("datasets", answer.datasets, dataset::from_wire), answer.next_page_token)
    }

    /// The versions of a dataset, newest first.
    pub async fn dataset_versions(&self, name: &DatasetName, page: PageRequest) -> Result<Page<DatasetVersion>, Error> {
        let operation = "list the dataset versions";
        let request =
            proto::ListVersionsRequest { name: name.to_string(), page_size: page.size, page_token: page.token };
        let call = || async { self.datasets_stub().list_versions(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("versions", answer.versions, dataset::from_wire), answer.next_page_token)
    }

    /// Rows of a version; `None` is the latest.
    pub async fn preview_dataset(
        &self,
        name: &DatasetName,
        version: Option<u32>,
        offset: u64,
        limit: u32,
    ) -> Result<DatasetRows, Error> {
        let operation = "read rows of the dataset";
        let request = proto::PreviewVersionRequest { name: name.to_string(), version, offset, limit };
        let call = || async { self.datasets_stub().preview_version(request.clone()).await };
        dataset::rows_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// What differs between a base and a version: both, and the columns. The version is the latest if `None`; the base the one before, or the
    /// latest of another dataset.
    pub async fn compare_datasets(
        &self,
        (base_name, base_version): (Option<&DatasetName>, Option<u32>),
        (name, version): (&DatasetName, Option<u32>),
    ) -> Result<(DatasetVersion, DatasetVersion, Vec<ColumnChange>), Error> {
        let operation = "compare the datasets";
        let base_name = base_name.map(DatasetName::to_string).unwrap_or_default();
        let request = proto::CompareVersionsRequest { name: name.to_string(), version, base_name, base_version };
        let call = || async { self.datasets_stub().compare_versions(request.clone()).await };
        dataset::comparison_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Deletes a version, or all versions of a dataset. Returns those that were deleted.
    pub async fn delete_dataset(&self, name: &DatasetName, version: Option<u32>, why: &str) -> Result<Vec<u32>, Error> {
        let request = proto::DeleteDatasetRequest { name: name.to_string(), version, why: why.to_owned() };
        let call = || async { self.datasets_stub().delete_dataset(request.clone()).await };
        Ok(self.0.call("delete the dataset", call).await?.versions)
    }

    /// Restores a version, or all versions of a dataset. Returns those that were restored.
    pub async fn restore_dataset(
        &self,
        name: &DatasetName,
        version: Option<u32>,
        why: &str,
    ) -> Result<Vec<u32>, Error> {
        let request = proto::RestoreDatasetRequest { name: name.to_string(), version, why: why.to_owned() };
        let call = || async { self.datasets_stub().restore_dataset(request.clone()).await };
        Ok(self.0.call("restore the dataset", call).await?.versions)
    }

    /// Creates a run.
    pub async fn create_run(&self, new: &NewRun, idempotency_key: impl Into<String>) -> Result<Run, Error> {
        let operation = "create the run";
        let request = run::new_to_wire(new, idempotency_key.into());
        let call = || async { RunsClient::new(self.0.stub()).create_run(request.clone()).await };
        run::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Reports on a run; repeating a report has no effect.
    pub async fn report_run(&self, id: RunId, report: RunReport) -> Result<Run, Error> {
        let operation = "report on the run";
        let request = run::report_to_wire(id.to_string(), report);
        let call = || async { RunsClient::new(self.0.stub()).report_run(request.clone()).await };
        run::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Appends points to the metrics of a run; a point with the same name and step replaces the earlier value.
    pub async fn log_metrics(&self, id: RunId, metrics: &[Metric]) -> Result<(), Error> {
        let metrics = metrics.iter().map(run::metric_to_wire).collect();
        let request = proto::LogMetricsRequest { run_id: id.to_string(), metrics };
        let call = || async { RunsClient::new(self.0.stub()).log_metrics(request.clone()).await };
        self.0.call("log metrics", call).await.map(|proto::LogMetricsResponse {}| ())
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<Run, Error> {
        self.get_run(id.to_string()).await
    }

    /// The one run whose id begins so.
    pub async fn find_run(&self, prefix: &IdPrefix) -> Result<Run, Error> {
        self.get_run(prefix.to_string()).await
    }

    async fn get_run(&self, id: String) -> Result<Run, Error> {
        let operation = "read the run";
        let request = proto::GetRunRequest { id };
        let call = || async { RunsClient::new(self.0.stub()).get_run(request.clone()).await };
        run::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Runs, without further orders newest first.
    pub async fn runs(&self, search: &RunSearch, page: PageRequest) -> Result<Page<Run>, Error> {
        let operation = "list the runs";
        let RunSearch { experiment, filter, order_by } = search.clone();
        let request = proto::ListRunsRequest {
            experiment: experiment.map(|name| name.to_string()).unwrap_or_default(),
            page_size: page.size,
            page_token: page.token,
            filter,
            order_by,
        };
        let call = || async { RunsClient::new(self.0.stub()).list_runs(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("runs", answer.runs, run::from_wire), answer.next_page_token)
    }

    /// Adds params to a run. They are written once.
    pub async fn log_params(&self, id: RunId, params: &BTreeMap<String, String>) -> Result<Run, Error> {
        let operation = "log params of the run";
        let params = params.clone().into_iter().collect();
        let request = proto::LogParamsRequest { run_id: id.to_string(), params };
        let call = || async { RunsClient::new(self.0.stub()).log_params(request.clone()).await };
        run::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Sets and deletes tags of a run.
    pub async fn set_run_tags(
        &self,
        id: RunId,
        tags: &BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<Run, Error> {
        let operation = "set tags of the run";
        let tags = tags.clone().into_iter().collect();
        let request = proto::SetRunTagsRequest { run_id: id.to_string(), tags, delete: delete.to_vec() };
        let call = || async { RunsClient::new(self.0.stub()).set_run_tags(request.clone()).await };
        run::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Deletes a run.
    pub async fn delete_run(&self, id: RunId, why: &str) -> Result<Run, Error> {
        let operation = "delete the run";
        let request = proto::DeleteRunRequest { id: id.to_string(), why: why.to_owned() };
        let call = || async { RunsClient::new(self.0.stub()).delete_run(request.clone()).await };
        run::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Restores a run.
    pub async fn restore_run(&self, id: RunId, why: &str) -> Result<Run, Error> {
        let operation = "restore the run";
        let request = proto::RestoreRunRequest { id: id.to_string(), why: why.to_owned() };
        let call = || async { RunsClient::new(self.0.stub()).restore_run(request.clone()).await };
        run::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// At most `max_points` points of a metric, by step: of each of so many ranges the least and the greatest value.
    pub async fn metric_sample(&self, id: RunId, name: &str, max_points: u32) -> Result<Vec<Metric>, Error> {
        let operation = "read the metric history";
        let request = proto::GetMetricHistoryRequest {
            run_id: id.to_string(),
            name: name.to_owned(),
            max_points,
            ..Default::default()
        };
        let call = || async { RunsClient::new(self.0.stub()).get_metric_history(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        run::metrics_from_wire(answer.metrics).map_err(Error::response(operation))
    }

    /// The points of one metric, by step.
    pub async fn metric_history(&self, id: RunId, name: &str, page: PageRequest) -> Result<Page<Metric>, Error> {
        let operation = "read the metric history";
        let request = proto::GetMetricHistoryRequest {
            run_id: id.to_string(),
            name: name.to_owned(),
            page_size: page.size,
            page_token: page.token,
            max_points: 0,
        };
        let call = || async { RunsClient::new(self.0.stub()).get_metric_history(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, run::metrics_from_wire(answer.metrics), answer.next_page_token)
    }

    /// Creates the next version of a model.
    pub async fn register_version(&self, registration: &VersionRegistration) -> Result<ModelVersion, Error> {
        let operation = "register the model version";
        let request = proto::RegisterModelVersionRequest {
            idempotency_key: registration.idempotency_key.clone(),
            model: registration.model.to_string(),
            bundle_digest: registration.bundle.to_string(),
            description: registration.description.clone(),
        };
        let call = || async { ModelsClient::new(self.0.stub()).register_model_version(request.clone()).await };
        model_version::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Creates the next version of a model from a stored file in the ONNX format.
    pub async fn import_version(
        &self,
        import: &ModelImport,
        idempotency_key: impl Into<String>,
    ) -> Result<ModelVersion, Error> {
        let operation = "import the model version";
        let request = model_import::to_wire(import, idempotency_key.into());
        let call = || async { ModelsClient::new(self.0.stub()).import_model_version(request.clone()).await };
        model_version::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// One version of a model.
    pub async fn model_version(&self, model: &ModelName, selector: &VersionSelector) -> Result<ModelVersion, Error> {
        let operation = "read the model version";
        let selector = model_version::selector_to_wire(selector);
        let request = proto::GetModelVersionRequest { model: model.to_string(), selector };
        let call = || async { ModelsClient::new(self.0.stub()).get_model_version(request.clone()).await };
        model_version::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The registered models, by name.
    pub async fn models(&self, page: PageRequest) -> Result<Page<RegisteredModel>, Error> {
        let operation = "list the models";
        let request = proto::ListModelsRequest { page_size: page.size, page_token: page.token };
        let call = || async { ModelsClient::new(self.0.stub()).list_models(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("models", answer.models, model_version::model_from_wire), answer.next_page_token)
    }

    /// One model.
    pub async fn model(&self, model: &ModelName) -> Result<RegisteredModel, Error> {
        let operation = "read the model";
        let request = proto::GetModelRequest { model: model.to_string() };
        let call = || async { ModelsClient::new(self.0.stub()).get_model(request.clone()).await };
        model_version::model_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Changes a model.
    pub async fn update_model(&self, model: &ModelName, update: &Update) -> Result<RegisteredModel, Error> {
        let operation = "update the model";
        let Update { title, description, delete_tags, tags } = update.clone();
        let request = proto::UpdateModelRequest { model: model.to_string(), title, description, tags, delete_tags };
        let call = || async { ModelsClient::new(self.0.stub()).update_model(request.clone()).await };
        model_version::model_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Changes a version; its title cannot be changed, since it has none.
    pub async fn update_version(
        &self,
        model: &ModelName,
        version: u32,
        update: &Update,
    ) -> Result<ModelVersion, Error> {
        let operation = "update the model version";
        let Update { title: _, description, delete_tags, tags } = update.clone();
        let request =
            proto::UpdateModelVersionRequest { model: model.to_string(), version, description, tags, delete_tags };
        let call = || async { ModelsClient::new(self.0.stub()).update_model_version(request.clone()).await };
        model_version::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Deletes a model, or one version of it.
    pub async fn delete_model(&self, model: &ModelName, version: Option<u32>, why: &str) -> Result<(), Error> {
        let request = proto::DeleteModelRequest { model: model.to_string(), version, why: why.to_owned() };
        let call = || async { ModelsClient::new(self.0.stub()).delete_model(request.clone()).await };
        self.0.call("delete the model", call).await?;
        Ok(())
    }

    /// Restores a deleted model, or one version of it.
    pub async fn restore_model(
        &self,
        model: &ModelName,
        version: Option<u32>,
        why: &str,
    ) -> Result<RegisteredModel, Error> {
        let operation = "restore the model";
        let request = proto::RestoreModelRequest { model: model.to_string(), version, why: why.to_owned() };
        let call = || async { ModelsClient::new(self.0.stub()).restore_model(request.clone()).await };
        model_version::model_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The versions of a model, newest first.
    pub async fn model_versions(&self, model: &ModelName, page: PageRequest) -> Result<Page<ModelVersion>, Error> {
        let operation = "list the model versions";
        let request =
            proto::ListModelVersionsRequest { model: model.to_string(), page_size: page.size, page_token: page.token };
        let call = || async { ModelsClient::new(self.0.stub()).list_model_versions(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("versions", answer.versions, model_version::from_wire), answer.next_page_token)
    }

    /// Records a review.
    pub async fn review(&self, review: &ReviewRequest) -> Result<ModelVersion, Error> {
        let operation = "review the model version";
        let request = proto::ReviewModelVersionRequest {
            model: review.model.to_string(),
            version: review.version,
            approval: model_version::approval_to_wire(review.approval).into(),
            why: review.why.clone(),
            expected_revision: review.expected_revision,
            evidence: review.evidence.clone(),
        };
        let call = || async { ModelsClient::new(self.0.stub()).review_model_version(request.clone()).await };
        model_version::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The reviews of a version, newest first.
    pub async fn reviews(&self, model: &ModelName, version: u32, page: PageRequest) -> Result<Page<Review>, Error> {
        let operation = "list the reviews";
        let model = model.to_string();
        let request = proto::ListReviewsRequest { model, version, page_size: page.size, page_token: page.token };
        let call = || async { ModelsClient::new(self.0.stub()).list_reviews(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        let reviews = field::each("reviews", answer.reviews, model_version::review_from_wire);
        page_of(operation, reviews, answer.next_page_token)
    }

    /// Exchanges the versions of two aliases.
    pub async fn swap_aliases(&self, swap: &AliasSwap) -> Result<(Alias, Alias), Error> {
        let operation = "swap the aliases";
        let request = alias::swap_to_wire(swap);
        let call = || async { ModelsClient::new(self.0.stub()).swap_aliases(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        let of = |field: &str, given| field::nested(field, given, alias::from_wire).map_err(Error::response(operation));
        Ok((of("one", answer.one)?, of("other", answer.other)?))
    }

    /// Deletes an alias, if it has the expected revision.
    pub async fn delete_alias(
        &self,
        model: &ModelName,
        name: &AliasName,
        expected_revision: u64,
        why: &str,
    ) -> Result<Alias, Error> {
        let operation = "delete the alias";
        let (model, alias, why) = (model.to_string(), name.to_string(), why.to_owned());
        let request = proto::DeleteAliasRequest { model, alias, expected_revision, why };
        let call = || async { ModelsClient::new(self.0.stub()).delete_alias(request.clone()).await };
        alias::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Sets what a version needs before an alias is moved to it.
    pub async fn protect_alias(
        &self,
        model: &ModelName,
        name: &AliasName,
        (approvals, except_author): (u32, bool),
        why: &str,
    ) -> Result<AliasProtection, Error> {
        let operation = "protect the alias";
        let (model, alias, why) = (model.to_string(), name.to_string(), why.to_owned());
        let request = proto::ProtectAliasRequest { model, alias, approvals, except_author, why };
        let call = || async { ModelsClient::new(self.0.stub()).protect_alias(request.clone()).await };
        alias::protection_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// What a version needs before an alias is moved to it.
    pub async fn alias_protection(&self, model: &ModelName, name: &AliasName) -> Result<AliasProtection, Error> {
        let operation = "read the protection of the alias";
        let request = proto::GetAliasProtectionRequest { model: model.to_string(), alias: name.to_string() };
        let call = || async { ModelsClient::new(self.0.stub()).get_alias_protection(request.clone()).await };
        alias::protection_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Points an alias at a version, if the alias has the expected revision.
    pub async fn set_alias(&self, target: &AliasMove) -> Result<Alias, Error> {
        let operation = "move the alias";
        let request = alias::move_to_wire(target);
        let call = || async { ModelsClient::new(self.0.stub()).set_alias(request.clone()).await };
        alias::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Where an alias points.
    pub async fn alias(&self, model: &ModelName, name: &AliasName) -> Result<Alias, Error> {
        let operation = "read the alias";
        let request = proto::GetAliasRequest { model: model.to_string(), alias: name.to_string() };
        let call = || async { ModelsClient::new(self.0.stub()).get_alias(request.clone()).await };
        alias::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The moves of an alias, newest first.
    pub async fn alias_history(
        &self,
        model: &ModelName,
        name: &AliasName,
        page: PageRequest,
    ) -> Result<Page<Alias>, Error> {
        self.alias_moves(model, name, None, page).await
    }

    /// The move of an alias that was in force at a time.
    pub async fn alias_at(
        &self,
        model: &ModelName,
        name: &AliasName,
        at: chrono::DateTime<chrono::Utc>,
    ) -> Result<Option<Alias>, Error> {
        let moves = self.alias_moves(model, name, Some(time::to_wire(at)), PageRequest::default()).await?;
        Ok(moves.items.into_iter().next())
    }

    async fn alias_moves(
        &self,
        model: &ModelName,
        name: &AliasName,
        at: Option<prost_types::Timestamp>,
        page: PageRequest,
    ) -> Result<Page<Alias>, Error> {
        let operation = "read the alias history";
        let request = proto::GetAliasHistoryRequest {
            model: model.to_string(),
            alias: name.to_string(),
            at,
            page_size: page.size,
            page_token: page.token,
        };
        let call = || async { ModelsClient::new(self.0.stub()).get_alias_history(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("moves", answer.moves, alias::from_wire), answer.next_page_token)
    }

    /// What something was made from, and what was made from it.
    pub async fn lineage_graph(&self, subject: &LineageSubject, extent: Extent) -> Result<LineageGraph, Error> {
        let operation = "read the lineage";
        let request = lineage::subject_to_wire(subject, extent);
        let call = || async { ModelsClient::new(self.0.stub()).get_lineage_graph(request.clone()).await };
        lineage::graph_from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The versions, run and datasets of a bundle.
    pub async fn lineage(&self, bundle: Digest) -> Result<Lineage, Error> {
        let operation = "read the lineage";
        let request = proto::GetLineageRequest { bundle_digest: bundle.to_string() };
        let call = || async { ModelsClient::new(self.0.stub()).get_lineage(request.clone()).await };
        lineage::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }
}

pub(crate) fn page_of<T>(
    operation: &'static str,
    items: Result<Vec<T>, Violations>,
    next_page_token: String,
) -> Result<Page<T>, Error> {
    Ok(Page { items: items.map_err(Error::response(operation))?, next_page_token })
}
