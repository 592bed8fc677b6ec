//! The registry, the trainer and the monitor as the orchestrator sees them, played by one server: it keeps what it is told, and
//! finishes every job at once unless it is told to hold it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_domain::Digest;
use rekindle_proto::{json, monitor as m, registry as r, trainer as t};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// What the peers know and were asked.
#[derive(Debug)]
pub(crate) struct World {
    pub versions: BTreeMap<u32, r::ModelVersion>,
    pub aliases: BTreeMap<String, r::Alias>,
    pub runs: BTreeMap<String, r::Run>,
    pub datasets: BTreeMap<String, r::DatasetVersion>,
    pub watch: Option<m::Watch>,
    pub cancelled: BTreeSet<String>,
    /// The champion stays where it is, for good.
    pub champion_refused: bool,
    /// The champion cannot be moved for the time being.
    pub champion_away: bool,
    /// Why an alias was moved last.
    pub alias_why: String,
    /// A person rejects whatever the gate approves.
    pub rejects_after_approval: bool,
    /// Jobs that were submitted while a lost run could have been taken up again.
    pub submitted_beside_lost: u32,
    /// Jobs of this kind stay under way.
    pub hold: Option<&'static str>,
    /// Runs that fail before one succeeds.
    pub failures: u32,
    pub verdict: &'static str,
    pub new_rows: u64,
    pub artifacts: Artifacts,
}

#[derive(Debug, Clone)]
pub(crate) struct Peers(Arc<Mutex<World>>);

pub(crate) fn bundle(version: u32) -> Digest {
    Digest::of(format!("bundle {version}").as_bytes())
}

fn version(number: u32) -> r::ModelVersion {
    r::ModelVersion {
        model: "flights".into(),
        version: number,
        status: r::VersionStatus::Ready.into(),
        bundle_digest: bundle(number).to_string(),
        revision: 1,
        ..Default::default()
    }
}

fn base() -> r::DatasetVersion {
    r::DatasetVersion {
        name: "flights".into(),
        version: 1,
        content_digest: Digest::of(b"base").to_string(),
        blob_digest: Digest::of(b"base blob").to_string(),
        time_column: "time".into(),
        time_max: Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 }),
        ..Default::default()
    }
}

impl Peers {
    /// Serves until the test ends; returns the address.
    pub(crate) async fn start(artifacts: Artifacts) -> (Self, String) {
        let world = World {
            versions: (1..=2).map(|number| (number, version(number))).collect(),
            aliases: BTreeMap::new(),
            runs: BTreeMap::new(),
            datasets: BTreeMap::from([("base".into(), base())]),
            watch: None,
            cancelled: BTreeSet::new(),
            champion_refused: false,
            champion_away: false,
            alias_why: String::new(),
            rejects_after_approval: false,
            submitted_beside_lost: 0,
            hold: None,
            failures: 0,
            verdict: "pass",
            new_rows: 5_000,
            artifacts,
        };
        let peers = Self(Arc::new(Mutex::new(world)));
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

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while holding it")
    }

    /// A person's review.
    pub(crate) fn reject(&self, version: u32) {
        let review = r::Review { approval: r::Approval::Rejected.into(), by: "ada".into(), ..Default::default() };
        let mut world = self.world();
        let version = world.versions.get_mut(&version).expect("registered");
        (version.revision, version.review) = (version.revision + 1, Some(review));
    }

    /// The worker of a run falls silent, and from now on nothing is held.
    pub(crate) fn lose(&self, run: &str) {
        let mut world = self.world();
        world.hold = None;
        world.runs.get_mut(run).expect("submitted").status = r::RunStatus::Lost.into();
    }

    /// Finishes every held job.
    pub(crate) async fn release(&self) {
        let held: Vec<String> = {
            let mut world = self.world();
            world.hold = None;
            world.runs.values().filter(|run| run.status() == r::RunStatus::Running).map(|run| run.id.clone()).collect()
        };
        for id in held {
            let kind = self.world().runs[&id].tags["step"].clone();
            self.finish(&id, &kind).await;
        }
    }

