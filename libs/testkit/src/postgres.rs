//! A real PostgreSQL.

use std::{
    fs::File,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{sys::signal::Signal, unistd::User};
use sea_orm::{ConnectionTrait as _, Database};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    eventually,
    process::{end, reserve_port},
};

/// A running server with durable commits; stopped and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Child,
    port: u16,
    user: Option<User>,
    /// Removed when dropped.
    folder: TempDir,
}

impl Postgres {
    /// Creates a cluster, starts the server on a free loopback port and waits until it accepts connections. Under root it runs as the
    /// user `postgres`, since the server refuses to run as root.
    ///
    /// # Panics
    /// When PostgreSQL is not installed (`scripts/install-tools.sh postgres`) or does not start.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let user = server_user();
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .expect("root may change the owner of a folder");
        }
        let data = folder.path().join("data");
        make_cluster(&data, user.as_ref());
        let port = reserve_port();
        let process = spawn(&data, port, folder.path(), user.as_ref());
        let mut server = Self { process, port, user, folder };
        server.wait_until_up().await;
        server
    }

    /// Stops it at once, as a crash does, and starts it again on the same port.
    pub async fn crash_and_restart(&mut self) {
        self.crash();
        let folder = self.folder.path();
        self.process = spawn(&folder.join("data"), self.port, folder, self.user.as_ref());
        self.wait_until_up().await;
    }

    /// SIGQUIT is PostgreSQL's immediate shutdown: it stops the child processes and frees the shared memory. The next start recovers.
    fn crash(&mut self) {
        end(&mut self.process, Signal::SIGQUIT);
    }

    /// The URL of a new, empty database.
    pub async fn fresh_database(&self) -> String {
        self.create("pg_default").await
    }

    /// The URL of a new, empty database whose files, except for the write-ahead log, are in a folder, e.g. on a small disk.
    pub async fn fresh_database_in(&self, folder: &Path) -> String {
        if let Some(user) = &self.user {
            chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may change the owner");
        }
        let tablespace = format!("test_{}", Uuid::new_v4().simple());
        self.execute(&format!("CREATE TABLESPACE {tablespace} LOCATION '{}'", folder.display())).await;
        self.create(&tablespace).await
    }

    async fn create(&self, tablespace: &str) -> String {
        let name = format!("test_{}", Uuid::new_v4().simple());
        self.execute(&format!("CREATE DATABASE {name} TABLESPACE {tablespace}")).await;
        self.url(&name)
    }

    async fn execute(&self, statement: &str) {
        let admin = Box::pin(Database::connect(self.url("postgres"))).await.expect("the server is up");
        admin.execute_unprepared(statement).await.expect("the name is new");
        admin.close().await.expect("it was open");
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    async fn wait_until_up(&mut self) {
        eventually("PostgreSQL to accept connections", async || {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("PostgreSQL exited with {status}");
            }
            let admin = Box::pin(Database::connect(self.url("postgres"))).await.map_err(|error| error.to_string())?;
            admin.close().await.map_err(|error| error.to_string())
        })
        .await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// The user that the server runs as, if not the current one.
fn server_user() -> Option<User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = User::from_name("postgres").expect("the user database can be read");
    Some(user.expect("the user postgres exists: is PostgreSQL installed (scripts/install-tools.sh postgres)?"))
}

fn make_cluster(data: &Path, user: Option<&User>) {
    let made = command("initdb", user)
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
        .arg(data)
        .output()
        .expect("cannot start initdb: is PostgreSQL installed (scripts/install-tools.sh postgres)?");
    assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
}

fn spawn(data: &Path, port: u16, folder: &Path, user: Option<&User>) -> Child {
    let log = File::create(folder.join("log")).expect("the folder is writable");
    command("postgres", user)
        .args(["-h", "127.0.0.1", "-k", "", "-p", &port.to_string(), "-c", "max_connections=200", "-D"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("cannot start postgres, which is installed beside initdb")
}

fn command(program: &str, user: Option<&User>) -> Command {
    let mut command = Command::new(find(program));
    command.current_dir("/");
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Debian installs the server's programs outside of `PATH`, in a folder per version: the newest is used.
fn find(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path().join("bin").join(program))
        .filter(|path| path.exists())
        .max_by_key(|path| path.iter().nth(4).and_then(|version| version.to_str()?.parse::<u32>().ok()));
    newest.unwrap_or_else(|| program.into())
}
