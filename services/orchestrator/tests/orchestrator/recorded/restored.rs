//! An orchestrator on the restored database of release 0.1.0. No background task runs: the deadlines in the database have passed.

use std::{fmt::Debug, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_client::{Connection, Orchestrator};
use rekindle_domain::{ModelName, VersionRef, WorkflowId, workflow::WorkflowStatus};
use rekindle_orchestrator::{App, Config, DEFAULTS, Peers};
use rekindle_runtime::{
    config::Layers,
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
};
use rekindle_testkit::{Fixture, NatsServer, Postgres};
use serde::Deserialize;
use tempfile::TempDir;

/// An orchestrator without background tasks and without peers, and a client that calls it as `tester`.
pub(super) struct Restored {
    pub(super) client: Orchestrator,
    pub(super) database: String,
    pub(super) folder: TempDir,
    pub(super) postgres: Option<Postgres>,
    shutdown: Shutdown,
    _nats: NatsServer,
}

#[derive(Deserialize)]
struct Sections {
    orchestrator: Config,
}

impl Restored {
    pub(super) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = Fixture::of("0.1.0").restore_sqlite("orchestrator", folder.path()).await;
        Self::start(url, folder, None).await
    }

    pub(super) async fn on_postgres() -> Self {
        let postgres = Postgres::start().await;
        let url = Fixture::of("0.1.0").restore_postgres("orchestrator", &postgres).await;
        Self::start(url, tempfile::tempdir().expect("a folder"), Some(postgres)).await
    }

    async fn start(database: String, folder: TempDir, postgres: Option<Postgres>) -> Self {
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
        let objects = rekindle_artifacts::Config::local(&folder.path().join("objects"));
        let artifacts = Artifacts::open(&objects).await.expect("opens");
        let overrides = [("orchestrator.database.url", database.as_str())];
        let sections: Sections = Layers::new(DEFAULTS).overrides(overrides).parse().expect("complete defaults");
        let nobody = || Connection::open("http://127.0.0.1:1", Duration::from_secs(1)).expect("an address");
        let peers = Peers { registry: nobody(), trainer: nobody(), monitor: nobody() };
        let app = App::build(sections.orchestrator, bus, artifacts, peers).await.expect("migrates and builds");
        let (shutdown, mut routes) = (Shutdown::new(), RoutesBuilder::new());
        app.register(&mut routes);
        let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown.clone()));
        let connection = Connection::open(&address, Duration::from_secs(30)).expect("an address");
        let client = Orchestrator::new(connection.with_principal("tester".parse().expect("a principal")));
        Self { client, database, folder, postgres, shutdown, _nats: nats }
    }

    /// A workflow.
    pub(super) async fn workflow(&self, id: &str) -> WorkflowStatus {
        self.client.workflow(workflow_id(id)).await.expect("recorded")
    }

    /// Stops serving.
    pub(super) fn stop(&self) {
        self.shutdown.close();
    }
}

pub(super) fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("valid")
}

pub(super) fn model(text: &str) -> ModelName {
    parsed(text)
}

pub(super) fn workflow_id(text: &str) -> WorkflowId {
    text.parse().expect("an id")
}

pub(super) fn version(version: u32, bundle: &str) -> VersionRef {
    VersionRef { version, bundle: bundle.parse().expect("a digest") }
}

pub(super) fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}
