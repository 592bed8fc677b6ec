//! `rekindle serve SERVICE`: one service alone, as on a cluster.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
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
use tokio::net::TcpListener;

use crate::settings::Settings;

/// Longest call from one service to another; exports and registrations of large datasets are the slow ones.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(300);
/// Wait between two tries to reach what a replica can do without.
const RETRY: Duration = Duration::from_secs(1);
/// How often readiness is looked at.
const READINESS: Duration = Duration::from_millis(50);

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    Registry,
    Trainer,
    Monitor,
    Orchestrator,
    Inference,
}

/// What `serve` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service to run
    pub service: Service,
    /// Settings file (TOML); `rekindle config` prints every key with its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of gRPC; by default the service's own port (7010, 7020, 7030, 7040, 8001) on every interface
    #[arg(long, value_name = "ADDR", env = "REKINDLE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Address of metrics and health (HTTP); by default the port after that of gRPC
    #[arg(long, value_name = "ADDR", env = "REKINDLE_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Inference: this replica's name, unique among all
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,
    /// Inference: folder of the verified copies that it serves from
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Inference: host:port at which clients reach it
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
}

impl Args {
    fn listen(&self) -> SocketAddr {
        let port = match self.service {
            Service::Registry => 7010,
            Service::Trainer => 7020,
            Service::Monitor => 7030,
            Service::Orchestrator => 7040,
            Service::Inference => 8001,
        };
        self.listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], port)))
    }

    fn admin(&self) -> SocketAddr {
        let listen = self.listen();
        self.admin.unwrap_or_else(|| SocketAddr::new(listen.ip(), listen.port().saturating_add(1)))
    }

    fn overrides(&self) -> Vec<(String, String)> {
        let cache = self.cache_dir.as_ref().map(|path| path.display().to_string());
        let given = [("replica", &self.replica), ("cache_dir", &cache), ("address", &self.advertise)];
        given.into_iter().filter_map(|(key, value)| Some((format!("inference.{key}"), value.clone()?))).collect()
    }
}

/// A part of the program and the question whether it is ready.
pub(crate) struct Ready {
    health: Health,
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Ready {
    pub(crate) fn new(health: Health, is_ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { health, is_ready: Box::new(is_ready) }
    }
}

/// Keeps the health of every part true until shutdown begins.
pub(crate) async fn readiness(parts: Vec<Ready>, shutdown: Shutdown) -> Result<()> {
    let mut ticks = tokio::time::interval(READINESS);
    loop {
        tokio::select! {
            () = shutdown.intake().cancelled() => return Ok(()),
            _ = ticks.tick() => for part in &parts {
                let ready = (part.is_ready)();
                if *part.health.ready().borrow() != ready {
                    part.health.set_ready(ready).await;
                }
            },
        }
    }
}

/// Runs one service until it is told to end.
pub(crate) async fn run(args: Args) -> Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let settings = Settings::load(args.config.as_deref(), &args.overrides())?;
    let _telemetry = telemetry::init(&format!("rekindle-{:?}", args.service).to_lowercase(), &settings.telemetry)?;
    let (socket, admin) = (grpc::listen(args.listen()).await?, grpc::listen(args.admin()).await?);
    println!("{:?} listens on {} (gRPC) and {} (HTTP)", args.service, socket.local_addr()?, admin.local_addr()?);

    let mut tasks = Tasks::new();
    let drain = settings.shutdown.drain;
    let part = match args.service {
        Service::Inference => alone(settings, socket, &mut tasks, &shutdown).await?,
        service => control(service, settings, socket, &mut tasks, &shutdown).await?,
    };
    tasks.spawn_until_close("admin", http::serve(admin, http::admin(part.health.ready()), shutdown.clone()));
    tasks.spawn("readiness", readiness(vec![part], shutdown.clone()));
    tasks.join(shutdown, drain).await?;
    Ok(())
}

/// Builds, starts and serves one service of the control plane.
async fn control(
    service: Service,
    settings: Settings,
    socket: TcpListener,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Result<Ready> {
    let bus = Bus::connect(&settings.bus).await?;
    let artifacts = Artifacts::open(&settings.artifacts).await?;
    let peer = |address: &str| channel(address, PEER_TIMEOUT);
    let (health, mut routes) = (Health::new(), RoutesBuilder::new());
    macro_rules! started {
        ($app:expr) => {{
            let app = $app;
            app.register(&mut routes);
            app.background(tasks, shutdown.clone());
            Ready::new(health.clone(), move || app.ready())
        }};
    }
    let ready = match service {
        Service::Registry => started!(rekindle_registry::App::build(settings.registry, bus, artifacts).await?),
        Service::Trainer => {
            let registry = peer(&settings.peers.registry)?;
            started!(rekindle_trainer::App::build(settings.trainer, bus, artifacts, registry).await?)
        }
        Service::Monitor => started!(rekindle_monitor::App::build(settings.monitor, bus, artifacts).await?),
        Service::Orchestrator | Service::Inference => {
            let peers = &settings.peers;
            let peers = [peer(&peers.registry)?, peer(&peers.trainer)?, peer(&peers.monitor)?];
            started!(rekindle_orchestrator::App::build(settings.orchestrator, bus, artifacts, peers).await?)
        }
    };
    tasks.spawn("gRPC", grpc::serve(socket, routes, health, settings.grpc, shutdown.clone()));
    Ok(ready)
}

/// A replica by itself. It serves from its cache at once; the bus and the object store are attached when they can be reached.
async fn alone(settings: Settings, socket: TcpListener, tasks: &mut Tasks, shutdown: &Shutdown) -> Result<Ready> {
    let limits = replica_limits(&settings);
    let app = Arc::new(rekindle_inference::App::build(settings.inference, None, None).await?);
    let (bus, artifacts) = (settings.bus, settings.artifacts);
    let found = Arc::clone(&app);
    tasks.spawn(
        "bus",
        until(shutdown.clone(), async move {
            found.attach_bus(persistently("bus", || Bus::connect(&bus)).await);
        }),
    );
    let found = Arc::clone(&app);
    tasks.spawn(
        "object store",
        until(shutdown.clone(), async move {
            found.attach_artifacts(persistently("object store", || Artifacts::open(&artifacts)).await);
        }),
    );
    Ok(serve_replica(app, socket, limits, tasks, shutdown))
}

/// Tries until it succeeds.
async fn persistently<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    open: impl Fn() -> F,
) -> T {
    loop {
        match open().await {
            Ok(opened) => return opened,
            Err(error) => tracing::warn!(%error, what, "cannot be reached yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn until(shutdown: Shutdown, work: impl Future<Output = ()>) -> Result<()> {
    shutdown.intake().clone().run_until_cancelled_owned(work).await;
    Ok(())
}

/// The bounds of a replica's server: those of every server, but for the size of a request, which is inference's own.
pub(crate) fn replica_limits(settings: &Settings) -> grpc::Config {
    grpc::Config { max_request_bytes: settings.inference.limits.max_message_bytes, ..settings.grpc.clone() }
}

/// Serves one replica, and starts its own work.
pub(crate) fn serve_replica(
    app: Arc<rekindle_inference::App>,
    socket: TcpListener,
    limits: grpc::Config,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Ready {
    let (health, mut routes) = (Health::new(), RoutesBuilder::new());
    app.register(&mut routes);
    app.background(tasks, shutdown);
    tasks.spawn("inference", grpc::serve(socket, routes, health.clone(), limits, shutdown.clone()));
    Ready::new(health, move || app.ready())
}
