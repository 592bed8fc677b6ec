//! A monitor with a real nats-server, a real database and an object store in a folder, that can be killed and started again.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use futures::StreamExt as _;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, streams};
use rekindle_model::Bundle;
use rekindle_monitor::{App, Config, DEFAULTS};
use rekindle_proto::monitor::{
    CaptureStatus, GetCaptureStatusRequest, ListReportsRequest, SetWatchRequest, Watch, WindowReport,
    monitor_client::MonitorClient,
};
use rekindle_runtime::{grpc, health::Health, shutdown::Shutdown, supervise::Tasks};
use rekindle_testkit::{NatsServer, Postgres, eventually};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::rows::{self, Message};

pub(crate) const MODEL: &str = "flights";

/// One bundle for all tests: learning is the slowest part.
pub(crate) fn bundle() -> &'static Bundle {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    BUNDLE.get_or_init(rows::bundle)
}

#[derive(Deserialize)]
struct Sections {
    monitor: Config,
}

pub(crate) struct Stage {
    pub(crate) bus: Bus,
    pub(crate) artifacts: Artifacts,
    pub(crate) client: MonitorClient<Channel>,
    config: Config,
    running: JoinHandle<()>,
    _postgres: Option<Postgres>,
    _nats: NatsServer,
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn on_sqlite() -> Self {
        Self::set(None, &[]).await
    }

    /// With settings of the section `monitor`.
    pub(crate) async fn on_sqlite_with(settings: &[(&str, &str)]) -> Self {
        Self::set(None, settings).await
    }

    pub(crate) async fn on_postgres() -> Self {
        Self::set(Some(Postgres::start().await), &[]).await
    }

    async fn set(postgres: Option<Postgres>, settings: &[(&str, &str)]) -> Self {
        tracing_subscriber::fmt().with_env_filter("info").with_test_writer().try_init().ok();
        let folder = tempfile::tempdir().expect("a folder");
        let url = match &postgres {
            Some(postgres) => postgres.fresh_database().await,
            None => format!("sqlite://{}", folder.path().join("monitor.db").display()),
        };
        let mut overrides = vec![
            ("monitor.database.url".to_owned(), url),
            ("monitor.flush_after".to_owned(), "50ms".to_owned()),
            ("monitor.flush_rows".to_owned(), "600".to_owned()),
        ];
        overrides.extend(settings.iter().map(|(key, value)| (format!("monitor.{key}"), (*value).to_owned())));
        let sections: Sections =
            rekindle_runtime::config::load_from(DEFAULTS, None, [], &overrides).expect("complete defaults");
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
        let artifacts =
            Artifacts::open(&rekindle_artifacts::Config::local(&folder.path().join("objects"))).await.expect("opens");
        for part in bundle().parts().expect("canonical") {
            artifacts.put(part).await.expect("stored");
        }
        let (running, client) = start(&sections.monitor, &bus, &artifacts).await;
        Self { bus, artifacts, client, config: sections.monitor, running, _postgres: postgres, _nats: nats, folder }
    }

    /// Ends every task where it stands, as a kill would.
    pub(crate) async fn kill(&mut self) {
        self.running.abort();
        let ended = (&mut self.running).await.expect_err("aborted");
        assert!(ended.is_cancelled(), "{ended}");
    }

    /// Ends every task where it stands and starts anew on what is left.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// Starts on what is left.
    pub(crate) async fn start(&mut self) {
        (self.running, self.client) = start(&self.config, &self.bus, &self.artifacts).await;
    }

    /// The file of every segment of predictions, oldest first.
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

    /// Makes every attempt to store outcomes fail, as a full disk would, until they are let in.
    pub(crate) fn keep_outcomes_out(&self) {
        std::fs::write(self.folder.path().join("objects/outcomes"), b"where a folder is to be").expect("written");
    }

    pub(crate) fn let_outcomes_in(&self) {
        std::fs::remove_file(self.folder.path().join("objects/outcomes")).expect("removed");
    }

