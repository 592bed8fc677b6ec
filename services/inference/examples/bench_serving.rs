//! The throughput and latency of serving, as a share of what the transport allows.
//!
//! One replica, with metrics, reports and the prediction log on a nats-server, is compared with a bare tonic server that returns a
//! prepared answer to the same requests. Both servers and the clients are in this process. Both are driven over loopback by the same
//! number of connections and requests in flight, in turns, so that a busy machine affects both alike.
//!
//! ```text
//! cargo run --release -p rekindle-inference --example bench_serving [-- SECONDS_PER_TURN]
//! ```

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use futures::future::BoxFuture;
use hdrhistogram::Histogram;
use rekindle_artifacts::Artifacts;
use rekindle_bundle::Bundle;
use rekindle_bus::Bus;
use rekindle_client::wire::raw;
use rekindle_dataset::Table;
use rekindle_domain::{
    Recipe, Routes, VersionRef,
    recipe::{MlpRecipe, ModelRecipe, Optimizer},
};
use rekindle_inference::{App, Config, DEFAULTS};
use rekindle_proto::inference::{
    ModelInferRequest, ModelInferResponse, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
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
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{NamedService, UnaryService},
    transport::server::TcpIncoming,
};
use tonic_prost::ProstCodec;
use tower::Service;

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MODEL: &str = "bench";
const NUMBERS: usize = 8;
const CATEGORIES: usize = 4;
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 16;
const TURNS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |text| text.parse::<f64>()).context("SECONDS_PER_TURN")?;
    let turn = Duration::try_from_secs_f64(seconds).context("SECONDS_PER_TURN")?;
    let folder = tempfile::tempdir()?;
    let nats = NatsServer::start().await;
    let replica = start_replica(folder.path(), &nats.url()).await?;
    for rows in [1, 32] {
        let request = request(rows);
        let answer = client(replica).await?.model_infer(request.clone()).await?.into_inner();
        let echo = start_echo(answer).await?;
        compare(rows, &request, echo, replica, turn).await?;
    }
    Ok(())
}

/// Drives both in turns and prints the results.
async fn compare(
    rows: usize,
    request: &ModelInferRequest,
    echo: SocketAddr,
    replica: SocketAddr,
    turn: Duration,
) -> Result<()> {
    let warm_up = turn / 4;
    let (mut bare, mut full) = (Measured::new()?, Measured::new()?);
    for _ in 0..TURNS {
        for (server, measured) in [(echo, &mut bare), (replica, &mut full)] {
            drive(server, request, warm_up).await?;
            measured.add(drive(server, request, turn).await?)?;
        }
    }
    println!(
        "{rows} rows per request, {CONNECTIONS} connections x {IN_FLIGHT} in flight, {TURNS} turns of {turn:?} each"
    );
    println!("  bare tonic  {bare}");
    println!("  replica     {full}");
    println!("  ratio       {:.1} % of the bare server's requests/s", 100.0 * full.rate() / bare.rate());
    Ok(())
}

/// The latency of each request in microseconds, and the time that all took.
struct Measured {
    elapsed: Duration,
    latencies: Histogram<u64>,
}

impl Measured {
    fn new() -> Result<Self> {
        Ok(Self { elapsed: Duration::ZERO, latencies: Histogram::new_with_bounds(1, 60_000_000, 3)? })
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.elapsed += other.elapsed;
        Ok(self.latencies.add(other.latencies)?)
    }

    /// Requests per second.
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quantile = |q| self.latencies.value_at_quantile(q) as f64 / 1000.0;
        write!(f, "{:8.0} requests/s   p50 {:6.2} ms   p99 {:6.2} ms", self.rate(), quantile(0.5), quantile(0.99))
    }
}

/// Drives the server for `span`. A failed request ends the measurement.
async fn drive(server: SocketAddr, request: &ModelInferRequest, span: Duration) -> Result<Measured> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(client(server).await?);
    }
    let (mut tasks, started) = (JoinSet::new(), Instant::now());
    for client in clients.into_iter().flat_map(|client| std::iter::repeat_n(client, IN_FLIGHT)) {
        let (mut client, request) = (client, request.clone());
        tasks.spawn(async move {
            let mut measured = Measured::new()?;
            while started.elapsed() < span {
                let sent = Instant::now();
                client.model_infer(request.clone()).await?;
                measured.latencies.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
            }
            anyhow::Ok(measured)
        });
    }
    let mut together = Measured::new()?;
    while let Some(measured) = tasks.join_next().await {
        together.add(measured??)?;
    }
    together.elapsed = started.elapsed();
    Ok(together)
}

async fn client(server: SocketAddr) -> Result<GrpcInferenceServiceClient<tonic::transport::Channel>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{server}"))?.tcp_nodelay(true);
    Ok(GrpcInferenceServiceClient::new(endpoint.connect().await?))
}

