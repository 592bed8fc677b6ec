//! `rekindle up`: the whole platform in one process on the loopback interface, with its state in one folder.
//!
//! The control plane (registry, trainer, monitor, orchestrator) has one port; each inference replica has its own. The services are those of
//! `rekindle serve` and communicate only through these ports and the bus.

mod lock;
mod nats;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, keep};
use rekindle_client::Connection;
use rekindle_orchestrator::Peers;
use rekindle_runtime::{
    disk::{self, Ballast},
    grpc::{self, RoutesBuilder},
    health::Health,
    http,
    shutdown::Shutdown,
    supervise::Tasks,
    telemetry,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::Notify};

use crate::{
    serve,
    settings::{Scope, Settings},
    storage::Storage,
};
use nats::NatsServer;

/// Difference between the ports of two replicas: 8001, 8011, 8021.
const PORTS_PER_REPLICA: u16 = 10;

/// The arguments of `rekindle up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of all state: databases, objects, NATS storage, caches
    #[arg(long, default_value = "rekindle-data")]
    pub data_dir: PathBuf,
    /// Number of inference replicas
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub replicas: u16,
    /// Settings file (TOML); `rekindle config` prints every key with its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// gRPC address of the control plane
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    pub listen: SocketAddr,
    /// HTTP address of metrics and health
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7001")]
    pub admin: SocketAddr,
    /// gRPC address of the first replica; each further replica uses a port greater by 10
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
    pub inference_listen: SocketAddr,
    /// REST address of the first replica; each further replica uses a port greater by 10
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub rest_listen: SocketAddr,
    /// HTTP address of the metrics of the first replica; each further replica uses a port greater by 10
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8002")]
    pub metrics_listen: SocketAddr,
    /// Port of the NATS server that is started on the loopback interface
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub nats_port: u16,
    /// Use this NATS server instead of starting one, e.g. nats://10.0.0.5:4222
    #[arg(long, value_name = "URL")]
    pub external_nats: Option<String>,
    /// Listen on free ports, listed in DATA_DIR/endpoints.json
    #[arg(long)]
    pub free_ports: bool,
}

/// The addresses of the platform, written to `endpoints.json` in the data folder.
#[derive(Debug, Clone, Default, Serialize, serde::Deserialize)]
pub(crate) struct Endpoints {
    /// `http://host:port` of registry, trainer, monitor and orchestrator.
    pub control: String,
    /// `http://host:port` of metrics and health.
    pub admin: String,
    /// `host:port` of each replica's gRPC.
    pub inference: Vec<String>,
    /// `http://host:port` of each replica's REST interface.
    #[serde(default)]
    pub rest: Vec<String>,
    /// `http://host:port` of each replica's metrics.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// `nats://host:port`.
    pub nats: String,
}

/// Runs the platform until a signal ends it.
pub(crate) async fn run(args: Args) -> Result<()> {
    serve::raise_open_files();
    let shutdown = Shutdown::on_signals()?;
    std::fs::create_dir_all(&args.data_dir)
        .with_context(|| format!("cannot create the data folder {}", args.data_dir.display()))?;
    let data = args.data_dir.canonicalize().context("the data folder has no absolute path")?;
    let mut settings = in_folder(Settings::load(args.config.as_deref(), Vec::new(), Scope::Platform)?, &data)?;
    let _telemetry = telemetry::init("rekindle", &settings.telemetry)?;
    let lock = lock::lock(&data).await?;
    if Ballast::in_folder(&data).release_if_short().context("the ballast cannot be deleted")? {
        tracing::warn!(
            bytes = Ballast::BYTES,
            "the disk is full: the ballast is deleted, so that the platform can start"
        );
    }

    let frozen = Arc::new(Notify::new());
    let storage = Storage::new(Some(data.clone()), Arc::clone(&frozen));
    if let Some(url) = &args.external_nats {
        settings.bus.url.clone_from(url);
        return Box::pin(run_on(args, settings, &data, storage, shutdown, &Notify::new())).await;
    }
    let port = port_or_free(args.nats_port, args.free_ports).await?;
    let mut nats = NatsServer::start(&data.join("nats"), port, lock)?;
    settings.bus.url = nats.url();
    settings.bus.free_bytes = Some(disk::free_bytes(&data).context("the free space of the data folder is unknown")?);
    let started = Notify::new();
    let mut platform = Box::pin(run_on(args, settings, &data, storage, shutdown.clone(), &started));
    // Before the platform has started, a server that ends has no port or no storage, and another attempt would end in the same way.
    let starting = tokio::select! {
        outcome = &mut platform => Some(outcome),
        () = started.notified() => None,
        status = nats.ended() => {
            shutdown.begin();
            // Errors of the services are consequences of the lost bus; they are logged.
            let _ = platform.await;
            bail!("nats-server ended unexpectedly with {status}; its log is nats/nats.log in the data folder");
        }
    };
    let outcome = match starting {
        Some(outcome) => outcome,
        None => tokio::select! {
            outcome = &mut platform => outcome,
            never = nats.keep_running(&frozen) => match never {},
        },
    };
    // The platform publishes its last rows, reports and events while it shuts down, so the bus must stop after it.
    nats.stop().await?;
    outcome
}

