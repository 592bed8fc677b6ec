//! Monitors with a real nats-server, a real database and an object store in a folder, which can be killed and restarted.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use rekindle_artifacts::Artifacts;
use rekindle_bundle::Bundle;
use rekindle_bus::{Bus, streams};
use rekindle_client::{Alerts, Connection, Monitor, PageRequest};
use rekindle_domain::{ModelName, Namespace, WatchSettings, prediction_log::CaptureStatus, report::WindowReport};
use rekindle_monitor::{App, Config, DEFAULTS};
use rekindle_runtime::{config::Layers, grpc, health::Health, shutdown::Shutdown, supervise::Tasks};
use rekindle_store::sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use rekindle_testkit::{NatsServer, Postgres, eventually};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::rows::{self, Message};

pub(crate) const MODEL: &str = "flights";

/// One bundle for all tests: training is the slowest part.
pub(crate) fn bundle() -> &'static Bundle {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    BUNDLE.get_or_init(rows::bundle)
}

#[derive(Deserialize)]
struct Sections {
    monitor: Config,
}

pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) artifacts: Artifacts,
    /// Of the first instance.
    pub(crate) client: Monitor,
    config: Config,
    pub(crate) first: Instance,
    _postgres: Option<Postgres>,
    pub(crate) nats: NatsServer,
    folder: TempDir,
}

impl World {
    pub(crate) async fn on_sqlite() -> Self {
        Self::start(None, &[]).await
    }

    /// With settings of the section `monitor`.
    pub(crate) async fn on_sqlite_with(settings: &[(&str, &str)]) -> Self {
        Self::start(None, settings).await
    }

    pub(crate) async fn on_postgres() -> Self {
        Self::on_postgres_with(&[]).await
    }

    pub(crate) async fn on_postgres_with(settings: &[(&str, &str)]) -> Self {
        Self::start(Some(Postgres::start().await), settings).await
    }

    async fn start(postgres: Option<Postgres>, settings: &[(&str, &str)]) -> Self {
        tracing_subscriber::fmt().with_env_filter("info").with_test_writer().try_init().ok();
        let folder = tempfile::tempdir().expect("a folder");
        let url = match &postgres {
            Some(postgres) => postgres.fresh_database().await,
            None => format!("sqlite://{}", folder.path().join("monitor.db").display()),
        };
        // A killed instance is another holder when it restarts, and waits for its own lease.
        let defaults = [("lease", "1s"), ("flush_after", "50ms"), ("flush_rows", "600")];
        let settings = [("database.url", url.as_str())].into_iter().chain(defaults).chain(settings.iter().copied());
        let overrides = settings.map(|(key, value)| (format!("monitor.{key}"), value));
        let sections: Sections = Layers::new(DEFAULTS).overrides(overrides).parse().expect("complete defaults");
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
        let artifacts =
            Artifacts::open(&rekindle_artifacts::Config::local(&folder.path().join("objects"))).await.expect("opens");
        for part in bundle().parts().expect("canonical") {
            artifacts.put(part).await.expect("stored");
        }
        let first = Instance::start(&sections.monitor, &bus, &artifacts).await;
        let client = first.client.clone();
        Self { bus, artifacts, client, config: sections.monitor, first, _postgres: postgres, nats, folder }
    }

    /// Another instance on the same database, bus and object store.
    pub(crate) async fn second(&self) -> Instance {
        let config = Config { instance: "2".to_owned(), ..self.config.clone() };
        Instance::start(&config, &self.bus, &self.artifacts).await
    }

    /// A connection to the monitor's database.
    pub(crate) async fn database(&self) -> DatabaseConnection {
        rekindle_store::connect(&self.config.database).await.expect("connects")
    }

    /// Aborts every task of the first instance, as a kill does.
    pub(crate) async fn kill(&mut self) {
        self.first.kill().await;
    }

