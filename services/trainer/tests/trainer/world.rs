//! A registry and a trainer in the process of the test, on free ports, with everything they depend on.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_client::{Connection, Error, Registry, Trainer};
use rekindle_domain::{
    Digest, Gate, Recipe, RunId,
    dataset::{DatasetRegistration, DatasetVersion, FileFormat, Source},
    job::{DatasetRef, Evaluate, Job, Priority, Requirement, Train, Work},
    recipe::{LinearRecipe, MlpRecipe, ModelRecipe, Optimizer},
    run::{Run, RunStatus},
};
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
    supervise::Tasks,
};
use rekindle_testkit::{NatsServer, eventually};
use serde::Deserialize;
use uuid::Uuid;

/// Running services; what they depend on ends with them.
pub(crate) struct World {
    pub trainer: Trainer,
    pub registry: Registry,
    pub artifacts: Artifacts,
    pub bus: Bus,
    pub address: String,
    registry_connection: Connection,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
    pub nats: NatsServer,
}

impl Drop for World {
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
    let here = [
        ("registry.database.url", "sqlite::memory:"),
        ("trainer.report_every", "50ms"),
        ("trainer.ack_wait", "2s"),
        ("trainer.worker_lease", "1s"),
        ("trainer.checkpoint_every", "0s"),
    ];
    rekindle_runtime::config::Layers::new(&defaults).overrides(here).parse().expect("the defaults are valid")
}

impl World {
    /// A registry and one trainer.
    pub(crate) async fn start() -> Self {
        let world = Self::without_worker().await;
        world.start_worker(&world.shutdown).await;
        world
    }

    /// A registry, and a trainer that accepts jobs but does not work on them.
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
        let (registry, _) = serve(routes, &shutdown).await;
        let mut routes = RoutesBuilder::new();
        app_on(&bus, &artifacts, &registry).await.register(&mut routes);
        let (trainer, address) = serve(routes, &shutdown).await;
        Self {
            trainer: Trainer::new(trainer),
            registry: Registry::new(registry.clone()),
            artifacts,
            bus,
            address,
            registry_connection: registry,
            shutdown,
            _folder: folder,
            nats,
        }
    }

    /// Starts working on jobs, until `shutdown`.
    pub(crate) async fn start_worker(&self, shutdown: &Shutdown) -> tokio::task::JoinHandle<()> {
        let app = app_on(&self.bus, &self.artifacts, &self.registry_connection).await;
        let mut tasks = Tasks::new();
        app.background(&mut tasks, shutdown.clone());
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tasks.join(shutdown, Duration::from_secs(30)).await.expect("the worker ends in order");
        })
    }

    /// Registers rows with a time column `at`.
    pub(crate) async fn dataset(&self, name: &str, csv: String) -> DatasetVersion {
        let digest = self.artifacts.put(Bytes::from(csv)).await.expect("stored");
        let registration = DatasetRegistration {
            name: name.parse().expect("a name"),
            sources: vec![Source { digest, format: FileFormat::Csv }],
            time_column: Some("at".to_owned()),
            kinds: BTreeMap::new(),
            parents: vec![],
            description: String::new(),
            from: None,
            until: None,
            reading: Default::default(),
            columns: Default::default(),
            schema: None,
            accept_violations: false,
        };
        self.registry.register_dataset(&registration, Uuid::now_v7().to_string()).await.expect("registered")
    }

    pub(crate) async fn submit(&self, job: &Job) -> Result<RunId, Error> {
        self.trainer.submit(job).await
    }

    pub(crate) async fn cancel(&self, job: &Job) {
        self.trainer.cancel(job.id, "superseded").await.expect("cancelled");
    }

    pub(crate) async fn run(&self, id: RunId) -> Result<Run, Error> {
        self.registry.run(id).await
    }

    /// The run once it has ended.
    pub(crate) async fn ended(&self, id: RunId) -> Run {
        eventually("the run has ended", async || {
            let run = self.run(id).await.map_err(|error| error.to_string())?;
            if run.status.is_terminal() { Ok(run) } else { Err(format!("it is {:?}", run.status)) }
        })
        .await
    }

    /// The run once it has finished.
    pub(crate) async fn finished(&self, job: &Job) -> Run {
        let id = self.submit(job).await.expect("submitted");
        let run = self.ended(id).await;
        assert_eq!(run.status, RunStatus::Finished, "{}", run.error);
        run
    }
}

async fn app_on(bus: &Bus, artifacts: &Artifacts, registry: &Connection) -> rekindle_trainer::App {
    let Settings { trainer, .. } = settings();
    rekindle_trainer::App::build(trainer, bus.clone(), artifacts.clone(), registry.clone()).await.expect("a trainer")
}

async fn serve(routes: RoutesBuilder, shutdown: &Shutdown) -> (Connection, String) {
    let listener = grpc::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let served = grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown).await;
        served.expect("serves until shutdown");
    });
    (Connection::open(&address, Duration::from_secs(20)).expect("an address"), address)
}

/// Rows an hour apart, `from` hours after the start of 2024. `late` depends on `x`, inversely if `turned`.
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

/// A job that trains a linear model in a few epochs and registers the model `late-flights`.
pub(crate) fn train(dataset: &str) -> Job {
    let optimizer = Optimizer { learning_rate: 0.05, max_epochs: 5, batch_size: 32, ..Optimizer::default() };
    train_with(dataset, recipe(ModelRecipe::Linear(LinearRecipe { optimizer })))
}

/// A job that trains a network for exactly `epochs`, in batches of `batch_size` rows.
pub(crate) fn train_long(dataset: &str, epochs: u32, batch_size: usize) -> Job {
    let optimizer = Optimizer { max_epochs: epochs, patience: epochs, batch_size, ..Optimizer::default() };
    train_with(dataset, recipe(ModelRecipe::Mlp(MlpRecipe { optimizer, ..MlpRecipe::default() })))
}

pub(crate) fn recipe(model: ModelRecipe) -> Recipe {
    Recipe { model, ..Recipe::for_target("late") }
}

pub(crate) fn train_with(dataset: &str, recipe: Recipe) -> Job {
    let register_as = Some("late-flights".parse().expect("a name"));
    job(
        dataset,
        Work::Train(Train {
            recipe,
            search: Default::default(),
            until: None,
            register_as,
            description: String::new(),
            time_limit: None,
            external: None,
        }),
    )
}

pub(crate) fn evaluate(dataset: &str, champion: Digest, challenger: Digest, gate: Gate) -> Job {
    job(dataset, Work::Evaluate(Evaluate { champion, challenger, from: None, gate, requirement: Requirement::Better }))
}

fn job(dataset: &str, work: Work) -> Job {
    Job {
        id: RunId::new(Uuid::now_v7()),
        experiment: "tests".parse().expect("a name"),
        correlation_id: String::new(),
        tags: BTreeMap::new(),
        priority: Priority::Normal,
        dataset: DatasetRef { name: dataset.parse().expect("a name"), version: None },
        work,
    }
}
