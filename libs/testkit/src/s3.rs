//! A real S3-compatible store: SeaweedFS on loopback ports, in a temporary folder.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use rekindle_artifacts::{Artifacts, Config};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    eventually,
    process::{end, has_unread_request, reserve_port, send, tool},
};

const ACCESS_KEY: &str = "rekindle";
const SECRET_KEY: &str = "rekindle-secret";

/// A running store; stopped and removed when dropped.
#[derive(Debug)]
pub struct S3 {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl S3 {
    /// Starts the store and waits until it stores an object.
    ///
    /// # Panics
    /// When the program is not installed (`scripts/install-tools.sh s3`, or `REKINDLE_WEED` for another one) or does not start.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] =
            [(); 8].map(|()| reserve_port());
        let port = |name: &str, port: u16| format!("-{name}={port}");
        std::fs::write(folder.path().join("identities.json"), identities()).expect("the folder is writable");
        let log = std::fs::File::create(folder.path().join("log")).expect("the folder is writable");
        std::fs::create_dir(folder.path().join("data")).expect("the folder is writable");
        let process = Command::new(tool("REKINDLE_WEED", "weed"))
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
            .expect("cannot start the S3 server: is it installed (scripts/install-tools.sh s3)?");
        let mut store = Self { process, port: s3, folder };
        store.wait_until_up().await;
        store
    }

    /// The address of the server.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Suspends the server with SIGSTOP: requests are accepted, and answered once it is resumed.
    pub fn suspend(&self) {
        send(&self.process, Signal::SIGSTOP);
    }

    /// Resumes a suspended server.
    pub fn resume(&self) {
        send(&self.process, Signal::SIGCONT);
    }

    /// Whether a request has arrived that the suspended server has not read.
    pub fn has_unread_request(&self) -> bool {
        has_unread_request(self.port)
    }

    /// The configuration of a new bucket.
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
        let config = Config { max_retries: 0, request_timeout: Duration::from_secs(5), ..self.fresh_bucket() };
        eventually("the S3 server to store an object", async || {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("the S3 server exited with {status}; its log: {}", log());
            }
            match Artifacts::open(&config).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}: {:?}; its log: {}", std::error::Error::source(&error), log())),
            }
        })
        .await;
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        end(&mut self.process, Signal::SIGKILL);
    }
}

fn identities() -> String {
    format!(
        r#"{{"identities": [{{"name": "test", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}]}}]}}"#
    )
}
