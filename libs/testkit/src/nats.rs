//! A real nats-server with JetStream.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};

use crate::{
    eventually,
    process::{end, reserve_port, send, tool},
};

/// A running server; stopped and removed when dropped.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<Child>,
    port: u16,
    folder: TempDir,
    /// Further arguments.
    arguments: Vec<String>,
}

impl NatsServer {
    /// Starts a server with an empty store and waits until it accepts connections.
    ///
    /// # Panics
    /// When the program is not installed (`scripts/install-tools.sh nats`, or `REKINDLE_NATS_SERVER` for another one) or does not
    /// start.
    pub async fn start() -> Self {
        Self::start_in(&std::env::temp_dir()).await
    }

    /// Starts a server with an empty store in a new folder of `parent`, e.g. a small disk.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_in(parent: &Path) -> Self {
        Self::start_with(parent, Vec::new()).await
    }

    /// Starts a server that requires a user and a password.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_with_login(user: &str, password: &str) -> Self {
        let arguments = ["--user", user, "--pass", password].map(str::to_owned).to_vec();
        Self::start_with(&std::env::temp_dir(), arguments).await
    }

    async fn start_with(parent: &Path, arguments: Vec<String>) -> Self {
        let folder = tempfile::tempdir_in(parent).expect("a temporary folder");
        let mut server = Self { process: None, port: reserve_port(), folder, arguments };
        server.restart().await;
        server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it with SIGTERM. Clients lose their connection; the store is kept.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Stops it with SIGKILL, as a crash would. The store is kept as it is.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Suspends it with SIGSTOP: connections stay open, and nothing is answered.
    pub fn suspend(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Resumes it after [`suspend`](Self::suspend).
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            send(process, signal);
        }
    }

    /// Stops it if it runs, and starts it on the same port with the same store.
    pub async fn restart(&mut self) {
        self.stop();
        self.process = Some(spawn(self.port, self.folder.path(), &self.arguments));
        let port = self.port;
        eventually("nats-server to accept connections", async || {
            if let Ok(Some(status)) = self.process.as_mut().expect("it was started").try_wait() {
                // Connections of the server that was stopped may still hold the port: retry until it is free.
                self.process = Some(spawn(port, self.folder.path(), &self.arguments));
                return Err(format!("it exited with {status}; its log: {}", self.log()));
            }
            greeting(port).await.map_err(|error| format!("{error}; its log: {}", self.log()))
        })
        .await;
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            end(&mut process, signal);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("the folder is writable");
    Command::new(tool("REKINDLE_NATS_SERVER", "nats-server"))
        .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
        .arg(folder.join("store"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("cannot start nats-server: is it installed (scripts/install-tools.sh nats)?")
}

/// The server sends the first line, which contains whether JetStream is enabled.
async fn greeting(port: u16) -> Result<(), String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.map_err(|error| error.to_string())?;
    if line.starts_with("INFO ") && line.contains("\"jetstream\":true") { Ok(()) } else { Err(line) }
}