    async fn finish(&self, id: &str, kind: &str) {
        let (verdict, artifacts) = {
            let world = self.world();
            (world.verdict, world.artifacts.clone())
        };
        let evaluation =
            t::Evaluation { pass: verdict == "pass", reason: format!("it is a {verdict}"), ..Default::default() };
        let json = Bytes::from(json::to_value(&evaluation).to_string());
        let digest = artifacts.put(json).await.expect("stored");
        let mut world = self.world();
        let outputs = if kind == "train" {
            let number = world.versions.keys().max().map_or(1, |last| last + 1);
            world.versions.insert(number, version(number));
            BTreeMap::from([("model_version".to_owned(), number.to_string())])
        } else {
            BTreeMap::from([("evaluation".to_owned(), digest.to_string()), ("verdict".to_owned(), verdict.to_owned())])
        };
        let run = world.runs.get_mut(id).expect("submitted");
        run.outputs = outputs.into_iter().collect();
        run.status = r::RunStatus::Finished.into();
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not needed here"))
}

fn found<T: Clone>(value: Option<&T>) -> Answer<T> {
    value.cloned().map(Response::new).ok_or_else(|| Status::not_found("nothing there"))
}

#[tonic::async_trait]
impl t::trainer_server::Trainer for Peers {
    async fn submit_job(&self, request: Request<t::SubmitJobRequest>) -> Answer<t::SubmitJobResponse> {
        let job = request.into_inner().job.unwrap_or_default();
        let kind = job.tags["step"].clone();
        let answer = Ok(Response::new(t::SubmitJobResponse { run_id: job.id.clone() }));
        let held = {
            let mut world = self.world();
            if world.runs.contains_key(&job.id) {
                return answer;
            }
            let taken_up = |run: &&r::Run| run.status() == r::RunStatus::Lost && !world.cancelled.contains(&run.id);
            let beside = world.runs.values().filter(taken_up).count();
            world.submitted_beside_lost += u32::try_from(beside).expect("few");
            let failing = world.failures > 0;
            world.failures = world.failures.saturating_sub(1);
            let status = if failing { r::RunStatus::Failed } else { r::RunStatus::Running };
            let run = r::Run { id: job.id.clone(), status: status.into(), tags: job.tags, ..Default::default() };
            world.runs.insert(job.id.clone(), run);
            failing || world.hold == Some(kind.as_str())
        };
        if !held {
            self.finish(&job.id, &kind).await;
        }
        answer
    }