/// Runs the platform on a running bus; `started` is notified once every service has started.
async fn run_on(
    args: Args,
    settings: Settings,
    data: &Path,
    storage: Storage,
    shutdown: Shutdown,
    started: &Notify,
) -> Result<()> {
    let mut tasks = Tasks::new();
    let sockets = Sockets::bind(&args).await?;
    let endpoints = sockets.endpoints(&settings.bus.url)?;
    let drain = settings.shutdown.drain;
    let ready = start(settings, sockets, data, storage, &mut tasks, &shutdown).await?;
    started.notify_one();
    announce(data, &endpoints)?;
    tasks.spawn("readiness", serve::readiness(ready, shutdown.clone()));
    tasks.join(shutdown, drain).await?;
    Ok(())
}

/// The settings with databases and object store in the data folder, unless they are set.
fn in_folder(mut settings: Settings, data: &Path) -> Result<Settings> {
    let folder = data.to_str().context("the data folder's path must be UTF-8")?;
    if settings.artifacts.url.is_empty() {
        settings.artifacts.url = format!("file://{folder}/objects");
    }
    for scratch in [&mut settings.registry.scratch, &mut settings.trainer.scratch] {
        if scratch.is_empty() {
            *scratch = format!("{folder}/scratch");
        }
    }
    let databases = [
        ("registry", &mut settings.registry.database),
        ("monitor", &mut settings.monitor.database),
        ("orchestrator", &mut settings.orchestrator.database),
    ];
    for (service, database) in databases {
        if database.url.is_empty() {
            database.url = format!("sqlite://{folder}/{service}.db");
        }
    }
    Ok(settings)
}

/// All listeners, bound before anything is started, so that a port in use is reported at once.
struct Sockets {
    control: TcpListener,
    admin: TcpListener,
    replicas: Vec<Replica>,
}

/// The listeners of one replica.
struct Replica {
    sockets: serve::ReplicaSockets,
    metrics: TcpListener,
}

impl Sockets {
    async fn bind(args: &Args) -> Result<Self> {
        let free = |address: SocketAddr| if args.free_ports { SocketAddr::new(address.ip(), 0) } else { address };
        let mut replicas = Vec::new();
        for n in 0..args.replicas {
            let of_replica = |first: SocketAddr| {
                let port = first.port().checked_add(n * PORTS_PER_REPLICA);
                let port = port.context("too many replicas: the port of the last one would exceed 65535")?;
                anyhow::Ok(free(SocketAddr::new(first.ip(), port)))
            };
            let (grpc, rest) = (of_replica(args.inference_listen)?, of_replica(args.rest_listen)?);
            let sockets = serve::ReplicaSockets { grpc: grpc::listen(grpc).await?, rest: grpc::listen(rest).await? };
            replicas.push(Replica { sockets, metrics: grpc::listen(of_replica(args.metrics_listen)?).await? });
        }
        let (control, admin) = (grpc::listen(free(args.listen)).await?, grpc::listen(free(args.admin)).await?);
        Ok(Self { control, admin, replicas })
    }

    fn endpoints(&self, nats: &str) -> Result<Endpoints> {
        let replicas = self.replicas.iter().map(|replica| Ok(replica.sockets.grpc.local_addr()?.to_string()));
        let http = |of: fn(&Replica) -> &TcpListener| {
            self.replicas.iter().map(move |replica| Ok(format!("http://{}", of(replica).local_addr()?)))
        };
        Ok(Endpoints {
            control: format!("http://{}", self.control.local_addr()?),
            admin: format!("http://{}", self.admin.local_addr()?),
            inference: replicas.collect::<Result<_>>()?,
            rest: http(|replica| &replica.sockets.rest).collect::<Result<_>>()?,
            metrics: http(|replica| &replica.metrics).collect::<Result<_>>()?,
            nats: without_credentials(nats),
        })
    }
}

