//! A monitor on the restored database and object store of release 0.1.0. It neither captures nor evaluates unless a test starts it.

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_client::{Connection, Monitor};
use rekindle_domain::{ModelName, VersionRef};
use rekindle_monitor::{App, Config, DEFAULTS};
use rekindle_runtime::{config::Layers, grpc, health::Health, shutdown::Shutdown, supervise::Tasks};
use rekindle_testkit::{Fixture, NatsServer, Postgres};
use serde::Deserialize;
use tempfile::TempDir;

/// A monitor without background tasks, and a client of it.
pub(super) struct Restored {
    pub(super) client: Monitor,
    pub(super) bus: Bus,
    app: App,
    shutdown: Shutdown,
    _nats: NatsServer,
    _postgres: Option<Postgres>,
    _folder: TempDir,
}

#[derive(Deserialize)]
struct Sections {
    monitor: Config,
}

impl Restored {
    pub(super) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = Fixture::of("0.1.0").restore_sqlite("monitor", folder.path()).await;
        Self::start(&url, folder, None).await
    }

    pub(super) async fn on_postgres() -> Self {
        let postgres = Postgres::start().await;
        let url = Fixture::of("0.1.0").restore_postgres("monitor", &postgres).await;
        Self::start(&url, tempfile::tempdir().expect("a folder"), Some(postgres)).await
    }

    async fn start(database: &str, folder: TempDir, postgres: Option<Postgres>) -> Self {
        let objects = folder.path().join("objects");
        Fixture::of("0.1.0").copy_objects(&objects);
        let artifacts = Artifacts::open(&rekindle_artifacts::Config::local(&objects)).await.expect("opens");
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
        let overrides = [("monitor.database.url", database), ("monitor.flush_after", "50ms")];
        let sections: Sections = Layers::new(DEFAULTS).overrides(overrides).parse().expect("complete defaults");
        let app = App::build(sections.monitor, bus.clone(), artifacts).await.expect("migrates and builds");
        let (shutdown, mut routes) = (Shutdown::new(), grpc::RoutesBuilder::new());
        app.register(&mut routes);
        let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown.clone()));
        let connection = Connection::open(&address, Duration::from_secs(30)).expect("an address");
        let client = Monitor::new(connection);
        Self { client, bus, app, shutdown, _nats: nats, _postgres: postgres, _folder: folder }
    }

    /// Starts the background tasks.
    pub(super) fn continue_capture(&self) {
        let mut tasks = Tasks::new();
        self.app.background(&mut tasks, self.shutdown.clone());
        tokio::spawn(tasks.join(self.shutdown.clone(), Duration::from_secs(5)));
    }
}

pub(super) fn model(text: &str) -> ModelName {
    text.parse().expect("a name")
}

pub(super) fn version(version: u32, bundle: &str) -> VersionRef {
    VersionRef { version, bundle: bundle.parse().expect("a digest") }
}

pub(super) fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A time with the precision of PostgreSQL. SQLite keeps the nanoseconds.
pub(super) fn micros(time: DateTime<Utc>) -> DateTime<Utc> {
    time.round_subsecs(6)
}
