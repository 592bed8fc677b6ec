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
use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_dataset::Table;
use rekindle_domain::{Architecture, DesiredState, Digest, ModelName, Recipe, ReplicaState, ServedModel, VersionRef};
use rekindle_inference::{App, Config, DEFAULTS};
use rekindle_model::{
    Bundle,
    train::{Origin, TrainInput, train},
};
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
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

pub(crate) const MODEL: &str = "flight-delay";

pub(crate) fn model() -> ModelName {
    MODEL.parse().expect("a name")
}

/// Everything around a replica.
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
        for part in bundle.parts().expect("parts") {
            self.artifacts.put(part).await.expect("stored");
        }
        (VersionRef { version, bundle: bundle.digest().expect("a digest") }, bundle)
    }

    pub(crate) async fn desire(&self, generation: u64, stable: VersionRef) {
        self.desire_of(MODEL, generation, stable).await;
    }

    /// [`World::desire`] for another model than the usual one.
    pub(crate) async fn desire_of(&self, model: &str, generation: u64, stable: VersionRef) {
        let desired = DesiredState { model: model.parse().expect("a name"), generation, stable, rollout: None };
        let json = serde_json::to_vec(&desired).expect("json");
        let bucket = self.bus.deployments().await.expect("a bucket");
        bucket.put(model, json.into()).await.expect("written");
    }

    /// What the replica reports about the model.
    pub(crate) async fn reported(&self) -> Result<ServedModel, String> {
        self.reported_of(MODEL).await
    }

    /// What the replica reports about another model than the usual one.
    pub(crate) async fn reported_of(&self, model: &str) -> Result<ServedModel, String> {
        let bucket = self.bus.replicas().await.map_err(|error| error.to_string())?;
        let value = bucket.get("replica-1").await.map_err(|error| error.to_string())?.ok_or("no report")?;
        let state: ReplicaState = serde_json::from_slice(&value).map_err(|error| error.to_string())?;
        state
            .models
            .iter()
            .find(|(name, _)| name.as_str() == model)
            .map(|(_, served)| served.clone())
            .ok_or_else(|| format!("{state:?}"))
    }

    pub(crate) async fn reports(&self, what: &str, holds: impl Fn(&ServedModel) -> bool) -> ServedModel {
        eventually(what, async || {
            let served = self.reported().await?;
            if holds(&served) { Ok(served) } else { Err(format!("{served:?}")) }
        })
        .await
    }

    /// The configuration of the replica, with its cache in this world's folder.
    pub(crate) fn config(&self) -> Config {
        config(&self.folder.path().join("cache"))
    }

    pub(crate) async fn replica(&self) -> Replica {
        Replica::start(self.config(), Some(self.bus.clone()), Some(self.artifacts.clone())).await
    }
}

/// The blob's file name, whichever form the store gives it.
fn digest_file(folder: &Path, digest: &Digest) -> String {
    let hex = digest.hex();
    let shelf = folder.join("store/blobs/sha256").join(&hex[..2]);
    let names = std::fs::read_dir(shelf).expect("the shelf").map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.into_string().expect("text")).find(|name| name.contains(&hex)).expect("the blob")
}

/// The defaults, with a cache of its own.
fn config(cache: &Path) -> Config {
    #[derive(Deserialize)]
    struct File {
        inference: Config,
    }
    let cache = ("inference.cache_dir".to_owned(), cache.display().to_string());
    rekindle_runtime::config::load_from::<File>(DEFAULTS, None, [], &[cache]).expect("the defaults hold").inference
}

/// A replica that serves until it is stopped or dropped.
pub(crate) struct Replica {
    pub(crate) app: Arc<App>,
    pub(crate) client: GrpcInferenceServiceClient<Channel>,
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
        let channel = rekindle_proto::client::channel(&address, Duration::from_secs(30)).expect("an address");
        Self { app, client: GrpcInferenceServiceClient::new(channel), shutdown, running }
    }

    pub(crate) async fn ready(&self) {
        eventually("the replica to be ready", async || if self.app.ready() { Ok(()) } else { Err("not".into()) }).await;
    }

    /// Ends in order.
    pub(crate) async fn stop(self) {
        self.shutdown.begin();
        self.running.await.expect("no panic").expect("ends well");
    }

    pub(crate) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, tonic::Status> {
        self.client.clone().model_infer(request).await.map(tonic::Response::into_inner)
    }
}

/// A model of two numbers and a category, trained in a moment; other seeds give other bundles.
pub(crate) fn bundle(seed: u64) -> Bundle {
    let table = table();
    let recipe = Recipe {
        seed,
        max_epochs: 2,
        batch_size: 64,
        architecture: Architecture::Mlp { hidden: vec![16, 8], dropout: 0.0 },
        ..Recipe::for_target("late")
    };
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

/// A good request of `rows` rows.
pub(crate) fn request(rows: usize) -> ModelInferRequest {
    let shape = vec![i64::try_from(rows).expect("few")];
    let tensor = |name: &str, datatype: &str| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.clone(),
        ..Default::default()
    };
    let doubles = |value: f64| -> Bytes { (0..rows).flat_map(|_| value.to_le_bytes()).collect() };
    let texts: Bytes = (0..rows).flat_map(|_| [2, 0, 0, 0, b'B', b'B']).collect();
    ModelInferRequest {
        model_name: MODEL.into(),
        inputs: vec![tensor("carrier", "BYTES"), tensor("distance", "FP64"), tensor("delay", "FP64")],
        raw_input_contents: vec![texts, doubles(120.0), doubles(f64::NAN)],
        ..Default::default()
    }
}

/// A text parameter of an answer.
pub(crate) fn parameter(answer: &ModelInferResponse, key: &str) -> String {
    match answer.parameters.get(key).and_then(|parameter| parameter.parameter_choice.clone()) {
        Some(ParameterChoice::StringParam(text)) => text,
        other => panic!("parameter {key} is {other:?}"),
    }
}
