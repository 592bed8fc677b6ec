//! A real S3-compatible store for a test: SeaweedFS on loopback ports, in a folder of its own.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rekindle_artifacts::{Artifacts, Config};
use tempfile::TempDir;
use uuid::Uuid;

/// How long the server may take until it stores and returns an object.
const PATIENCE: Duration = Duration::from_secs(60);
const ACCESS_KEY: &str = "rekindle";
const SECRET_KEY: &str = "rekindle-secret";

/// A running store; ended and removed when dropped.
#[derive(Debug)]
pub struct S3 {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl S3 {
    /// Starts the store and waits until it keeps an object.
    ///
    /// # Panics
    /// When the program is missing (`scripts/install-tools.sh s3` brings it) or does not come up.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] = ports();
        let port = |name: &str, port: u16| format!("-{name}={port}");
        std::fs::write(folder.path().join("identities.json"), identities()).expect("the folder is writable");
        let log = std::fs::File::create(folder.path().join("log")).expect("the folder is writable");
        std::fs::create_dir(folder.path().join("data")).expect("the folder is writable");
        let process = Command::new(program())
            .current_dir(folder.path())
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=data", "-master.telemetry=false"])
            .args(["-volume.max=64", "-master.volumeSizeLimitMB=64"])
            .args(["-s3", "-s3.config=identities.json", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args([port("s3.port", s3), port("s3.port.grpc", s3_grpc)])
            .args([port("master.port", master), port("master.port.grpc", master_grpc)])
            .args([port("volume.port", volume), port("volume.port.grpc", volume_grpc)])
            .args([port("filer.port", filer), port("filer.port.grpc", filer_grpc)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the S3 server starts: is it installed (scripts/install-tools.sh s3)?");
        let mut store = Self { process, port: s3, folder };
        store.wait_until_up().await;
        store
    }

    /// The server's address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How to open a bucket that nobody else uses.
    pub fn fresh_bucket(&self) -> Config {
        Config {
            url: format!("s3://test-{}/under/a-prefix", Uuid::new_v4().simple()),
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(SECRET_KEY.to_owned()),
            allow_http: true,
            ..Config::default()
        }
    }

    async fn wait_until_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let config = Config { max_retries: 0, request_timeout: Duration::from_secs(5), ..self.fresh_bucket() };
        loop {
            let last = match Artifacts::open(&config).await {
                Ok(_) => return,
                Err(error) => format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)),
            };
            let exited = self.process.try_wait().expect("the child can be asked");
            if exited.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("the S3 server did not come up ({exited:?}): {last}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It holds nothing worth a clean end, and the folder goes with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn identities() -> String {
    format!(
        r#"{{"identities": [{{"name": "test", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}]}}]}}"#
    )
}

/// Free loopback ports, all different because all are held until the last is found.
fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("a bound listener has an address").port())
}

/// `$REKINDLE_WEED`, else the one that the install script brings, else whatever the path has.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("REKINDLE_WEED") {
        return program.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/weed");
    installed.canonicalize().unwrap_or_else(|_| "weed".into())
}
