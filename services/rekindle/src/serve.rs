//! `rekindle serve SERVICE`: one service in this process, as on a cluster.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, keep};
use rekindle_client::Connection;
use rekindle_orchestrator::Peers;
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    http,
    shutdown::Shutdown,
    supervise::Tasks,
    telemetry,
};
use rekindle_service::chain;
use tokio::net::TcpListener;

use crate::{
    settings::{Scope, Settings},
    storage::Storage,
};

/// Deadline of a call from one service to another. Exports and registrations of large datasets take longest.
pub(crate) const PEER_DEADLINE: Duration = Duration::from_secs(300);
/// Interval between two attempts to reach the bus, the object store or the database at the start; it doubles up to the longest one.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(15);
/// Interval between two checks of readiness.
const READINESS: Duration = Duration::from_millis(50);

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    Registry,
    Trainer,
    Monitor,
    Orchestrator,
    Inference,
}

/// The arguments of `rekindle serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Service to run
    pub service: Service,
    /// Settings file (TOML); `rekindle config` prints every key with its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// gRPC address; by default the port of the service (registry 7010, trainer 7020, monitor 7030, orchestrator 7040,
    /// inference 8001) on every interface
    #[arg(long, value_name = "ADDR", env = "REKINDLE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// HTTP address of metrics and health; by default the port after the gRPC port
    #[arg(long, value_name = "ADDR", env = "REKINDLE_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Inference: REST address; by default the port before the gRPC port
    #[arg(long, value_name = "ADDR", env = "REKINDLE_REST")]
    pub rest: Option<SocketAddr>,
    /// Inference: unique name of this replica; by default the name of the host
    #[arg(long, value_name = "NAME")]
    pub replica: Option<String>,
    /// Inference: folder in which model bundles are cached
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Inference: host:port at which clients reach this replica; by default the name of the host and the port of gRPC
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

    fn rest(&self) -> SocketAddr {
        let listen = self.listen();
        self.rest.unwrap_or_else(|| SocketAddr::new(listen.ip(), listen.port().saturating_sub(1)))
    }

    fn overrides(&self) -> Vec<(String, String)> {
        let cache = self.cache_dir.as_ref().map(|path| path.display().to_string());
        let given = [("replica", &self.replica), ("cache_dir", &cache), ("address", &self.advertise)];
        given.into_iter().filter_map(|(key, value)| Some((format!("inference.{key}"), value.clone()?))).collect()
    }
}

