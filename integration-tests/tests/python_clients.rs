//! Unmodified clients of others with a running platform: those of Triton, KServe, MLflow and NATS for Python, and Triton's load generator.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use rekindle_client::inference::Elements;
use rekindle_domain::{
    WorkflowState,
    job::External,
    model_version::{ModelVersion, VersionSelector},
};
use rekindle_integration_tests::{
    Platform, Wiring,
    scenario::{self, MODEL},
    table::{self, csv},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What `make tools` has installed at this path.
fn tool(path: &str) -> PathBuf {
    let tool = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools")).join(path);
    assert!(tool.is_file(), "{} is missing: run `make tools`", tool.display());
    tool
}

/// A python that can import the clients of Triton and NATS.
fn python() -> PathBuf {
    tool("python/bin/python")
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/python")).join(name)
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A platform that serves a model.
async fn serving() -> (Platform, ModelVersion) {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    scenario::register(&platform.clients, csv(&table::rows(0..24, 24)), "training rows").await;
    let (_, version) = scenario::train(&platform.clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(&platform.clients, version.version).await;
    (platform, version)
}

/// Three rows for the model, and the probabilities that the client of rekindle receives for them.
async fn expected(platform: &Platform) -> (Vec<Value>, Vec<f64>) {
    let rows = table::rows(24..25, 25);
    let features: Vec<Value> = rows.iter().take(3).map(|row| {
        json!({"time": row.time_ms, "temperature": row.temperature, "basket": row.basket, "region": row.region})
    }).collect();
    let ours = platform.clients.replica(0).infer(scenario::request(&rows[..3])).await.expect("answered");
    let Some(Elements::Fp32(ours)) = ours.output("probability").map(|output| output.elements.clone()) else {
        panic!("{ours:?}")
    };
    (features, ours.into_iter().map(f64::from).collect())
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap_or_else(|| panic!("{values}")).iter().filter_map(Value::as_f64).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_triton_predict() {
    let (platform, version) = serving().await;
    let (features, ours) = expected(&platform).await;
    for (protocol, address) in [("grpc", &platform.clients.inference[0]), ("http", &platform.clients.rest[0])] {
        let answer = run(&python(), "predict.py", &[protocol, address, MODEL], Some(&features)).await;
        assert_eq!((&answer["id"], &answer["version"]), (&json!("from-python"), &json!("1")), "{protocol}");
        assert_eq!(answer["parameters"]["bundle_digest"], json!(version.bundle.to_string()));
        assert!(answer["parameters"]["prediction_id"].is_string() && answer["parameters"]["run_id"].is_string());
        let (probability, label) = (&answer["outputs"]["probability"], &answer["outputs"]["label"]);
        assert_eq!((probability.as_array().map(Vec::len), label.as_array().map(Vec::len)), (Some(3), Some(3)));
        assert_eq!(ours, numbers(probability), "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_open_lineage_reads_trainings() {
    let (platform, _) = serving().await;
    let output = Command::new(python()).arg(script("open_lineage.py")).arg(&platform.clients.nats).output().await;
    let [started, ended] = &lines(&output.expect("python runs"))[..] else { panic!("two events") };
    assert_eq!((&started["eventType"], &ended["eventType"]), (&json!("START"), &json!("COMPLETE")));
    assert_eq!((&started["run"]["runId"], &started["outputs"]), (&ended["run"]["runId"], &json!([])));
    let (input, output) = (&ended["inputs"][0], &ended["outputs"][0]);
    assert!(input["facets"]["schema"]["fields"].as_array().is_some_and(|fields| fields.len() > 3), "{ended}");
    assert_eq!(
        (&output["name"], &output["facets"]["version"]["datasetVersion"]),
        (&json!(format!("models/{MODEL}")), &json!("1"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_triton_call_the_extensions() {
    let (platform, _) = serving().await;
    for (protocol, address) in [("grpc", &platform.clients.inference[0]), ("http", &platform.clients.rest[0])] {
        let found = run(&python(), "extensions.py", &[protocol, address, MODEL], None).await;
        let extensions = found["extensions"].as_array().expect("texts");
        assert!(extensions.contains(&json!("statistics")), "{protocol}: {extensions:?}");
        assert_eq!((&found["config"]["name"], &found["index"][0]["state"]), (&json!(MODEL), &json!("READY")));
        assert_eq!((&found["statistics"]["name"], &found["statistics"]["version"]), (&json!(MODEL), &json!("1")));
        for (call, words) in [
            ("load", "is not served by this replica"),
            ("unload", "deployments decide"),
            ("shared memory", "send tensors in the"),
        ] {
            let refusal = found[call].as_str().unwrap_or_else(|| panic!("{protocol}: {call} is not refused: {found}"));
            assert!(refusal.contains(words), "{protocol}: {refusal}");
        }
        if protocol == "grpc" {
            let stream = &found["stream"];
            assert_eq!((&stream[0], &stream[2]), (&json!(1), &json!(3)), "{stream}");
            assert!(stream[1].as_str().is_some_and(|refusal| refusal.contains("has no rows")), "{stream}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_of_kserve_predicts() {
    let (platform, _) = serving().await;
    let (features, ours) = expected(&platform).await;
    let (grpc, rest) = (&platform.clients.inference[0], &platform.clients.rest[0]);
    for (protocol, address) in [("grpc", grpc), ("rest", rest)] {
        let python = tool("kserve/bin/python");
        let answer = run(&python, "kserve_client.py", &[protocol, address, rest, MODEL], Some(&features)).await;
        assert_eq!(answer["ready"], json!([true, true, true, true]), "{protocol}");
        assert_eq!(answer["id"], json!("from-kserve"), "{protocol}");
        assert_eq!(ours, numbers(&answer["outputs"]["probability"]), "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_generator_of_triton_reads_the_statistics_of_the_server() {
    let program = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/bin/perf_analyzer"));
    if !program.is_file() {
        eprintln!("skipped: perf_analyzer is not installed, see scripts/install-tools.sh");
        return;
    }
    let (platform, _) = serving().await;
    let folder = tempfile::tempdir().expect("a folder");
    let row = table::rows(24..25, 25).remove(0);
    // Over HTTP, the generator cannot state that its rows are a replay.
    let now = chrono::Utc::now().timestamp_millis();
    let data = json!({ "data": [{
        "time": [now], "temperature": [row.temperature], "basket": [row.basket], "region": [row.region],
    }] });
    let input = folder.path().join("data.json");
    std::fs::write(&input, data.to_string()).expect("written");
    for (protocol, address) in [("grpc", &platform.clients.inference[0]), ("http", &platform.clients.rest[0])] {
        let table = folder.path().join(format!("{protocol}.csv"));
        let output = Command::new(&program)
            .args(["-m", MODEL, "-i", protocol, "-u", address, "-b", "4", "--concurrency-range", "2"])
            .args(["--measurement-mode", "count_windows", "--measurement-request-count", "50", "--max-trials", "3"])
            .args(["--stability-percentage", "999"])
            .arg("--input-data")
            .arg(&input)
            .arg("-f")
            .arg(&table)
            .kill_on_drop(true)
            .output()
            .await
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{protocol}: {text}");
        let table = std::fs::read_to_string(table).expect("a table");
        let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let (header, values) = (lines.next().expect("a header"), lines.next().expect("a line"));
        let figure = |name: &str| -> f64 {
            let at = header.iter().position(|column| *column == name);
            at.and_then(|at| values.get(at)?.parse().ok()).unwrap_or_else(|| panic!("{protocol}: no {name} in {table}"))
        };
        assert!(figure("Inferences/Second") > 0.0, "{table}");
        // Only a server that reports its statistics has a time of its own.
        assert!(figure("Server Compute Infer") > 0.0, "{table}");
    }
}

/// What a script prints, at one line of JSON, with `rows` at its standard input.
async fn run(python: &Path, name: &str, arguments: &[&str], rows: Option<&[Value]>) -> Value {
    let mut child = Command::new(python)
        .arg(script(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A script that reads no rows may have ended.
    let _ = stdin.write_all(json!(rows).to_string().as_bytes()).await;
    drop(stdin);
    lines(&child.wait_with_output().await.expect("it ends")).remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_receives_every_event_of_a_workflow_from_drift_to_redeploy() {
    let platform = Platform::start(Wiring::Embedded, 2).await;
    let clients = &platform.clients;
    let subscriber = Command::new(python())
        .arg(script("subscribe.py"))
        .arg(&clients.nats)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python starts");
    scenario::register(clients, csv(&table::rows(0..72, 72)), "training rows").await;
    let (_, version) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(clients, version.version).await;
    scenario::set_policy(clients, |_| ()).await;
    scenario::send_day_by_day(clients, &table::rows(72..120, 72)).await;
    let workflow = scenario::workflow_in(clients, WorkflowState::Succeeded).await;

    let events = lines(&subscriber.wait_with_output().await.expect("it ends"));
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().expect("text")).collect();
    let position = |kind: &str| {
        let ce_type = format!("dev.rekindle.{kind}.v1");
        kinds.iter().position(|kind| *kind == ce_type).unwrap_or_else(|| panic!("no {kind} among {kinds:?}"))
    };
    let alert = ["monitor.drift.detected", "monitor.degradation.detected"];
    let alert = alert.iter().filter_map(|kind| kinds.iter().position(|k| k.contains(kind))).min().expect("an alert");
    let window = &events[alert]["data"]["window"];
    assert_eq!((&window["model"], &window["model_version"]), (&json!(MODEL), &json!(1)), "{window}");
    let steps = [
        position("registry.dataset-version.registered"),
        position("registry.model-version.registered"),
        position("orchestrator.replica.updated"),
    ];
    assert!(steps.iter().all(|&step| step > alert), "{kinds:?}");
    assert!(steps.is_sorted(), "in the order of the loop: {kinds:?}");
    for event in &events {
        assert_eq!(event["correlationid"], json!(workflow.id.to_string()), "{event}");
        for attribute in ["id", "source", "time", "subject", "partitionkey"] {
            assert!(event[attribute].as_str().is_some_and(|text| !text.is_empty()), "{attribute}: {event}");
        }
    }
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len(), "each event has one id");
}

/// Drift, a retraining by scikit-learn outside of the platform, the gate, and the rollout. The first claim is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_python_closes_the_loop() {
    const SHIFT: u64 = 72;
    let mut platform = Platform::start(Wiring::Embedded, 1).await;
    platform.stop();
    platform.restart_in(&[("REKINDLE__TRAINER__WORKER_LEASE".to_owned(), "3s".to_owned())]).await;
    let clients = &platform.clients;
    scenario::register(clients, csv(&table::rows(0..SHIFT, SHIFT)), "training rows").await;
    let (_, version) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(clients, version.version).await;
    let parameters = [("learner", "gradient_boosting"), ("n_estimators", "50")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let external = External { pool: "python".to_owned(), parameters: parameters.into() };
    scenario::set_policy(clients, |policy| policy.external = Some(external)).await;
    let mut worker = Command::new(tool("mlflow/bin/python"));
    let address = clients.trainer.trim_start_matches("http://");
    worker.arg(script("external_trainer.py")).args([address, "python", "--trainings", "1", "--stall"]);
    let worker = worker.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("python");
    scenario::send_day_by_day(clients, &table::rows(SHIFT..SHIFT + 48, SHIFT)).await;
    let output = worker.wait_with_output().await.expect("it ends");
    let trained = lines(&output).pop().expect("a training");
    assert_eq!((&trained["version"], &trained["attempt"]), (&json!(2), &json!(2)), "{trained}");

    let workflow = scenario::workflow_in(clients, WorkflowState::Succeeded).await;
    assert_eq!((workflow.to_version, workflow.refit_run), (Some(2), None), "{:?}", workflow.steps);
    scenario::deployed(clients, 2).await;
    let registry = clients.registry();
    let run = registry.run(workflow.train_run.expect("submitted")).await.expect("known");
    assert_eq!((run.outputs["library"].as_str(), run.params["external.pool"].as_str()), ("scikit-learn", "python"));
    assert!(run.metrics.iter().any(|metric| metric.name == "accuracy"), "{:?}", run.metrics);
    let version = registry.model_version(&scenario::model(), &VersionSelector::Number(2)).await.expect("registered");
    assert_eq!(version.run, Some(run.id), "the version names its run");
    let theirs = trained["accuracy"].as_f64().expect("a number");
    let ours = version.metrics["accuracy"];
    assert!((ours - theirs).abs() < 0.005, "of the same rows, which it was not trained on: {ours}, {theirs}");
    let lineage = registry.lineage(version.bundle).await.expect("known");
    assert!(lineage.run.is_some_and(|found| found.id == run.id) && !lineage.datasets.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_mlflow_logs_and_reads_back() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let found = run(&tool("mlflow/bin/python"), "mlflow_tracking.py", &[&platform.http_url()], None).await;
    for (what, expected) in [
        ("again", json!(true)),
        ("default", json!("Default")),
        ("parent", json!(true)),
        ("large", json!(true)),
        ("running", json!("RUNNING")),
        ("history", json!(true)),
        ("no step", json!([0.5, 0.25, null, 0.75])),
        ("files", json!([["config.json", false, 29], ["files", true, null], ["notes", true, null]])),
        ("notes", json!(["notes/read me.txt"])),
        ("text", json!("hello\n")),
        ("best", json!([24.0, 23.0, 22.0, 20.0])),
        ("by name", json!([true])),
        ("pages", json!([10, 10, 7])),
        ("deleted", json!(0)),
        ("restored", json!(1)),
        ("continued", json!(["FINISHED", 1.0])),
        ("renamed", json!([true, "risk"])),
        ("experiments", json!(["Default", "Team A: second name"])),
        ("left", json!(["Default"])),
    ] {
        assert_eq!(found[what], expected, "{what}: {found}");
    }
    let run = &found["run"];
    assert_eq!((&run["name"], &run["status"], &run["experiment"]), (&json!("first"), &json!("FINISHED"), &json!(true)));
    assert_eq!(run["ended"], true);
    assert_eq!(run["params"], json!({"layers": "2", "rate": "0.1", "the path": "a/b", "optimizer": "adam"}));
    assert_eq!(run["tags"], json!({"team": "risk", "note": "kept: ä 'quoted' \"twice\""}));
    assert_eq!(run["metrics"], json!({"loss": 0.75, "auc": 0.9999}));
    for (what, code, words) in [
        ("deleted experiment", "INVALID_STATE", "restore"),
        ("no run", "RESOURCE_DOES_NOT_EXIST", "run"),
        ("no experiment", "RESOURCE_DOES_NOT_EXIST", "experiment"),
        ("taken name", "RESOURCE_ALREADY_EXISTS", "Default"),
        ("param", "INVALID_PARAMETER_VALUE", "written once"),
        ("filter", "INVALID_PARAMETER_VALUE", "filter"),
        ("trace", "ENDPOINT_NOT_FOUND", "not supported"),
    ] {
        let error = &found["errors"][what];
        assert_eq!(error["code"], code, "{what}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{what}: {error}");
    }

    // The same run, as the registry has it.
    let first = found["first"].as_str().expect("an id");
    let (head, tail) = (&first[..8], &first[8..12]);
    let shown = platform.json(&["runs", "show", &format!("{head}-{tail}")]).await;
    assert_eq!((&shown["params"]["layers"], &shown["status"]), (&json!("2"), &json!("RUN_STATUS_FINISHED")));
    let experiment = shown["experiment"].as_str().expect("a name");
    assert!(experiment.starts_with("team-a-first-try-"), "{experiment}");
    let filter = "metrics.score > 21 AND tags.\"mlflow.runName\" LIKE 'number%'";
    let listed = platform.json(&["runs", "list", "--filter", filter, "--sort", "-metrics.score"]).await;
    let listed = listed.get("runs").unwrap_or(&listed).as_array().expect("a list").len();
    assert_eq!(listed, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_mlflow_trains_and_registers_models() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let found = run(&tool("mlflow/bin/python"), "mlflow_registry.py", &[&platform.http_url()], None).await;
    let of_sklearn = ["accuracy_score", "f1_score", "log_loss", "precision_score", "recall_score", "roc_auc", "score"];
    let of_sklearn: Vec<_> = of_sklearn.iter().map(|name| format!("training_{name}")).collect();
    let metrics: Vec<_> = ["LogisticRegression_score_test".to_owned()].into_iter().chain(of_sklearn).collect();
    let kept = "not servable: only models of the flavor onnx can be served; this one has: python_function, sklearn";
    for (what, expected) in [
        ("sklearn", json!({ "params": true, "metrics": metrics, "datasets": 1, "models": [["READY", "model"]] })),
        ("sklearn again", json!(true)),
        (
            "lightgbm",
            json!({ "params": true, "metrics": ["valid_0-binary_logloss"], "datasets": 2, "models": [["READY", "model"]] }),
        ),
        ("version", json!(["READY", "", true, true])),
        ("inputs", json!([["customers", ["training"]]])),
        ("model metrics", json!([["accuracy", null], ["auc", null], ["recall", "customers"]])),
        ("model params", json!(true)),
        ("the same file", json!(true)),
        ("network", json!("")),
        ("pickle", json!(["2", "READY", kept])),
        ("by alias", json!(["1", "2", "1"])),
        ("registered", json!(["who leaves", { "team": "risk" }, { "champion": "1" }])),
        ("changed", json!(["the first", { "checked": "yes" }, ["champion"]])),
        ("copy", json!("")),
        ("names", json!(["price", "Copy", "Churn (EU)"])),
        ("like", json!(["Churn (EU)"])),
        ("versions", json!(["1", "2"])),
        ("of run", json!(2)),
        ("best", json!(true)),
        ("stages", json!(["1"])),
        ("renamed", json!("Another copy")),
        ("left", json!([1, ["Churn (EU)", "price"]])),
        ("downloaded", json!(true)),
        ("table", json!(2)),
        ("experiments", json!(["Churn"])),
    ] {
        assert_eq!(found[what], expected, "{what}: {found}");
    }
    for (what, code, words) in [
        ("no model", "RESOURCE_DOES_NOT_EXIST", "nothing"),
        ("taken", "RESOURCE_ALREADY_EXISTS", "price"),
        ("no version", "RESOURCE_DOES_NOT_EXIST", "version=7"),
        ("no alias", "INVALID_PARAMETER_VALUE", "candidate"),
        ("alias", "INVALID_PARAMETER_VALUE", "alias"),
        ("elsewhere", "INVALID_PARAMETER_VALUE", "s3://bucket/model"),
        ("gone", "RESOURCE_DOES_NOT_EXIST", "version=2"),
        ("trace", "ENDPOINT_NOT_FOUND", "not supported"),
    ] {
        let error = &found["errors"][what];
        assert_eq!(error["code"], code, "{what}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{what}: {error}");
    }
    assert!(found["held"]["message"].as_str().is_some_and(|message| message.contains("champion")), "{found}");

    // The version is served as any other.
    let models = platform.json(&["models", "list"]).await;
    let listed = models.as_array().expect("a list").iter();
    let churn = listed.clone().find(|model| model["title"] == "Churn (EU)").expect("listed")["name"].clone();
    let churn = churn.as_str().expect("a name").to_owned();
    let shown = platform.json(&["models", "show", &churn, "champion"]).await;
    assert_eq!((&shown["status"], &shown["version"]), (&json!("VERSION_STATUS_READY"), &json!(1)), "{shown}");
    platform.json(&["deploy", &churn, "--wait"]).await;
    let answer = platform.json(&["predict", &churn, "age=2", "income=0", "visits=-2"]).await;
    assert!(answer[0]["outputs"]["probability"][0].as_f64().is_some_and(|sure| sure > 0.9), "{answer}");
    let audited = platform.json(&["audit", "list", "--object", &format!("alias/{churn}")]).await;
    assert_eq!(audited.as_array().map(Vec::len), Some(3), "{audited}");
}