/// Builds and starts every service. Returns the readiness of each server.
async fn start(
    settings: Settings,
    sockets: Sockets,
    data: &Path,
    storage: Storage,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Result<Vec<serve::Ready>> {
    let bus = Bus::connect(&settings.bus).await?;
    tasks.spawn("storage", storage.clone().run(bus.clone(), shutdown.clone()));
    let artifacts = Artifacts::open(&settings.artifacts).await?;
    let replica_limits = serve::replica_limits(&settings);
    let control = Connection::open(&format!("http://{}", sockets.control.local_addr()?), serve::PEER_DEADLINE)?;
    let registry = rekindle_registry::App::build(settings.registry, bus.clone(), artifacts.clone()).await?;
    let trainer =
        rekindle_trainer::App::build(settings.trainer, bus.clone(), artifacts.clone(), control.clone()).await?;
    let monitor = rekindle_monitor::App::build(settings.monitor, bus.clone(), artifacts.clone()).await?;
    let peers = Peers { registry: control.clone(), trainer: control.clone(), monitor: control };
    let orchestrator =
        rekindle_orchestrator::App::build(settings.orchestrator, bus.clone(), artifacts.clone(), peers).await?;

    let mut routes = RoutesBuilder::for_requests_of(settings.grpc.max_request_bytes);
    registry.register(&mut routes);
    trainer.register(&mut routes);
    monitor.register(&mut routes);
    orchestrator.register(&mut routes);
    registry.background(tasks, shutdown.clone());
    trainer.background(tasks, shutdown.clone());
    monitor.background(tasks, shutdown.clone());
    orchestrator.background(tasks, shutdown.clone());

    tasks.spawn("bus streams", keep::run(bus.clone(), shutdown.intake().clone()));
    let health = Health::new();
    let admin = http::admin(health.problem()).merge(registry.mlflow());
    let limits = http::Limits::from(&settings.grpc);
    tasks.spawn_until_close("admin", http::serve_with_api(sockets.admin, admin, limits, shutdown.clone()));
    let server = grpc::serve(sockets.control, routes, health.clone(), settings.grpc.clone(), shutdown.clone());
    tasks.spawn("control plane", server);
    let mut ready = vec![serve::Ready::new(health, move || {
        // A full disk explains the others.
        storage
            .problem()
            .or_else(|| serve::unready("registry", registry.ready()))
            .or_else(|| serve::unready("trainer", trainer.ready()))
            .or_else(|| serve::unready("monitor", monitor.ready()))
            .or_else(|| serve::unready("orchestrator", orchestrator.ready()))
    })];
    for (n, Replica { sockets, metrics }) in sockets.replicas.into_iter().enumerate() {
        let config = replica(settings.inference.clone(), n, &sockets.grpc, data)?;
        let app = Arc::new(rekindle_inference::App::build(config, bus.clone(), artifacts.clone()).await?);
        let server = serve::serve_replica(Arc::clone(&app), sockets, replica_limits.clone(), tasks, shutdown);
        let probes = http::probes(server.health().problem(), move || app.metrics());
        tasks.spawn_until_close("replica metrics", http::serve(metrics, probes, shutdown.clone()));
        ready.push(server);
    }
    Ok(ready)
}

/// The settings of the n-th replica, from 0.
fn replica(
    mut config: rekindle_inference::Config,
    n: usize,
    socket: &TcpListener,
    data: &Path,
) -> Result<rekindle_inference::Config> {
    let name = format!("replica-{}", n + 1);
    config.address = socket.local_addr()?.to_string();
    config.cache_dir = data.join(&name);
    config.replica = name.parse()?;
    Ok(config)
}

async fn port_or_free(port: u16, free: bool) -> Result<u16> {
    if !free {
        return Ok(port);
    }
    // nats-server accepts no bound socket: another process may take the port before nats-server binds it.
    let probe = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
    Ok(probe.local_addr()?.port())
}

/// The address without user and password, to be printed and written to a file.
pub(crate) fn without_credentials(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}://{host}"),
        None => url.to_owned(),
    }
}

/// Publishes the addresses: on standard output for people, in `endpoints.json` for programs.
fn announce(data: &Path, endpoints: &Endpoints) -> Result<()> {
    let file = data.join("endpoints.json");
    let fresh = data.join("endpoints.json.new");
    std::fs::write(&fresh, serde_json::to_vec_pretty(endpoints)?)?;
    std::fs::rename(&fresh, &file).with_context(|| format!("cannot write {}", file.display()))?;
    println!("control plane   {}   registry, trainer, monitor, orchestrator (gRPC)", endpoints.control);
    println!("HTTP            {}   metrics, health, MLflow's tracking API", endpoints.admin);
    let replicas = endpoints.inference.iter().zip(&endpoints.rest).zip(&endpoints.metrics);
    for (n, ((grpc, rest), metrics)) in replicas.enumerate() {
        println!("replica {}       {grpc} (gRPC), {rest} (REST)   Open Inference Protocol", n + 1);
        println!("                {metrics}/metrics   requests and durations by model and version");
    }
    println!("events          {}", endpoints.nats);
    println!("state           {}", data.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_removed_from_addresses() {
        assert_eq!(without_credentials("nats://me:secret@bus:4222"), "nats://bus:4222");
        assert_eq!(without_credentials("nats://bus:4222"), "nats://bus:4222");
    }
}
