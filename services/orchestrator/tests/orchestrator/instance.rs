//! One instance of the orchestrator: its tasks, connections and timers are on a thread of their own, so that it can be killed and suspended
//! as a process is.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_client::Connection;
use rekindle_orchestrator::{App, Config, Peers};
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
    supervise::Tasks,
};
use tokio::sync::{mpsc, oneshot};

/// What an instance is started with.
pub(crate) struct Setup {
    pub config: Config,
    pub nats: String,
    pub objects: rekindle_artifacts::Config,
    /// The address of registry, trainer and monitor.
    pub peers: String,
}

/// A running instance. It is killed when this is dropped.
pub(crate) struct Instance {
    pub connection: Connection,
    suspend: mpsc::Sender<Suspend>,
    kill: oneshot::Sender<()>,
    killed: oneshot::Receiver<()>,
}

/// Says that the thread is stopped, and waits until it may continue.
type Suspend = (oneshot::Sender<()>, Receiver<()>);

/// An instance of which nothing runs until this is dropped.
pub(crate) struct Suspended(#[expect(dead_code, reason = "the instance waits for its end")] Sender<()>);

impl Instance {
    /// Starts an instance and waits until it serves.
    pub(crate) async fn start(setup: Setup) -> Self {
        let (suspend, suspended) = mpsc::channel(1);
        let (kill, to_kill) = oneshot::channel();
        let (ended, killed) = oneshot::channel();
        let (started, address) = oneshot::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run(setup, started, suspended, to_kill));
            let _ = ended.send(());
            // What the driver of the database still holds is given up, as the system does for a killed process. A runtime that is shut
            // down would leave locks behind.
            runtime.block_on(std::future::pending::<()>());
        };
        std::thread::Builder::new().name("orchestrator".to_owned()).spawn(run).expect("a thread");
        let address: String = address.await.expect("it starts");
        let connection = Connection::open(&address, Duration::from_secs(10)).expect("an address");
        Self { connection, suspend, kill, killed }
    }

    /// Ends every task where it is, as SIGKILL does.
    pub(crate) async fn kill(self) {
        self.kill.send(()).expect("it runs");
        self.killed.await.expect("it ends");
    }

    /// Stops the thread of the instance, as SIGSTOP does: no task, connection or timer of it continues. Only the driver of its database has
    /// threads besides, which do what they were asked for before.
    pub(crate) async fn suspend(&self) -> Suspended {
        let (resume, resumed) = channel();
        let (stopped, is_stopped) = oneshot::channel();
        self.suspend.send((stopped, resumed)).await.expect("it runs");
        is_stopped.await.expect("it stops");
        Suspended(resume)
    }
}

/// Runs an instance until it is killed.
async fn run(
    setup: Setup,
    started: oneshot::Sender<String>,
    mut suspended: mpsc::Receiver<Suspend>,
    mut kill: oneshot::Receiver<()>,
) {
    let Setup { config, nats, objects, peers } = setup;
    let bus = Bus::connect(&rekindle_bus::Config::at(nats)).await.expect("connects");
    let artifacts = Artifacts::open(&objects).await.expect("opens");
    let peer = Connection::open(&peers, Duration::from_secs(5)).expect("an address");
    let peers = Peers { registry: peer.clone(), trainer: peer.clone(), monitor: peer };
    let app = App::build(config, bus, artifacts, peers).await.expect("builds");
    let listener = grpc::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let mut routes = RoutesBuilder::new();
    app.register(&mut routes);
    let shutdown = Shutdown::new();
    let mut tasks = Tasks::new();
    app.background(&mut tasks, shutdown.clone());
    let served = grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown.clone());
    tasks.spawn("gRPC", served);
    let mut running = Box::pin(tasks.join(shutdown, Duration::from_secs(5)));
    started.send(address).expect("it is waited for");
    loop {
        tokio::select! {
            // The tasks are aborted where they are.
            _ = &mut kill => return,
            ended = &mut running => panic!("the instance ended: {ended:?}"),
            Some((stopped, resumed)) = suspended.recv() => {
                let _ = stopped.send(());
                // Blocks the thread, and with it everything of this instance.
                let _ = resumed.recv();
            }
        }
    }
}
