//! Fakes of the registry, the trainer and the monitor on one server. They record what they receive, and finish every job at once unless
//! it is held.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_client::{PRINCIPAL, wire};
use rekindle_domain::{
    Alias, AliasName, Digest, Gate, Recipe, RunId, Watch,
    alias::AliasMove,
    dataset::DatasetVersion,
    evaluation::Evaluation,
    job::{Job, Requirement},
    lineage::Lineage,
    model_version::{Approval, ModelVersion, Review, VersionSelector, VersionStatus},
    prediction_log::LabelledExport,
    report::WindowReport,
    run::{Run, RunStatus},
};
use rekindle_proto::{monitor as m, registry as r, trainer as t};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::world::{MODEL, model};

/// What the fakes have recorded, and how they behave.
#[derive(Debug)]
pub(crate) struct State {
    pub versions: BTreeMap<u32, ModelVersion>,
    pub aliases: BTreeMap<AliasName, Alias>,
    pub runs: BTreeMap<RunId, Run>,
    /// By idempotency key.
    pub datasets: BTreeMap<String, DatasetVersion>,
    pub watch: Option<Watch>,
    pub cancelled: BTreeSet<RunId>,
    /// The registry refuses to move `champion`.
    pub champion_refused: bool,
    /// The registry answers UNAVAILABLE to a move of `champion`.
    pub champion_unavailable: bool,
    /// A person rejects what the gate approves.
    pub rejects_after_approval: bool,
    /// Jobs that were submitted while a lost run could be resumed.
    pub submitted_beside_lost: usize,
    /// Jobs of this step do not finish.
    pub hold: Option<&'static str>,
    /// Runs that fail before one succeeds.
    pub failures: u32,
    /// Every run of this step fails.
    pub failing: Option<&'static str>,
    /// Whether challengers pass the gate.
    pub gate: Verdict,
    /// Whether refits agree with the challenger that was evaluated.
    pub refit_check: Verdict,
    /// The jobs that were submitted.
    pub jobs: Vec<Job>,
    pub new_rows: u64,
    /// The reports of the monitor.
    pub reports: Vec<WindowReport>,
    artifacts: Artifacts,
}

/// The result of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Reject,
}

impl Verdict {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Pass => "the challenger is better",
            Self::Reject => "the challenger is not better",
        }
    }
}

/// The lookback that every search finds.
pub(crate) const FOUND_LOOKBACK: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
pub(crate) struct Peers(Arc<Mutex<State>>);

pub(crate) fn bundle(version: u32) -> Digest {
    Digest::of(format!("bundle {version}").as_bytes())
}

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("in range")
}

fn version(number: u32) -> ModelVersion {
    ModelVersion {
        model: model(),
        version: number,
        status: VersionStatus::Ready,
        status_reason: String::new(),
        bundle: bundle(number),
        run: None,
        description: String::new(),
        tags: BTreeMap::new(),
        author: String::new(),
        review: review(Approval::Pending, "", ""),
        metrics: BTreeMap::new(),
        aliases: Vec::new(),
        created_at: at(0),
        deleted_at: None,
        revision: 1,
    }
}

fn review(approval: Approval, by: &str, why: &str) -> Review {
    Review { approval, by: by.to_owned(), why: why.to_owned(), at: None, evidence: BTreeMap::new() }
}

pub(crate) fn base() -> DatasetVersion {
    DatasetVersion {
        name: "flights".parse().expect("a name"),
        version: 1,
        content: Digest::of(b"base"),
        blob: Digest::of(b"base blob"),
        rows: 0,
        bytes: 0,
        columns: Vec::new(),
        time_column: Some("time".to_owned()),
        time_range: Some((at(0), at(1_000))),
        parents: Vec::new(),
        description: String::new(),
        profile: Vec::new(),
        created_at: at(0),
        schema: None,
        violations: Vec::new(),
        deleted_at: None,
    }
}

fn run(id: RunId, tags: BTreeMap<String, String>, status: RunStatus) -> Run {
    Run {
        id,
        parent_id: None,
        experiment: MODEL.parse().expect("a name"),
        status,
        params: BTreeMap::new(),
        tags,
        code_revision: String::new(),
        dataset_digests: vec![base().content],
        seed: 0,
        metrics: Vec::new(),
        outputs: BTreeMap::new(),
        error: String::new(),
        created_at: at(0),
        started_at: None,
        ended_at: None,
        progress: None,
        deleted_at: None,
        revision: 1,
    }
}

