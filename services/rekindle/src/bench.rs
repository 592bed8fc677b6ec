//! `rekindle bench`: a load test of any server of the Open Inference Protocol.

mod arrivals;
pub(crate) mod failure;
pub(crate) mod inputs;
pub(crate) mod load;
pub(crate) mod measured;
mod message;
mod model;
mod report;
mod source;
pub(crate) mod target;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rekindle_client::inference::ModelMetadata;
use rekindle_domain::Traffic;

use self::{
    inputs::Column,
    load::{Length, Load, Plan, Stop},
    measured::Measured,
    model::Served,
    report::Report,
    target::{Address, Message, Protocol, Target},
};
use crate::client::{Global, parse};

pub(crate) use self::{
    report::{millis, shown},
    source::RowSource,
};

/// Connections over gRPC, unless given.
const CONNECTIONS: usize = 4;
/// The exit code of a program that an interrupt ended, as shells have it.
const INTERRUPTED: i32 = 130;
/// The longest time of a measurement and of its parts.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// Requests in flight at most.
const MOST_IN_FLIGHT: usize = 1 << 16;
/// Requests per second at most.
const MOST_PER_SECOND: f64 = 1e6;
/// The product that knows the parameter `traffic`.
const REKINDLE: &str = "rekindle";

/// The arguments of `rekindle bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --rate, the loop is closed: --concurrency requests are in flight, and each follows the answer to another. With --rate, the loop
is open: requests are due at the times of a Poisson process, whatever the server does, and latency is counted from the time at which a
request is due. A request that has no answer within --timeout of that time fails; among the latencies it counts with that time.

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
    /// Rows per request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::count)]
    rows: usize,
    /// What the requests are sent for: test, live or replay; by default test for a rekindle server, and not sent to others
    #[arg(long, value_name = "TRAFFIC")]
    traffic: Option<Traffic>,
    /// Requests in flight (closed loop)
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = in_flight, conflicts_with = "rate")]
    concurrency: usize,
    /// Requests per second (open loop)
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Maximum number of requests in flight in the open loop; one that is due while as many are in flight is not sent, and fails
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = in_flight)]
    max_in_flight: usize,
    /// gRPC connections to all servers together [default: 4, and at least one to each]; over REST each request in flight has its own
    #[arg(long, value_name = "N", value_parser = in_flight)]
    connections: Option<usize>,
    /// Time to measure
    #[arg(long, value_name = "D", default_value = "10s", value_parser = period)]
    duration: Duration,
    /// Measure this many requests, instead of a time
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    requests: Option<u64>,
    /// Time before the measurement in which requests are sent
    #[arg(long, value_name = "D", default_value = "1s", value_parser = period)]
    warm_up: Duration,
    /// Time within which a request must be answered
    #[arg(long, value_name = "D", default_value = "10s", value_parser = period)]
    timeout: Duration,
    #[command(flatten)]
    source: RowSource,
}

/// Tests. Returns whether every request was answered.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let addresses = args.addresses(global).await?;
    let first = addresses.first().context("no server is known")?;
    let name = global.namespace.qualify(&args.model);
    let served = model::describe(args.protocol, first, &name, &args.version).await?;
    let columns = args.source.columns(&served.model, args.rows)?;
    let messages = args.messages(&name, args.traffic_to(&served), &columns)?;
    let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
    let requests = (messages.len(), bytes / messages.len().max(1));
    let connections = args.connections()?.map(|count| count.max(addresses.len()));
    let target = match connections {
        Some(connections) => Target::grpc(&addresses, connections, messages)?,
        None => Target::rest(&addresses, &format!("{}/infer", model::path(&name, &args.version)), messages)?,
    };
    let (plan, stop) = (args.plan(), stop_on_interrupt());
    let report = Report {
        measured: drive(&target, plan.clone(), stop.clone()).await?,
        is_interrupted: stop.is_stopped(),
        servers: addresses.iter().map(Address::to_string).collect(),
        product: served.server,
        protocol: args.protocol,
        model: name,
        version: args.version,
        rows: args.rows,
        requests,
        connections,
        plan,
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

/// The tensors of a model that a gRPC server serves.
pub(crate) async fn describe(address: &Address, model: &str) -> Result<ModelMetadata> {
    Ok(model::describe(Protocol::Grpc, address, model, "").await?.model)
}

/// gRPC requests of `rows` rows each to a rekindle server.
pub(crate) fn grpc_requests(model: &str, traffic: Traffic, columns: &[Column], rows: usize) -> Result<Vec<Message>> {
    inputs::requests(columns, rows, |tensors| message::grpc(model, "", Some(traffic), tensors))
}

/// Stops when the user interrupts (Ctrl-C).
pub(crate) fn stop_on_interrupt() -> Stop {
    let stop = Stop::default();
    let stopping = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.stop();
        }
        // Who does not want to wait for the requests in flight interrupts again.
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED);
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

    fn traffic_to(&self, served: &Served) -> Option<Traffic> {
        self.traffic.or((served.server == REKINDLE).then_some(Traffic::Test))
    }

    fn messages(&self, model: &str, traffic: Option<Traffic>, columns: &[Column]) -> Result<Vec<Message>> {
        let elements = if self.binary { message::Elements::Binary } else { message::Elements::Json };
        inputs::requests(columns, self.rows, |tensors| match self.protocol {
            Protocol::Grpc => message::grpc(model, &self.version, traffic, tensors),
            Protocol::Rest => message::rest(elements, traffic, tensors),
        })
    }

    fn plan(&self) -> Plan {
        let closed = Load::Closed { concurrency: self.concurrency };
        let open = |rate| Load::Open { rate, max_in_flight: self.max_in_flight, seed: self.source.seed };
        Plan {
            load: self.rate.map_or(closed, open),
            warm_up: self.warm_up,
            length: self.requests.map_or(Length::Time(self.duration), Length::Requests),
            timeout: self.timeout,
        }
    }
}

/// A time that a measurement may take.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    let period = parse::span(text)?;
    if period <= LONGEST { Ok(period) } else { Err("expected at most 7 days".to_owned()) }
}

/// Requests in flight, or connections.
fn in_flight(text: &str) -> Result<usize, String> {
    let count = parse::count(text)?;
    if count <= MOST_IN_FLIGHT { Ok(count) } else { Err(format!("expected at most {MOST_IN_FLIGHT}")) }
}

/// Requests per second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = parse::positive(text)?;
    if rate <= MOST_PER_SECOND { Ok(rate) } else { Err(format!("expected at most {MOST_PER_SECOND}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_bounds() {
        assert_eq!((period("7d"), period("7d 1s").is_err()), (Ok(LONGEST), true));
        assert_eq!(
            (in_flight("65536"), in_flight("65537").is_err(), in_flight("0").is_err()),
            (Ok(65_536), true, true)
        );
        assert_eq!((rate("1000000"), rate("1000001").is_err(), rate("0").is_err()), (Ok(1e6), true, true));
    }
}
