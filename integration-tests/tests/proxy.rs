//! A proxy with the configuration of compose.yaml before services that run alone: clients need its address alone, although the replicas have
//! addresses that only the proxy can reach.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rekindle_integration_tests::{
    Wiring,
    cluster::{Cluster, Service},
    process::program,
    scenario,
    table::{self, csv},
};
use rekindle_testkit::{eventually, reserve_port};
use serde_json::json;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Envoy with the configuration of compose.yaml, its ports replaced by those of a cluster. It ends with this.
struct Proxy {
    child: Child,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(envoy: &Path, cluster: &Cluster, folder: &Path) -> Self {
        let mut config = std::fs::read_to_string(format!("{ROOT}/deploy/envoy.yaml")).expect("the configuration");
        let mut replace = |from: &str, to: &str| {
            assert!(config.contains(from), "{from} is not in the configuration");
            config = config.replace(from, to);
        };
        let port = reserve_port();
        for (listener, port) in [(7000, port), (8000, reserve_port()), (5000, reserve_port())] {
            replace(
                &format!("{{ address: 0.0.0.0, port_value: {listener} }}"),
                &format!("{{ address: 127.0.0.1, port_value: {port} }}"),
            );
        }
        replace("port_value: 9901", &format!("port_value: {}", reserve_port()));
        let services = [
            ("registry", 7010, Service::Registry),
            ("trainer", 7020, Service::Trainer),
            ("monitor", 7030, Service::Monitor(0)),
            ("orchestrator", 7040, Service::Orchestrator(0)),
            ("inference", 8001, Service::Inference(0)),
        ];
        for (name, port, service) in services {
            replace(
                &format!("{{ address: {name}, port_value: {port} }}"),
                &format!("{{ address: 127.0.0.1, port_value: {} }}", cluster.port(service)),
            );
        }
        let path = folder.join("envoy.yaml");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(folder.join("envoy.log")).expect("a log");
        let child = Command::new(envoy)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning", "--config-path"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .spawn()
            .expect("envoy starts");
        Self { child, port }
    }

    fn rekindle(&self, arguments: &[&str]) -> Output {
        let address = format!("http://127.0.0.1:{}", self.port);
        let command = Command::new(program()).args(arguments).args(["--address", &address]).output();
        command.expect("the program runs")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_need_the_address_of_the_proxy_alone_or_skipped() {
    let envoy = Path::new(ROOT).join(".tools/bin/envoy");
    if !envoy.exists() {
        println!("skipped: there is no {}: scripts/install-tools.sh envoy", envoy.display());
        return;
    }
    let hidden = json!({ "inference": { "address": "replica.invalid:8001" } });
    let mut cluster = Cluster::start_with(Wiring::Embedded, 1, hidden).await;
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start(&envoy, &cluster, folder.path());
    eventually("the platform to be ready through the proxy", async || {
        let status = proxy.rekindle(&["status"]);
        if status.status.success() { Ok(()) } else { Err(text(&status.stdout) + &text(&status.stderr)) }
    })
    .await;
    scenario::register(&cluster.clients, csv(&table::rows(0..48, 48)), "training rows").await;
    let (_, version) = scenario::train(&cluster.clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(&cluster.clients, version.version).await;
    let model = scenario::model().to_string();
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, csv(&table::rows(48..50, 48))).expect("written");
    let rows = file.display().to_string();
    let predicted = proxy.rekindle(&["predict", &model, "--file", &rows, "--json"]);
    assert!(predicted.status.success(), "{}", text(&predicted.stderr));
    let answers: serde_json::Value = serde_json::from_slice(&predicted.stdout).expect("JSON");
    assert!(answers.as_array().is_some_and(|answers| !answers.is_empty()), "{answers}");
    // The proxy answers for a service that it does not reach, and the status names it.
    cluster.kill(Service::Trainer);
    eventually("the status to name the service", async || {
        let status = proxy.rekindle(&["status"]);
        let printed = text(&status.stdout);
        let is_named = status.status.code() == Some(3) && printed.starts_with("not ready: the trainer is not ready");
        if is_named { Ok(()) } else { Err(printed + &text(&status.stderr)) }
    })
    .await;
    cluster.kill(Service::Inference(0));
    cluster.restart(Service::Trainer).await;
    eventually("the status to name the replicas", async || {
        let printed = text(&proxy.rekindle(&["status"]).stdout);
        if printed.starts_with("not ready: replica 127.0.0.1:") { Ok(()) } else { Err(printed) }
    })
    .await;
}