fn evaluation(verdict: Verdict) -> Evaluation {
    Evaluation {
        champion: bundle(1),
        challenger: bundle(3),
        dataset: base().content,
        rows: 1_000,
        from: None,
        until: None,
        gate: Gate::default(),
        requirement: Requirement::Better,
        pass: verdict == Verdict::Pass,
        reason: verdict.reason().to_owned(),
        champion_metrics: BTreeMap::new(),
        challenger_metrics: BTreeMap::new(),
        improvement: 0.0,
        improvement_lower_bound: 0.0,
        slices: Vec::new(),
        checks: Vec::new(),
    }
}

impl Peers {
    /// Serves until the test ends; returns the address too.
    pub(crate) async fn start(artifacts: Artifacts) -> (Self, String) {
        let state = State {
            versions: (1..=2).map(|number| (number, version(number))).collect(),
            aliases: BTreeMap::new(),
            runs: BTreeMap::new(),
            datasets: BTreeMap::from([("base".into(), base())]),
            watch: None,
            cancelled: BTreeSet::new(),
            champion_refused: false,
            champion_unavailable: false,
            rejects_after_approval: false,
            submitted_beside_lost: 0,
            hold: None,
            failures: 0,
            failing: None,
            gate: Verdict::Pass,
            refit_check: Verdict::Pass,
            jobs: Vec::new(),
            new_rows: 5_000,
            reports: Vec::new(),
            artifacts,
        };
        let peers = Self(Arc::new(Mutex::new(state)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Server::builder()
            .add_service(r::datasets_server::DatasetsServer::new(peers.clone()))
            .add_service(r::runs_server::RunsServer::new(peers.clone()))
            .add_service(r::models_server::ModelsServer::new(peers.clone()))
            .add_service(t::trainer_server::TrainerServer::new(peers.clone()))
            .add_service(m::monitor_server::MonitorServer::new(peers.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (peers, address)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while holding it")
    }

    /// Rejects a version as `ada`.
    fn reject(&self, version: u32) {
        let mut state = self.state();
        let version = state.versions.get_mut(&version).expect("registered");
        (version.revision, version.review) = (version.revision + 1, review(Approval::Rejected, "ada", ""));
    }

    /// Loses a run. From now on no job is held.
    pub(crate) fn lose(&self, run: RunId) {
        let mut state = self.state();
        state.hold = None;
        state.runs.get_mut(&run).expect("submitted").status = RunStatus::Lost;
    }

    /// Finishes every held job.
    pub(crate) async fn release(&self) {
        let held: Vec<RunId> = {
            let mut state = self.state();
            state.hold = None;
            let running = state.runs.values().filter(|run| run.status == RunStatus::Running);
            running.map(|run| run.id).collect()
        };
        for id in held {
            self.finish(id).await;
        }
    }

    async fn finish(&self, id: RunId) {
        let (verdict, check, artifacts) = {
            let state = self.state();
            (state.gate, state.refit_check, state.artifacts.clone())
        };
        let stored = async |verdict| {
            let json = Bytes::from(wire::evaluation::to_json(&evaluation(verdict)).to_string());
            artifacts.put(json).await.expect("stored")
        };
        let (digest, check) = (stored(verdict).await, stored(check).await);
        let mut state = self.state();
        let outputs = match state.runs[&id].tags["step"].as_str() {
            "train" | "refit" => {
                let number = state.versions.keys().max().map_or(1, |last| last + 1);
                state.versions.insert(number, version(number));
                let recipe = Recipe { lookback: Some(FOUND_LOOKBACK), ..Recipe::for_target("late") };
                let recipe = serde_json::to_string(&recipe).expect("json");
                vec![("model_version".to_owned(), number.to_string()), ("recipe".to_owned(), recipe)]
            }
            "check-refit" => vec![("evaluation".to_owned(), check.to_string())],
            _ => vec![("evaluation".to_owned(), digest.to_string())],
        };
        let run = state.runs.get_mut(&id).expect("submitted");
        run.outputs = outputs.into_iter().collect();
        run.status = RunStatus::Finished;
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("the orchestrator does not call this"))
}

fn found<N, T>(value: Option<&N>, to_wire: impl FnOnce(&N) -> T) -> Answer<T> {
    value.map(to_wire).map(Response::new).ok_or_else(|| Status::not_found("it does not exist"))
}

fn principal<T>(request: &Request<T>) -> String {
    let value = request.metadata().get(PRINCIPAL).expect("the orchestrator identifies itself");
    value.to_str().expect("ASCII").to_owned()
}

#[tonic::async_trait]
impl t::trainer_server::Trainer for Peers {
    async fn submit_job(&self, request: Request<t::SubmitJobRequest>) -> Answer<t::SubmitJobResponse> {
        let job: Job = wire::job::from_wire(request.into_inner().job.unwrap_or_default()).expect("a valid job");
        let submitted = answer(t::SubmitJobResponse { run_id: job.id.to_string() });
        let held = {
            let mut state = self.state();
            if state.runs.contains_key(&job.id) {
                return submitted;
            }
            let is_resumable = |run: &&Run| run.status == RunStatus::Lost && !state.cancelled.contains(&run.id);
            let resumable = state.runs.values().filter(is_resumable).count();
            state.submitted_beside_lost += resumable;
            state.jobs.push(job.clone());
            let is_failing = state.failures > 0 || state.failing == Some(job.tags["step"].as_str());
            state.failures = state.failures.saturating_sub(1);
            let status = if is_failing { RunStatus::Failed } else { RunStatus::Running };
            let held = is_failing || state.hold == Some(job.tags["step"].as_str());
            state.runs.insert(job.id, run(job.id, job.tags, status));
            held
        };
        if !held {
            let peers = self.clone();
            // A caller that is killed ends its call, and not the run.
            tokio::spawn(async move { peers.finish(job.id).await }).await.expect("finished");
        }
        submitted
    }

    async fn cancel_job(&self, request: Request<t::CancelJobRequest>) -> Answer<t::CancelJobResponse> {
        let id = request.into_inner().job_id.parse().expect("an id");
        self.state().cancelled.insert(id);
        answer(t::CancelJobResponse {})
    }
}

#[tonic::async_trait]
impl m::monitor_server::Monitor for Peers {
    async fn set_watch(&self, request: Request<m::SetWatchRequest>) -> Answer<m::Watch> {
        let request = request.into_inner();
        let given = wire::watch::from_wire(request.watch.unwrap_or_default()).expect("a valid watch");
        let mut state = self.state();
        let revision = state.watch.as_ref().map_or(0, |watch| watch.revision);
        if revision != request.expected_revision {
            return Err(Status::aborted("stale"));
        }
        let watch = Watch { revision: revision + 1, ..given };
        let message = wire::watch::to_wire(&watch);
        state.watch = Some(watch);
        answer(message)
    }
    async fn get_watch(&self, _: Request<m::GetWatchRequest>) -> Answer<m::Watch> {
        let none = || Watch { model: model(), settings: Default::default(), revision: 0 };
        answer(wire::watch::to_wire(&self.state().watch.clone().unwrap_or_else(none)))
    }
    async fn export_labelled(&self, _: Request<m::ExportLabelledRequest>) -> Answer<m::ExportLabelledResponse> {
        answer(wire::prediction_log::exported_to_wire(&LabelledExport {
            blob: Some(Digest::of(b"captured")),
            rows: self.state().new_rows,
            time_range: Some((at(2_000), at(3_000))),
            manifest: Some(Digest::of(b"manifest")),
            holdout_from: Some(at(2_750)),
            rows_left_out: 0,
        }))
    }
    async fn reset_watch(&self, _: Request<m::ResetWatchRequest>) -> Answer<m::CaptureStatus> {
        unused()
    }

    async fn report_outcomes(&self, _: Request<m::ReportOutcomesRequest>) -> Answer<m::ReportOutcomesResponse> {
        unused()
    }
    async fn list_reports(&self, _: Request<m::ListReportsRequest>) -> Answer<m::ListReportsResponse> {
        let reports = self.state().reports.iter().map(wire::report::to_wire).collect();
        Ok(Response::new(m::ListReportsResponse { reports, next_page_token: String::new() }))
    }
    async fn get_prediction(&self, _: Request<m::GetPredictionRequest>) -> Answer<m::LoggedPrediction> {
        unused()
    }
    async fn list_failures(&self, _: Request<m::ListFailuresRequest>) -> Answer<m::ListFailuresResponse> {
        unused()
    }
    async fn list_predictions(&self, _: Request<m::ListPredictionsRequest>) -> Answer<m::ListPredictionsResponse> {
        unused()
    }
    async fn get_capture_status(&self, _: Request<m::GetCaptureStatusRequest>) -> Answer<m::CaptureStatus> {
        unused()
    }
}

#[tonic::async_trait]
impl r::datasets_server::Datasets for Peers {
    async fn register_version(&self, request: Request<r::RegisterVersionRequest>) -> Answer<r::DatasetVersion> {
        let request = request.into_inner();
        let key = request.idempotency_key.clone();
        let registration = wire::dataset::registration_from_wire(request).expect("a valid registration");
        let mut state = self.state();
        let next = u32::try_from(state.datasets.len()).expect("few") + 1;
        let new = DatasetVersion { version: next, parents: registration.parents, ..base() };
        answer(wire::dataset::to_wire(state.datasets.entry(key).or_insert(new)))
    }
    async fn get_version(&self, request: Request<r::GetVersionRequest>) -> Answer<r::DatasetVersion> {
        let version = request.into_inner().version;
        let state = self.state();
        found(state.datasets.values().find(|dataset| Some(dataset.version) == version), wire::dataset::to_wire)
    }
    async fn list_datasets(&self, _: Request<r::ListDatasetsRequest>) -> Answer<r::ListDatasetsResponse> {
        unused()
    }
    async fn list_versions(&self, _: Request<r::ListVersionsRequest>) -> Answer<r::ListVersionsResponse> {
        unused()
    }
    async fn preview_version(&self, _: Request<r::PreviewVersionRequest>) -> Answer<r::PreviewVersionResponse> {
        unused()
    }
    async fn compare_versions(&self, _: Request<r::CompareVersionsRequest>) -> Answer<r::CompareVersionsResponse> {
        unused()
    }
    async fn delete_dataset(&self, _: Request<r::DeleteDatasetRequest>) -> Answer<r::DeleteDatasetResponse> {
        unused()
    }
    async fn restore_dataset(&self, _: Request<r::RestoreDatasetRequest>) -> Answer<r::RestoreDatasetResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl r::runs_server::Runs for Peers {
    async fn get_run(&self, request: Request<r::GetRunRequest>) -> Answer<r::Run> {
        let id: RunId = request.into_inner().id.parse().expect("an id");
        found(self.state().runs.get(&id), wire::run::to_wire)
    }
    async fn create_run(&self, _: Request<r::CreateRunRequest>) -> Answer<r::Run> {
        unused()
    }
    async fn report_run(&self, _: Request<r::ReportRunRequest>) -> Answer<r::Run> {
        unused()
    }
    async fn log_params(&self, _: Request<r::LogParamsRequest>) -> Answer<r::Run> {
        unused()
    }
    async fn set_run_tags(&self, _: Request<r::SetRunTagsRequest>) -> Answer<r::Run> {
        unused()
    }
    async fn log_metrics(&self, _: Request<r::LogMetricsRequest>) -> Answer<r::LogMetricsResponse> {
        unused()
    }
    async fn list_runs(&self, _: Request<r::ListRunsRequest>) -> Answer<r::ListRunsResponse> {
        unused()
    }
    async fn get_metric_history(&self, _: Request<r::GetMetricHistoryRequest>) -> Answer<r::GetMetricHistoryResponse> {
        unused()
    }
    async fn delete_run(&self, _: Request<r::DeleteRunRequest>) -> Answer<r::Run> {
        unused()
    }
    async fn restore_run(&self, _: Request<r::RestoreRunRequest>) -> Answer<r::Run> {
        unused()
    }
}

#[tonic::async_trait]
impl r::models_server::Models for Peers {
    async fn get_model(&self, _: Request<r::GetModelRequest>) -> Answer<r::Model> {
        unused()
    }
    async fn get_lineage_graph(&self, _: Request<r::GetLineageGraphRequest>) -> Answer<r::LineageGraph> {
        unused()
    }
    async fn update_model(&self, _: Request<r::UpdateModelRequest>) -> Answer<r::Model> {
        unused()
    }
    async fn update_model_version(&self, _: Request<r::UpdateModelVersionRequest>) -> Answer<r::ModelVersion> {
        unused()
    }
    async fn delete_model(&self, _: Request<r::DeleteModelRequest>) -> Answer<r::DeleteModelResponse> {
        unused()
    }
    async fn restore_model(&self, _: Request<r::RestoreModelRequest>) -> Answer<r::Model> {
        unused()
    }
    async fn list_reviews(&self, _: Request<r::ListReviewsRequest>) -> Answer<r::ListReviewsResponse> {
        unused()
    }
    async fn swap_aliases(&self, _: Request<r::SwapAliasesRequest>) -> Answer<r::SwapAliasesResponse> {
        unused()
    }
    async fn delete_alias(&self, _: Request<r::DeleteAliasRequest>) -> Answer<r::Alias> {
        unused()
    }
    async fn protect_alias(&self, _: Request<r::ProtectAliasRequest>) -> Answer<r::AliasProtection> {
        unused()
    }
    async fn get_alias_protection(&self, _: Request<r::GetAliasProtectionRequest>) -> Answer<r::AliasProtection> {
        unused()
    }
    async fn get_model_version(&self, request: Request<r::GetModelVersionRequest>) -> Answer<r::ModelVersion> {
        let selector = wire::model_version::selector_from_wire(request.into_inner().selector).expect("a selector");
        let state = self.state();
        let number = match selector {
            VersionSelector::Latest => state.versions.keys().max().copied(),
            VersionSelector::Number(number) => Some(number),
            VersionSelector::Alias(name) => state.aliases.get(&name).map(|alias| alias.version),
        };
        found(number.and_then(|number| state.versions.get(&number)), wire::model_version::to_wire)
    }
    async fn review_model_version(&self, request: Request<r::ReviewModelVersionRequest>) -> Answer<r::ModelVersion> {
        let by = principal(&request);
        let request = request.into_inner();
        let approval = wire::model_version::approval_from_wire("approval", request.approval).expect("an approval");
        let reviewed = {
            let mut state = self.state();
            let version = state.versions.get_mut(&request.version).ok_or_else(|| Status::not_found("version"))?;
            if version.revision != request.expected_revision {
                return Err(Status::aborted("stale"));
            }
            version.revision += 1;
            let evidence = request.evidence.into_iter().collect();
            version.review = Review { evidence, ..review(approval, &by, &request.why) };
            wire::model_version::to_wire(version)
        };
        if self.state().rejects_after_approval {
            self.reject(reviewed.version);
        }
        answer(reviewed)
    }
    async fn set_alias(&self, request: Request<r::SetAliasRequest>) -> Answer<r::Alias> {
        let by = principal(&request);
        let AliasMove { model, alias, version, expected_revision, why } =
            wire::alias::move_from_wire(request.into_inner()).expect("a valid move");
        let mut state = self.state();
        let revision = state.aliases.get(&alias).map_or(0, |alias| alias.revision);
        if revision != expected_revision {
            return Err(Status::aborted("stale"));
        }
        let is_champion = alias == AliasName::champion();
        if state.champion_unavailable && is_champion {
            return Err(Status::unavailable("retry later"));
        }
        let is_rejected = state.versions.get(&version).is_some_and(|v| v.review.approval == Approval::Rejected);
        if is_rejected || (state.champion_refused && is_champion) {
            return Err(Status::failed_precondition(format!("the alias must not point at version {version}")));
        }
        let (bundle, moved_at) = (bundle(version), Utc::now());
        let moved = Alias {
            model,
            alias: alias.clone(),
            version,
            bundle,
            revision: revision + 1,
            by,
            why,
            moved_at,
            deleted: false,
        };
        let message = wire::alias::to_wire(&moved);
        state.aliases.insert(alias, moved);
        answer(message)
    }
    async fn get_alias(&self, request: Request<r::GetAliasRequest>) -> Answer<r::Alias> {
        let name: AliasName = request.into_inner().alias.parse().expect("a name");
        found(self.state().aliases.get(&name), wire::alias::to_wire)
    }
    async fn get_lineage(&self, _: Request<r::GetLineageRequest>) -> Answer<r::Lineage> {
        let run = run(RunId::new(uuid::Uuid::nil()), BTreeMap::new(), RunStatus::Finished);
        let lineage = Lineage { versions: Vec::new(), run: Some(run), datasets: vec![base()] };
        answer(wire::lineage::to_wire(&lineage))
    }
    async fn register_model_version(&self, _: Request<r::RegisterModelVersionRequest>) -> Answer<r::ModelVersion> {
        unused()
    }
    async fn import_model_version(&self, _: Request<r::ImportModelVersionRequest>) -> Answer<r::ModelVersion> {
        unused()
    }
    async fn list_models(&self, _: Request<r::ListModelsRequest>) -> Answer<r::ListModelsResponse> {
        unused()
    }
    async fn list_model_versions(
        &self,
        _: Request<r::ListModelVersionsRequest>,
    ) -> Answer<r::ListModelVersionsResponse> {
        unused()
    }
    async fn get_alias_history(&self, _: Request<r::GetAliasHistoryRequest>) -> Answer<r::GetAliasHistoryResponse> {
        unused()
    }
}
