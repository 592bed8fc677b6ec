//! A real server on port 0 and real clients: limits, panics, draining, health, reflection, metrics.

mod connections;
mod requests;
mod world;

use std::time::Duration;

use rekindle_proto::registry::{DownloadRequest, artifacts_client::ArtifactsClient};
use rekindle_runtime::grpc::Config;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt as _;
use world::{World, call, metric};

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let world = World::start(Config::default()).await;
    assert_eq!(call(&world, "echo").await.expect("fine"), ());
    assert_eq!(call(&world, "internal").await.expect_err("fails").code(), Code::Internal);
    let labels = r#"service="rekindle.trainer.v1.Trainer",method="CancelJob""#;
    assert_eq!(metric(&format!("rekindle_grpc_requests_total{{{labels},code=\"Ok\"}}")), Some(1.0));
    assert_eq!(metric(&format!("rekindle_grpc_requests_total{{{labels},code=\"Internal\"}}")), Some(1.0));
    assert_eq!(metric(&format!("rekindle_grpc_request_duration_seconds_count{{{labels}}}")), Some(2.0));
}

#[tokio::test]
async fn a_panic_is_an_internal_error_of_that_call_only() {
    let world = World::start(Config::default()).await;
    let status = call(&world, "panic").await.expect_err("panics");
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("secret"), "the message of the panic is not sent: {}", status.message());
    call(&world, "echo").await.expect("the connection and the server survive");
}

#[tokio::test]
async fn a_panic_in_the_middle_of_a_stream_ends_it_with_internal() {
    let world = World::start(Config::default()).await;
    let request = DownloadRequest { digest: "panic".to_owned() };
    let mut stream = ArtifactsClient::new(world.channel()).download(request).await.expect("begins").into_inner();
    assert!(stream.message().await.expect("first").is_some());
    assert_eq!(stream.message().await.expect_err("the stream fails").code(), Code::Internal);
    call(&world, "echo").await.expect("the connection survives");
}

#[tokio::test]
async fn calls_above_the_limit_are_rejected_at_once_while_health_is_served() {
    let world = World::start(Config { max_concurrent_calls: 2, ..Config::default() }).await;
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(world.calling("wait"))).collect();
    world.entered(2).await;
    let rejected = call(&world, "echo").await.expect_err("above the limit");
    assert_eq!(rejected.code(), Code::ResourceExhausted);
    assert!(rejected.message().contains("grpc.max_concurrent_calls = 2"), "{}", rejected.message());
    assert_eq!(rejected.get_error_details().error_info().expect("details").reason, "TOO_MANY_CALLS");
    assert_eq!(health(&world, "").await, ServingStatus::Serving);
    world.release(2);
    for call in waiting {
        call.await.expect("no panic").expect("finished");
    }
    call(&world, "echo").await.expect("a slot is free");
}

#[tokio::test]
async fn a_client_that_disconnects_frees_its_slot() {
    let world = World::start(Config { max_concurrent_calls: 1, ..Config::default() }).await;
    let waiting = tokio::spawn(world.calling("wait"));
    world.entered(1).await;
    waiting.abort();
    world.left(1).await;
    call(&world, "echo").await.expect("a slot is free");
}

#[tokio::test]
async fn a_call_that_exceeds_the_deadline_fails_and_names_the_limit() {
    let world = World::start(Config { timeout: Some(Duration::from_millis(30)), ..Config::default() }).await;
    let status = call(&world, "wait").await.expect_err("exceeds the deadline");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("30ms"), "{}", status.message());
}

#[tokio::test]
async fn a_request_above_the_size_limit_fails_and_names_the_limit() {
    let world = World::start(Config { max_request_bytes: 1000, ..Config::default() }).await;
    let status = call(&world, &"x".repeat(2000)).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("max_request_bytes"), "{}", status.message());
    assert_eq!(status.get_error_details().error_info().expect("details").metadata["max_request_bytes"], "1000");
}

#[tokio::test]
async fn an_unknown_path_is_unimplemented_and_creates_no_label() {
    let world = World::start(Config::default()).await;
    let mut runs = rekindle_proto::registry::runs_client::RunsClient::new(world.channel());
    let status = runs.get_run(rekindle_proto::registry::GetRunRequest::default()).await.expect_err("not served");
    assert_eq!(status.code(), Code::Unimplemented);
}

async fn health(world: &World, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(world.channel()).check(request).await.expect("answers").into_inner().status()
}