    /// Kills the first instance and restarts it.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill().await;
        self.restart().await;
    }

    /// Starts the first instance again.
    pub(crate) async fn restart(&mut self) {
        self.first = Instance::start(&self.config, &self.bus, &self.artifacts).await;
        self.client = self.first.client.clone();
    }

    /// Shuts the first instance down in order.
    pub(crate) async fn shut_down(&mut self) {
        self.first.shut_down().await;
    }

    /// The file of every prediction chunk, oldest first.
    pub(crate) fn captures(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().join("objects/captures")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }

    /// Makes every attempt to store outcomes fail, as a full disk does.
    pub(crate) fn block_outcomes(&self) {
        std::fs::write(self.folder.path().join("objects/outcomes"), b"a file in place of the folder").expect("written");
    }

    /// Ends [`Self::block_outcomes`].
    pub(crate) fn unblock_outcomes(&self) {
        std::fs::remove_file(self.folder.path().join("objects/outcomes")).expect("removed");
    }

    /// Waits until a stream is empty.
    pub(crate) async fn emptied(&self, stream: &str) {
        let stream = self.bus.jetstream().get_stream(stream).await.expect("the stream");
        eventually("the stream to be empty", async || {
            let is = stream.get_info().await.map_err(|error| error.to_string())?.state.messages;
            if is == 0 { Ok(()) } else { Err(format!("{is} messages")) }
        })
        .await;
    }

    /// Sets the default watch: windows of a day, an hour of lateness, a day of label wait.
    pub(crate) async fn watch(&self) {
        self.watch_from(200).await;
    }

    /// The same, with a minimum number of rows.
    pub(crate) async fn watch_from(&self, min_rows: u64) {
        self.set_watch(&model(), WatchSettings { min_rows, ..WatchSettings::default() }).await;
    }

    /// Sets the first watch of a model.
    pub(crate) async fn set_watch(&self, model: &ModelName, settings: WatchSettings) {
        assert_eq!(self.client.set_watch(model, &settings, 0).await.expect("set").revision, 1);
    }

    /// A client of the alerts of the first instance.
    pub(crate) fn alerts(&self) -> Alerts {
        Alerts::new(self.first.connection.clone())
    }

    /// The same, as a principal.
    pub(crate) fn alerts_as(&self, principal: &str) -> Alerts {
        Alerts::new(self.first.connection.clone().with_principal(principal.parse().expect("a name")))
    }

    /// A client in a namespace.
    pub(crate) fn client_in(&self, namespace: Namespace) -> Monitor {
        Monitor::new(self.first.connection.clone().with_namespace(namespace))
    }

    pub(crate) async fn predictions(&self, messages: &[Message]) {
        for (id, bytes) in messages {
            self.publish("predictions", id, bytes.clone()).await;
        }
    }

    pub(crate) async fn outcomes(&self, id: &str, lines: String) {
        self.publish("outcomes", id, lines.into()).await;
    }

    pub(crate) async fn publish(&self, what: &str, id: &str, bytes: bytes::Bytes) {
        self.publish_to(&format!("rekindle.{what}.{MODEL}"), id, bytes).await;
    }

    pub(crate) async fn publish_to(&self, subject: &str, id: &str, bytes: bytes::Bytes) {
        let subject = subject.to_owned();
        self.bus.publish(subject, id, async_nats::HeaderMap::new(), bytes).await.expect("stored by the bus");
    }

    pub(crate) async fn status(&self) -> CaptureStatus {
        self.client.capture_status(&model()).await.expect("status")
    }

    pub(crate) async fn captured(&self, predictions: u64, outcomes: u64) -> CaptureStatus {
        captured(&self.client, &model(), predictions, outcomes).await
    }

    pub(crate) async fn reports(&self) -> Vec<WindowReport> {
        self.client.reports(&model(), PageRequest::default()).await.expect("reports").items
    }

    /// The reports, newest window first, once there are `count`, of which `measured` have a quality.
    pub(crate) async fn reported(&self, count: usize, measured: usize) -> Vec<WindowReport> {
        reported(&self.client, &model(), count, measured).await
    }

    /// The reports, newest window first, once there are `count`, whether measured or not.
    pub(crate) async fn windows(&self, count: usize) -> Vec<WindowReport> {
        eventually("the windows to be reported, measured or not", async || {
            let reports = self.reports().await;
            if reports.len() == count { Ok(reports) } else { Err(format!("{} reports", reports.len())) }
        })
        .await
    }

    /// All messages of a stream: subject, headers, payload. Waits for at least `count`.
    pub(crate) async fn stream(&self, stream: &str, count: u64) -> Vec<async_nats::Message> {
        let stream = self.bus.jetstream().get_stream(stream).await.expect("the stream");
        eventually("messages in the stream", async || {
            let is = stream.get_info().await.map_err(|error| error.to_string())?.state.messages;
            if is >= count { Ok(()) } else { Err(format!("{is} messages")) }
        })
        .await;
        let consumer =
            stream.create_consumer(async_nats::jetstream::consumer::pull::Config::default()).await.expect("a consumer");
        let batch = consumer.fetch().max_messages(1000).messages().await.expect("messages");
        batch.map(|message| message.expect("a message").split().0).collect().await
    }

    /// The events other than those of the audit trail, whose number depends on how often the service was started. Waits for at least `count`.
    pub(crate) async fn events(&self, count: usize) -> Vec<async_nats::Message> {
        eventually("events", async || {
            let mut events = self.stream(streams::EVENTS, 0).await;
            events.retain(|event| !event.subject.contains(".audit."));
            let is = events.len();
            if is >= count { Ok(events) } else { Err(format!("{is} events")) }
        })
        .await
    }
}

