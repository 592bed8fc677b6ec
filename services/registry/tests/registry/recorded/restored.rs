//! A registry on the restored database and object store of release 0.1.0. No background task runs unless a test starts it: the leases in
//! the database have expired.

use std::{fmt::Debug, path::Path, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, cloudevent, streams};
use rekindle_client::{Connection, Registry};
use rekindle_domain::{Digest, ModelName};
use rekindle_registry::{App, Config, DEFAULTS};
use rekindle_runtime::{
    config::Layers,
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
    supervise::Tasks,
};
use rekindle_testkit::{Fixture, NatsServer, Postgres};
use serde::Deserialize;
use tempfile::TempDir;

/// A registry without background tasks, and a client that calls it as `tester`.
pub(super) struct Restored {
    pub(super) registry: Registry,
    app: App,
    bus: Bus,
    shutdown: Shutdown,
    _nats: NatsServer,
    _postgres: Option<Postgres>,
    _folder: TempDir,
}

#[derive(Deserialize)]
struct Sections {
    registry: Config,
}

impl Restored {
    pub(super) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = Fixture::of("0.1.0").restore_sqlite("registry", folder.path()).await;
        Self::start(&url, folder, None).await
    }

    pub(super) async fn on_postgres() -> Self {
        let postgres = Postgres::start().await;
        let url = Fixture::of("0.1.0").restore_postgres("registry", &postgres).await;
        Self::start(&url, tempfile::tempdir().expect("a folder"), Some(postgres)).await
    }

    async fn start(database: &str, folder: TempDir, postgres: Option<Postgres>) -> Self {
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
        let artifacts = objects(&folder.path().join("objects")).await;
        let overrides = [("registry.database.url", database)];
        let sections: Sections = Layers::new(DEFAULTS).overrides(overrides).parse().expect("complete defaults");
        let app = App::build(sections.registry, bus.clone(), artifacts).await.expect("migrates and builds");
        let (shutdown, mut routes) = (Shutdown::new(), RoutesBuilder::new());
        app.register(&mut routes);
        let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown.clone()));
        let connection = Connection::open(&address, Duration::from_secs(30)).expect("an address");
        let registry = Registry::new(connection.with_principal("tester".parse().expect("a principal")));
        Self { registry, app, bus, shutdown, _nats: nats, _postgres: postgres, _folder: folder }
    }

    /// Starts the background tasks, and returns the first `count` events that the registry publishes.
    pub(super) async fn published(&self, count: usize) -> Vec<cloudevent::CloudEvent> {
        let mut tasks = Tasks::new();
        self.app.background(&mut tasks, self.shutdown.clone());
        tokio::spawn(tasks.join(self.shutdown.clone(), Duration::from_secs(5)));
        let stream = self.bus.jetstream().get_stream(streams::EVENTS).await.expect("the stream");
        let config = async_nats::jetstream::consumer::pull::Config::default();
        let messages = stream.create_consumer(config).await.expect("a consumer").messages().await.expect("messages");
        let events = messages
            .take(count)
            .map(|message| cloudevent::from_message(&message.expect("a message").message).expect("a CloudEvent"));
        tokio::time::timeout(Duration::from_secs(30), events.collect()).await.expect("published in time")
    }
}

async fn objects(folder: &Path) -> Artifacts {
    Fixture::of("0.1.0").copy_objects(folder);
    Artifacts::open(&rekindle_artifacts::Config::local(folder)).await.expect("opens")
}

pub(super) fn name<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

pub(super) fn model(text: &str) -> ModelName {
    name(text)
}

pub(super) fn digest(text: &str) -> Digest {
    text.parse().expect("a digest")
}

pub(super) fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}
