//! A registry and a trainer in the test's process, on free ports, with all that they need around them.

use std::net::SocketAddr;

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_proto::{
    client,
    registry::{
        self, FileFormat, GetRunRequest, RegisterVersionRequest, RunStatus, Source, datasets_client::DatasetsClient,
        models_client::ModelsClient, runs_client::RunsClient,
    },
    trainer::{
        CancelJobRequest, DatasetRef, EvaluateWork, Gate, Job, SubmitJobRequest, TrainWork, job::Work,
        trainer_client::TrainerClient,
    },
};
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
    supervise::Tasks,
};
use rekindle_testkit::{NatsServer, eventually};
use serde::Deserialize;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

/// Running services; what they stand on goes with them.
pub(crate) struct Sandbox {
    pub trainer: TrainerClient<Channel>,
    pub runs: RunsClient<Channel>,
    pub models: ModelsClient<Channel>,
    pub artifacts: Artifacts,
    pub bus: Bus,
    datasets: DatasetsClient<Channel>,
    registry: Channel,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
    _nats: NatsServer,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shutdown.close();
    }
}

#[derive(Deserialize)]
struct Settings {
    registry: rekindle_registry::Config,
    trainer: rekindle_trainer::Config,
}

fn settings() -> Settings {
    let defaults = [rekindle_registry::DEFAULTS, rekindle_trainer::DEFAULTS].join("\n");
    let here =
        [("registry.database.url", "sqlite::memory:"), ("trainer.report_every", "50ms"), ("trainer.ack_wait", "2s")];
    let here = here.map(|(key, value)| (key.to_owned(), value.to_owned()));
    rekindle_runtime::config::load_from(&defaults, None, [], &here).expect("the defaults are valid")
}

impl Sandbox {
    /// A registry and one trainer.
    pub(crate) async fn start() -> Self {
        let sandbox = Self::without_worker().await;
        sandbox.start_worker(&sandbox.shutdown).await;
        sandbox
    }

    /// A registry, and a trainer that takes jobs in but does not carry them out.
    pub(crate) async fn without_worker() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("the bus is up");
        let artifacts =
            Artifacts::open(&rekindle_artifacts::Config::local(folder.path())).await.expect("the folder is ours");
        let shutdown = Shutdown::new();
        let Settings { registry, .. } = settings();
        let app = rekindle_registry::App::build(registry, bus.clone(), artifacts.clone()).await.expect("a registry");
        let mut routes = RoutesBuilder::new();
        app.register(&mut routes);
        let registry = serve(routes, &shutdown).await;
        let mut routes = RoutesBuilder::new();
        trainer(&bus, &artifacts, &registry).await.register(&mut routes);
        let trainer = serve(routes, &shutdown).await;
        Self {
            trainer: TrainerClient::new(trainer),
            runs: RunsClient::new(registry.clone()),
            models: ModelsClient::new(registry.clone()),
            datasets: DatasetsClient::new(registry.clone()),
            artifacts,
            bus,
            registry,
            shutdown,
            _folder: folder,
            _nats: nats,
        }
    }

    /// Starts carrying jobs out, until `shutdown`.
    pub(crate) async fn start_worker(&self, shutdown: &Shutdown) -> tokio::task::JoinHandle<()> {
        let app = trainer(&self.bus, &self.artifacts, &self.registry).await;
        let mut tasks = Tasks::new();
        app.background(&mut tasks, shutdown.clone());
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let drain = std::time::Duration::from_secs(30);
            tasks.join(shutdown, drain).await.expect("the worker ends well");
        })
    }

    /// Registers rows with a time column `at`.
    pub(crate) async fn dataset(&self, name: &str, csv: String) -> registry::DatasetVersion {
        let digest = self.artifacts.put(Bytes::from(csv)).await.expect("stored");
        let request = RegisterVersionRequest {
            idempotency_key: Uuid::now_v7().to_string(),
            name: name.to_owned(),
            sources: vec![Source { digest: digest.to_string(), format: FileFormat::Csv.into() }],
            time_column: "at".to_owned(),
            ..Default::default()
        };
        self.datasets.clone().register_version(request).await.expect("registered").into_inner()
    }

    pub(crate) async fn submit(&self, job: &Job) -> Result<String, Status> {
        let request = SubmitJobRequest { job: Some(job.clone()) };
        Ok(self.trainer.clone().submit_job(request).await?.into_inner().run_id)
    }

    pub(crate) async fn cancel(&self, job: &Job) {
        let request = CancelJobRequest { job_id: job.id.clone(), why: "no longer wanted".to_owned() };
        self.trainer.clone().cancel_job(request).await.expect("cancelled");
    }

    pub(crate) async fn run(&self, id: &str) -> Result<registry::Run, Status> {
        Ok(self.runs.clone().get_run(GetRunRequest { id: id.to_owned() }).await?.into_inner())
    }

    /// The run once it has ended.
    pub(crate) async fn ended(&self, id: &str) -> registry::Run {
        eventually("the run has ended", async || {
            let run = self.run(id).await.map_err(|status| status.to_string())?;
            match run.status() {
                RunStatus::Finished | RunStatus::Failed | RunStatus::Killed => Ok(run),
                status => Err(format!("it is {status:?}")),
            }
        })
        .await
    }

    /// The run once it has finished well.
    pub(crate) async fn finished(&self, job: &Job) -> registry::Run {
        let id = self.submit(job).await.expect("submitted");
        let run = self.ended(&id).await;
        assert_eq!(run.status(), RunStatus::Finished, "{}", run.error);
        run
    }
}

