//! `rekindle up`: the whole platform in one process, on the loopback interface, with all its state in one folder.
//!
//! The control plane (registry, trainer, monitor, orchestrator) answers on one port; each inference replica has its own. The services
//! are the same as when they run alone, and meet only through those ports and through the bus.

mod nats;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_proto::client::channel;
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    http,
    shutdown::Shutdown,
    supervise::Tasks,
    telemetry,
};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{serve, settings::Settings};
use nats::NatsServer;

/// Replicas follow each other in steps of this many ports: 8001, 8011, 8021.
const PORTS_PER_REPLICA: u16 = 10;

/// What `up` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder that holds all state: databases, blobs, the bus's store, caches
    #[arg(long, default_value = "rekindle-data")]
    pub data_dir: PathBuf,
    /// Inference replicas to start
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub replicas: u16,
    /// Settings file (TOML); `rekindle config` prints every key with its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the control plane's gRPC
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    pub listen: SocketAddr,
    /// Address of metrics and health of the control plane (HTTP)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7001")]
    pub admin: SocketAddr,
    /// gRPC address of the first replica; the next ones follow in steps of ten ports
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
    pub inference_listen: SocketAddr,
    /// Port of the bus that is started (on the loopback interface)
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub nats_port: u16,
    /// Use this bus instead of starting one, e.g. nats://10.0.0.5:4222
    #[arg(long, value_name = "URL")]
    pub external_nats: Option<String>,
    /// Listen on free ports instead; DATA_DIR/endpoints.json tells which
    #[arg(long)]
    pub free_ports: bool,
}

/// Where everything listens; written to `endpoints.json` in the data folder.
#[derive(Debug, Clone, Default, Serialize, serde::Deserialize)]
pub(crate) struct Endpoints {
    /// `http://host:port` of registry, trainer, monitor and orchestrator.
    pub control: String,
    /// `http://host:port` of metrics and health.
    pub admin: String,
    /// `host:port` of each replica's gRPC.
    pub inference: Vec<String>,
    /// The bus.
    pub nats: String,
}

/// Runs the platform until it is told to end.
pub(crate) async fn run(args: Args) -> Result<()> {
    let shutdown = Shutdown::on_signals()?;
    std::fs::create_dir_all(&args.data_dir)
        .with_context(|| format!("cannot make the data folder {}", args.data_dir.display()))?;
    let data = args.data_dir.canonicalize().context("the data folder has no absolute path")?;
    let mut settings = in_folder(Settings::load(args.config.as_deref(), &[])?, &data)?;
    let _telemetry = telemetry::init("rekindle", &settings.telemetry)?;

    if let Some(url) = &args.external_nats {
        settings.bus.url.clone_from(url);
        return run_on(args, settings, &data, shutdown).await;
    }
    let mut nats = NatsServer::start(&data.join("nats"), port_or_free(args.nats_port, args.free_ports).await?)?;
    settings.bus.url = nats.url();
    let mut platform = std::pin::pin!(run_on(args, settings, &data, shutdown.clone()));
    let outcome = tokio::select! {
        outcome = &mut platform => outcome,
        status = nats.ended() => {
            shutdown.begin();
            // What failed for want of the bus is a consequence, and was logged.
            let _ = platform.await;
            bail!("nats-server ended by itself with {status}; its log is nats/nats.log in the data folder");
        }
    };
    // Only now: the last rows, reports and events were published until the platform had ended.
    nats.stop().await?;
    outcome
}

/// Runs the platform on a bus that is there.
async fn run_on(args: Args, settings: Settings, data: &Path, shutdown: Shutdown) -> Result<()> {
    let mut tasks = Tasks::new();
    let sockets = Sockets::bind(&args).await?;
    let endpoints = sockets.endpoints(&settings.bus.url)?;
    let drain = settings.shutdown.drain;
    let ready = start(settings, sockets, data, &mut tasks, &shutdown).await?;
    announce(data, &endpoints)?;
    tasks.spawn("readiness", serve::readiness(ready, shutdown.clone()));
    tasks.join(shutdown, drain).await?;
    Ok(())
}