async fn start_replica(folder: &Path, nats: &str) -> Result<SocketAddr> {
    let bus = Bus::connect(&rekindle_bus::Config::at(nats)).await?;
    let artifacts = Artifacts::open(&rekindle_artifacts::Config::local(&folder.join("store"))).await?;
    deploy(&bus, &artifacts, &bundle()?).await?;
    let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await?;
    let address = listener.local_addr()?;
    let app = App::build(config(folder, address)?, bus, artifacts).await?;
    let (mut routes, mut tasks, shutdown) = (RoutesBuilder::new(), Tasks::new(), Shutdown::new());
    app.register(&mut routes);
    app.background(&mut tasks, &shutdown);
    let ending = shutdown.clone();
    tasks.spawn(
        "grpc",
        async move { grpc::serve(listener, routes, Health::new(), grpc::Config::default(), ending).await },
    );
    tokio::spawn(tasks.join(shutdown, Duration::from_secs(1)));
    eventually("the replica to be ready", async || if app.ready() { Ok(()) } else { Err("loading".into()) }).await;
    Ok(address)
}

fn config(folder: &Path, address: SocketAddr) -> Result<Config> {
    #[derive(Deserialize)]
    struct File {
        inference: Config,
    }
    let overrides = [
        ("inference.cache_dir", folder.join("cache").display().to_string()),
        ("inference.address", address.to_string()),
    ];
    Ok(rekindle_runtime::config::Layers::new(DEFAULTS).overrides(overrides).parse::<File>()?.inference)
}

async fn deploy(bus: &Bus, artifacts: &Artifacts, bundle: &Bundle) -> Result<()> {
    for part in bundle.parts()? {
        artifacts.put(part).await?;
    }
    let routes = Routes::to(MODEL.parse()?, 1, VersionRef { version: 1, bundle: bundle.digest()? });
    bus.routes().await?.put(MODEL, &routes).await?;
    Ok(())
}

/// The default network over as many features as a tabular model usually has.
fn bundle() -> Result<Bundle> {
    let rows = 0..2000usize;
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for feature in 0..NUMBERS {
        let values: Float64Array = rows.clone().map(|row| Some(((row * (feature + 3)) % 101) as f64)).collect();
        columns.push((format!("number{feature}"), Arc::new(values)));
    }
    for feature in 0..CATEGORIES {
        let values: StringArray = rows.clone().map(|row| Some(format!("c{}", row % (feature * 5 + 3)))).collect();
        columns.push((format!("category{feature}"), Arc::new(values)));
    }
    let target: StringArray = rows.map(|row| Some(if row % 101 > 50 { "yes" } else { "no" })).collect();
    columns.push(("target".to_owned(), Arc::new(target)));
    let fields: Vec<_> =
        columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true)).collect();
    let values = columns.into_iter().map(|(_, values)| values).collect();
    let table = Table::from_batch(&RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)?;
    let optimizer = Optimizer { max_epochs: 1, ..Optimizer::default() };
    let model = ModelRecipe::Mlp(MlpRecipe { optimizer, ..MlpRecipe::default() });
    let recipe = Recipe { model, ..Recipe::for_target("target") };
    let origin = Origin { run_id: "bench".into(), dataset_digests: Vec::new(), code_revision: "bench".into() };
    let input = TrainInput { table: &table, time_column: None, recipe: &recipe };
    Ok(train(&input, &origin, |_| ControlFlow::Continue(()))?)
}

fn request(rows: usize) -> ModelInferRequest {
    let shape = vec![i64::try_from(rows).unwrap_or(i64::MAX)];
    let tensor = |name: String, datatype: &str| InferInputTensor {
        name,
        datatype: datatype.into(),
        shape: shape.clone(),
        ..Default::default()
    };
    let numbers = (0..NUMBERS).map(|feature| tensor(format!("number{feature}"), "FP64"));
    let categories = (0..CATEGORIES).map(|feature| tensor(format!("category{feature}"), "BYTES"));
    let values: Vec<f64> = (0..rows).map(|row| row as f64).collect();
    let (doubles, texts) = (raw::encode(&values, f64::to_le_bytes), raw::encode_texts(&vec!["c1"; rows]));
    ModelInferRequest {
        model_name: MODEL.into(),
        id: "0123456789".into(),
        inputs: numbers.chain(categories).collect(),
        raw_input_contents: [vec![doubles; NUMBERS], vec![texts; CATEGORIES]].concat(),
        ..Default::default()
    }
}

/// A server that only decodes the request and encodes `answer`.
async fn start_echo(answer: ModelInferResponse) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = tonic::transport::Server::builder()
        .add_service(Echo { answer })
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio::spawn(server);
    Ok(address)
}

/// Answers every call alike, with the code that is generated for a method.
#[derive(Clone)]
struct Echo {
    answer: ModelInferResponse,
}

impl NamedService for Echo {
    const NAME: &'static str = "inference.GRPCInferenceService";
}

impl UnaryService<ModelInferRequest> for Echo {
    type Response = ModelInferResponse;
    type Future = Ready<Result<Response<ModelInferResponse>, Status>>;

    fn call(&mut self, _: Request<ModelInferRequest>) -> Self::Future {
        ready(Ok(Response::new(self.answer.clone())))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<ModelInferResponse, ModelInferRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(echo, request).await)
        })
    }
}
