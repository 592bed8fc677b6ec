//! `rekindle up`, as an operator starts it.

use std::path::{Path, PathBuf};

use rekindle_domain::Namespace;
use rekindle_testkit::eventually;
use tempfile::TempDir;

use crate::{Clients, Wiring, process::Process, process::program};

/// The addresses that `up` writes into its data folder once it listens.
#[derive(Debug, serde::Deserialize)]
struct Endpoints {
    control: String,
    admin: String,
    inference: Vec<String>,
    rest: Vec<String>,
    nats: String,
}

/// A platform in one process.
#[derive(Debug)]
pub struct Platform {
    process: Process,
    wiring: Wiring,
    replicas: usize,
    folder: TempDir,
    /// Its clients.
    pub clients: Clients,
}

impl Platform {
    /// Starts a platform with its state in a temporary folder, and waits until it is ready.
    pub async fn start(wiring: Wiring, replicas: usize) -> Self {
        Self::start_in(&std::env::temp_dir(), wiring, replicas).await
    }

    /// Starts a platform with its state in a new folder of `parent`, e.g. a small disk.
    pub async fn start_in(parent: &Path, wiring: Wiring, replicas: usize) -> Self {
        let folder = tempfile::tempdir_in(parent).expect("a temporary folder");
        wiring.write_settings(&folder.path().join("settings.toml"));
        let (mut process, clients) = launch(&[], folder.path(), replicas).await;
        wait_until_ready(&mut process, &clients).await;
        Self { process, wiring, replicas, folder, clients }
    }

    /// The id of its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Its output.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Fails the test with the end of the log if the process has exited.
    pub fn assert_running(&mut self) {
        self.process.assert_running();
    }

    /// Kills it, and starts it again with the same state.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.restart().await;
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it, and waits until it has exited.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again after its end, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.restart_in(&[]).await;
    }

    /// The same with further variables in its environment.
    pub async fn restart_in(&mut self, environment: &[(String, String)]) {
        (self.process, self.clients) = launch(environment, self.folder.path(), self.replicas).await;
        wait_until_ready(&mut self.process, &self.clients).await;
    }

    /// Starts it again after its end, and waits until it listens: it need not become ready.
    pub async fn restart_unready(&mut self) {
        (self.process, self.clients) = launch(&[], self.folder.path(), self.replicas).await;
    }

    /// Starts it again after its end, and returns what it prints until it exits.
    pub async fn refused_start(&self) -> String {
        let log = self.folder.path().join("refused.log");
        let _ = std::fs::remove_file(&log);
        let mut process = Process::start(&up(self.folder.path(), self.replicas), &log);
        eventually("the program to exit", async || match process.has_exited() {
            true => Ok(()),
            false => Err(process.log()),
        })
        .await;
        process.log()
    }

    /// Kills its nats-server, and waits until there is another and the platform is ready.
    pub async fn kill_broker(&mut self) {
        let killed = self.process.child_named("nats-server").await;
        killed.kill();
        eventually("another nats-server", async || {
            self.process.assert_running();
            match self.process.child_named("nats-server").await {
                same if same == killed => Err(format!("{same:?}")),
                _ => Ok(()),
            }
        })
        .await;
        self.json(&["status", "--wait", "--timeout", "2m"]).await;
    }

    /// Runs a client command against it and returns its output, parsed; fails the test unless it exits with code 0.
    pub async fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let (code, out, err) = self.command(arguments).await;
        assert_eq!(code, 0, "rekindle {arguments:?}\n{out}\n{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("rekindle {arguments:?}: {error}\n{out}"))
    }

    /// Runs a client command with `--json`: its exit code, standard output and standard error.
    pub async fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = tokio::process::Command::new(program())
            .arg("--json")
            .args(["--address", &self.clients.registry, "--nats", &self.clients.nats])
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// The URL of its HTTP port: metrics, health, and the tracking API of MLflow.
    pub fn http_url(&self) -> String {
        let text = std::fs::read_to_string(self.data_dir().join("endpoints.json")).expect("the platform has started");
        serde_json::from_str::<Endpoints>(&text).expect("addresses").admin
    }

    /// The folder of its state.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.folder.path())
    }

    /// Its databases and object store.
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// The arguments of `rekindle up`.
fn up(folder: &Path, replicas: usize) -> [String; 8] {
    [
        "up".into(),
        "--data-dir".into(),
        data_dir(folder).display().to_string(),
        "--replicas".into(),
        replicas.to_string(),
        "--free-ports".into(),
        "--config".into(),
        folder.join("settings.toml").display().to_string(),
    ]
}

async fn launch(environment: &[(String, String)], folder: &Path, replicas: usize) -> (Process, Clients) {
    let endpoints_file = data_dir(folder).join("endpoints.json");
    let _ = std::fs::remove_file(&endpoints_file);
    let mut process = Process::start_in(environment, &up(folder, replicas), &folder.join("up.log"));
    let endpoints: Endpoints = eventually("the platform to write its addresses", async || {
        process.assert_running();
        let text = std::fs::read_to_string(&endpoints_file).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    })
    .await;
    let clients = Clients {
        registry: endpoints.control.clone(),
        trainer: endpoints.control.clone(),
        monitor: endpoints.control.clone(),
        orchestrator: endpoints.control,
        inference: endpoints.inference,
        rest: endpoints.rest.iter().map(|url| url.trim_start_matches("http://").to_owned()).collect(),
        nats: endpoints.nats,
        namespace: Namespace::default(),
    };
    (process, clients)
}

async fn wait_until_ready(process: &mut Process, clients: &Clients) {
    let status = tokio::process::Command::new(program())
        .args(["--address", &clients.registry, "status", "--wait"])
        .output()
        .await
        .expect("the program starts");
    process.assert_running();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}