    async fn cancel_job(&self, request: Request<t::CancelJobRequest>) -> Answer<t::CancelJobResponse> {
        self.world().cancelled.insert(request.into_inner().job_id);
        Ok(Response::new(t::CancelJobResponse {}))
    }
}

#[tonic::async_trait]
impl m::monitor_server::Monitor for Peers {
    async fn set_watch(&self, request: Request<m::SetWatchRequest>) -> Answer<m::Watch> {
        let request = request.into_inner();
        let mut world = self.world();
        let revision = world.watch.as_ref().map_or(0, |watch| watch.revision);
        if revision != request.expected_revision {
            return Err(Status::aborted("stale"));
        }
        let watch = m::Watch { revision: revision + 1, ..request.watch.unwrap_or_default() };
        world.watch = Some(watch.clone());
        Ok(Response::new(watch))
    }
    async fn get_watch(&self, _: Request<m::GetWatchRequest>) -> Answer<m::Watch> {
        found(self.world().watch.as_ref())
    }
    async fn export_labelled(&self, _: Request<m::ExportLabelledRequest>) -> Answer<m::ExportLabelledResponse> {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        Ok(Response::new(m::ExportLabelledResponse {
            blob_digest: Digest::of(b"captured").to_string(),
            rows: self.world().new_rows,
            time_min: at(2_000),
            time_max: at(3_000),
            manifest_digest: Digest::of(b"manifest").to_string(),
            holdout_from: at(2_750),
            rows_left_out: 0,
        }))
    }
    async fn report_outcomes(&self, _: Request<m::ReportOutcomesRequest>) -> Answer<m::ReportOutcomesResponse> {
        unused()
    }
    async fn list_reports(&self, _: Request<m::ListReportsRequest>) -> Answer<m::ListReportsResponse> {
        unused()
    }
    async fn get_prediction(&self, _: Request<m::GetPredictionRequest>) -> Answer<m::LoggedPrediction> {
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
        let mut world = self.world();
        let next = u32::try_from(world.datasets.len()).expect("few") + 1;
        let made = r::DatasetVersion { version: next, parents: request.parents, ..base() };
        let made = world.datasets.entry(request.idempotency_key).or_insert(made);
        Ok(Response::new(made.clone()))
    }
    async fn get_version(&self, _: Request<r::GetVersionRequest>) -> Answer<r::DatasetVersion> {
        unused()
    }
    async fn list_datasets(&self, _: Request<r::ListDatasetsRequest>) -> Answer<r::ListDatasetsResponse> {
        unused()
    }
    async fn list_versions(&self, _: Request<r::ListVersionsRequest>) -> Answer<r::ListVersionsResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl r::runs_server::Runs for Peers {
    async fn get_run(&self, request: Request<r::GetRunRequest>) -> Answer<r::Run> {
        found(self.world().runs.get(&request.into_inner().id))
    }
    async fn create_run(&self, _: Request<r::CreateRunRequest>) -> Answer<r::Run> {
        unused()
    }
    async fn report_run(&self, _: Request<r::ReportRunRequest>) -> Answer<r::Run> {
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
}

#[tonic::async_trait]
impl r::models_server::Models for Peers {
    async fn get_model_version(&self, request: Request<r::GetModelVersionRequest>) -> Answer<r::ModelVersion> {
        let world = self.world();
        match request.into_inner().which {
            Some(r::get_model_version_request::Which::Version(number)) => found(world.versions.get(&number)),
            _ => found(world.aliases.get("champion").and_then(|alias| world.versions.get(&alias.version))),
        }
    }
    async fn review_model_version(&self, request: Request<r::ReviewModelVersionRequest>) -> Answer<r::ModelVersion> {
        let request = request.into_inner();
        let mut world = self.world();
        let version = world.versions.get_mut(&request.version).ok_or_else(|| Status::not_found("version"))?;
        if version.revision != request.expected_revision {
            return Err(Status::aborted("stale"));
        }
        version.revision += 1;
        version.review =
            Some(r::Review { approval: request.approval, by: request.by, why: request.why, ..Default::default() });
        let approved = version.clone();
        if world.rejects_after_approval {
            drop(world);
            self.reject(approved.version);
        }
        Ok(Response::new(approved))
    }
    async fn set_alias(&self, request: Request<r::SetAliasRequest>) -> Answer<r::Alias> {
        let request = request.into_inner();
        let mut world = self.world();
        let revision = world.aliases.get(&request.alias).map_or(0, |alias| alias.revision);
        if revision != request.expected_revision {
            return Err(Status::aborted("stale"));
        }
        if world.champion_away && request.alias == "champion" {
            return Err(Status::unavailable("back soon"));
        }
        let review = world.versions.get(&request.version).and_then(|version| version.review.as_ref());
        if review.is_some_and(|review| review.approval() == r::Approval::Rejected)
            || (world.champion_refused && request.alias == "champion")
        {
            return Err(Status::failed_precondition("it may not be pointed at"));
        }
        let (version, revision) = (request.version, revision + 1);
        let alias = r::Alias { alias: request.alias.clone(), version, revision, ..Default::default() };
        world.alias_why = request.why;
        world.aliases.insert(request.alias, alias.clone());
        Ok(Response::new(alias))
    }
    async fn get_alias(&self, request: Request<r::GetAliasRequest>) -> Answer<r::Alias> {
        found(self.world().aliases.get(&request.into_inner().alias))
    }
    async fn get_lineage(&self, _: Request<r::GetLineageRequest>) -> Answer<r::Lineage> {
        let run = r::Run { dataset_digests: vec![base().content_digest], ..Default::default() };
        Ok(Response::new(r::Lineage { run: Some(run), datasets: vec![base()], ..Default::default() }))
    }
    async fn register_model_version(&self, _: Request<r::RegisterModelVersionRequest>) -> Answer<r::ModelVersion> {
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
