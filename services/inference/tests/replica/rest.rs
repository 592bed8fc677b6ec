//! The Open Inference Protocol over REST.

use std::io::{Read as _, Write as _};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use rekindle_runtime::http::Limits;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{MODEL, Replica, World, parameter, request};

const JSON_LENGTH: &str = "inference-header-content-length";

/// A serving replica and its routes.
async fn serving() -> (World, Replica, Router) {
    serving_within(Limits::default()).await
}

async fn serving_within(limits: Limits) -> (World, Replica, Router) {
    let world = World::start().await;
    let (version, _) = world.publish(7).await;
    world.route(1, version).await;
    let replica = world.replica().await;
    replica.ready().await;
    let router = replica.app.rest(limits);
    (world, replica, router)
}

/// The same rows as [`request`] sends.
fn body(rows: usize) -> Value {
    let tensor = |name: &str, datatype: &str, value: Value| json!({ "name": name, "datatype": datatype, "shape": [rows, 1], "data": vec![vec![value]; rows] });
    json!({
        "id": "mine",
        "inputs": [
            tensor("carrier", "BYTES", json!("BB")),
            tensor("distance", "FP64", json!(120)),
            tensor("delay", "FP64", Value::Null),
        ],
    })
}

fn infer() -> String {
    format!("/v2/models/{MODEL}/infer")
}

struct Received {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The message of an error.
    fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{json}");
        json["error"].as_str().unwrap_or_else(|| panic!("{json}")).to_owned()
    }
}

async fn send(router: &Router, request: Request<Body>) -> Received {
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
    Received { status, headers, body }
}