    /// Waits until nothing lies in a stream.
    pub(crate) async fn emptied(&self, stream: &str) {
        let stream = self.bus.jetstream().get_stream(stream).await.expect("the stream");
        eventually("the stream to be emptied", async || {
            let is = stream.get_info().await.map_err(|error| error.to_string())?.state.messages;
            if is == 0 { Ok(()) } else { Err(format!("{is} messages")) }
        })
        .await;
    }

    /// Days as windows, an hour of lateness, a day of waiting for outcomes.
    pub(crate) async fn watch(&mut self) {
        self.watch_from(200).await;
    }

    /// The same, for windows of that many rows and more.
    pub(crate) async fn watch_from(&mut self, min_rows: u64) {
        let watch = Watch { model: MODEL.into(), min_rows, ..Watch::default() };
        let request = SetWatchRequest { watch: Some(watch), expected_revision: 0 };
        assert_eq!(self.client.set_watch(request).await.expect("set").into_inner().revision, 1);
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
        let subject = format!("rekindle.{what}.{MODEL}");
        self.bus.publish(subject, id, async_nats::HeaderMap::new(), bytes).await.expect("stored by the bus");
    }

    pub(crate) async fn status(&mut self) -> CaptureStatus {
        let request = GetCaptureStatusRequest { model: MODEL.into() };
        self.client.get_capture_status(request).await.expect("status").into_inner()
    }

    pub(crate) async fn captured(&mut self, predictions: u64, outcomes: u64) -> CaptureStatus {
        let (mut client, request) = (self.client.clone(), GetCaptureStatusRequest { model: MODEL.into() });
        eventually("everything to be captured", async || {
            let status =
                client.get_capture_status(request.clone()).await.map_err(|error| error.to_string())?.into_inner();
            let is = (status.predictions, status.outcomes);
            if is == (predictions, outcomes) { Ok(status) } else { Err(format!("{is:?}")) }
        })
        .await
    }

    pub(crate) async fn reports(&mut self) -> Vec<WindowReport> {
        let request = ListReportsRequest { model: MODEL.into(), ..ListReportsRequest::default() };
        self.client.list_reports(request).await.expect("reports").into_inner().reports
    }

    /// Newest first, once there are `count` of which `judged` have a quality.
    pub(crate) async fn reported(&mut self, count: usize, judged: usize) -> Vec<WindowReport> {
        let (mut client, request) =
            (self.client.clone(), ListReportsRequest { model: MODEL.into(), ..ListReportsRequest::default() });
        eventually("the windows to be reported", async || {
            let found =
                client.list_reports(request.clone()).await.map_err(|error| error.to_string())?.into_inner().reports;
            let is = (found.len(), found.iter().filter(|report| report.quality.is_some()).count());
            if is == (count, judged) { Ok(found) } else { Err(format!("(reports, judged) = {is:?}")) }
        })
        .await
    }

    /// Everything that lies in a stream: subject, headers, payload. Waits for at least `count` messages.
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

    pub(crate) async fn events(&self, count: u64) -> Vec<async_nats::Message> {
        self.stream(streams::EVENTS, count).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn start(config: &Config, bus: &Bus, artifacts: &Artifacts) -> (JoinHandle<()>, MonitorClient<Channel>) {
    let app = App::build(config.clone(), bus.clone(), artifacts.clone()).await.expect("builds");
    assert!(app.ready());
    let (mut tasks, mut routes, shutdown) = (Tasks::new(), grpc::RoutesBuilder::new(), Shutdown::new());
    app.register(&mut routes);
    app.background(&mut tasks, shutdown.clone());
    let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let serving = shutdown.clone();
    tasks.spawn(
        "grpc",
        async move { grpc::serve(listener, routes, Health::new(), grpc::Config::default(), serving).await },
    );
    let running = tokio::spawn(async move {
        tasks.join(shutdown, Duration::from_secs(5)).await.expect("no task fails");
    });
    let channel = rekindle_proto::client::channel(&address, Duration::from_secs(20)).expect("an address");
    (running, MonitorClient::new(channel))
}
