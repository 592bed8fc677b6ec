//! The admin port over a real socket.

use rekindle_runtime::{health::Health, http, shutdown::Shutdown};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reads");
    answer
}

#[tokio::test]
async fn metrics_liveness_and_readiness_are_served_until_closing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (health, shutdown) = (Health::new(), Shutdown::new());
    let server = tokio::spawn(http::serve(listener, http::admin(health.problem()), shutdown.clone()));

    assert!(get(address, "/healthz/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/healthz/ready").await.starts_with("HTTP/1.1 503"));
    health.set_ready().await;
    assert!(get(address, "/healthz/ready").await.starts_with("HTTP/1.1 200"));
    health.set_problem(Some("the disk is full".to_owned())).await;
    let answer = get(address, "/healthz/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not ready: the disk is full\n"), "{answer}");

    metrics::counter!("test_things_total", "kind" => "round").increment(3);
    metrics::histogram!("test_wait_seconds").record(0.2);
    let text = get(address, "/metrics").await;
    assert!(text.contains("text/plain; version=0.0.4"), "{text}");
    assert!(text.contains(r#"test_things_total{kind="round"} 3"#), "{text}");
    assert!(text.contains(r#"test_wait_seconds_bucket{le="0.25"} 1"#), "{text}");

    shutdown.begin();
    assert!(get(address, "/healthz/live").await.starts_with("HTTP/1.1 200"), "probes are served while draining");
    shutdown.close();
    server.await.expect("no panic").expect("a clean end");
}

/// The health check of the container image, as compose.yaml runs it.
async fn check(port: u16) -> bool {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/healthcheck.sh");
    let output = tokio::process::Command::new("bash").args([script, &port.to_string()]).output().await;
    output.expect("bash runs").status.success()
}

#[tokio::test]
async fn the_health_check_of_the_image_succeeds_only_while_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (health, shutdown) = (Health::new(), Shutdown::new());
    let server = tokio::spawn(http::serve(listener, http::admin(health.problem()), shutdown.clone()));
    assert!(!check(port).await, "not ready");
    health.set_ready().await;
    assert!(check(port).await);
    shutdown.close();
    server.await.expect("no panic").expect("a clean end");
    assert!(!check(port).await, "stopped");
}

#[tokio::test]
async fn a_connection_that_sends_no_request_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (health, shutdown) = (Health::new(), Shutdown::new());
    let server = tokio::spawn(http::serve(listener, http::admin(health.problem()), shutdown.clone()));
    let closed = async |sent: &str| {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(sent.as_bytes()).await.expect("writes");
        stream.read_to_end(&mut Vec::new()).await.expect("the server closes it");
    };
    tokio::join!(closed(""), closed("GET /metrics HTTP/1.1\r\nhost: x\r\n"));
    shutdown.close();
    server.await.expect("no panic").expect("a clean end");
}
