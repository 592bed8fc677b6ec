//! A bus, an object store, trained bundles, and replicas in this process on free ports.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Float64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use rekindle_artifacts::Artifacts;
use rekindle_bundle::Bundle;
use rekindle_bus::Bus;
use rekindle_client::wire::raw;
use rekindle_dataset::Table;
use rekindle_domain::{
    Digest, ModelName, Recipe, Routes, ServedModel, VersionRef,
    recipe::{MlpRecipe, ModelRecipe, Optimizer},
};
use rekindle_inference::{App, Config, DEFAULTS};
use rekindle_proto::inference::{
    ModelInferRequest, ModelInferResponse, grpc_inference_service_client::GrpcInferenceServiceClient,
    infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
};
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
    supervise::Tasks,
};
use rekindle_testkit::{NatsServer, eventually};
use rekindle_training::{Origin, TrainInput, train};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

pub(crate) const MODEL: &str = "flight-delay";

pub(crate) fn model() -> ModelName {
    MODEL.parse().expect("a name")
}

/// The bus and the object store of a replica.
pub(crate) struct World {
    pub(crate) nats: NatsServer,
    pub(crate) bus: Bus,
    pub(crate) artifacts: Artifacts,
    folder: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let nats = NatsServer::start().await;
        let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
        let store = rekindle_artifacts::Config::local(&folder.path().join("store"));
        let artifacts = Artifacts::open(&store).await.expect("opens");
        Self { nats, bus, artifacts, folder }
    }

    /// Where the object store keeps a blob.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder.path().join("store/blobs/sha256").join(&hex[..2]).join(digest_file(self.folder.path(), digest))
    }

    /// Trains a version and stores its bundle.
    pub(crate) async fn publish(&self, version: u32) -> (VersionRef, Bundle) {
        let bundle = bundle(u64::from(version));
        (self.store(version, &bundle).await, bundle)
    }

    /// Stores a bundle as a version.
    pub(crate) async fn store(&self, version: u32, bundle: &Bundle) -> VersionRef {
        for part in bundle.parts().expect("parts") {
            self.artifacts.put(part).await.expect("stored");
        }
        VersionRef { version, bundle: bundle.digest().expect("a digest") }
    }

    /// Routes every request for [`MODEL`] to `primary`.
    pub(crate) async fn route(&self, generation: u64, primary: VersionRef) {
        self.set_routes(&Routes::to(model(), generation, primary)).await;
    }

    /// Writes the routes of a model.
    pub(crate) async fn set_routes(&self, routes: &Routes) {
        let bucket = self.bus.routes().await.expect("a bucket");
        bucket.put(routes.model.as_str(), routes).await.expect("written");
    }

    /// What the replica reports about [`MODEL`].
    pub(crate) async fn reported(&self) -> Result<ServedModel, String> {
        self.reported_of(MODEL).await
    }

    /// What the replica reports about a model.
    pub(crate) async fn reported_of(&self, model: &str) -> Result<ServedModel, String> {
        let bucket = self.bus.replica_states().await.map_err(|error| error.to_string())?;
        let state = bucket.get("replica-1").await.map_err(|error| error.to_string())?.ok_or("no report")?.value;
        state
            .models
            .iter()
            .find(|(name, _)| name.as_str() == model)
            .map(|(_, served)| served.clone())
            .ok_or_else(|| format!("{state:?}"))
    }

    /// Waits until the replica's report about [`MODEL`] matches.
    pub(crate) async fn reports(&self, what: &str, matches: impl Fn(&ServedModel) -> bool) -> ServedModel {
        eventually(what, async || {
            let served = self.reported().await?;
            if matches(&served) { Ok(served) } else { Err(format!("{served:?}")) }
        })
        .await
    }

    /// The replica's configuration, with its cache in the temporary folder.
    pub(crate) fn config(&self) -> Config {
        config(&self.folder.path().join("cache"))
    }

    pub(crate) async fn replica(&self) -> Replica {
        Replica::start(self.config(), Some(self.bus.clone()), Some(self.artifacts.clone())).await
    }
}

/// The file name of a blob in the object store.
fn digest_file(folder: &Path, digest: &Digest) -> String {
    let hex = digest.hex();
    let parent = folder.join("store/blobs/sha256").join(&hex[..2]);
    let names = std::fs::read_dir(parent).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.into_string().expect("text")).find(|name| name.contains(&hex)).expect("the blob")
}

/// The defaults, with a cache and a name of its own.
fn config(cache: &Path) -> Config {
    #[derive(Deserialize)]
    struct File {
        inference: Config,
    }
    let cache = cache.display().to_string();
    let overrides = [
        ("inference.cache_dir", cache.as_str()),
        ("inference.replica", "replica-1"),
        ("inference.address", "127.0.0.1:8001"),
    ];
    rekindle_runtime::config::Layers::new(DEFAULTS).overrides(overrides).parse::<File>().expect("valid").inference
}

