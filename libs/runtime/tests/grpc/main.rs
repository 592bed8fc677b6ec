//! A real server on port 0 and real clients: limits, panics, drain, health, reflection, metrics.

mod fixture;

use std::time::Duration;

use fixture::{Fixture, call, metric};
use rekindle_proto::registry::{DownloadRequest, artifacts_client::ArtifactsClient};
use rekindle_runtime::grpc::Config;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn answers_and_counts_by_method_and_code() {
    let fixture = Fixture::start(Config::default()).await;
    assert_eq!(call(&fixture, "echo").await.expect("fine"), ());
    assert_eq!(call(&fixture, "internal").await.expect_err("fails").code(), Code::Internal);
    let labels = r#"service="rekindle.trainer.v1.Trainer",method="CancelJob""#;
    assert_eq!(metric(&format!("rekindle_grpc_requests_total{{{labels},code=\"Ok\"}}")), Some(1.0));
    assert_eq!(metric(&format!("rekindle_grpc_requests_total{{{labels},code=\"Internal\"}}")), Some(1.0));
    assert_eq!(metric(&format!("rekindle_grpc_request_duration_seconds_count{{{labels}}}")), Some(2.0));
}

#[tokio::test]
async fn a_panic_is_an_internal_error_of_that_call_alone() {
    let fixture = Fixture::start(Config::default()).await;
    let status = call(&fixture, "panic").await.expect_err("panics");
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("secret"), "the panic's words stay inside: {}", status.message());
    call(&fixture, "echo").await.expect("the connection and the server live on");
}

#[tokio::test]
async fn a_panic_in_the_middle_of_a_stream_ends_it_with_internal() {
    let fixture = Fixture::start(Config::default()).await;
    let request = DownloadRequest { digest: "panic".to_owned() };
    let mut stream = ArtifactsClient::new(fixture.channel()).download(request).await.expect("begins").into_inner();
    assert!(stream.message().await.expect("first").is_some());
    assert_eq!(stream.message().await.expect_err("breaks off").code(), Code::Internal);
    call(&fixture, "echo").await.expect("the connection lives on");
}

#[tokio::test]
async fn more_calls_than_allowed_are_refused_at_once_while_health_answers() {
    let fixture = Fixture::start(Config { max_concurrent_calls: 2, ..Config::default() }).await;
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(fixture.calling("wait"))).collect();
    fixture.entered(2).await;
    let refused = call(&fixture, "echo").await.expect_err("full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("max_concurrent_calls = 2"), "{}", refused.message());
    assert_eq!(refused.get_error_details().error_info().expect("details").reason, "TOO_MANY_CALLS");
    assert_eq!(health(&fixture, "").await, ServingStatus::Serving);
    fixture.release(2);
    for call in waiting {
        call.await.expect("no panic").expect("finished");
    }
    call(&fixture, "echo").await.expect("there is room again");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let fixture = Fixture::start(Config { max_concurrent_calls: 1, ..Config::default() }).await;
    let waiting = tokio::spawn(fixture.calling("wait"));
    fixture.entered(1).await;
    waiting.abort();
    fixture.left(1).await;
    call(&fixture, "echo").await.expect("there is room again");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_told_the_limit() {
    let fixture = Fixture::start(Config { timeout: Some(Duration::from_millis(30)), ..Config::default() }).await;
    let status = call(&fixture, "wait").await.expect_err("too slow");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("30ms"), "{}", status.message());
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_the_limit() {
    let fixture = Fixture::start(Config { max_request_bytes: 1000, ..Config::default() }).await;
    let status = call(&fixture, &"x".repeat(2000)).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("max_request_bytes"), "{}", status.message());
    assert_eq!(status.get_error_details().error_info().expect("details").metadata["max_request_bytes"], "1000");
}

#[tokio::test]
async fn a_path_that_nobody_serves_is_unimplemented_and_makes_no_label() {
    let fixture = Fixture::start(Config::default()).await;
    let mut runs = rekindle_proto::registry::runs_client::RunsClient::new(fixture.channel());
    let status = runs.get_run(rekindle_proto::registry::GetRunRequest::default()).await.expect_err("not here");
    assert_eq!(status.code(), Code::Unimplemented);
}

async fn health(fixture: &Fixture, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(fixture.channel()).check(request).await.expect("answers").into_inner().status()
}