async fn trainer(bus: &Bus, artifacts: &Artifacts, registry: &Channel) -> rekindle_trainer::App {
    let Settings { trainer, .. } = settings();
    rekindle_trainer::App::build(trainer, bus.clone(), artifacts.clone(), registry.clone()).await.expect("a trainer")
}

async fn serve(routes: RoutesBuilder, shutdown: &Shutdown) -> Channel {
    let listener = grpc::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let served = grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown).await;
        served.expect("serves until shutdown");
    });
    client::channel(&address, std::time::Duration::from_secs(20)).expect("an address")
}

/// Rows an hour apart from `from` hours after 2024 began. `late` follows `x`, in the opposite sense once `turned`.
pub(crate) fn rows(from: i64, count: i64, turned: bool) -> String {
    let start = chrono::DateTime::from_timestamp(1_704_067_200, 0).expect("2024");
    let mut csv = "at,x,place,late\n".to_owned();
    for row in from..from + count {
        let at = start + chrono::TimeDelta::hours(row);
        let x = row * 37 % 100;
        let late = u8::from((x >= 50) != turned);
        let place = ["north", "south"][usize::from(row % 3 == 0)];
        csv += &format!("{},{}.5,{place},{late}\n", at.format("%Y-%m-%dT%H:%M:%SZ"), x);
    }
    csv
}

/// A job that trains on the dataset, quickly, and registers the model `late-flights`.
pub(crate) fn train(dataset: &str) -> Job {
    let recipe = serde_json::json!({
        "target": "late",
        "architecture": { "kind": "linear" },
        "learning_rate": 0.05,
        "max_epochs": 5,
        "batch_size": 32,
    });
    train_with(dataset, &recipe)
}

pub(crate) fn train_with(dataset: &str, recipe: &serde_json::Value) -> Job {
    job(Work::Train(TrainWork {
        dataset: Some(DatasetRef { name: dataset.to_owned(), version: 0 }),
        recipe_json: recipe.to_string(),
        register_as: "late-flights".to_owned(),
        ..Default::default()
    }))
}

pub(crate) fn evaluate(dataset: &str, champion: &str, challenger: &str, gate: Gate) -> Job {
    job(Work::Evaluate(EvaluateWork {
        dataset: Some(DatasetRef { name: dataset.to_owned(), version: 0 }),
        champion_bundle: champion.to_owned(),
        challenger_bundle: challenger.to_owned(),
        gate: Some(gate),
        ..Default::default()
    }))
}

fn job(work: Work) -> Job {
    Job { id: Uuid::now_v7().to_string(), experiment: "tests".to_owned(), work: Some(work), ..Default::default() }
}