#[tokio::test]
async fn health_is_not_serving_until_ready_for_the_server_and_for_each_service() {
    let world = World::start_unready(Config::default()).await;
    let full = || Some("the disk has 0 bytes free".to_owned());
    for (problem, expected) in [(full(), ServingStatus::NotServing), (None, ServingStatus::Serving)] {
        world.health.set_problem(problem.clone()).await;
        let request = HealthCheckRequest { service: String::new() };
        let answer = HealthClient::new(world.channel()).check(request).await.expect("answers");
        assert_eq!(rekindle_proto::health::problem(answer.metadata()), problem);
        for service in ["", "rekindle.trainer.v1.Trainer", "rekindle.registry.v1.Artifacts"] {
            assert_eq!(health(&world, service).await, expected, "{service:?}");
        }
    }
    let unknown = HealthClient::new(world.channel()).check(HealthCheckRequest { service: "x".to_owned() }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_served_services() {
    let world = World::start(Config::default()).await;
    let expected = ["rekindle.trainer.v1.Trainer", "rekindle.registry.v1.Artifacts", "grpc.health.v1.Health"];
    let (v1, v1alpha) = (world.reflected_v1().await, world.reflected_v1alpha().await);
    for listed in [v1, v1alpha] {
        assert!(expected.iter().all(|name| listed.iter().any(|listed| listed == name)), "{listed:?}");
        assert!(!listed.iter().any(|name| name.ends_with("Monitor")), "only served services: {listed:?}");
    }
}

#[tokio::test]
async fn shutdown_withdraws_readiness_refuses_new_calls_and_completes_calls_in_flight() {
    let world = World::start(Config::default()).await;
    let waiting = tokio::spawn(world.calling("wait"));
    world.entered(1).await;
    let mut problem = world.health.problem();
    world.shutdown.begin();
    problem.wait_for(Option::is_some).await.expect("readiness changes");
    world.refuses_connections().await;
    world.release(1);
    waiting.await.expect("no panic").expect("the call in flight completed");
    world.served().await.expect("a clean end");
}

#[tokio::test]
async fn during_the_linger_calls_are_still_served() {
    let world = World::start(Config { linger: Duration::from_secs(3600), ..Config::default() }).await;
    let mut problem = world.health.problem();
    world.shutdown.begin();
    problem.wait_for(Option::is_some).await.expect("readiness changes");
    call(&world, "echo").await.expect("calls are accepted during the linger");
    world.shutdown.close();
    world.served().await.expect("closing ends the linger");
}

#[tokio::test]
async fn a_watch_of_health_sees_the_shutdown_and_does_not_delay_it() {
    let world = World::start(Config { drain: Duration::from_secs(3600), ..Config::default() }).await;
    let mut client = HealthClient::new(world.channel());
    let mut watch = client.watch(HealthCheckRequest::default()).await.expect("watch").into_inner();
    assert_eq!(watch.message().await.expect("first").expect("one").status(), ServingStatus::Serving);
    world.shutdown.begin();
    let mut last = ServingStatus::Serving;
    let end = loop {
        match watch.message().await {
            Ok(Some(message)) => last = message.status(),
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    assert_eq!((last, end), (ServingStatus::NotServing, Some(Code::Unavailable)));
    world.served().await.expect("the watch does not delay it");
}

#[tokio::test]
async fn a_drain_has_a_deadline() {
    let world = World::start(Config { drain: Duration::from_millis(50), ..Config::default() }).await;
    let waiting = tokio::spawn(world.calling("wait"));
    world.entered(1).await;
    world.shutdown.begin();
    world.served().await.expect("abandons the call");
    waiting.abort();
}

#[tokio::test]
async fn reconnecting_clients_lose_no_call_when_a_server_is_replaced() {
    let first = World::start(Config::default()).await;
    let channel = first.channel();
    let address = first.address;
    let caller = tokio::spawn(async move {
        let mut client = rekindle_proto::trainer::trainer_client::TrainerClient::new(channel);
        let mut failures = Vec::new();
        for _ in 0..500 {
            if let Err(status) = client.cancel_job(Request::new(world::command("echo"))).await {
                failures.push(status);
            }
        }
        failures
    });
    first.completed(100).await;
    first.shutdown.begin();
    first.served().await.expect("a clean end");
    let second = World::start_at(address, Config::default()).await;
    let failures = caller.await.expect("no panic");
    // While no server listens a call cannot be sent; a call that was sent must not be lost.
    assert!(failures.iter().all(|status| status.code() == Code::Unavailable), "{failures:?}");
    call(&second, "echo").await.expect("the new server serves");
}