/// A replica that serves until it is stopped or dropped.
pub(crate) struct Replica {
    pub(crate) app: Arc<App>,
    pub(crate) client: GrpcInferenceServiceClient<Channel>,
    pub(crate) channel: Channel,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), rekindle_runtime::Error>>,
}

impl Replica {
    pub(crate) async fn start(mut config: Config, bus: Option<Bus>, artifacts: Option<Artifacts>) -> Self {
        let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await.expect("a port");
        config.address = listener.local_addr().expect("an address").to_string();
        let address = format!("http://{}", config.address);
        let app = Arc::new(App::build(config, bus, artifacts).await.expect("builds"));
        let (mut tasks, mut routes, shutdown) = (Tasks::new(), RoutesBuilder::new(), Shutdown::new());
        app.register(&mut routes);
        app.background(&mut tasks, &shutdown);
        let ending = shutdown.clone();
        let limits = grpc::Config::default();
        tasks.spawn("grpc", async move { grpc::serve(listener, routes, Health::new(), limits, ending).await });
        let running = tokio::spawn(tasks.join(shutdown.clone(), Duration::from_secs(20)));
        let channel = Endpoint::from_shared(address).expect("an address").connect_lazy();
        Self { app, client: GrpcInferenceServiceClient::new(channel.clone()), channel, shutdown, running }
    }

    pub(crate) async fn ready(&self) {
        eventually("the replica to be ready", async || if self.app.ready() { Ok(()) } else { Err("not".into()) }).await;
    }

    /// Shuts down in order.
    pub(crate) async fn stop(self) {
        self.shutdown.begin();
        self.running.await.expect("no panic").expect("shuts down");
    }

    pub(crate) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, tonic::Status> {
        self.client.clone().model_infer(request).await.map(tonic::Response::into_inner)
    }
}

/// A small model of two numbers and a category. Every seed has its own bundle.
pub(crate) fn bundle(seed: u64) -> Bundle {
    let table = table();
    let optimizer = Optimizer { max_epochs: 2, batch_size: 64, ..Optimizer::default() };
    let model = ModelRecipe::Mlp(MlpRecipe { hidden: vec![16, 8], dropout: 0.0, optimizer });
    let recipe = Recipe { seed, model, ..Recipe::for_target("late") };
    let origin = Origin {
        run_id: "018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20".into(),
        dataset_digests: vec![rekindle_dataset::content_digest(&table)],
        code_revision: "4f2a9c1".into(),
    };
    let input = TrainInput { table: &table, time_column: None, recipe: &recipe };
    train(&input, &origin, |_| ControlFlow::Continue(())).expect("trains")
}

fn table() -> Table {
    let rows = 0..400u32;
    let distance: Float64Array = rows.clone().map(|n| Some(f64::from(n % 97) * 10.0)).collect();
    let delay: Float64Array = rows.clone().map(|n| (n % 7 != 0).then(|| f64::from(n % 31))).collect();
    let carriers = ["AA", "BB", "CC"];
    let carrier: StringArray = rows.clone().map(|n| Some(carriers[(n % 3) as usize])).collect();
    let late: StringArray = rows.map(|n| Some(if n % 31 > 15 || n % 3 == 2 { "yes" } else { "no" })).collect();
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let schema = Schema::new(vec![
        field("distance", DataType::Float64),
        field("delay", DataType::Float64),
        field("carrier", DataType::Utf8),
        field("late", DataType::Utf8),
    ]);
    let columns = vec![Arc::new(distance) as _, Arc::new(delay) as _, Arc::new(carrier) as _, Arc::new(late) as _];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("a batch");
    Table::from_batch(&batch).expect("canonical types")
}

/// A valid request with `rows` rows.
pub(crate) fn request(rows: usize) -> ModelInferRequest {
    let shape = vec![i64::try_from(rows).expect("few")];
    let tensor = |name: &str, datatype: &str| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.clone(),
        ..Default::default()
    };
    let doubles = |value: f64| raw::encode(&vec![value; rows], f64::to_le_bytes);
    let texts = raw::encode_texts(&vec!["BB"; rows]);
    ModelInferRequest {
        model_name: MODEL.into(),
        inputs: vec![tensor("carrier", "BYTES"), tensor("distance", "FP64"), tensor("delay", "FP64")],
        raw_input_contents: vec![texts, doubles(120.0), doubles(f64::NAN)],
        ..Default::default()
    }
}

/// A string parameter of an answer.
pub(crate) fn parameter(answer: &ModelInferResponse, key: &str) -> String {
    match answer.parameters.get(key).and_then(|parameter| parameter.parameter_choice.clone()) {
        Some(ParameterChoice::StringParam(text)) => text,
        other => panic!("parameter {key} is {other:?}"),
    }
}
