//! The platform of the demonstration: `rekindle up` as a child process.

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

use crate::{child::end_with_parent, client::platform::Platform, up::Endpoints};

/// Time within which the platform must become ready, and must stop.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A running platform; killed if dropped before it is stopped.
pub(crate) struct Child {
    process: Process,
    log: PathBuf,
    endpoints: Endpoints,
}

impl Child {
    /// Starts a platform with its state in `folder`, on free ports, and waits until it is ready.
    pub(crate) async fn start(folder: &Path, replicas: u16) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let log = folder.join("platform.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(std::env::current_exe().context("the path of this program is unknown")?);
        command
            .args(["up", "--free-ports", "--replicas", &replicas.to_string(), "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot write both outputs to one log")?)
            .stderr(output)
            .kill_on_drop(true);
        end_with_parent(&mut command);
        let process = command.spawn().context("cannot start the platform")?;
        let mut child = Self { process, log, endpoints: Endpoints::default() };
        child.endpoints = child.wait_for_endpoints(&folder.join("endpoints.json")).await?;
        child.platform()?.wait_ready(PATIENCE).await.with_context(|| child.hint())?;
        Ok(child)
    }

    /// Clients of the platform.
    pub(crate) fn platform(&self) -> Result<Platform> {
        Platform::open(&self.endpoints.control, &self.endpoints.nats, self.endpoints.inference.clone())
    }

    /// Stops the platform and waits until it has stopped.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(id) = self.process.id() {
            kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM).context("cannot stop the platform")?;
        }
        let status = timeout(PATIENCE, self.process.wait()).await.context("the platform did not stop in time")??;
        if !status.success() {
            bail!("the platform ended with {status}; {}", self.hint());
        }
        Ok(())
    }

    async fn wait_for_endpoints(&mut self, file: &Path) -> Result<Endpoints> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(file) {
                return serde_json::from_str(&text).with_context(|| format!("{} is not complete", file.display()));
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the platform ended with {status}; {}", self.hint());
            }
            if Instant::now() > deadline {
                bail!("the platform did not start within {PATIENCE:?}; {}", self.hint());
            }
            sleep(POLL).await;
        }
    }

    fn hint(&self) -> String {
        format!("its log is {}", self.log.display())
    }
}