async fn get(router: &Router, path: &str) -> Received {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(router: &Router, path: &str, body: impl Into<Body>) -> Received {
    send(router, Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_in_json() {
    let (_world, _replica, router) = serving().await;
    let versioned = format!("/v2/models/{MODEL}/versions/7");
    for (path, expected) in [
        ("/v2".to_owned(), json!("rekindle")),
        (format!("/v2/models/{MODEL}"), json!(MODEL)),
        (versioned.clone(), json!(MODEL)),
        (format!("{versioned}/ready"), json!(MODEL)),
    ] {
        let received = get(&router, &path).await;
        assert_eq!((received.status, &received.json()["name"]), (StatusCode::OK, &expected), "{path}");
    }
    assert_eq!(get(&router, "/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(get(&router, "/v2/health/ready").await.json(), json!({ "ready": true }));
    assert_eq!(get(&router, "/v2/models").await.json(), json!({ "models": [MODEL] }));
    let metadata = get(&router, &versioned).await.json();
    assert_eq!(metadata["versions"], json!(["7"]));
    let parameters = json!({ "kind": "numeric", "nullable": false, "min": 0.0, "max": 960.0, "example": 460.0 });
    let input = json!({ "name": "distance", "datatype": "FP64", "shape": [-1, 1], "parameters": parameters });
    assert_eq!(metadata["inputs"][0], input);
    assert_eq!(metadata["inputs"][1]["parameters"]["nullable"], json!(true));
    assert_eq!(metadata["inputs"][2]["parameters"]["example"], json!("AA"), "the most frequent");
    assert_eq!(metadata["outputs"][0]["shape"], json!([-1, 1]));
    assert_eq!(metadata["outputs"][0]["parameters"]["classes"], json!(["no", "yes"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_the_bits_of_grpc() {
    let (_world, replica, router) = serving().await;
    let expected = replica.infer(request(3)).await.unwrap();
    let received = post(&router, &infer(), body(3).to_string()).await;
    assert_eq!(received.status, StatusCode::OK, "{:?}", received.json());
    let answer = received.json();
    assert_eq!(
        (&answer["model_name"], &answer["model_version"], &answer["id"]),
        (&json!(MODEL), &json!("7"), &json!("mine"))
    );
    assert_eq!(answer["parameters"]["bundle_digest"], json!(parameter(&expected, "bundle_digest")));
    assert!(answer["parameters"]["prediction_id"].is_string());
    let probabilities = answer["outputs"][0]["data"].as_array().expect("numbers");
    #[expect(clippy::cast_possible_truncation, reason = "they are singles")]
    let bytes: Vec<u8> = probabilities.iter().flat_map(|p| (p.as_f64().unwrap() as f32).to_le_bytes()).collect();
    assert_eq!(bytes, expected.raw_output_contents[0]);
    assert_eq!(answer["outputs"][0]["shape"], json!([3, 1]));
    assert_eq!(answer["outputs"][1]["data"].as_array().map(Vec::len), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_tensors_are_read_and_written() {
    let (_world, replica, router) = serving().await;
    let sent = request(2);
    let inputs: Vec<Value> = sent
        .inputs
        .iter()
        .zip(&sent.raw_input_contents)
        .map(|(input, raw)| {
            json!({
                "name": input.name,
                "datatype": input.datatype,
                "shape": input.shape,
                "parameters": { "binary_data_size": raw.len() },
            })
        })
        .collect();
    let outputs = json!([{ "name": "label" }, { "name": "probability", "parameters": { "binary_data": false } }]);
    let json =
        json!({ "inputs": inputs, "outputs": outputs, "parameters": { "binary_data_output": true } }).to_string();
    let mut bytes = json.clone().into_bytes();
    sent.raw_input_contents.iter().for_each(|raw| bytes.extend_from_slice(raw));
    let received = send(
        &router,
        Request::post(infer())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(JSON_LENGTH, json.len())
            .body(Body::from(bytes))
            .unwrap(),
    )
    .await;
    assert_eq!(received.status, StatusCode::OK, "{}", String::from_utf8_lossy(&received.body));
    let length: usize = received.headers[JSON_LENGTH].to_str().unwrap().parse().unwrap();
    let (head, binary) = received.body.split_at(length);
    let answer: Value = serde_json::from_slice(head).unwrap();
    let expected = replica.infer(sent).await.unwrap();
    assert_eq!(binary, expected.raw_output_contents[1]);
    assert_eq!(answer["outputs"][0]["parameters"]["binary_data_size"], json!(binary.len()));
    assert_eq!((&answer["outputs"][0]["name"], answer["outputs"][1]["data"].is_array()), (&json!("label"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_may_be_compressed() {
    let (_world, _replica, router) = serving().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body(200).to_string().as_bytes()).unwrap();
    let compressed = encoder.finish().unwrap();
    let with = |encoding: &'static str, body: Vec<u8>| {
        let request = Request::post(infer()).header(header::CONTENT_ENCODING, encoding);
        request.header(header::ACCEPT_ENCODING, "gzip").body(Body::from(body)).unwrap()
    };
    let received = send(&router, with("gzip", compressed.clone())).await;
    assert_eq!(
        (received.status, &received.headers[header::CONTENT_ENCODING]),
        (StatusCode::OK, &"gzip".parse().unwrap())
    );
    let mut text = String::new();
    GzDecoder::new(&received.body[..]).read_to_string(&mut text).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["outputs"][0]["shape"], json!([200, 1]));
    let unknown = send(&router, with("zip", compressed.clone())).await;
    assert_eq!(unknown.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let damaged = send(&router, with("gzip", compressed[..20].to_vec())).await;
    assert_eq!(damaged.status, StatusCode::BAD_REQUEST);

    // A few kilobytes that decompress to a hundred megabytes.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..100 {
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = send(&router, with("gzip", encoder.finish().unwrap())).await;
    assert_eq!(bomb.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_has_a_status_and_a_message_in_json() {
    let (_world, _replica, router) = serving().await;
    let changed = |change: fn(&mut Value)| {
        let mut body = body(1);
        change(&mut body);
        body.to_string()
    };
    let path = infer();
    for (path, body, status, words) in [
        ("/v2/models/weather/infer", body(1).to_string(), 404, "is not served by this replica"),
        ("/v2/models/flight-delay/versions/8/infer", body(1).to_string(), 404, "version \"8\""),
        ("/v1/models/flight-delay:predict", String::new(), 404, "no route /v1"),
        ("/v2/models", String::new(), 405, "another method"),
        (&path, String::new(), 400, "the JSON is no request"),
        (&path, "nonsense".to_owned(), 400, "the JSON is no request"),
        (&path, "{}".to_owned(), 400, "inputs: is empty"),
        (&path, changed(|body| body["inputs"][1]["data"] = json!(["far"])), 400, "inputs[distance]: has texts"),
        (&path, changed(|body| body["inputs"][1]["data"] = json!([1, 2])), 400, "inputs[distance]"),
        (&path, changed(|body| body["inputs"][1]["data"] = Value::Null), 400, "inputs[distance]: has no elements"),
        (&path, changed(|body| body["inputs"][1]["shape"] = json!([-1])), 400, "inputs[distance]"),
        (&path, changed(|body| body["inputs"][1]["shape"] = json!([i64::MAX, 1])), 400, "inputs[distance]"),
        (&path, changed(|body| body["inputs"][1]["datatype"] = json!("FP128")), 400, "FP128"),
        (&path, changed(|body| body["inputs"][1]["name"] = json!("distances")), 400, "is not an input of this model"),
        (&path, changed(|body| body["inputs"][0]["data"] = json!([null])), 400, "inputs[carrier]"),
        (&path, changed(|body| body["outputs"] = json!([{ "name": "score" }])), 400, "outputs[score]"),
        (&path, changed(|body| body["parameters"] = json!({ "traffic": "odd" })), 400, "parameters[traffic]"),
        (&path, changed(|body| body["parameters"] = json!({ "event_time": 1e30 })), 400, "parameters[event_time]"),
        (&path, changed(|body| body["id"] = json!("x".repeat(257))), 400, "id: has 257 bytes"),
        (&path, changed(|body| body["id"] = json!("x".repeat(20 << 20))), 413, "max_message_bytes"),
    ] {
        let received = post(&router, path, body).await;
        assert_eq!(
            (received.status.as_u16(), received.error().contains(words)),
            (status, true),
            "{}",
            received.error()
        );
        assert_eq!(received.headers[header::CONTENT_TYPE], "application/json");
    }
    let wrong = send(&router, Request::builder().method(Method::DELETE).uri(&path).body(Body::empty()).unwrap()).await;
    assert_eq!(
        (wrong.status, &wrong.headers[header::ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
    );
    assert_eq!(get(&router, "/v2/models/weather/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bodies_of_all_requests_have_bounded_memory() {
    let (_world, _replica, router) = serving_within(Limits { max_pending_bytes: 64 << 10, ..Limits::default() }).await;
    let stalled = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Request::post(infer()).header(header::CONTENT_LENGTH, 60 << 10).body(stalled).unwrap();
    let mut waiting = Box::pin(router.clone().oneshot(request));
    assert!(futures::poll!(&mut waiting).is_pending());
    let with_length = |length: usize| {
        let body = body(1).to_string();
        let body = body.clone() + &" ".repeat(length - body.len());
        Request::post(infer()).header(header::CONTENT_LENGTH, length).body(Body::from(body)).unwrap()
    };
    let refused = send(&router, with_length(8 << 10)).await;
    assert_eq!(
        (refused.status, refused.headers.contains_key(header::RETRY_AFTER)),
        (StatusCode::TOO_MANY_REQUESTS, true)
    );
    assert!(refused.error().contains("max_pending_bytes"), "{}", refused.error());
    drop(waiting);
    assert_eq!(send(&router, with_length(8 << 10)).await.status, StatusCode::OK);
}
