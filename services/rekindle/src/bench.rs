//! `rekindle bench`: a load test of any server of the Open Inference Protocol.

mod arrivals;
pub(crate) mod failure;
pub(crate) mod inputs;
pub(crate) mod load;
pub(crate) mod measured;
mod message;
mod model;
mod report;
pub(crate) mod target;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rekindle_client::inference::ModelMetadata;
use rekindle_domain::Traffic;

use self::{
    inputs::{Column, Spec, Tensor},
    load::{Length, Load, Plan, Stop},
    measured::Measured,
    model::Served,
    report::Report,
    target::{Address, Message, Protocol, Target},
};
use crate::{
    client::{Global, file, parse},
    reading::ReadArgs,
};

/// Different rows that are generated.
const GENERATED_REQUESTS: usize = 64;
/// Connections over gRPC, unless given.
const CONNECTIONS: usize = 4;
/// The product that knows the parameter `traffic`.
const REKINDLE: &str = "rekindle";

/// The arguments of `rekindle bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --rate, the loop is closed: --concurrency requests are in flight, and each follows the answer to another. With --rate, the loop
is open: requests are due at the times of a Poisson process, whatever the server does, and latency is counted from the time at which a
request is due. A request that has no answer within --timeout of that time fails, and counts with its wait.

Without --data, values are generated from the metadata of the model. Requests to a rekindle server are tests (they are logged, and enter
no monitoring window) unless --traffic says otherwise; other servers get no such parameter. Exits with code 3 if a request failed.

Examples:
  rekindle bench --model tips
  rekindle bench --model tips --rate 2000 --rows 8 --duration 30s --data new-trips.csv
  rekindle bench --model iris --url http://127.0.0.1:8000 --protocol rest --binary --concurrency 16 --json")]
pub(crate) struct Args {
    /// Model name
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Addresses of the servers; by default the gRPC addresses of the platform's replicas
    #[arg(long, value_name = "URL,..", value_delimiter = ',', value_parser = Address::parse)]
    url: Vec<Address>,
    /// Binding of the protocol
    #[arg(long, value_enum, default_value_t = Protocol::Grpc, requires_if("rest", "url"))]
    protocol: Protocol,
    /// Send elements by the binary tensor extension of REST instead of as JSON
    #[arg(long)]
    binary: bool,
    /// Model version that must answer; by default the one that the server chooses
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    version: String,
    /// CSV, Parquet or JSON file with the rows to send, one column or member per input; JSON is an array of objects or one object per line
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Rows per request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::count)]
    rows: usize,
    /// What the requests are sent for: test, live or replay; by default test for a rekindle server, and not sent to others
    #[arg(long, value_name = "TRAFFIC")]
    traffic: Option<Traffic>,
    /// Requests in flight (closed loop)
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse::count, conflicts_with = "rate")]
    concurrency: usize,
    /// Requests per second (open loop)
    #[arg(long, value_name = "R", value_parser = parse::positive)]
    rate: Option<f64>,
    /// Maximum number of requests in flight in the open loop; later ones wait, and their waits count
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = parse::count)]
    max_in_flight: usize,
    /// gRPC connections to all servers together [default: 4, and at least one to each]; over REST each request in flight has its own
    #[arg(long, value_name = "N", value_parser = parse::count)]
    connections: Option<usize>,
    /// Time to measure
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse::span)]
    duration: Duration,
    /// Measure this many requests, instead of a time
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    requests: Option<u64>,
    /// Time before the measurement in which requests are sent
    #[arg(long, value_name = "D", default_value = "1s", value_parser = parse::span)]
    warm_up: Duration,
    /// Time within which a request must be answered
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse::span)]
    timeout: Duration,
    /// Seed of the arrivals and of the generated values
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    reading: ReadArgs,
}

