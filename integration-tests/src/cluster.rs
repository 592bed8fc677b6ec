//! Each service as a process of its own, as on a cluster, so that a test can take one away.

use std::{collections::BTreeMap, path::PathBuf};

use rekindle_testkit::{NatsServer, eventually, free_port};
use serde_json::json;
use tempfile::TempDir;

use crate::{Clients, Wiring, process::Process, wiring::to_toml};
use rekindle_proto::client::channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// One process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Datasets, runs, models.
    Registry,
    /// The worker.
    Trainer,
    /// Windows and reports.
    Monitor,
    /// Workflows and deployments.
    Orchestrator,
    /// The replica of that number.
    Inference(usize),
}

impl Service {
    /// As in `rekindle serve NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Trainer => "trainer",
            Self::Monitor => "monitor",
            Self::Orchestrator => "orchestrator",
            Self::Inference(_) => "inference",
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    processes: BTreeMap<Service, Process>,
    ports: BTreeMap<Service, u16>,
    folder: TempDir,
    /// Where it answers.
    pub clients: Clients,
    /// The bus.
    pub nats: NatsServer,
    _wiring: Wiring,
}

impl Cluster {
    /// Starts the bus, the four services and `replicas` replicas, and waits until all are ready.
    pub async fn start(wiring: Wiring, replicas: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nats = NatsServer::start().await;
        let services = [Service::Registry, Service::Trainer, Service::Monitor, Service::Orchestrator];
        let all: Vec<Service> = services.into_iter().chain((0..replicas).map(Service::Inference)).collect();
        let ports: BTreeMap<Service, u16> = all.iter().map(|&service| (service, free_port())).collect();
        let url = |service| format!("http://127.0.0.1:{}", ports[&service]);
        let clients = Clients {
            registry: url(Service::Registry),
            trainer: url(Service::Trainer),
            monitor: url(Service::Monitor),
            orchestrator: url(Service::Orchestrator),
            inference: (0..replicas).map(|n| format!("127.0.0.1:{}", ports[&Service::Inference(n)])).collect(),
            nats: nats.url(),
        };
        let mut settings = wiring.settings();
        settings["bus"] = json!({ "url": clients.nats });
        settings["peers"] =
            json!({ "registry": clients.registry, "trainer": clients.trainer, "monitor": clients.monitor });
        let shared = folder.path().join("shared");
        if settings.get("artifacts").is_none() {
            settings["artifacts"] = json!({ "url": format!("file://{}/objects", shared.display()) });
            for service in ["registry", "monitor", "orchestrator"] {
                let file = shared.join(format!("{service}.db"));
                settings[service] = json!({ "database": { "url": format!("sqlite://{}", file.display()) } });
            }
            std::fs::create_dir_all(&shared).expect("a folder");
        }
        std::fs::write(folder.path().join("settings.toml"), to_toml(&settings)).expect("a settings file");
        let mut cluster = Self { processes: BTreeMap::new(), ports, folder, clients, nats, _wiring: wiring };
        for &service in &all {
            cluster.launch(service);
        }
        for &service in &all {
            cluster.ready(service).await;
        }
        cluster
    }

    /// Ends a service at once, as a lost machine would.
    pub fn kill(&mut self, service: Service) {
        self.processes.get_mut(&service).expect("it was started").kill();
    }

    /// Stops a service where it is, so that whatever is asked of it from now on is under way when it is killed.
    pub fn freeze(&self, service: Service) {
        self.processes[&service].freeze();
    }

    /// Starts a killed service again, at its old address and with its old state.
    pub async fn restart(&mut self, service: Service) {
        self.launch(service);
        self.ready(service).await;
    }

    fn launch(&mut self, service: Service) {
        let address = format!("127.0.0.1:{}", self.ports[&service]);
        let settings = self.folder.path().join("settings.toml").display().to_string();
        let mut arguments: Vec<String> = ["serve", service.name(), "--config", &settings, "--listen", &address]
            .into_iter()
            .map(str::to_owned)
            .chain(["--admin".to_owned(), "127.0.0.1:0".to_owned()])
            .collect();
        if let Service::Inference(n) = service {
            let cache: PathBuf = self.folder.path().join(format!("replica-{n}"));
            arguments.extend(["--replica".into(), format!("replica-{n}")]);
            arguments.extend(["--cache-dir".into(), cache.display().to_string()]);
        }
        let log = self.folder.path().join(format!("{service:?}.log"));
        self.processes.insert(service, Process::start(&arguments, &log));
    }

    async fn ready(&mut self, service: Service) {
        let address = format!("http://127.0.0.1:{}", self.ports[&service]);
        let process = self.processes.get_mut(&service).expect("it was started");
        eventually(&format!("{service:?} is ready"), async || {
            process.assert_running();
            health(&address).await
        })
        .await;
    }
}

/// Asks a service whether it is ready.
async fn health(address: &str) -> Result<(), String> {
    let channel = channel(address, std::time::Duration::from_secs(5)).map_err(|error| error.to_string())?;
    let request = HealthCheckRequest { service: String::new() };
    let status = HealthClient::new(channel).check(request).await.map_err(|status| status.to_string())?.into_inner();
    if status.status() == ServingStatus::Serving { Ok(()) } else { Err(format!("{:?}", status.status())) }
}
