//! A whole registry in the test's process, on port 0, with everything it needs around it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use rekindle_artifacts::Artifacts;
use rekindle_bundle::{
    Bundle, Datatype, Input, Manifest, Output, Provenance, Reference, Signature,
    manifest::{CARD, FORMAT_VERSION, PIPELINE, PROFILE, ReferenceLoss, WEIGHTS},
    network::{Layer, Matrix, Network},
    pipeline::{Encoding, Feature, Pipeline},
    reference::FeatureProfile,
};
use rekindle_bus::{Bus, cloudevent};
use rekindle_client::{Audit, Connection, audit::Service};
use rekindle_domain::{Architecture, ColumnKind, Digest, Recipe, RunId, Task, event::EventKind};
use rekindle_proto::registry::{
    self as wire, CreateRunRequest, FileFormat, RegisterModelVersionRequest, RegisterVersionRequest, Source,
    UploadPurpose, UploadRequest, artifacts_client::ArtifactsClient, datasets_client::DatasetsClient,
    models_client::ModelsClient, runs_client::RunsClient,
};
use rekindle_registry::{App, Config};
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
    supervise::Tasks,
};
use rekindle_statistics::profile::ColumnProfile;
use rekindle_testkit::{NatsServer, Postgres, s3::S3};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// A running registry; what it stands on goes with it.
pub(crate) struct Sandbox {
    pub datasets: DatasetsClient<Channel>,
    pub runs: RunsClient<Channel>,
    pub models: ModelsClient<Channel>,
    pub blobs: ArtifactsClient<Channel>,
    pub audit: Audit,
    /// The tracking API of MLflow.
    pub mlflow: axum::Router,
    /// The store of blobs beneath the registry.
    pub artifacts: Artifacts,
    /// Its root folder.
    pub folder: tempfile::TempDir,
    bus: Bus,
    database: String,
    _shutdown: ShutdownOnDrop,
    _nats: NatsServer,
    _postgres: Option<Postgres>,
    _s3: Option<S3>,
}

fn in_folder(folder: &tempfile::TempDir) -> rekindle_artifacts::Config {
    let url = format!("file://{}/artifacts", folder.path().display());
    rekindle_artifacts::Config { url, ..Default::default() }
}