/// Tests. Returns whether every request was answered.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let addresses = args.addresses(global).await?;
    let first = addresses.first().context("no server is known")?;
    let name = global.namespace.qualify(&args.model);
    let served = model::describe(args.protocol, first, &name, &args.version).await?;
    let columns = args.columns(&served.model)?;
    let messages = args.messages(&name, args.traffic_to(&served), inputs::requests(&columns, args.rows)?);
    let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
    let requests = (messages.len(), bytes / messages.len().max(1));
    let connections = args.connections()?.map(|count| count.max(addresses.len()));
    let target = match connections {
        Some(connections) => Target::grpc(&addresses, connections, messages)?,
        None => Target::rest(&addresses, &format!("{}/infer", model::path(&name, &args.version)), messages)?,
    };
    let plan = args.plan();
    let stop = stop_on_interrupt();
    let measured = drive(&target, plan.clone(), stop.clone()).await?;
    let report = Report {
        servers: addresses.iter().map(Address::to_string).collect(),
        product: served.server,
        protocol: args.protocol,
        model: name,
        version: args.version,
        rows: args.rows,
        requests,
        connections,
        plan,
        is_interrupted: stop.is_stopped(),
        measured,
    };
    report.print(global.format());
    ensure!(report.measured.requests() > 0, "no request was measured: expected a longer --duration or a higher --rate");
    Ok(report.measured.failures.count() == 0)
}

/// Sends the requests of a target as a plan says.
pub(crate) async fn drive(target: &Arc<Target>, plan: Plan, stop: Stop) -> Result<Measured> {
    let target = Arc::clone(target);
    load::run(plan, stop, move |index| {
        let target = Arc::clone(&target);
        async move { target.send(index).await }
    })
    .await
}

/// Stops when the user interrupts (Ctrl-C).
pub(crate) fn stop_on_interrupt() -> Stop {
    let stop = Stop::default();
    let stopping = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.stop();
        }
    });
    stop
}

impl Args {
    async fn addresses(&self, global: &Global) -> Result<Vec<Address>> {
        if !self.url.is_empty() {
            return Ok(self.url.clone());
        }
        let replicas = global.platform()?.replica_addresses().await?;
        let parsed = replicas.iter().map(|address| Address::parse(&format!("http://{address}")));
        parsed.collect::<Result<_, _>>().map_err(anyhow::Error::msg)
    }

    /// `None` if each request in flight has a connection of its own.
    fn connections(&self) -> Result<Option<usize>> {
        if self.protocol == Protocol::Grpc {
            ensure!(!self.binary, "--binary is for --protocol rest: gRPC requests have raw contents");
            return Ok(Some(self.connections.unwrap_or(CONNECTIONS)));
        }
        ensure!(
            self.connections.is_none(),
            "--connections is for --protocol grpc: over REST each request in flight has a connection of its own"
        );
        Ok(None)
    }

    fn columns(&self, model: &ModelMetadata) -> Result<Vec<Column>> {
        let specs = Spec::all(model)?;
        let Some(path) = &self.data else {
            return Ok(inputs::generate(specs, self.rows.saturating_mul(GENERATED_REQUESTS), self.seed));
        };
        if path.extension().is_some_and(|extension| ["json", "jsonl", "ndjson"].iter().any(|json| extension == *json)) {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            return inputs::from_json(specs, &text).with_context(|| path.display().to_string());
        }
        let table = file::read_for(model, path, &self.reading.options(None)?)?;
        inputs::from_table(specs, &table).with_context(|| path.display().to_string())
    }

    fn traffic_to(&self, served: &Served) -> Option<Traffic> {
        self.traffic.or((served.server == REKINDLE).then_some(Traffic::Test))
    }

    fn messages(&self, model: &str, traffic: Option<Traffic>, requests: Vec<Vec<Tensor>>) -> Vec<Message> {
        let elements = if self.binary { message::Elements::Binary } else { message::Elements::Json };
        let message = |tensors| match self.protocol {
            Protocol::Grpc => message::grpc(model, &self.version, traffic, tensors),
            Protocol::Rest => message::rest(elements, traffic, tensors),
        };
        requests.into_iter().map(message).collect()
    }

    fn plan(&self) -> Plan {
        let closed = Load::Closed { concurrency: self.concurrency };
        let open = |rate| Load::Open { rate, max_in_flight: self.max_in_flight, seed: self.seed };
        Plan {
            load: self.rate.map_or(closed, open),
            warm_up: self.warm_up,
            length: self.requests.map_or(Length::Time(self.duration), Length::Requests),
            timeout: self.timeout,
        }
    }
}
