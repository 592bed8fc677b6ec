//! Each service as a process of its own, as on a cluster, so that a test can kill or suspend one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rekindle_domain::Namespace;
use rekindle_testkit::{NatsServer, eventually, has_unread_request, reserve_port};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Clients, Wiring, clients,
    process::Process,
    wiring::{merge, to_toml},
};

/// One process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Datasets, runs and models.
    Registry,
    /// The worker.
    Trainer,
    /// The instance of the monitor with that number.
    Monitor(usize),
    /// The instance of the orchestrator with that number. It calls the instance of the monitor with the same number.
    Orchestrator(usize),
    /// The replica with that number.
    Inference(usize),
}

impl Service {
    /// As in `rekindle serve NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Trainer => "trainer",
            Self::Monitor(_) => "monitor",
            Self::Orchestrator(_) => "orchestrator",
            Self::Inference(_) => "inference",
        }
    }

    /// The name of the instance in its settings, by which it holds leases; `None` for a service that has one process.
    pub fn instance(self) -> Option<String> {
        match self {
            Self::Monitor(n) | Self::Orchestrator(n) => Some(format!("{}-{n}", self.name())),
            Self::Registry | Self::Trainer | Self::Inference(_) => None,
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    processes: BTreeMap<Service, Process>,
    ports: BTreeMap<Service, u16>,
    settings: Value,
    environment: Vec<(String, String)>,
    folder: TempDir,
    /// Clients of the first instances.
    pub clients: Clients,
    /// The bus.
    pub nats: NatsServer,
    /// Databases and object store.
    pub wiring: Wiring,
}

impl Cluster {
    /// Starts the bus, the four services and `replicas` replicas, and waits until all are ready.
    pub async fn start(wiring: Wiring, replicas: usize) -> Self {
        Self::start_with(wiring, replicas, json!({})).await
    }

    /// The same with further settings, by section.
    pub async fn start_with(wiring: Wiring, replicas: usize, further: Value) -> Self {
        Self::start_in(&[], wiring, replicas, further).await
    }

    /// The same with further variables in the environment of every process.
    pub async fn start_in(environment: &[(String, String)], wiring: Wiring, replicas: usize, further: Value) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nats = NatsServer::start().await;
        let services = [Service::Registry, Service::Trainer, Service::Monitor(0), Service::Orchestrator(0)];
        let all: Vec<Service> = services.into_iter().chain((0..replicas).map(Service::Inference)).collect();
        let ports: BTreeMap<Service, u16> = all.iter().map(|&service| (service, reserve_port())).collect();
        let clients = Clients {
            registry: url(&ports, Service::Registry),
            trainer: url(&ports, Service::Trainer),
            monitor: url(&ports, Service::Monitor(0)),
            orchestrator: url(&ports, Service::Orchestrator(0)),
            inference: (0..replicas).map(|n| format!("127.0.0.1:{}", ports[&Service::Inference(n)])).collect(),
            rest: Vec::new(),
            nats: nats.url(),
            namespace: Namespace::default(),
        };
        let mut settings = wiring.settings();
        merge(&mut settings, json!({ "bus": { "url": clients.nats } }));
        if settings.get("artifacts").is_none() {
            merge(&mut settings, files_in(folder.path()));
        }
        merge(&mut settings, further);
        let (processes, environment) = (BTreeMap::new(), environment.to_vec());
        let mut cluster = Self { processes, ports, settings, environment, folder, clients, nats, wiring };
        for &service in &all {
            cluster.launch(service);
        }
        for &service in &all {
            cluster.ready(service).await;
        }
        cluster
    }

    /// Starts a further instance, and waits until it is ready.
    pub async fn add(&mut self, service: Service) {
        self.ports.insert(service, reserve_port());
        self.restart(service).await;
    }

    /// Clients of the instances with that number.
    pub fn clients_of(&self, instance: usize) -> Clients {
        Clients {
            monitor: url(&self.ports, Service::Monitor(instance)),
            orchestrator: url(&self.ports, Service::Orchestrator(instance)),
            ..self.clients.clone()
        }
    }

    /// The port of a service.
    pub fn port(&self, service: Service) -> u16 {
        self.ports[&service]
    }

    /// Kills a service.
    pub fn kill(&mut self, service: Service) {
        self.processes.get_mut(&service).expect("it was started").kill();
    }

    /// Suspends a service: calls to it remain in progress until it is resumed or killed.
    pub fn suspend(&self, service: Service) {
        self.processes[&service].suspend();
    }

    /// Resumes a suspended service.
    pub fn resume(&self, service: Service) {
        self.processes[&service].resume();
    }

    /// Whether a call has arrived at a suspended service.
    pub fn has_unread_request(&self, service: Service) -> bool {
        has_unread_request(self.ports[&service])
    }

    /// What a service has logged.
    pub fn log(&self, service: Service) -> String {
        self.processes[&service].log()
    }

    /// Starts a killed service again, at the same address and with the same state.
    pub async fn restart(&mut self, service: Service) {
        self.launch(service);
        self.ready(service).await;
    }

    /// Waits until every service is ready.
    pub async fn all_ready(&mut self) {
        let services: Vec<Service> = self.processes.keys().copied().collect();
        for service in services {
            self.ready(service).await;
        }
    }

    /// The resident memory of each service, in bytes.
    pub fn resident_bytes(&self) -> BTreeMap<Service, u64> {
        self.processes.iter().map(|(&service, process)| (service, process.resident_bytes())).collect()
    }

    fn launch(&mut self, service: Service) {
        let address = format!("127.0.0.1:{}", self.ports[&service]);
        let file = self.folder.path().join(format!("{service:?}.toml"));
        std::fs::write(&file, to_toml(&self.settings_of(service))).expect("a settings file");
        let settings = file.display().to_string();
        let mut arguments: Vec<String> = ["serve", service.name(), "--config", &settings, "--listen", &address]
            .into_iter()
            .map(str::to_owned)
            .chain(["--admin".to_owned(), "127.0.0.1:0".to_owned()])
            .collect();
        if let Service::Inference(n) = service {
            let cache: PathBuf = self.folder.path().join(format!("replica-{n}"));
            arguments.extend(["--replica".into(), format!("replica-{n}"), "--rest".into(), "127.0.0.1:0".into()]);
            arguments.extend(["--cache-dir".into(), cache.display().to_string()]);
        }
        let log = self.folder.path().join(format!("{service:?}.log"));
        self.processes.insert(service, Process::start_in(&self.environment, &arguments, &log));
    }

    fn settings_of(&self, service: Service) -> Value {
        let monitor = match service {
            Service::Orchestrator(n) if self.ports.contains_key(&Service::Monitor(n)) => Service::Monitor(n),
            _ => Service::Monitor(0),
        };
        let (registry, trainer) = (&self.clients.registry, &self.clients.trainer);
        let mut settings = self.settings.clone();
        let peers = json!({ "registry": registry, "trainer": trainer, "monitor": url(&self.ports, monitor) });
        merge(&mut settings, json!({ "peers": peers }));
        if let Some(instance) = service.instance() {
            merge(&mut settings, json!({ service.name(): { "instance": instance } }));
        }
        settings
    }

    async fn ready(&mut self, service: Service) {
        let connection = clients::open(&url(&self.ports, service));
        let process = self.processes.get_mut(&service).expect("it was started");
        eventually(&format!("{service:?} to be ready"), async || {
            process.assert_running();
            match connection.problem().await {
                Ok(None) => Ok(()),
                Ok(Some(problem)) => Err(problem),
                Err(error) => Err(format!("{error:?}")),
            }
        })
        .await;
    }
}

fn url(ports: &BTreeMap<Service, u16>, service: Service) -> String {
    format!("http://127.0.0.1:{}", ports[&service])
}

/// Settings for objects and SQLite files below a folder that all processes share.
pub fn files_in(folder: &Path) -> Value {
    let shared = folder.join("shared");
    std::fs::create_dir_all(&shared).expect("a folder");
    let database = |name: &str| json!({ "database": { "url": format!("sqlite://{}/{name}.db", shared.display()) } });
    json!({
        "artifacts": { "url": format!("file://{}/objects", shared.display()) },
        "registry": database("registry"),
        "monitor": database("monitor"),
        "orchestrator": database("orchestrator"),
    })
}