#[tokio::test]
async fn health_is_not_serving_until_ready_for_the_server_and_for_each_service() {
    let fixture = Fixture::start_unready(Config::default()).await;
    for (ready, expected) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)] {
        fixture.health.set_ready(ready).await;
        for service in ["", "rekindle.trainer.v1.Trainer", "rekindle.registry.v1.Artifacts"] {
            assert_eq!(health(&fixture, service).await, expected, "{service:?}");
        }
    }
    let unknown = HealthClient::new(fixture.channel()).check(HealthCheckRequest { service: "x".to_owned() }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    let fixture = Fixture::start(Config::default()).await;
    let expected = ["rekindle.trainer.v1.Trainer", "rekindle.registry.v1.Artifacts", "grpc.health.v1.Health"];
    let (v1, v1alpha) = (fixture.reflected_v1().await, fixture.reflected_v1alpha().await);
    for listed in [v1, v1alpha] {
        assert!(expected.iter().all(|name| listed.iter().any(|listed| listed == name)), "{listed:?}");
        assert!(!listed.iter().any(|name| name.ends_with("Monitor")), "only what is served: {listed:?}");
    }
}

#[tokio::test]
async fn shutdown_finishes_calls_under_way_takes_readiness_back_and_refuses_newcomers() {
    let fixture = Fixture::start(Config::default()).await;
    let waiting = tokio::spawn(fixture.calling("wait"));
    fixture.entered(1).await;
    let mut ready = fixture.health.ready();
    fixture.shutdown.begin();
    ready.wait_for(|ready| !ready).await.expect("told");
    fixture.refuses_connections().await;
    fixture.release(1);
    waiting.await.expect("no panic").expect("the call under way was finished");
    fixture.served().await.expect("a clean end");
}

#[tokio::test]
async fn during_the_linger_calls_are_still_served() {
    let fixture = Fixture::start(Config { linger: Duration::from_secs(3600), ..Config::default() }).await;
    let mut ready = fixture.health.ready();
    fixture.shutdown.begin();
    ready.wait_for(|ready| !ready).await.expect("told");
    call(&fixture, "echo").await.expect("routers have not noticed yet");
    fixture.shutdown.close();
    fixture.served().await.expect("closing cuts the linger short");
}

#[tokio::test]
async fn a_watch_of_health_sees_the_end_and_does_not_delay_it() {
    let fixture = Fixture::start(Config { drain: Duration::from_secs(3600), ..Config::default() }).await;
    let mut client = HealthClient::new(fixture.channel());
    let mut watch = client.watch(HealthCheckRequest::default()).await.expect("watch").into_inner();
    assert_eq!(watch.message().await.expect("first").expect("one").status(), ServingStatus::Serving);
    fixture.shutdown.begin();
    let mut last = ServingStatus::Serving;
    let end = loop {
        match watch.message().await {
            Ok(Some(message)) => last = message.status(),
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    assert_eq!((last, end), (ServingStatus::NotServing, Some(Code::Unavailable)));
    fixture.served().await.expect("nothing holds it");
}

#[tokio::test]
async fn a_drain_has_a_deadline() {
    let fixture = Fixture::start(Config { drain: Duration::from_millis(50), ..Config::default() }).await;
    let waiting = tokio::spawn(fixture.calling("wait"));
    fixture.entered(1).await;
    fixture.shutdown.begin();
    fixture.served().await.expect("gives up on the call");
    waiting.abort();
}

#[tokio::test]
async fn clients_that_reconnect_lose_no_call_when_a_server_is_replaced() {
    let first = Fixture::start(Config::default()).await;
    let channel = first.channel();
    let address = first.address;
    let caller = tokio::spawn(async move {
        let mut client = rekindle_proto::trainer::trainer_client::TrainerClient::new(channel);
        let mut failures = Vec::new();
        for _ in 0..500 {
            if let Err(status) = client.cancel_job(Request::new(fixture::command("echo"))).await {
                failures.push(status);
            }
        }
        failures
    });
    first.answered(100).await;
    first.shutdown.begin();
    first.served().await.expect("a clean end");
    let second = Fixture::start_at(address, Config::default()).await;
    let failures = caller.await.expect("no panic");
    // While nobody listens a call cannot even be sent; but none that was sent may be lost.
    assert!(failures.iter().all(|status| status.code() == Code::Unavailable), "{failures:?}");
    call(&second, "echo").await.expect("the new one serves");
}
