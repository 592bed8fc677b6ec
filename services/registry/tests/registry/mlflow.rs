//! The tracking API of MLflow over HTTP, with what its clients do not send. The released client is in `integration-tests`.

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Method, Request, StatusCode},
};
use rekindle_proto::registry::{GetRunRequest, ListModelsRequest, ListRunsRequest, RunReport, VersionStatus};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{on_both, on_s3, runs::report, sandbox::Sandbox};

on_both!(
    what_is_logged_is_found_by_both_interfaces,
    points_that_are_no_numbers_are_kept_apart,
    files_are_stored_and_listed_by_folder,
    what_no_client_sends_is_refused_in_the_form_of_mlflow,
    a_run_of_a_worker_is_not_changed,
    models_of_any_title_have_versions_that_keep_their_files,
    a_deleted_model_is_made_again_with_further_numbers,
    the_files_of_a_version_do_not_depend_on_names
);
on_s3!(files_are_stored_and_listed_by_folder, models_of_any_title_have_versions_that_keep_their_files);

async fn raw(router: &Router, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, Bytes) {
    let request = Request::builder().method(method).uri(path).body(body.into()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let status = response.status();
    (status, to_bytes(response.into_body(), 64 << 20).await.expect("a body"))
}

async fn call(sandbox: &Sandbox, path: &str, body: Value) -> Result<Value, (StatusCode, Value)> {
    let path = format!("/api/2.0/mlflow/{path}");
    let is_get = body.is_null();
    let (method, text) = if is_get { (Method::GET, String::new()) } else { (Method::POST, body.to_string()) };
    let (status, bytes) = raw(&sandbox.mlflow, method, &path, text).await;
    let answer = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if status.is_success() { Ok(answer) } else { Err((status, answer)) }
}

async fn post(sandbox: &Sandbox, path: &str, body: Value) -> Value {
    call(sandbox, path, body.clone()).await.unwrap_or_else(|error| panic!("{path} {body}: {error:?}"))
}

async fn get(sandbox: &Sandbox, path: &str) -> Value {
    call(sandbox, path, Value::Null).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

async fn run(sandbox: &Sandbox, experiment: &str, name: &str) -> String {
    let request = json!({ "experiment_id": experiment, "run_name": name, "start_time": 1_700_000_000_000_i64 });
    text(&post(sandbox, "runs/create", request).await["run"]["info"]["run_id"])
}

async fn what_is_logged_is_found_by_both_interfaces(sandbox: Sandbox) {
    let tags = json!([{ "key": "owner", "value": "risk" }]);
    let created = post(&sandbox, "experiments/create", json!({ "name": "Fraud: 2026", "tags": tags })).await;
    let experiment = text(&created["experiment_id"]);
    let taken = call(&sandbox, "experiments/create", json!({ "name": "Fraud: 2026" })).await.expect_err("taken");
    assert_eq!((taken.0, &taken.1["error_code"]), (StatusCode::BAD_REQUEST, &json!("RESOURCE_ALREADY_EXISTS")));
    let read = get(&sandbox, "experiments/get-by-name?experiment_name=Fraud%3A%202026").await["experiment"].take();
    assert_eq!((&read["experiment_id"], &read["tags"]), (&json!(experiment), &tags));

    let ids = [run(&sandbox, &experiment, "one").await, run(&sandbox, &experiment, "two").await];
    for (id, auc) in ids.iter().zip([0.7, 0.9]) {
        let batch = json!({
            "run_id": id,
            "metrics": [
                { "key": "auc", "value": auc, "timestamp": 1_700_000_000_001_i64, "step": 2 },
                { "key": "auc", "value": 0.1, "timestamp": "1700000000000", "step": "1" },
            ],
            "params": [{ "key": "layers", "value": "2" }],
            "tags": [{ "key": "team", "value": "risk" }],
        });
        post(&sandbox, "runs/log-batch", batch).await;
    }
    let ended = json!({ "run_id": ids[0], "status": "FINISHED", "end_time": 1_700_000_060_000_i64 });
    let info = post(&sandbox, "runs/update", ended).await["run_info"].take();
    assert_eq!((&info["status"], &info["end_time"]), (&json!("FINISHED"), &json!(1_700_000_060_000_i64)));
    let search = |filter: &str, order: &str| json!({ "experiment_ids": [experiment], "filter": filter, "order_by": [order], "max_results": 1 });
    let first = post(&sandbox, "runs/search", search("params.layers = '2'", "metrics.auc DESC")).await;
    assert_eq!(first["runs"][0]["info"]["run_id"], json!(ids[1]));
    let mut next = search("params.layers = '2'", "metrics.auc DESC");
    next["page_token"] = first["next_page_token"].clone();
    let second = post(&sandbox, "runs/search", next).await;
    assert_eq!((&second["runs"][0]["info"]["run_id"], &second["next_page_token"]), (&json!(ids[0]), &Value::Null));
    let by_time = search("attributes.start_time <= 1700000000000 AND attributes.run_name = 'one'", "start_time");
    assert_eq!(post(&sandbox, "runs/search", by_time).await["runs"].as_array().map(Vec::len), Some(1));

    let id = uuid::Uuid::parse_str(&ids[0]).expect("an id").to_string();
    let native = sandbox.runs.clone().get_run(GetRunRequest { id }).await.expect("there").into_inner();
    assert_eq!((native.tags["mlflow.runName"].as_str(), native.params["layers"].as_str()), ("one", "2"));
    assert_eq!((native.metrics[0].value, native.metrics[0].step), (0.7, 2));
    let list = ListRunsRequest { experiment: native.experiment, ..Default::default() };
    assert_eq!(sandbox.runs.clone().list_runs(list.clone()).await.expect("listed").into_inner().runs.len(), 2);
    post(&sandbox, "runs/delete", json!({ "run_id": ids[1] })).await;
    assert_eq!(sandbox.runs.clone().list_runs(list).await.expect("listed").into_inner().runs.len(), 1);
    let refused = json!({ "run_id": ids[1], "key": "a", "value": "b" });
    assert!(call(&sandbox, "runs/set-tag", refused).await.is_err(), "it is deleted");
    let deleted = json!({ "experiment_ids": [experiment], "run_view_type": "DELETED_ONLY" });
    assert_eq!(post(&sandbox, "runs/search", deleted).await["runs"][0]["info"]["lifecycle_stage"], json!("deleted"));
    let kinds: Vec<_> = sandbox.events(3).await.iter().map(|event| event.kind.to_string()).collect();
    assert_eq!(kinds, ["registry.run.started", "registry.run.started", "registry.run.ended"]);
}

async fn points_that_are_no_numbers_are_kept_apart(sandbox: Sandbox) {
    let id = run(&sandbox, "0", "loss").await;
    for (step, value) in
        [(0, json!("NaN")), (1, json!(0.5)), (2, json!("NaN")), (3, json!("-Infinity")), (3, json!("NaN"))]
    {
        let point =
            json!({ "run_id": id, "run_uuid": id, "key": "loss", "value": value, "timestamp": 1, "step": step });
        post(&sandbox, "runs/log-metric", point).await;
    }
    let nothing = json!({ "run_id": id, "key": "never", "value": "NaN", "timestamp": 1, "step": 0 });
    post(&sandbox, "runs/log-metric", nothing).await;
    let history = get(&sandbox, &format!("metrics/get-history?run_id={id}&metric_key=loss&max_results=4")).await;
    let values = |history: &Value| -> Vec<Value> {
        history["metrics"].as_array().expect("points").iter().map(|point| point["value"].clone()).collect()
    };
    assert_eq!(values(&history), [json!("NaN"), json!(0.5), json!("NaN"), json!(f64::MIN)]);
    let token = text(&history["next_page_token"]);
    let rest = get(&sandbox, &format!("metrics/get-history?run_id={id}&metric_key=loss&page_token={token}")).await;
    let sampled = |query: &str| format!("metrics/get-history-bulk-interval?run_ids={id}&metric_key=loss{query}");
    let sample = get(&sandbox, &sampled("&max_results=4")).await;
    let sample = sample["metrics"].as_array().expect("points");
    assert!(sample.len() <= 4 && sample.iter().all(|point| point["run_id"] == id.as_str()), "{sample:?}");
    let steps: Vec<_> = sample.iter().map(|point| point["step"].as_i64().expect("a step")).collect();
    assert!(steps.is_sorted(), "{steps:?}");
    let none = get(&sandbox, &sampled("&start_step=1000000&end_step=2000000")).await;
    assert_eq!(none["metrics"], json!([]));
    let none = get(&sandbox, &format!("metrics/get-history-bulk-interval?run_ids={id}&metric_key=nothing")).await;
    assert_eq!(none["metrics"], json!([]));
    assert_eq!(values(&rest), [json!("NaN")]);
    let read = get(&sandbox, &format!("runs/get?run_id={id}")).await["run"]["data"]["metrics"].take();
    assert_eq!(read.as_array().map(Vec::len), Some(1), "{read}");
    assert_eq!((&read[0]["value"], &read[0]["step"]), (&json!(f64::MIN), &json!(3)));
}

async fn files_are_stored_and_listed_by_folder(sandbox: Sandbox) {
    let id = run(&sandbox, "0", "files").await;
    let path = |file: &str| format!("/api/2.0/mlflow-artifacts/artifacts/0/{id}/artifacts/{file}");
    let large = vec![7_u8; 9 << 20];
    for (file, bytes) in
        [("a.txt", &b"a"[..]), ("models/m/model.onnx", &large), ("models/conda.yaml", b"x"), ("A.txt", b"")]
    {
        let (status, _) = raw(&sandbox.mlflow, Method::PUT, &path(file), bytes.to_vec()).await;
        assert_eq!(status, StatusCode::OK, "{file}");
    }
    let (status, read) = raw(&sandbox.mlflow, Method::GET, &path("models/m/model.onnx"), "").await;
    assert!(status == StatusCode::OK && read == large);
    let listed = get(&sandbox, &format!("artifacts/list?run_id={id}")).await["files"].take();
    let mut names: Vec<_> = listed.as_array().expect("files").iter().map(|file| text(&file["path"])).collect();
    names.sort();
    assert_eq!(names, ["A.txt", "a.txt", "models"]);
    let below = get(&sandbox, &format!("artifacts/list?run_id={id}&path=models")).await["files"].take();
    assert_eq!(
        below,
        json!([{ "path": "models/conda.yaml", "is_dir": false, "file_size": 1 }, { "path": "models/m", "is_dir": true }])
    );
    let (_, proxied) = raw(
        &sandbox.mlflow,
        Method::GET,
        &format!("/api/2.0/mlflow-artifacts/artifacts?path=0/{id}/artifacts/models"),
        "",
    )
    .await;
    let proxied: Value = serde_json::from_slice(&proxied).expect("JSON");
    assert_eq!(proxied["files"][0]["path"], json!("conda.yaml"));
    assert_eq!(raw(&sandbox.mlflow, Method::DELETE, &path("a.txt"), "").await.0, StatusCode::OK);
    assert_eq!(raw(&sandbox.mlflow, Method::GET, &path("a.txt"), "").await.0, StatusCode::NOT_FOUND);
    for file in ["../x", "a/../../x", "%2e%2e/x", "a//b", "a%00b", "a%0ab", ".", &"x".repeat(1025), ""] {
        let (status, body) = raw(&sandbox.mlflow, Method::PUT, &path(file), "x").await;
        assert!(status.is_client_error(), "{file}: {status} {body:?}");
    }
    let stranger = format!("/api/2.0/mlflow-artifacts/artifacts/0/{}/artifacts/x", "0".repeat(32));
    assert_eq!(raw(&sandbox.mlflow, Method::PUT, &stranger, "x").await.0, StatusCode::NOT_FOUND);
}

async fn what_no_client_sends_is_refused_in_the_form_of_mlflow(sandbox: Sandbox) {
    let id = run(&sandbox, "0", "target").await;
    let many =
        |count: usize| -> Value { (0..count).map(|at| json!({ "key": format!("k{at}"), "value": "x" })).collect() };
    let metric = |value: Value| json!([{ "key": "m", "value": value, "timestamp": 0, "step": 0 }]);
    let cases = [
        ("runs/create", json!({ "experiment_id": "seven" }), "RESOURCE_DOES_NOT_EXIST"),
        ("runs/create", json!({ "experiment_id": "99999999999999999999" }), "RESOURCE_DOES_NOT_EXIST"),
        ("runs/create", json!({}), "INVALID_PARAMETER_VALUE"),
        ("runs/create", json!({ "experiment_id": "0", "start_time": i64::MAX }), "INVALID_PARAMETER_VALUE"),
        ("runs/create", json!({ "experiment_id": "0", "tags": many(1001) }), "INVALID_PARAMETER_VALUE"),
        ("runs/log-batch", json!({ "run_id": id, "params": many(1001) }), "INVALID_PARAMETER_VALUE"),
        ("runs/log-batch", json!({ "run_id": id, "metrics": metric(json!("much")) }), "INVALID_PARAMETER_VALUE"),
        ("runs/log-batch", json!({ "run_id": id, "metrics": [{ "key": "", "value": 1 }] }), "INVALID_PARAMETER_VALUE"),
        ("runs/log-batch", json!({ "run_id": id, "tags": [{ "key": "a\0", "value": "" }] }), "INVALID_PARAMETER_VALUE"),
        (
            "runs/log-batch",
            json!({ "run_id": id, "params": [{ "key": "a", "value": "1" }, { "key": "a", "value": "2" }] }),
            "INVALID_PARAMETER_VALUE",
        ),
        (
            "runs/log-parameter",
            json!({ "run_id": id, "key": "a", "value": "x".repeat(70_000) }),
            "INVALID_PARAMETER_VALUE",
        ),
        ("runs/update", json!({ "run_id": id, "status": "DONE" }), "INVALID_PARAMETER_VALUE"),
        ("runs/delete-tag", json!({ "run_id": id, "key": "none" }), "RESOURCE_DOES_NOT_EXIST"),
        ("runs/get?run_id=..%2f..", Value::Null, "RESOURCE_DOES_NOT_EXIST"),
        ("runs/search", json!({ "experiment_ids": ["0"], "filter": "1 = 1" }), "INVALID_PARAMETER_VALUE"),
        ("runs/search", json!({ "experiment_ids": ["0"], "page_token": "zz" }), "INVALID_PARAMETER_VALUE"),
        ("runs/search", json!({ "experiment_ids": vec!["0"; 1001] }), "INVALID_PARAMETER_VALUE"),
        ("runs/search", json!({ "experiment_ids": ["0"], "max_results": -1 }), "INVALID_PARAMETER_VALUE"),
        ("experiments/create", json!({ "name": "" }), "INVALID_PARAMETER_VALUE"),
        ("experiments/create", json!({ "name": "a\nb" }), "INVALID_PARAMETER_VALUE"),
        ("experiments/search", json!({ "filter": "colour = 'x'" }), "INVALID_PARAMETER_VALUE"),
        ("experiments/search", json!({ "page_token": "x" }), "INVALID_PARAMETER_VALUE"),
        ("metrics/get-history?run_id=1&metric_key=a", Value::Null, "RESOURCE_DOES_NOT_EXIST"),
        ("metrics/get-history-bulk-interval?metric_key=a", Value::Null, "INVALID_PARAMETER_VALUE"),
        ("traces/search", json!({}), "ENDPOINT_NOT_FOUND"),
        ("registered-models/create", json!({ "name": "a\nb" }), "INVALID_PARAMETER_VALUE"),
        ("registered-models/create", json!({ "name": "churn", "tags": many(1001) }), "INVALID_PARAMETER_VALUE"),
        ("registered-models/get?name=..%2f..", Value::Null, "RESOURCE_DOES_NOT_EXIST"),
        ("registered-models/get?name=a%00b", Value::Null, "RESOURCE_DOES_NOT_EXIST"),
        ("experiments/get-by-name?experiment_name=a%00b", Value::Null, "RESOURCE_DOES_NOT_EXIST"),
        ("registered-models/create", json!({ "name": "churn", "description": "a\0b" }), "INVALID_PARAMETER_VALUE"),
        ("registered-models/search?filter=colour%20%3D%201", Value::Null, "INVALID_PARAMETER_VALUE"),
        ("registered-models/search?max_results=x", Value::Null, "INVALID_PARAMETER_VALUE"),
        (
            "registered-models/alias",
            json!({ "name": "kept", "alias": "A b", "version": "1" }),
            "INVALID_PARAMETER_VALUE",
        ),
        ("registered-models/alias", json!({ "name": "kept", "alias": "a", "version": "0" }), "INVALID_PARAMETER_VALUE"),
        ("registered-models/alias", json!({ "name": "kept", "alias": "a", "version": "7" }), "RESOURCE_DOES_NOT_EXIST"),
        ("model-versions/create", json!({ "name": "churn", "source": "x" }), "RESOURCE_DOES_NOT_EXIST"),
        ("model-versions/create", json!({ "name": "kept", "source": "file:///etc" }), "INVALID_PARAMETER_VALUE"),
        ("model-versions/create", json!({ "name": "kept", "source": "models:/m-1" }), "RESOURCE_DOES_NOT_EXIST"),
        ("model-versions/create", json!({ "name": "kept", "source": "models:/kept/1" }), "RESOURCE_DOES_NOT_EXIST"),
        (
            "model-versions/create",
            json!({ "name": "kept", "source": format!("runs:/{id}/../x") }),
            "INVALID_PARAMETER_VALUE",
        ),
        (
            "model-versions/create",
            json!({ "name": "kept", "source": format!("runs:/{id}/none") }),
            "INVALID_PARAMETER_VALUE",
        ),
        ("logged-models", json!({ "experiment_id": "77" }), "RESOURCE_DOES_NOT_EXIST"),
        ("logged-models", json!({ "experiment_id": "0", "source_run_id": "x" }), "RESOURCE_DOES_NOT_EXIST"),
        ("logged-models", json!({ "experiment_id": "0", "params": many(1001) }), "INVALID_PARAMETER_VALUE"),
        ("logged-models/search", json!({ "experiment_ids": ["0"], "filter": "1" }), "INVALID_PARAMETER_VALUE"),
        (
            "runs/log-inputs",
            json!({ "run_id": id, "datasets": [{ "dataset": { "name": "d" } }] }),
            "INVALID_PARAMETER_VALUE",
        ),
        ("runs/log-model", json!({ "run_id": id, "model_json": "{" }), "INVALID_PARAMETER_VALUE"),
        (
            "runs/log-batch",
            json!({ "run_id": id, "metrics": [{ "key": "a", "value": 1, "model_id": format!("m-{}", "0".repeat(32)) }] }),
            "RESOURCE_DOES_NOT_EXIST",
        ),
    ];
    post(&sandbox, "registered-models/create", json!({ "name": "kept" })).await;
    for (path, body, code) in cases {
        let shown: String = body.to_string().chars().take(120).collect();
        let (status, answer) = call(&sandbox, path, body).await.expect_err(&shown);
        assert_eq!(answer["error_code"], code, "{path} {shown}: {status} {answer}");
        let message = text(&answer["message"]);
        assert!(status.is_client_error() && !message.is_empty() && message.len() < 2_000, "{path} {shown}: {message}");
    }
    for body in ["", "{", "[]", "null", "\u{feff}{}", "{\"run_id\": 7}"] {
        let (status, _) = raw(&sandbox.mlflow, Method::POST, "/api/2.0/mlflow/runs/log-batch", body).await;
        assert!(status.is_client_error(), "{body:?}: {status}");
    }
    let (status, _) = raw(&sandbox.mlflow, Method::POST, "/api/2.0/mlflow/runs/log-batch", vec![b' '; 5 << 20]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let read = get(&sandbox, &format!("runs/get?run_id={id}")).await["run"]["data"].take();
    assert_eq!((&read["params"], &read["metrics"]), (&json!([]), &json!([])), "nothing is written");
}

async fn a_run_of_a_worker_is_not_changed(sandbox: Sandbox) {
    let native = sandbox.run("flights", vec![]).await;
    report(&sandbox, &native.id, RunReport::Running).await.expect("started");
    let id = native.id.replace('-', "");
    let read = get(&sandbox, &format!("runs/get?run_id={id}")).await["run"]["info"].take();
    assert_eq!((&read["status"], &read["run_name"]), (&json!("RUNNING"), &json!(native.id)));
    let experiment = get(&sandbox, &format!("experiments/get?experiment_id={}", text(&read["experiment_id"]))).await;
    assert_eq!(experiment["experiment"]["name"], json!("flights"));
    // The title of an experiment may be the name of another.
    let other = post(&sandbox, "experiments/create", json!({ "name": "Other trains" })).await;
    post(&sandbox, "experiments/update", json!({ "experiment_id": other["experiment_id"], "new_name": "trains" }))
        .await;
    let train = sandbox.run("trains", vec![]).await.id.replace('-', "");
    let of_train = get(&sandbox, &format!("runs/get?run_id={train}")).await["run"]["info"]["experiment_id"].take();
    assert_ne!(of_train, other["experiment_id"]);
    let update = json!({ "run_id": id, "status": "FINISHED" });
    let (_, refused) = call(&sandbox, "runs/update", update).await.expect_err("its worker reports its status");
    assert!(text(&refused["message"]).contains("worker"), "{refused}");
}

async fn send(sandbox: &Sandbox, method: Method, path: &str, body: Value) -> Value {
    let path = format!("/api/2.0/mlflow/{path}");
    let (status, bytes) = raw(&sandbox.mlflow, method, &path, body.to_string()).await;
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    assert!(status.is_success(), "{path} {body}: {status} {answer}");
    answer
}

/// A logged model with a file that describes it and one that is it.
async fn logged(sandbox: &Sandbox, name: &str, description: &str) -> String {
    let model = post(sandbox, "logged-models", json!({ "experiment_id": "0", "name": name })).await;
    let info = &model["model"]["info"];
    let folder = text(&info["artifact_uri"]).replace("mlflow-artifacts:/", "/api/2.0/mlflow-artifacts/artifacts/");
    for (file, bytes) in [("MLmodel", description), ("model.bin", name)] {
        let (status, _) = raw(&sandbox.mlflow, Method::PUT, &format!("{folder}/{file}"), bytes.to_owned()).await;
        assert_eq!(status, StatusCode::OK);
    }
    let id = text(&info["model_id"]);
    let finalized = json!({ "status": "LOGGED_MODEL_READY" });
    let finalized = send(sandbox, Method::PATCH, &format!("logged-models/{id}"), finalized).await;
    assert_eq!(finalized["model"]["info"]["status"], "LOGGED_MODEL_READY");
    id
}

async fn models_of_any_title_have_versions_that_keep_their_files(sandbox: Sandbox) {
    let tags = json!([{ "key": "team", "value": "risk" }]);
    post(&sandbox, "registered-models/create", json!({ "name": "Churn: EU", "tags": tags })).await;
    let taken = call(&sandbox, "registered-models/create", json!({ "name": "Churn: EU" })).await.expect_err("taken");
    assert_eq!(taken.1["error_code"], "RESOURCE_ALREADY_EXISTS");
    assert!(text(&taken.1["message"]).contains("Churn: EU") && text(&taken.1["message"]).contains("churn-eu-"));

    let sklearn = logged(&sandbox, "one", "flavors:\n  sklearn:\n    pickled_model: model.bin\n").await;
    let broken = logged(&sandbox, "two", "flavors:\n  onnx:\n    data: model.bin\nsignature:\n  inputs: '[]'\n").await;
    let missing = logged(&sandbox, "three", "flavors:\n  onnx:\n    data: model.onnx\n").await;
    for (number, (id, reason)) in [
        (&sklearn, "this one has: sklearn"),
        // Whatever is said of the file: it is none of the format.
        (&broken, "not servable"),
        (&missing, "names \"model.onnx\", which is missing"),
    ]
    .into_iter()
    .enumerate()
    {
        let source = format!("models:/{id}");
        let request = json!({ "name": "Churn: EU", "source": source, "tags": tags, "description": "d" });
        let version = post(&sandbox, "model-versions/create", request).await["model_version"].take();
        assert_eq!((&version["version"], &version["status"]), (&json!((number + 1).to_string()), &json!("READY")));
        assert!(text(&version["status_message"]).contains(reason), "{version}");
        assert_eq!((&version["source"], &version["model_id"], &version["tags"]), (&json!(source), &json!(id), &tags));
    }
    let uri = get(&sandbox, "model-versions/get-download-uri?name=Churn%3A%20EU&version=1").await;
    let folder = text(&uri["artifact_uri"]).replace("mlflow-artifacts:/", "/api/2.0/mlflow-artifacts/artifacts/");
    let (_, bytes) = raw(&sandbox.mlflow, Method::GET, &format!("{folder}/model.bin"), "").await;
    assert_eq!(&bytes[..], b"one");

    // As the registry has it: it may have aliases, and says why it is not served.
    let models = sandbox.models.clone().list_models(ListModelsRequest::default()).await.expect("there").into_inner();
    let model = &models.models[0];
    assert_eq!((model.title.as_str(), &model.tags["team"]), ("Churn: EU", &"risk".to_owned()));
    assert!(model.name.starts_with("churn-eu-"), "{model:?}");
    let latest = model.latest.as_ref().expect("a version");
    assert_eq!((latest.version, latest.status()), (3, VersionStatus::NotServable));
    post(&sandbox, "registered-models/alias", json!({ "name": "Churn: EU", "alias": "champion", "version": "2" }))
        .await;
    let aliased = get(&sandbox, "registered-models/alias?name=Churn%3A%20EU&alias=champion").await;
    assert_eq!(aliased["model_version"]["version"], "2");

    for (query, found) in [
        ("filter=name%3D'Churn%3A%20EU'", json!(["1", "2", "3"])),
        ("filter=version_number%20%3E%201&order_by=version_number%20DESC", json!(["3", "2"])),
        ("filter=tags.team%20%3D%20'risk'&order_by=version_number%20DESC&max_results=1", json!(["3"])),
        ("filter=name%3D'other'", json!([])),
    ] {
        let mut answer = get(&sandbox, &format!("model-versions/search?{query}")).await["model_versions"].take();
        if !query.contains("order_by") {
            answer.as_array_mut().expect("a list").reverse();
        }
        let numbers: Vec<_> = answer.as_array().expect("a list").iter().map(|one| one["version"].clone()).collect();
        assert_eq!(json!(numbers), found, "{query}");
    }
}

async fn a_deleted_model_is_made_again_with_further_numbers(sandbox: Sandbox) {
    let id = logged(&sandbox, "one", "flavors: {}").await;
    let version = json!({ "name": "Churn", "source": format!("models:/{id}") });
    post(&sandbox, "registered-models/create", json!({ "name": "Churn", "description": "first" })).await;
    post(&sandbox, "model-versions/create", version.clone()).await;
    send(&sandbox, Method::DELETE, "registered-models/delete", json!({ "name": "Churn" })).await;
    let (status, answer) = call(&sandbox, "registered-models/get?name=Churn", Value::Null).await.expect_err("deleted");
    assert_eq!((status, &answer["error_code"]), (StatusCode::NOT_FOUND, &json!("RESOURCE_DOES_NOT_EXIST")));
    let again = post(&sandbox, "registered-models/create", json!({ "name": "Churn" })).await["registered_model"].take();
    assert_eq!((&again["description"], &again["latest_versions"]), (&json!(""), &json!([])));
    let second = post(&sandbox, "model-versions/create", version).await["model_version"].take();
    assert_eq!(second["version"], "2", "numbers are not used twice");
    // Both versions are of the same files.
    let copy = json!({ "name": "Churn", "source": "models:/Churn/2" });
    let third = post(&sandbox, "model-versions/create", copy).await["model_version"].take();
    assert_eq!((&third["version"], &third["model_id"]), (&json!("3"), &json!(id)));
}

async fn the_files_of_a_version_do_not_depend_on_names(sandbox: Sandbox) {
    let id = run(&sandbox, "0", "r").await;
    let file = format!("/api/2.0/mlflow-artifacts/artifacts/0/{id}/artifacts/model/MLmodel");
    let (status, _) = raw(&sandbox.mlflow, Method::PUT, &file, "flavors: {}").await;
    assert_eq!(status, StatusCode::OK);
    for name in ["a", "b"] {
        post(&sandbox, "registered-models/create", json!({ "name": name })).await;
    }
    let create = async |name: &str, source: String| {
        let version = post(&sandbox, "model-versions/create", json!({ "name": name, "source": source })).await;
        text(&version["model_version"]["source"])
    };
    let source = format!("runs:/{id}/model");
    assert_eq!(create("a", source.clone()).await, source);
    assert_eq!(create("b", "models:/a/1".into()).await, source);
    // The version of `a` is one of the model that was `b`, whose source was one of `a`.
    for (name, new_name) in [("a", "c"), ("b", "a")] {
        post(&sandbox, "registered-models/rename", json!({ "name": name, "new_name": new_name })).await;
    }
    assert_eq!(create("c", "models:/a/1".into()).await, source);
}