/// Databases and blobs go to the data folder, unless the settings name others.
fn in_folder(mut settings: Settings, data: &Path) -> Result<Settings> {
    let folder = data.to_str().context("the data folder's path must be UTF-8")?;
    if settings.artifacts.url.is_empty() {
        settings.artifacts.url = format!("file://{folder}/objects");
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

/// Every listener, bound before anything else is started, so that a busy port is told at once.
struct Sockets {
    control: TcpListener,
    admin: TcpListener,
    replicas: Vec<TcpListener>,
}

impl Sockets {
    async fn bind(args: &Args) -> Result<Self> {
        let free = |address: SocketAddr| if args.free_ports { SocketAddr::new(address.ip(), 0) } else { address };
        let mut replicas = Vec::new();
        for n in 0..args.replicas {
            let port = args
                .inference_listen
                .port()
                .checked_add(n * PORTS_PER_REPLICA)
                .context("too many replicas for the ports")?;
            replicas.push(grpc::listen(free(SocketAddr::new(args.inference_listen.ip(), port))).await?);
        }
        let (control, admin) = (grpc::listen(free(args.listen)).await?, grpc::listen(free(args.admin)).await?);
        Ok(Self { control, admin, replicas })
    }

    fn endpoints(&self, nats: &str) -> Result<Endpoints> {
        let replicas = self.replicas.iter().map(|replica| Ok(replica.local_addr()?.to_string()));
        Ok(Endpoints {
            control: format!("http://{}", self.control.local_addr()?),
            admin: format!("http://{}", self.admin.local_addr()?),
            inference: replicas.collect::<Result<_>>()?,
            nats: without_credentials(nats),
        })
    }
}

/// Builds and starts every service. Returns what tells whether each is ready.
async fn start(
    settings: Settings,
    sockets: Sockets,
    data: &Path,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Result<Vec<serve::Ready>> {
    let bus = Bus::connect(&settings.bus).await?;
    let artifacts = Artifacts::open(&settings.artifacts).await?;
    let replica_limits = serve::replica_limits(&settings);
    let control = channel(&format!("http://{}", sockets.control.local_addr()?), serve::PEER_TIMEOUT)?;
    let registry = rekindle_registry::App::build(settings.registry, bus.clone(), artifacts.clone()).await?;
    let trainer =
        rekindle_trainer::App::build(settings.trainer, bus.clone(), artifacts.clone(), control.clone()).await?;
    let monitor = rekindle_monitor::App::build(settings.monitor, bus.clone(), artifacts.clone()).await?;
    let peers = [control.clone(), control.clone(), control];
    let orchestrator =
        rekindle_orchestrator::App::build(settings.orchestrator, bus.clone(), artifacts.clone(), peers).await?;

    let mut routes = RoutesBuilder::new();
    registry.register(&mut routes);
    trainer.register(&mut routes);
    monitor.register(&mut routes);
    orchestrator.register(&mut routes);
    registry.background(tasks, shutdown.clone());
    trainer.background(tasks, shutdown.clone());
    monitor.background(tasks, shutdown.clone());
    orchestrator.background(tasks, shutdown.clone());

    let health = Health::new();
    let probes = http::admin(health.ready());
    tasks.spawn_until_close("admin", http::serve(sockets.admin, probes, shutdown.clone()));
    let server = grpc::serve(sockets.control, routes, health.clone(), settings.grpc.clone(), shutdown.clone());
    tasks.spawn("control plane", server);
    let mut ready = vec![serve::Ready::new(health, move || {
        registry.ready() && trainer.ready() && monitor.ready() && orchestrator.ready()
    })];
    for (n, socket) in sockets.replicas.into_iter().enumerate() {
        let config = replica(settings.inference.clone(), n, &socket, data)?;
        let app = rekindle_inference::App::build(config, bus.clone(), artifacts.clone()).await?;
        ready.push(serve::serve_replica(Arc::new(app), socket, replica_limits.clone(), tasks, shutdown));
    }
    Ok(ready)
}

/// The settings of the replica of that number.
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
    // nats-server takes no listening socket, so the port is free only until it binds it.
    let probe = TcpListener::bind("127.0.0.1:0").await.context("there is no free port")?;
    Ok(probe.local_addr()?.port())
}

/// The address as it may be printed and written down: a password in it stays with those who gave it.
fn without_credentials(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}://{host}"),
        None => url.to_owned(),
    }
}

/// Tells where everything listens: people on standard output, programs in `endpoints.json`.
fn announce(data: &Path, endpoints: &Endpoints) -> Result<()> {
    let file = data.join("endpoints.json");
    let fresh = data.join("endpoints.json.new");
    std::fs::write(&fresh, serde_json::to_vec_pretty(endpoints)?)?;
    std::fs::rename(&fresh, &file).with_context(|| format!("cannot write {}", file.display()))?;
    println!("control plane   {}   registry, trainer, monitor, orchestrator (gRPC)", endpoints.control);
    println!("metrics, health {}", endpoints.admin);
    for (n, address) in endpoints.inference.iter().enumerate() {
        println!("replica {}       {address}   Open Inference Protocol (gRPC)", n + 1);
    }
    println!("events          {}", endpoints.nats);
    println!("state           {}", data.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_told() {
        assert_eq!(without_credentials("nats://me:secret@bus:4222"), "nats://bus:4222");
        assert_eq!(without_credentials("nats://bus:4222"), "nats://bus:4222");
    }
}
