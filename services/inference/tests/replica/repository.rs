//! The extensions of the protocol: configuration, statistics, repository and streams, over gRPC and REST.

use axum::{Router, body::Body, http::StatusCode};
use futures::{StreamExt as _, stream};
use rekindle_proto::inference::{
    DataType, ModelConfigRequest, ModelInferRequest, ModelStatistics, ModelStatisticsRequest, RepositoryIndexRequest,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest, StatisticDuration, SystemSharedMemoryStatusRequest,
};
use rekindle_runtime::http::Limits;
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt as _;

use crate::world::{MODEL, Replica, World, request};

async fn serving() -> (World, Replica, Router) {
    let world = World::start().await;
    let (version, _) = world.publish(7).await;
    world.route(1, version).await;
    let replica = world.replica().await;
    replica.ready().await;
    let router = replica.app.rest(Limits::default());
    (world, replica, router)
}

async fn call(router: &Router, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = axum::http::Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}: {bytes:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_describes_the_model_as_clients_of_triton_read_it() {
    let (_world, replica, router) = serving().await;
    let request = ModelConfigRequest { name: MODEL.into(), version: String::new() };
    let config = replica.client.clone().model_config(request).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.name.as_str(), config.platform.as_str()), (MODEL, "rekindle_burn"));
    assert!(config.max_batch_size > 1);
    let inputs: Vec<_> =
        config.input.iter().map(|input| (input.name.as_str(), input.data_type(), &*input.dims)).collect();
    let one = &[1][..];
    let expected = [
        ("distance", DataType::TypeFp64, one),
        ("delay", DataType::TypeFp64, one),
        ("carrier", DataType::TypeString, one),
    ];
    assert_eq!(inputs, expected);
    assert_eq!(config.output[0].data_type(), DataType::TypeFp32);

    let (status, json) = call(&router, "GET", &format!("/v2/models/{MODEL}/config"), "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(json["max_batch_size"], config.max_batch_size);
    assert_eq!(json["input"][0], json!({ "name": "distance", "data_type": "TYPE_FP64", "dims": [1] }));
    assert_eq!(json["model_transaction_policy"]["decoupled"], json!(false));
    let (status, json) = call(&router, "GET", "/v2/models/weather/config", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{json}");
}

fn count(duration: Option<StatisticDuration>) -> u64 {
    duration.expect("no member is left out").count
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_requests_rows_and_phases() {
    let (_world, replica, router) = serving().await;
    for rows in [1, 1, 300] {
        replica.infer(request(rows)).await.unwrap();
    }
    replica.infer(ModelInferRequest { model_name: MODEL.into(), ..Default::default() }).await.unwrap_err();
    let statistics = async |name: &str, version: &str| {
        let request = ModelStatisticsRequest { name: name.into(), version: version.into() };
        replica.client.clone().model_statistics(request).await.map(|answer| answer.into_inner().model_stats)
    };
    for (name, version) in [("", ""), (MODEL, ""), (MODEL, "7")] {
        let all = statistics(name, version).await.unwrap();
        let [ModelStatistics { inference_count, execution_count, inference_stats, last_inference, .. }] = &all[..]
        else {
            panic!("{all:?}");
        };
        let phases = inference_stats.unwrap();
        assert_eq!((*inference_count, *execution_count, *last_inference > 0), (302, 3, true));
        assert_eq!((count(phases.success), count(phases.fail), count(phases.queue)), (3, 1, 3));
        let computed = [phases.compute_input, phases.compute_infer, phases.compute_output].map(count);
        assert_eq!((computed, count(phases.cache_hit)), ([3; 3], 0));
        let parts = [phases.queue, phases.compute_input, phases.compute_infer, phases.compute_output];
        let parts: u64 = parts.into_iter().flatten().map(|phase| phase.ns).sum();
        assert!(parts <= phases.success.unwrap().ns, "{phases:?}");
    }
    assert_eq!(statistics("weather", "").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(statistics(MODEL, "8").await.unwrap_err().code(), Code::NotFound);

    for path in ["/v2/models/stats".to_owned(), format!("/v2/models/{MODEL}/versions/7/stats")] {
        let (status, json) = call(&router, "GET", &path, "").await;
        let statistics = &json["model_stats"][0];
        assert_eq!((status, &statistics["inference_count"]), (StatusCode::OK, &json!(302)), "{json}");
        assert_eq!(statistics["inference_stats"]["cache_miss"], json!({ "count": 0, "ns": 0 }));
    }
    let metrics = replica.app.metrics();
    let line = format!("nv_inference_request_success{{model=\"{MODEL}\",version=\"7\"}} 3");
    assert!(metrics.lines().any(|present| present == line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_lists_what_is_served_and_is_changed_by_deployments_alone() {
    let (_world, replica, router) = serving().await;
    let mut client = replica.client.clone();
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner().models;
    assert_eq!((index[0].name.as_str(), index[0].version.as_str(), index[0].state.as_str()), (MODEL, "7", "READY"));

    let load = |repository_name: &str, model_name: &str| RepositoryModelLoadRequest {
        repository_name: repository_name.into(),
        model_name: model_name.into(),
        ..Default::default()
    };
    client.repository_model_load(load("", MODEL)).await.expect("is served");
    client.repository_model_load(load(MODEL, "")).await.expect("the layout of KServe");
    let refused = client.repository_model_load(load("", "weather")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let mut with_file = load("", MODEL);
    with_file.parameters.insert("file:1/model.onnx".into(), Default::default());
    let refused = client.repository_model_load(with_file).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("file:1/model.onnx"), "{refused}");
    let unload = RepositoryModelUnloadRequest { model_name: MODEL.into(), ..Default::default() };
    let refused = client.repository_model_unload(unload).await.unwrap_err();
    assert!(refused.message().contains("deployments decide"), "{refused}");
    replica.infer(request(1)).await.expect("still served");

    let (_, json) = call(&router, "POST", "/v2/repository/index", r#"{"ready": true}"#).await;
    assert_eq!(json, json!([{ "name": MODEL, "version": "7", "state": "READY", "reason": "" }]));
    let of_model = |action: &str| format!("/v2/repository/models/{MODEL}/{action}");
    let (status, json) = call(&router, "POST", &of_model("load"), "").await;
    assert_eq!((status, &json["load"]), (StatusCode::OK, &json!(true)));
    let (status, _) = call(&router, "POST", &of_model("unload"), "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, json) = call(&router, "GET", "/v2/systemsharedmemory/status", "").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{json}");
    let refused = client.system_shared_memory_status(SystemSharedMemoryStatusRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("send tensors in the message"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_each_request_in_order_and_outlives_a_refused_one() {
    let (_world, replica, _router) = serving().await;
    let numbered = |number: usize| {
        let broken = number % 3 == 2;
        let request = if broken {
            ModelInferRequest { model_name: MODEL.into(), ..Default::default() }
        } else {
            request(1 + number)
        };
        ModelInferRequest { id: number.to_string(), ..request }
    };
    let requests = stream::iter((0..40).map(numbered));
    let answers = replica.client.clone().model_stream_infer(requests).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.expect("the stream is OK")).collect().await;
    assert_eq!(answers.len(), 40);
    for (number, answer) in answers.iter().enumerate() {
        let response = answer.infer_response.as_ref().unwrap();
        assert_eq!(response.id, number.to_string());
        if number % 3 == 2 {
            assert!(answer.error_message.contains("inputs"), "{answer:?}");
        } else {
            let rows = i64::try_from(1 + number).unwrap();
            assert_eq!((answer.error_message.as_str(), response.outputs[0].shape[0]), ("", rows));
        }
    }
}