/// The readiness of one server of this process.
pub(crate) struct Ready {
    health: Health,
    problem: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Ready {
    /// The health of the server.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// `problem` tells why it is not ready; `None` if it is.
    pub(crate) fn new(health: Health, problem: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self { health, problem: Box::new(problem) }
    }
}

/// Why a service whose calls can or cannot be served now is not ready.
pub(crate) fn unready(service: &str, is_ready: bool) -> Option<String> {
    (!is_ready).then(|| format!("the {service} has no connection to its database, the bus or the object store"))
}

/// Updates the health of every server until shutdown begins.
pub(crate) async fn readiness(servers: Vec<Ready>, shutdown: Shutdown) -> Result<()> {
    let mut ticks = tokio::time::interval(READINESS);
    loop {
        tokio::select! {
            () = shutdown.intake().cancelled() => return Ok(()),
            _ = ticks.tick() => for server in &servers {
                let problem = (server.problem)();
                if *server.health.problem().borrow() != problem {
                    server.health.set_problem(problem).await;
                }
            },
        }
    }
}

/// Raises the number of open files to what the system allows: connections, databases and files share it.
pub(crate) fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(now, most)| if now < most { setrlimit(Resource::RLIMIT_NOFILE, most, most) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}

/// Runs one service until a signal ends it.
pub(crate) async fn run(args: Args) -> Result<()> {
    raise_open_files();
    let shutdown = Shutdown::on_signals()?;
    let settings = Settings::load(args.config.as_deref(), args.overrides(), Scope::Service(args.service))?;
    let _telemetry = telemetry::init(&format!("rekindle-{:?}", args.service).to_lowercase(), &settings.telemetry)?;
    let (socket, admin) = (grpc::listen(args.listen()).await?, grpc::listen(args.admin()).await?);
    println!("{:?} listens on {} (gRPC) and {} (HTTP)", args.service, socket.local_addr()?, admin.local_addr()?);

    let mut tasks = Tasks::new();
    let drain = settings.shutdown.drain;
    let limits = http::Limits::from(&settings.grpc);
    let (server, probes, api) = match args.service {
        Service::Inference => {
            let rest = grpc::listen(args.rest()).await?;
            println!("Inference listens on {} (REST)", rest.local_addr()?);
            let sockets = ReplicaSockets { grpc: socket, rest };
            let (app, server) = replica(settings, sockets, &mut tasks, &shutdown).await?;
            let metrics = move || http::process_metrics() + &app.metrics();
            let probes = http::probes(server.health.problem(), metrics);
            (server, probes, None)
        }
        service => {
            let started = control_plane(service, settings, socket, &mut tasks, &shutdown).await?;
            let Some((server, api)) = started else { return Ok(()) };
            let probes = http::admin(server.health.problem());
            (server, probes, api)
        }
    };
    match api {
        Some(api) => {
            let served = http::serve_with_api(admin, probes.merge(api), limits, shutdown.clone());
            tasks.spawn_until_close("admin", served);
        }
        None => tasks.spawn_until_close("admin", http::serve(admin, probes, shutdown.clone())),
    }
    tasks.spawn("readiness", readiness(vec![server], shutdown.clone()));
    tasks.join(shutdown, drain).await?;
    Ok(())
}

/// Builds, starts and serves one service of the control plane, once it reaches what it needs. Returns its readiness, and the routes that it
/// adds to its admin port; `None` if shutdown begins before.
async fn control_plane(
    service: Service,
    settings: Settings,
    socket: TcpListener,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Result<Option<(Ready, Option<http::Router>)>> {
    let stop = shutdown.intake();
    let is_permanent = |error: &rekindle_bus::Error| matches!(error, rekindle_bus::Error::Config { .. });
    let opened = persistently("bus", is_permanent, || Bus::connect(&settings.bus));
    let Some(bus) = stop.run_until_cancelled(opened).await.transpose()? else { return Ok(None) };
    let is_permanent = |error: &rekindle_artifacts::Error| !error.is_transient();
    let opened = persistently("object store", is_permanent, || Artifacts::open(&settings.artifacts));
    let Some(artifacts) = stop.run_until_cancelled(opened).await.transpose()? else { return Ok(None) };
    if let Some((_, database)) = settings.database(service) {
        // A file that cannot be opened stays so.
        let is_file = database.url.starts_with("sqlite");
        let is_permanent =
            |error: &rekindle_store::Error| is_file || !matches!(error, rekindle_store::Error::Connect { .. });
        let opened = persistently("database", is_permanent, || rekindle_store::connect(database));
        let Some(opened) = stop.run_until_cancelled(opened).await.transpose()? else { return Ok(None) };
        // The service opens it with its own limits.
        opened.close().await?;
    }
    tasks.spawn("bus streams", keep::run(bus.clone(), shutdown.intake().clone()));
    let storage = Storage::new(None, Arc::default());
    tasks.spawn("storage", storage.clone().run(bus.clone(), shutdown.clone()));
    let peer = |address: &str| Connection::open(address, PEER_DEADLINE);
    let (health, mut routes) = (Health::new(), RoutesBuilder::for_requests_of(settings.grpc.max_request_bytes));
    macro_rules! started {
        ($app:expr) => {{
            let app = $app;
            app.register(&mut routes);
            app.background(tasks, shutdown.clone());
            let name = format!("{service:?}").to_lowercase();
            Ready::new(health.clone(), move || unready(&name, app.ready()).or_else(|| storage.problem()))
        }};
    }
    let mut api = None;
    let ready = match service {
        Service::Registry => {
            let registry = rekindle_registry::App::build(settings.registry, bus, artifacts).await?;
            api = Some(registry.mlflow());
            started!(registry)
        }
        Service::Trainer => {
            let registry = peer(&settings.peers.registry)?;
            started!(rekindle_trainer::App::build(settings.trainer, bus, artifacts, registry).await?)
        }
        Service::Monitor => started!(rekindle_monitor::App::build(settings.monitor, bus, artifacts).await?),
        Service::Orchestrator | Service::Inference => {
            let peers = &settings.peers;
            let (registry, trainer) = (peer(&peers.registry)?, peer(&peers.trainer)?);
            let peers = Peers { registry, trainer, monitor: peer(&peers.monitor)? };
            started!(rekindle_orchestrator::App::build(settings.orchestrator, bus, artifacts, peers).await?)
        }
    };
    tasks.spawn("gRPC", grpc::serve(socket, routes, health, settings.grpc, shutdown.clone()));
    Ok(Some((ready, api)))
}

/// Builds, starts and serves a replica. It serves from its cache at once; bus and object store are attached once they are reachable.
async fn replica(
    settings: Settings,
    sockets: ReplicaSockets,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Result<(Arc<rekindle_inference::App>, Ready)> {
    let limits = replica_limits(&settings);
    let config = settings.inference.listening_on(sockets.grpc.local_addr()?);
    let app = Arc::new(rekindle_inference::App::build(config, None, None).await?);
    let (bus, artifacts) = (settings.bus, settings.artifacts);
    let (attached, kept) = (Arc::clone(&app), shutdown.intake().clone());
    tasks.spawn(
        "bus",
        until(shutdown.clone(), async move {
            let Ok(bus) = persistently("bus", |_| false, || Bus::connect(&bus)).await else { return };
            attached.attach_bus(bus.clone());
            if let Err(error) = keep::run(bus, kept).await {
                tracing::warn!(%error, "streams of the bus are not checked");
            }
        }),
    );
    let attached = Arc::clone(&app);
    tasks.spawn(
        "object store",
        until(shutdown.clone(), async move {
            if let Ok(artifacts) = persistently("object store", |_| false, || Artifacts::open(&artifacts)).await {
                attached.attach_artifacts(artifacts);
            }
        }),
    );
    let ready = serve_replica(Arc::clone(&app), sockets, limits, tasks, shutdown);
    Ok((app, ready))
}

/// Opens a connection, and tries again with increasing delays until it succeeds. What fails for the same reason again is logged once.
///
/// # Errors
/// One that another attempt does not change.
async fn persistently<T, E, F>(what: &str, is_permanent: impl Fn(&E) -> bool, open: impl Fn() -> F) -> Result<T, E>
where
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>>,
{
    let (mut delay, mut reported) = (RETRY, String::new());
    loop {
        // Boxed, since the futures of connections are large and would be part of every caller's.
        match Box::pin(open()).await {
            Ok(opened) => return Ok(opened),
            Err(error) if is_permanent(&error) => return Err(error),
            Err(error) => {
                let reason = chain(&error);
                if reason != reported {
                    tracing::warn!(error = reason, server = what, "unreachable, retrying");
                    reported = reason;
                }
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(MAX_RETRY);
    }
}

async fn until(shutdown: Shutdown, work: impl Future<Output = ()>) -> Result<()> {
    shutdown.intake().clone().run_until_cancelled_owned(work).await;
    Ok(())
}

/// The limits of a replica's server: those of every server, except for those that are settings of inference.
pub(crate) fn replica_limits(settings: &Settings) -> grpc::Config {
    let limits = &settings.inference.limits;
    grpc::Config {
        max_request_bytes: limits.max_message_bytes,
        // The places of predictions are those of the server, so that no connection takes all of them.
        max_concurrent_calls: settings.grpc.max_concurrent_calls.min(limits.max_concurrent_requests),
        ..settings.grpc.clone()
    }
}

/// The listeners of a replica.
pub(crate) struct ReplicaSockets {
    pub(crate) grpc: TcpListener,
    pub(crate) rest: TcpListener,
}

/// Serves a replica and starts its background tasks.
pub(crate) fn serve_replica(
    app: Arc<rekindle_inference::App>,
    sockets: ReplicaSockets,
    limits: grpc::Config,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Ready {
    let (health, mut routes) = (Health::new(), RoutesBuilder::new());
    app.register(&mut routes);
    app.background(tasks, shutdown);
    let of_rest = http::Limits::from(&limits);
    tasks.spawn("inference REST", http::serve_rest(sockets.rest, app.rest(of_rest), of_rest, shutdown.clone()));
    tasks.spawn("inference", grpc::serve(sockets.grpc, routes, health.clone(), limits, shutdown.clone()));
    Ready::new(health, move || unready("replica", app.ready()))
}
