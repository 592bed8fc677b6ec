//! Loads on a server that speaks both bindings and counts its requests.

use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

use super::*;
use crate::bench::{
    drive,
    failure::Kind,
    load::{Length, Load, Plan, Stop},
    measured::Measured,
};

const CONTENT: &[u8] = b"the elements";

/// What a server has seen.
#[derive(Debug, Default)]
struct Seen {
    requests: AtomicUsize,
    connections: AtomicUsize,
    bodies: Mutex<Vec<Bytes>>,
}

type Body = BoxBody<Bytes, Infallible>;
/// The answer to a request, by its number.
type Answer = fn(usize) -> Response<Body>;

async fn serve(answer: Answer) -> (Address, Arc<Seen>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = Address::parse(&format!("http://{}", listener.local_addr().expect("bound"))).expect("an address");
    let seen: Arc<Seen> = Arc::default();
    let counting = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counting.connections.fetch_add(1, Relaxed);
            let counting = Arc::clone(&counting);
            let service = service_fn(move |request: Request<Incoming>| {
                let counting = Arc::clone(&counting);
                async move {
                    let body = request.into_body().collect().await.expect("a request").to_bytes();
                    counting.bodies.lock().expect("no panic").push(body);
                    Ok::<_, Infallible>(answer(counting.requests.fetch_add(1, Relaxed)))
                }
            });
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, seen)
}

fn grpc_answer() -> Response<Body> {
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(Bytes::from_static(b"\0\0\0\0\x01x")), Frame::trailers(trailers)];
    Response::new(StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed())
}

/// A response with a status and no message.
fn grpc_refusal(code: &'static str, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed());
    response.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
    response.headers_mut().insert("grpc-message", HeaderValue::from_static(message));
    response
}

fn rest_answer(status: StatusCode, body: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(body)).boxed());
    *response.status_mut() = status;
    response
}

async fn load(target: &Arc<Target>, requests: u64) -> Measured {
    let plan = Plan {
        load: Load::Closed { concurrency: 6 },
        warm_up: Duration::ZERO,
        length: Length::Requests(requests),
        timeout: Duration::from_secs(60),
    };
    drive(target, plan, Stop::default()).await.expect("a result of each request")
}

fn failures(measured: &Measured) -> Vec<(Kind, u64, &str)> {
    measured.failures.by_kind().collect()
}

#[tokio::test]
async fn grpc_requests_are_counted_alike_on_both_sides() {
    let (address, seen) = serve(|_| grpc_answer()).await;
    let messages = vec![Message::grpc(b"first"), Message::grpc(b"second")];
    let target = Target::grpc(&[address], 3, messages.clone()).expect("a target");
    let measured = load(&target, 301).await;
    assert_eq!((measured.answered, measured.received, failures(&measured)), (301, 301 * 6, vec![]));
    assert_eq!((seen.requests.load(Relaxed), seen.connections.load(Relaxed)), (301, 3));
    let bodies = seen.bodies.lock().expect("no panic");
    let first = bodies.iter().filter(|body| **body == messages[0].body).count();
    let second = bodies.iter().filter(|body| **body == messages[1].body).count();
    assert_eq!((first, second), (151, 150), "the messages are sent in turn");
}

#[tokio::test]
async fn rest_requests_are_counted_alike_on_both_sides_and_connections_are_kept() {
    let (address, seen) = serve(|_| rest_answer(StatusCode::OK, b"{}")).await;
    let message = Message::binary(b"{}".to_vec(), CONTENT);
    let target = Target::rest(&[address], "/v2/models/m/infer", vec![message.clone()]).expect("a target");
    let measured = load(&target, 300).await;
    assert_eq!((measured.answered, measured.received, failures(&measured)), (300, 600, vec![]));
    assert_eq!(seen.requests.load(Relaxed), 300);
    assert!((1..=6).contains(&seen.connections.load(Relaxed)), "at most one connection for each request in flight");
    assert!(seen.bodies.lock().expect("no panic").iter().all(|body| *body == message.body));
}