pub(crate) fn model() -> ModelName {
    MODEL.parse().expect("a valid name")
}

/// Milliseconds since 1970-01-01 UTC as a timestamp.
pub(crate) fn timestamp(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).expect("in range")
}

/// The capture status of a model, once so many predictions and outcomes are captured.
pub(crate) async fn captured(client: &Monitor, model: &ModelName, predictions: u64, outcomes: u64) -> CaptureStatus {
    eventually("everything to be captured", async || {
        let status = client.capture_status(model).await.map_err(|error| error.to_string())?;
        let is = (status.predictions, status.outcomes);
        if is == (predictions, outcomes) { Ok(status) } else { Err(format!("{is:?}")) }
    })
    .await
}

/// Up to 500 reports of a model, newest window first, once there are `count`, of which `measured` have a quality.
pub(crate) async fn reported(client: &Monitor, model: &ModelName, count: usize, measured: usize) -> Vec<WindowReport> {
    eventually("the windows to be reported", async || {
        let found = client.reports(model, PageRequest::first(500)).await.map_err(|error| error.to_string())?.items;
        let is = (found.len(), found.iter().filter(|report| report.quality.is_some()).count());
        if is == (count, measured) { Ok(found) } else { Err(format!("(reports, measured) = {is:?}")) }
    })
    .await
}

/// Number of rows of a table, or of `table WHERE condition`.
pub(crate) async fn count(database: &DatabaseConnection, table: &str) -> i64 {
    let select = Statement::from_string(database.get_database_backend(), format!("SELECT COUNT(*) AS n FROM {table}"));
    let row = database.query_one_raw(select).await.expect("readable").expect("one row");
    row.try_get("", "n").expect("a count")
}

/// A running monitor.
pub(crate) struct Instance {
    pub(crate) address: String,
    pub(crate) client: Monitor,
    connection: Connection,
    running: JoinHandle<()>,
    shutdown: Shutdown,
}

impl Instance {
    async fn start(config: &Config, bus: &Bus, artifacts: &Artifacts) -> Self {
        let app = App::build(config.clone(), bus.clone(), artifacts.clone()).await.expect("builds");
        assert!(app.ready());
        let (mut tasks, mut routes, shutdown) = (Tasks::new(), grpc::RoutesBuilder::new(), Shutdown::new());
        app.register(&mut routes);
        app.background(&mut tasks, shutdown.clone());
        let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let serving = shutdown.clone();
        tasks.spawn("grpc", async move {
            grpc::serve(listener, routes, Health::new(), grpc::Config::default(), serving).await
        });
        let ending = shutdown.clone();
        let running = tokio::spawn(async move {
            tasks.join(ending, Duration::from_secs(5)).await.expect("no task fails");
        });
        let connection = Connection::open(&address, Duration::from_secs(20)).expect("an address");
        Self { address, client: Monitor::new(connection.clone()), connection, running, shutdown }
    }

    /// Aborts every task, as a kill does: nothing is released or acknowledged.
    pub(crate) async fn kill(&mut self) {
        self.running.abort();
        let ended = (&mut self.running).await.expect_err("aborted");
        assert!(ended.is_cancelled(), "{ended}");
    }

    /// Shuts down in order.
    pub(crate) async fn shut_down(&mut self) {
        self.shutdown.begin();
        (&mut self.running).await.expect("ends");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.running.abort();
    }
}
