//! Damaged requests over both protocols: each is answered, or refused for a reason that the caller can correct.

#[path = "../../../../libs/dataset/fuzz/src/mutate.rs"]
mod mutate;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use prost::Message as _;
use rekindle_proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};
use rekindle_runtime::http::Limits;
use tonic::Code;
use tower::ServiceExt as _;

use crate::world::{MODEL, Replica, World, request};

/// Damaged copies of each seed.
const COPIES: u64 = 400;

/// Valid requests with everything that a request may have.
fn seeds() -> Vec<ModelInferRequest> {
    let text = |text: &str| InferParameter { parameter_choice: Some(ParameterChoice::StringParam(text.into())) };
    let flag = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let mut all = ModelInferRequest { id: "order-1".into(), ..request(3) };
    all.parameters.insert("event_time".into(), text("2026-03-01T12:00:00Z"));
    all.parameters.insert("traffic".into(), text("replay"));
    all.parameters.insert("explain".into(), flag.clone());
    all.parameters.insert("outlier_scores".into(), flag);
    all.inputs.push(InferInputTensor {
        name: "entity_key".into(),
        datatype: "BYTES".into(),
        shape: vec![3],
        ..InferInputTensor::default()
    });
    all.raw_input_contents.push(b"\x02\0\0\0N1\0\0\0\0\x01\0\0\0x".to_vec().into());
    let mut typed = ModelInferRequest { raw_input_contents: Vec::new(), ..request(2) };
    for input in &mut typed.inputs {
        let texts = vec![b"BB".to_vec(); 2];
        input.contents = Some(match input.datatype.as_str() {
            "BYTES" => InferTensorContents { bytes_contents: texts, ..Default::default() },
            _ => InferTensorContents { fp64_contents: vec![1.5; 2], ..Default::default() },
        });
    }
    vec![request(1), all, typed]
}

async fn serving() -> (World, Replica) {
    let world = World::start().await;
    let (version, _) = world.publish(7).await;
    world.route(1, version).await;
    let replica = world.replica().await;
    replica.ready().await;
    (world, replica)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_grpc() {
    let (_world, replica) = serving().await;
    let seeds: Vec<Vec<u8>> = seeds().iter().map(ModelInferRequest::encode_to_vec).collect();
    let (mut answered, mut refused) = (0, 0);
    for (at, seed) in seeds.iter().enumerate() {
        for number in 0..COPIES {
            let other = &seeds[(at + 1) % seeds.len()];
            let Ok(mut damaged) = ModelInferRequest::decode(&*mutate::mutated(seed, other, number)) else { continue };
            MODEL.clone_into(&mut damaged.model_name);
            match replica.infer(damaged.clone()).await {
                Ok(_) => answered += 1,
                Err(status) if [Code::InvalidArgument, Code::NotFound].contains(&status.code()) => refused += 1,
                Err(status) => panic!("{status}: {damaged:?}"),
            }
        }
    }
    assert!(answered > 0 && refused > 100, "{answered} answered, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_rest() {
    let (_world, replica) = serving().await;
    let router = replica.app.rest(Limits::default());
    let json = br#"{"id":"mine","parameters":{"traffic":"test","explain":true,"event_time":1772366400000},"inputs":[
        {"name":"carrier","datatype":"BYTES","shape":[2,1],"data":["AA",["BB"]]},
        {"name":"distance","datatype":"FP32","shape":[2],"data":[120.5,-3e2]},
        {"name":"delay","datatype":"INT64","shape":[2,1],"data":[null,7]}],"outputs":[{"name":"label"}]}"#;
    let binary = br#"{"inputs":[{"name":"carrier","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}},
        {"name":"distance","datatype":"FP64","shape":[1],"parameters":{"binary_data_size":8}},
        {"name":"delay","datatype":"FP64","shape":[1],"data":[1]}]}"#;
    let length = binary.len();
    let binary = [&binary[..], b"\x02\0\0\0AA", &120.5_f64.to_le_bytes()].concat();
    let (mut answered, mut refused) = (0, 0);
    for (seed, other, header) in [(&json[..], &binary[..], None), (&binary[..], &json[..], Some(length))] {
        for number in 0..COPIES {
            let body = mutate::mutated(seed, other, number);
            match post(&router, body.clone(), header).await {
                StatusCode::OK => answered += 1,
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => refused += 1,
                status => panic!("{status}: {:?}", String::from_utf8_lossy(&body)),
            }
        }
    }
    assert!(answered > 0 && refused > 100, "{answered} answered, {refused} refused");
}

async fn post(router: &Router, body: Vec<u8>, json_length: Option<usize>) -> StatusCode {
    let mut request = Request::post(format!("/v2/models/{MODEL}/infer"));
    if let Some(length) = json_length {
        request = request.header("inference-header-content-length", length);
    }
    let response = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    if status != StatusCode::OK {
        let error: serde_json::Value = serde_json::from_slice(&body).expect("an error in JSON");
        assert!(error["error"].is_string(), "{error}");
    }
    status
}