#[tokio::test]
async fn grpc_errors_are_counted_by_code() {
    let (address, seen) = serve(|number| match number % 5 {
        0 => grpc_refusal("8", "1024%20requests are in flight"),
        1 => grpc_refusal("0", ""),
        2 => rest_answer(StatusCode::BAD_GATEWAY, b""),
        3 => rest_answer(StatusCode::OK, b"{}"),
        _ => grpc_answer(),
    })
    .await;
    let measured = load(&Target::grpc(&[address], 1, vec![Message::grpc(b"m")]).expect("a target"), 100).await;
    let expected = [
        (Kind::Grpc(8), 20, "1024 requests are in flight"),
        (Kind::Http(502), 20, "the response is not of a gRPC server"),
    ];
    let found = failures(&measured);
    assert_eq!(found[..2], expected);
    assert_eq!((found[2].0, found[2].1, found.len()), (Kind::InvalidResponse, 40, 3), "no message, and no status");
    assert_eq!((measured.answered, measured.requests(), seen.requests.load(Relaxed)), (20, 100, 100));
}

#[tokio::test]
async fn rest_errors_are_counted_by_status_and_cost_no_connection() {
    let (address, seen) = serve(|number| match number % 2 {
        0 => rest_answer(StatusCode::TOO_MANY_REQUESTS, br#"{"error": "retry later"}"#),
        _ => rest_answer(StatusCode::OK, b"{}"),
    })
    .await;
    let target = Target::rest(&[address], "/v2/models/m/infer", vec![Message::json(b"{}".to_vec())]);
    let measured = load(&target.expect("a target"), 100).await;
    assert_eq!(failures(&measured), [(Kind::Http(429), 50, "retry later")]);
    assert_eq!((measured.answered, seen.requests.load(Relaxed)), (50, 100));
    assert!((1..=6).contains(&seen.connections.load(Relaxed)));
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_replaced() {
    let (address, seen) = serve(|_| {
        let mut response = rest_answer(StatusCode::OK, b"{}");
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        response
    })
    .await;
    let target = Target::rest(&[address], "/v2/models/m/infer", vec![Message::json(b"{}".to_vec())]);
    let measured = load(&target.expect("a target"), 50).await;
    assert_eq!((measured.answered, failures(&measured)), (50, vec![]));
    assert_eq!((seen.requests.load(Relaxed), seen.connections.load(Relaxed)), (50, 50));
}

#[tokio::test]
async fn a_connection_on_which_the_server_failed_is_not_used_again() {
    let (address, seen) = serve(|_| rest_answer(StatusCode::INTERNAL_SERVER_ERROR, b"")).await;
    let target = Target::rest(&[address], "/v2/models/m/infer", vec![Message::json(b"{}".to_vec())]);
    let measured = load(&target.expect("a target"), 50).await;
    assert_eq!(failures(&measured), [(Kind::Http(500), 50, "")]);
    assert_eq!((seen.requests.load(Relaxed), seen.connections.load(Relaxed)), (50, 50));
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_every_request() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = Address::parse(&format!("http://{}", listener.local_addr().expect("bound"))).expect("an address");
    drop(listener);
    let addresses = [address];
    let message = || vec![Message::json(b"{}".to_vec())];
    for target in [Target::grpc(&addresses, 2, message()), Target::rest(&addresses, "/", message())] {
        let measured = load(&target.expect("a target"), 10).await;
        let found = failures(&measured);
        assert!(matches!(found[..], [(Kind::Connection, 10, _)]), "{found:?}");
        assert!(found[0].2.contains("refused"), "{found:?}");
    }
}

#[test]
fn addresses_have_a_scheme_and_no_path() {
    for (given, expected) in [
        ("http://127.0.0.1:8001", Some("http://127.0.0.1:8001")),
        ("http://[::1]:8001/", Some("http://[::1]:8001")),
        ("https://a:1", None),
        ("a:1", None),
        ("http://a:1/v2", None),
        ("", None),
    ] {
        assert_eq!(Address::parse(given).map(|address| address.to_string()).ok().as_deref(), expected, "{given}");
    }
}