struct ShutdownOnDrop(Shutdown);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Sandbox {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/registry.db", folder.path().display());
        let artifacts = in_folder(&folder);
        Self::start(url, folder, artifacts, None, None).await
    }

    /// On SQLite, with blobs on S3.
    pub(crate) async fn on_s3() -> Self {
        let (s3, folder) = (S3::start().await, tempfile::tempdir().expect("a folder"));
        let url = format!("sqlite://{}/registry.db", folder.path().display());
        let bucket = s3.fresh_bucket();
        Self::start(url, folder, bucket, None, Some(s3)).await
    }

    pub(crate) async fn on_postgres() -> Self {
        let postgres = Postgres::start().await;
        let url = postgres.fresh_database().await;
        let folder = tempfile::tempdir().expect("a folder");
        let artifacts = in_folder(&folder);
        Self::start(url, folder, artifacts, Some(postgres), None).await
    }

    async fn start(
        database: String,
        folder: tempfile::TempDir,
        artifacts: rekindle_artifacts::Config,
        postgres: Option<Postgres>,
        s3: Option<S3>,
    ) -> Self {
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("the bus is up");
        let artifacts = Artifacts::open(&artifacts).await.expect("the store is ours");
        let (address, mlflow, shutdown) = serve(settings(&database, "1h"), &bus, &artifacts).await;
        let channel = channel(&address);
        let connection = Connection::open(&address, Duration::from_secs(30)).expect("an address");
        Self {
            datasets: DatasetsClient::new(channel.clone()),
            runs: RunsClient::new(channel.clone()),
            models: ModelsClient::new(channel.clone()),
            blobs: ArtifactsClient::new(channel),
            audit: Audit::new(Service::Registry, connection),
            mlflow,
            artifacts,
            folder,
            bus,
            database,
            _shutdown: shutdown,
            _nats: nats,
            _postgres: postgres,
            _s3: s3,
        }
    }

    /// The same registry, served by an instance whose workers may be silent for a tenth of a second only.
    pub(crate) async fn with_short_leases(mut self) -> Self {
        let config = settings(&self.database, "100ms");
        let (address, _, shutdown) = serve(config, &self.bus, &self.artifacts).await;
        let channel = channel(&address);
        self.runs = RunsClient::new(channel);
        self._shutdown = shutdown;
        self
    }

    /// The same registry, served by an instance that ends downloads whose client takes nothing for `idle`.
    pub(crate) async fn with_transfer_idle(mut self, idle: Duration) -> Self {
        let config = Config { transfer_idle: idle, ..settings(&self.database, "1h") };
        let (address, _, shutdown) = serve(config, &self.bus, &self.artifacts).await;
        let channel = channel(&address);
        self.blobs = ArtifactsClient::new(channel);
        self._shutdown = shutdown;
        self
    }

    /// Stores a blob in small chunks; returns its digest.
    pub(crate) async fn upload(&self, bytes: &[u8]) -> String {
        self.upload_for(bytes, UploadPurpose::Unspecified).await
    }

    /// Uploads a dataset source; returns its digest.
    pub(crate) async fn stage(&self, bytes: &[u8]) -> String {
        self.upload_for(bytes, UploadPurpose::DatasetSource).await
    }

    async fn upload_for(&self, bytes: &[u8], purpose: UploadPurpose) -> String {
        let message = |chunk| UploadRequest { chunk: Bytes::copy_from_slice(chunk), purpose: purpose.into() };
        let messages: Vec<_> = bytes.chunks(100_000).map(message).collect();
        loop {
            match self.blobs.clone().upload(futures::stream::iter(messages.clone())).await {
                Ok(stored) => {
                    let stored = stored.into_inner();
                    assert_eq!(stored.size, bytes.len() as u64);
                    return stored.digest;
                }
                // A collection has deleted an old blob of the same bytes meanwhile.
                Err(error) if reason(&error, "digest").0 == "BLOB_NOT_FOUND" => {}
                Err(error) => panic!("not stored: {error}"),
            }
        }
    }

    /// A request to register one CSV text, uploaded as a dataset source.
    pub(crate) async fn staged_csv(&self, name: &str, text: &str) -> RegisterVersionRequest {
        let mut request = self.csv(name, "").await;
        request.sources[0].digest = self.stage(text.as_bytes()).await;
        request
    }

    /// A request to register one CSV text.
    pub(crate) async fn csv(&self, name: &str, text: &str) -> RegisterVersionRequest {
        let source = Source { digest: self.upload(text.as_bytes()).await, format: FileFormat::Csv.into() };
        RegisterVersionRequest {
            idempotency_key: key(),
            name: name.to_owned(),
            sources: vec![source],
            ..Default::default()
        }
    }

    /// Registers a dataset.
    pub(crate) async fn dataset(&self, request: RegisterVersionRequest) -> wire::DatasetVersion {
        self.datasets.clone().register_version(request).await.expect("registered").into_inner()
    }

    /// Creates a run over these datasets.
    pub(crate) async fn run(&self, experiment: &str, dataset_digests: Vec<String>) -> wire::Run {
        let request = CreateRunRequest {
            idempotency_key: key(),
            experiment: experiment.to_owned(),
            dataset_digests,
            seed: u64::MAX,
            ..Default::default()
        };
        self.runs.clone().create_run(request).await.expect("created").into_inner()
    }

    /// Stores a bundle; gives its digest.
    pub(crate) async fn bundle(&self, bundle: &Bundle) -> Digest {
        for part in bundle.parts().expect("a bundle") {
            self.upload(&part).await;
        }
        bundle.digest().expect("a bundle")
    }

    /// Registers a bundle that differs from others by its seed.
    pub(crate) async fn version(&self, model: &str, seed: u64) -> wire::ModelVersion {
        let digest = self.bundle(&bundle("", vec![], seed)).await;
        self.register(model, &digest).await.expect("registered")
    }

    /// Registers a bundle by digest.
    pub(crate) async fn register(&self, model: &str, bundle: &Digest) -> Result<wire::ModelVersion, Status> {
        let request = RegisterModelVersionRequest {
            idempotency_key: key(),
            model: model.to_owned(),
            bundle_digest: bundle.to_string(),
            description: String::new(),
        };
        self.models.clone().register_model_version(request).await.map(tonic::Response::into_inner)
    }

    /// The first `count` events of the registry on the bus, without those of OpenLineage.
    pub(crate) async fn events(&self, count: usize) -> Vec<cloudevent::CloudEvent> {
        self.first_events(count, |kind| kind != EventKind::OPEN_LINEAGE_EMITTED).await
    }

    /// The first `count` events on the bus of the kinds that are to be kept.
    pub(crate) async fn first_events(
        &self,
        count: usize,
        keep: impl Fn(EventKind) -> bool,
    ) -> Vec<cloudevent::CloudEvent> {
        use async_nats::jetstream::consumer::{DeliverPolicy, pull};
        let stream = self.bus.jetstream().get_stream("REKINDLE_EVENTS").await.expect("the stream is there");
        let config = pull::Config { deliver_policy: DeliverPolicy::All, ..Default::default() };
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let messages = consumer.messages().await.expect("messages");
        let events = messages.map(|message| {
            let message = message.expect("a message");
            cloudevent::from_message(&message.message).expect("a CloudEvent")
        });
        let events = events.filter(|event| std::future::ready(keep(event.kind))).take(count);
        tokio::time::timeout(Duration::from_secs(30), events.collect()).await.expect("received in time")
    }
}

