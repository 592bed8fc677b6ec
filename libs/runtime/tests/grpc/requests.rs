//! Requests that no client of the service sends: malformed, expensive, or never sent in full.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response as HttpResponse, uri::PathAndQuery};
use http_body::Frame;
use prost::Message as _;
use rekindle_proto::{
    registry::{DownloadRequest, artifacts_client::ArtifactsClient},
    trainer::{Job, SubmitJobRequest, trainer_client::TrainerClient},
};
use rekindle_runtime::grpc::Config;
use tonic::{Code, Response, Status, body::Body, client::GrpcService as _, transport::Channel};
use tonic_types::StatusExt as _;

use crate::world::{World, call, command, metric};

const SUBMIT: &str = "/rekindle.trainer.v1.Trainer/SubmitJob";
const CANCEL: &str = "/rekindle.trainer.v1.Trainer/CancelJob";

/// A body of some bytes, which ends after them or never.
struct Sent {
    bytes: Option<Bytes>,
    ends: bool,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match (self.bytes.take(), self.ends) {
            (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            (None, true) => Poll::Ready(None),
            (None, false) => Poll::Pending,
        }
    }
}

/// A message with the flag and the length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    [&[0][..], &length, message].concat()
}

async fn sent(mut channel: Channel, path: &'static str, body: Sent) -> HttpResponse<Body> {
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.expect("connects");
    let request = Request::builder()
        .method("POST")
        .uri(PathAndQuery::from_static(path).as_str())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body))
        .expect("a request");
    channel.call(request).await.expect("a response")
}

/// The status of a call whose request is `bytes`.
async fn status_of(world: &World, path: &'static str, bytes: Vec<u8>, ends: bool) -> Status {
    let response = sent(world.channel(), path, Sent { bytes: Some(bytes.into()), ends }).await;
    Status::from_header_map(response.headers()).expect("a call that fails")
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[tokio::test]
async fn what_is_no_message_is_an_invalid_argument() {
    let world = World::start(Config::default()).await;
    for (what, bytes) in [
        ("no tag", framed(&[0xff; 40])),
        ("no text", framed(&[0x0a, 2, 0xc3, 0x28])),
        ("another type", framed(&[0x08, 1])),
        ("cut within a field", framed(&[0x0a, 9, b'x'])),
        ("cut within the message", framed(&[0x0a, 1, b'x'])[..7].to_vec()),
        ("cut within the header", vec![0, 0]),
        ("compressed", vec![1, 0, 0, 0, 0]),
        ("no message", Vec::new()),
    ] {
        let status = status_of(&world, CANCEL, bytes, true).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "MALFORMED_REQUEST"), "{what}");
    }
    let (trainer, code) = (r#"service="rekindle.trainer.v1.Trainer""#, r#"code="Internal""#);
    assert_eq!(metric(&format!("rekindle_grpc_requests_total{{{trainer},method=\"CancelJob\",{code}}}")), None);
    call(&world, "echo").await.expect("the server serves");
}

#[tokio::test]
async fn a_nul_in_a_text_is_refused_with_its_field() {
    let world = World::start(Config::default()).await;
    let tags = [("team".to_owned(), "a\0b".to_owned())].into();
    let request = SubmitJobRequest { job: Some(Job { tags, ..Default::default() }) };
    let status = TrainerClient::new(world.channel()).submit_job(request).await.expect_err("a NUL");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(status.get_details_bad_request().expect("details").field_violations[0].field, "job.tags.value");
}

#[tokio::test]
async fn a_request_that_takes_many_times_its_size_is_refused() {
    let world = World::start(Config::default()).await;
    // Field 6 of the job, a map of texts, with entries of two bytes.
    let job = [0x32, 0].repeat(1 << 20);
    let mut message = vec![0x0a];
    prost::encode_length_delimiter(job.len(), &mut message).expect("room");
    message.extend_from_slice(&job);
    let status = status_of(&world, SUBMIT, framed(&message), true).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "TOO_MANY_ELEMENTS"), "{status}");
    let tags = (0..10_000).map(|at| (format!("tag-{at}"), "a value".to_owned())).collect();
    let request = SubmitJobRequest { job: Some(Job { tags, ..Default::default() }) };
    assert!(request.encoded_len() > 200_000);
    let served = TrainerClient::new(world.channel()).submit_job(request).await.expect_err("not implemented");
    assert_eq!(served.code(), Code::Unimplemented, "ten thousand tags reach the service: {served}");
}

#[tokio::test]
async fn requests_in_progress_have_a_budget_of_memory() {
    let config = Config { max_pending_bytes: 6 << 20, ..Config::default() };
    let world = World::start(config).await;
    let large = || command(&"x".repeat(3 << 20));
    let status = TrainerClient::new(world.channel()).cancel_job(large()).await.expect_err("3 MiB twice");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_BYTES"), "{status}");
    assert!(status.message().contains("max_pending_bytes = 6291456"), "{status}");
    for _ in 0..20 {
        let smaller = command(&"x".repeat(1 << 20));
        TrainerClient::new(world.channel()).cancel_job(smaller).await.expect("what was taken is returned");
    }
}

#[tokio::test]
async fn a_request_that_is_not_received_in_time_fails_and_names_the_limit() {
    let world = World::start(Config { receive_timeout: Duration::from_millis(50), ..Config::default() }).await;
    for bytes in [Vec::new(), framed(&[0x0a, 1, b'x'])[..6].to_vec(), framed(&[0x0a, 1, b'x'])] {
        let status = status_of(&world, CANCEL, bytes, false).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "NOT_RECEIVED"), "{status}");
        assert!(status.message().contains("receive_timeout = 50ms"), "{status}");
    }
}

#[tokio::test]
async fn connections_that_send_no_requests_take_no_places_of_others() {
    let world = World::start(Config { max_concurrent_calls: 60, ..Config::default() }).await;
    let calls = (0..5).flat_map(|_| {
        let channel = world.channel();
        (0..100).map(move |_| channel.clone())
    });
    let waiting: Vec<_> =
        calls.map(|channel| tokio::spawn(sent(channel, CANCEL, Sent { bytes: None, ends: false }))).collect();
    let count = |series: &str| metric(series).unwrap_or_default();
    while count("rekindle_grpc_requests_in_flight") + count("rekindle_grpc_requests_rejected_total") < 500.0 {
        tokio::task::yield_now().await;
    }
    call(&world, "echo").await.expect("another connection is served");
    assert!(count("rekindle_grpc_requests_in_flight") > 40.0, "the places were in demand");
    for call in &waiting {
        call.abort();
    }
}

#[tokio::test]
async fn downloads_that_stall_take_places_of_their_own() {
    let world = World::start(Config { max_concurrent_transfers: 2, ..Config::default() }).await;
    let download = async || {
        let request = DownloadRequest { digest: "endless".to_owned() };
        ArtifactsClient::new(world.channel()).download(request).await.map(Response::into_inner)
    };
    let _stalled = (download().await.expect("begins"), download().await.expect("begins"));
    let status = download().await.map(drop).expect_err("two are open");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("max_concurrent_transfers = 2"), "{status}");
    call(&world, "echo").await.expect("other calls have other places");
}

#[tokio::test]
async fn a_long_error_arrives_shortened() {
    let world = World::start(Config::default()).await;
    let status = call(&world, "long").await.expect_err("requested");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("columns: is unknown; ") && status.message().len() <= 4096, "{status}");
}
