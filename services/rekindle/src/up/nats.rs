//! The NATS server of `rekindle up`: a child process on the loopback interface, with its storage in the data folder.

use std::{
    convert::Infallible,
    env,
    ffi::OsStr,
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
use rekindle_bus::consumer::Backoff;
use tokio::{
    process::{Child, Command},
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::child::end_with_parent;

/// Environment variable with the path of the server program.
const PROGRAM_VARIABLE: &str = "REKINDLE_NATS_SERVER";
/// Its configuration and its log, in its folder.
const SETTINGS: &str = "nats.conf";
const LOG: &str = "nats.log";
/// Time within which the server must stop after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Delays before a server that ended is started again.
const RESTART: Backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(10) };
/// A server that ran for this long is started again after the first delay.
const STEADY: Duration = Duration::from_secs(60);
/// Bytes that streams may reserve in total: more than any disk has. The streams are sized to the disk when they are created; a reservation
/// of the server, which depends on the space that is free when it starts, would refuse them after a restart.
const RESERVABLE: u64 = 1 << 50;

/// A running nats-server. It ends with this process, however that ends; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Child,
    folder: PathBuf,
    port: u16,
    lock: File,
}

impl NatsServer {
    /// Starts the server on a loopback port with its files in `folder`. It holds `lock` until it ends, also if this process ends before.
    pub(crate) fn start(folder: &Path, port: u16, lock: File) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let settings = folder.join(SETTINGS);
        std::fs::write(&settings, configuration(folder, port)?)
            .with_context(|| format!("cannot write {}", settings.display()))?;
        // The log is that of this start of the platform.
        File::create(folder.join(LOG)).context("cannot create the log of nats-server")?;
        let child = spawn(folder, &lock)?;
        Ok(Self { child, folder: folder.to_owned(), port, lock })
    }

    /// Starts the server again whenever it ends by itself, with a growing delay, and restarts it whenever `frozen` is notified. Never returns.
    /// Drop the future to stop the server.
    pub(crate) async fn keep_running(&mut self, frozen: &Notify) -> Infallible {
        let mut attempt = 0;
        loop {
            let began = Instant::now();
            tokio::select! {
                status = self.ended() => {
                    attempt = if began.elapsed() < STEADY { attempt + 1 } else { 1 };
                    let delay = RESTART.after(attempt);
                    tracing::error!(
                        status,
                        ?delay,
                        "nats-server ended unexpectedly, starting it again; its log is nats/nats.log"
                    );
                    sleep(delay).await;
                }
                () = frozen.notified() => {
                    tracing::warn!("nats-server refuses messages since its disk was full: restarting it");
                    if let Err(error) = self.end().await {
                        tracing::error!(error = format!("{error:#}"), "nats-server does not end");
                        continue;
                    }
                }
            }
            match spawn(&self.folder, &self.lock) {
                Ok(child) => self.child = child,
                // The child has ended, so the next round comes here again after a longer delay.
                Err(error) => tracing::error!(error = format!("{error:#}"), "nats-server was not started"),
            }
        }
    }

    /// The address for clients.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Waits until it ends by itself. Returns its status.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops it with SIGTERM; kills it after the deadline.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.end().await
    }

    async fn end(&mut self) -> Result<()> {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            kill(Pid::from_raw(id), Signal::SIGTERM).context("cannot stop nats-server")?;
        }
        if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            self.child.kill().await.context("cannot kill nats-server")?;
        }
        Ok(())
    }
}

/// Starts the program with the configuration in `folder`.
fn spawn(folder: &Path, lock: &File) -> Result<Child> {
    let program = find_program()?;
    let log = File::options().create(true).append(true).open(folder.join(LOG));
    let log = log.context("cannot open the log of nats-server")?;
    let mut command = Command::new(&program);
    let lock = lock.try_clone().context("cannot share the lock")?;
    command.arg("--config").arg(folder.join(SETTINGS)).stdin(lock).stdout(Stdio::null()).stderr(log);
    // A terminal sends Ctrl-C to the whole process group. The server must outlive the services, which still publish to it.
    command.process_group(0).kill_on_drop(true);
    end_with_parent(&mut command);
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

fn configuration(folder: &Path, port: u16) -> Result<String> {
    let store = folder.join("store");
    let store = store.to_str().context("the data folder's path must be UTF-8")?;
    let store = serde_json::to_string(store)?;
    Ok(format!(
        "# Written by `rekindle up` at every start.\n\
         listen: \"127.0.0.1:{port}\"\n\
         server_name: rekindle\n\
         jetstream {{\n  store_dir: {store}\n  sync_interval: \"1s\"\n  max_file_store: {RESERVABLE}\n}}\n"
    ))
}

/// The program named by the environment, else the one that `make tools` installs beside the build, else the one on the PATH.
fn find_program() -> Result<PathBuf> {
    if let Some(named) = env::var_os(PROGRAM_VARIABLE) {
        let named = PathBuf::from(named);
        if named.is_file() {
            return Ok(named);
        }
        bail!("{PROGRAM_VARIABLE} names {}, which is not a file", named.display());
    }
    let exe = env::current_exe().context("the path of this program is unknown")?;
    let beside_build = exe.ancestors().map(|folder| folder.join(".tools/bin/nats-server"));
    let on_path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> =
        env::split_paths(&on_path).map(|folder| folder.join(OsStr::new("nats-server"))).collect();
    beside_build.chain(on_path).find(|candidate| candidate.is_file()).with_context(|| {
        format!(
            "nats-server not found: run `make tools`, install it on the PATH, set {PROGRAM_VARIABLE} to its path, \
             or give the address of a running server with --external-nats"
        )
    })
}
