//! The demonstration's own platform: `rekindle up` as a child process, as a user would start it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child as Process, Command},
    time::{Instant, sleep, timeout},
};

use crate::{client::connection::Connection, up::Endpoints};

/// How long the platform may take to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A running platform; killed if dropped before it was stopped.
pub(crate) struct Child {
    process: Process,
    log: PathBuf,
    endpoints: Endpoints,
}

impl Child {
    /// Starts a platform with its state in `folder`, on free ports, and waits until it is ready.
    pub(crate) async fn start(folder: &Path, replicas: u16) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let log = folder.join("platform.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = Command::new(std::env::current_exe().context("cannot tell where this program is")?)
            .args(["up", "--free-ports", "--replicas", &replicas.to_string(), "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the platform")?;
        let mut child = Self { process, log, endpoints: Endpoints::default() };
        child.endpoints = child.wait_for_endpoints(&folder.join("endpoints.json")).await?;
        child.connection()?.wait_ready(PATIENCE).await.with_context(|| child.hint())?;
        Ok(child)
    }

    /// Clients of it.
    pub(crate) fn connection(&self) -> Result<Connection> {
        Connection::open(&self.endpoints.control, &self.endpoints.nats, self.endpoints.inference.clone())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(id) = self.process.id() {
            kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM).context("cannot end the platform")?;
        }
        let status = timeout(PATIENCE, self.process.wait()).await.context("the platform did not end in time")??;
        if !status.success() {
            bail!("the platform ended with {status}; {}", self.hint());
        }
        Ok(())
    }

    async fn wait_for_endpoints(&mut self, file: &Path) -> Result<Endpoints> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(file) {
                return serde_json::from_str(&text).with_context(|| format!("{} is not whole", file.display()));
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the platform ended with {status}; {}", self.hint());
            }
            if Instant::now() > deadline {
                bail!("the platform did not listen within {PATIENCE:?}; {}", self.hint());
            }
            sleep(POLL).await;
        }
    }

    fn hint(&self) -> String {
        format!("its log is {}", self.log.display())
    }
}
