//! The NATS server of `rekindle up`: a child process on the loopback interface, with its storage in the data folder.

use std::{
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
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::child::end_with_parent;

/// Environment variable with the path of the server program.
const PROGRAM_VARIABLE: &str = "REKINDLE_NATS_SERVER";
/// Time within which the server must stop after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes that streams may reserve in total: more than any disk has. The streams are sized to the disk when they are created; a reservation
/// of the server, which depends on the space that is free when it starts, would refuse them after a restart.
const RESERVABLE: u64 = 1 << 50;

/// A running nats-server. It ends with this process, however that ends; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Child,
    port: u16,
    folder: PathBuf,
    lock: File,
}

impl NatsServer {
    /// Starts the server on a loopback port with its files in `folder`. It holds `lock` until it ends, also if this process ends before.
    pub(crate) fn start(folder: &Path, port: u16, lock: File) -> Result<Self> {
        let program = find_program()?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let settings = folder.join("nats.conf");
        std::fs::write(&settings, configuration(folder, port)?)
            .with_context(|| format!("cannot write {}", settings.display()))?;
        let log = File::create(folder.join("nats.log")).context("cannot create the log of nats-server")?;
        let child = spawn(&program, &settings, &lock, log)?;
        Ok(Self { child, port, folder: folder.to_owned(), lock })
    }

    /// Stops it as [`stop`](Self::stop) does, and starts it again. Clients reconnect.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.end().await?;
        let log = File::options().append(true).create(true).open(self.folder.join("nats.log"));
        let log = log.context("cannot open the log of nats-server")?;
        self.child = spawn(&find_program()?, &self.folder.join("nats.conf"), &self.lock, log)?;
        Ok(())
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

fn spawn(program: &Path, settings: &Path, lock: &File, log: File) -> Result<Child> {
    let lock = lock.try_clone().context("cannot share the lock")?;
    let mut command = Command::new(program);
    command.arg("--config").arg(settings).stdin(lock).stdout(Stdio::null()).stderr(log);
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