/// Serves on a free port until the returned value is dropped.
async fn serve(config: Config, bus: &Bus, artifacts: &Artifacts) -> (String, axum::Router, ShutdownOnDrop) {
    let app = App::build(config, bus.clone(), artifacts.clone()).await.expect("it builds");
    let (mut tasks, shutdown) = (Tasks::new(), Shutdown::new());
    app.background(&mut tasks, shutdown.clone());
    let mut routes = RoutesBuilder::default();
    app.register(&mut routes);
    let mlflow = app.mlflow();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let server = grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown.clone());
    tasks.spawn("server", server);
    let end = shutdown.clone();
    tokio::spawn(async move { tasks.join(end, Duration::from_secs(5)).await.expect("every task ends well") });
    (address, mlflow, ShutdownOnDrop(shutdown))
}

fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address").timeout(Duration::from_secs(30));
    endpoint.connect_lazy()
}

#[derive(serde::Deserialize)]
struct File {
    registry: Config,
}

/// The defaults, except for settings that tests depend on or cannot wait for.
fn settings(database: &str, running_lease: &str) -> Config {
    let overrides = [
        ("registry.database.url", database),
        ("registry.running_lease", running_lease),
        ("registry.reap_every", "20ms"),
    ];
    let layers = rekindle_runtime::config::Layers::new(rekindle_registry::DEFAULTS).overrides(overrides);
    let mut config = layers.parse::<File>().expect("valid").registry;
    // In place of the platform's program, this one checks models.
    let program = std::env::current_exe().expect("a program").display().to_string();
    config.onnx.command = [program.as_str(), "--ignored", "--exact", "onnx::check_model"].map(str::to_owned).to_vec();
    config
}

/// A fresh idempotency key.
pub(crate) fn key() -> String {
    Uuid::new_v4().to_string()
}

/// A small bundle with all its blobs.
pub(crate) fn bundle(run_id: &str, dataset_digests: Vec<Digest>, seed: u64) -> Bundle {
    let recipe = Recipe { seed, ..Recipe::for_target("late") };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        backend: rekindle_bundle::Backend::Network,
        task: Task::Binary,
        classes: Some(vec!["0".into(), "1".into()]),
        target: "late".into(),
        architecture: Some(Architecture::Linear),
        onnx: None,
        signature: Signature {
            inputs: vec![Input {
                name: "distance".into(),
                datatype: Datatype::Fp64,
                kind: ColumnKind::Numeric,
                nullable: false,
            }],
            outputs: Output::of_task(Task::Binary, 2),
            time_input: None,
        },
        blobs: BTreeMap::new(),
        metrics: BTreeMap::from([("log_loss".to_owned(), 0.5)]),
        reference: ReferenceLoss { loss_mean: 0.5, loss_std: 0.1, rows: 100, batch_std: None },
        provenance: Provenance {
            run_id: run_id.to_owned(),
            dataset_digests,
            code_revision: "abc".into(),
            seed,
            toolchain: "test".into(),
            trained_until: None,
            recipe: Some(Box::new(recipe)),
        },
    };
    Bundle::seal(manifest, blobs(seed))
}

/// The blobs of a linear model of one number.
fn blobs(seed: u64) -> BTreeMap<String, Bytes> {
    let weight = Matrix { rows: 1, columns: 1, data: vec![0.5] };
    let network = Network {
        convolution: None,
        embeddings: vec![],
        members: None,
        hidden: vec![],
        output: Layer { weight, bias: vec![seed as f32] },
    };
    let encoding = Encoding::Number { median: 0.0, mean: 0.0, std: 1.0, indicator: false };
    let pipeline = Pipeline { features: vec![Feature { name: "distance".into(), encoding }] };
    let profile = || ColumnProfile::of_numbers([Some(0.25), Some(0.75)]);
    let feature = FeatureProfile { name: "distance".into(), profile: profile() };
    let reference = Reference {
        features: vec![feature],
        prediction: profile(),
        blocks: None,
        repeated: None,
        correlations: None,
        validation: None,
    };
    BTreeMap::from([
        (WEIGHTS.to_owned(), network.to_bytes().expect("weights")),
        (PIPELINE.to_owned(), pipeline.to_bytes().expect("a pipeline")),
        (PROFILE.to_owned(), reference.to_bytes().expect("a profile")),
        (CARD.to_owned(), Bytes::from_static(b"# A model")),
    ])
}

/// A fresh run id.
pub(crate) fn run_id() -> RunId {
    RunId::new(Uuid::now_v7())
}

/// A time on the wire, as chrono has it.
pub(crate) fn time(wire: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    wire.and_then(rekindle_client::wire::time::from_wire).expect("a time")
}

/// A request on behalf of a principal.
pub(crate) fn by<M>(principal: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(rekindle_client::PRINCIPAL, principal.parse().expect("ASCII"));
    request
}

/// Which field a refusal blames.
pub(crate) fn blamed(status: &Status) -> String {
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    let details = status.get_error_details();
    details.bad_request().expect("details").field_violations[0].field.clone()
}

/// The machine-readable reason of a refusal, and one of its facts.
pub(crate) fn reason(status: &Status, fact: &str) -> (String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("details");
    (info.reason.clone(), info.metadata.get(fact).cloned().unwrap_or_default())
}
