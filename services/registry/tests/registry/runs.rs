use rekindle_domain::event::EventKind;
use rekindle_proto::registry::{
    CreateRunRequest, DeleteModelRequest, DeleteRunRequest, GetMetricHistoryRequest, GetRunRequest, ListRunsRequest,
    LogMetricsRequest, LogParamsRequest, Metric, ReportRunRequest, RestoreRunRequest, Run, RunProgress, RunReport,
    RunStatus, SetRunTagsRequest,
};
use rekindle_testkit::eventually;
use tonic::{Code, Status};

use crate::{
    on_both,
    sandbox::{Sandbox, blamed, bundle, key, reason, run_id},
};

on_both!(
    a_run_goes_through_its_lifecycle_with_events,
    a_run_without_heartbeat_is_lost_and_may_be_started_again,
    metrics_are_replaced_by_step,
    runs_are_listed,
    large_runs_are_bounded_and_listed_page_by_page,
    an_id_can_be_abbreviated_while_one_run_is_meant,
    runs_are_found_by_conditions_and_listed_in_any_order,
    names_and_values_may_have_any_character,
    params_are_written_once_and_tags_as_often_as_needed,
    a_run_may_be_part_of_another_and_choose_its_lease,
    a_sample_of_a_metric_keeps_the_extremes,
    the_history_has_the_last_point_of_each_step_however_they_are_logged,
    runs_are_deleted_and_restored_unless_they_are_used,
    runs_give_open_lineage_events,
    a_running_run_says_how_far_it_is
);

async fn a_running_run_says_how_far_it_is(sandbox: Sandbox) {
    let run = sandbox.run("flights", vec![]).await;
    let progress_of = |completed, unit: &str| RunProgress {
        stage: "early stopping".into(),
        completed,
        total: 50,
        unit: unit.into(),
        remaining: Some(prost_types::Duration { seconds: 40, nanos: 0 }),
    };
    let reported = async |progress: RunProgress| {
        let request = ReportRunRequest {
            id: run.id.clone(),
            report: RunReport::Running.into(),
            progress: Some(progress),
            ..Default::default()
        };
        sandbox.runs.clone().report_run(request).await.map(tonic::Response::into_inner)
    };
    let started = reported(progress_of(0, "epochs")).await.expect("started");
    assert_eq!((started.status(), started.progress), (RunStatus::Running, Some(progress_of(0, "epochs"))));
    let metrics = vec![Metric { name: "auc".into(), value: 0.7, step: 1, time: None }];
    let logged = LogMetricsRequest { run_id: run.id.clone(), metrics };
    sandbox.runs.clone().log_metrics(logged).await.expect("logged");
    let running = reported(progress_of(1, "epochs")).await.expect("in progress");
    assert_eq!((running.progress, running.revision), (Some(progress_of(1, "epochs")), started.revision));
    let renewed = report(&sandbox, &run.id, RunReport::Running).await.expect("renewed");
    assert_eq!(renewed.progress, Some(progress_of(1, "epochs")), "a report without it leaves it");
    for completed in [4, 5, 9, 10] {
        reported(progress_of(completed, "epochs")).await.expect("in progress");
    }
    let events = sandbox.first_events(2, |kind| kind == EventKind::RUN_PROGRESSED).await;
    let completed: Vec<_> = events.iter().map(|event| event.data["progress"]["completed"].as_str()).collect();
    assert_eq!(completed, [Some("5"), Some("10")], "of 50, one event for each tenth");
    let data = &events[0].data;
    assert_eq!((&data["run_id"], &data["progress"]["remaining"]), (&run.id.clone().into(), &"40s".into()));
    assert_eq!(data["metrics"]["auc"], 0.7);
    let refused = reported(progress_of(2, &"x".repeat(100_000))).await.expect_err("too long");
    assert_eq!(blamed(&refused), "progress.unit");
    let tag = |value: &str| SetRunTagsRequest {
        run_id: run.id.clone(),
        tags: [("rekindle.checkpoint".to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    let tagged = sandbox.runs.clone().set_run_tags(tag("sha256:1")).await.expect("set").into_inner();
    assert_eq!(tagged.tags["rekindle.checkpoint"], "sha256:1");
    let finished = report(&sandbox, &run.id, RunReport::Finished).await.expect("finished");
    assert_eq!((finished.progress, finished.tags.get("rekindle.checkpoint")), (None, None), "it is garbage");
    let late = sandbox.runs.clone().set_run_tags(tag("sha256:2")).await.expect("taken").into_inner();
    assert_eq!(late.tags.get("rekindle.checkpoint"), None, "of a worker that was lost");
}

async fn runs_give_open_lineage_events(sandbox: Sandbox) {
    let dataset = sandbox.dataset(sandbox.csv("trips", "a,b\n1,x\n2,y\n").await).await;
    let parent = sandbox.run("search", vec![]).await;
    let request = CreateRunRequest {
        idempotency_key: key(),
        experiment: "flights".into(),
        params: [("depth".to_owned(), "3".to_owned())].into(),
        dataset_digests: vec![dataset.content_digest.clone()],
        parent_id: parent.id.clone(),
        code_revision: "abc".into(),
        ..Default::default()
    };
    let run = sandbox.runs.clone().create_run(request).await.expect("created").into_inner();
    report(&sandbox, &run.id, RunReport::Running).await.expect("running");
    let model = sandbox.bundle(&bundle(&run.id, vec![], 5)).await;
    sandbox.register("churn", &model).await.expect("registered");
    report(&sandbox, &run.id, RunReport::Finished).await.expect("finished");
    report(&sandbox, &parent.id, RunReport::Running).await.expect("running");
    report(&sandbox, &parent.id, RunReport::Failed).await.expect("failed");

    let events = sandbox.first_events(4, |kind| kind == EventKind::OPEN_LINEAGE_EMITTED).await;
    let types: Vec<(&str, &str)> = events
        .iter()
        .map(|event| {
            (event.data["eventType"].as_str().unwrap_or(""), event.data["run"]["runId"].as_str().unwrap_or(""))
        })
        .collect();
    let (run_id, parent_id) = (run.id.as_str(), parent.id.as_str());
    assert_eq!(types, [("START", run_id), ("COMPLETE", run_id), ("START", parent_id), ("FAIL", parent_id)]);
    let [started, ended, _, failed] = &events[..] else { panic!("four") };
    assert!(started.subject().ends_with(&run.id) && started.data["outputs"] == serde_json::json!([]));
    let data = &ended.data;
    assert_eq!(data["schemaURL"], "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent");
    assert_eq!((&data["job"]["namespace"], &data["job"]["name"]), (&"rekindle:default".into(), &"flights".into()));
    assert_eq!(data["run"]["facets"]["parent"]["run"]["runId"], parent_id);
    assert_eq!(data["run"]["facets"]["rekindle_run"]["params"]["depth"], "3");
    let [input] = &data["inputs"].as_array().expect("inputs")[..] else { panic!("{data}") };
    assert_eq!((&input["name"], &input["facets"]["version"]["datasetVersion"]), (&"trips".into(), &"1".into()));
    assert_eq!(input["facets"]["schema"]["fields"][1], serde_json::json!({ "name": "b", "type": "Utf8" }));
    assert_eq!(input["inputFacets"]["inputStatistics"]["rowCount"], 2);
    let [output] = &data["outputs"].as_array().expect("outputs")[..] else { panic!("{data}") };
    assert_eq!(
        (&output["name"], &output["facets"]["version"]["datasetVersion"]),
        (&"models/churn".into(), &"1".into())
    );
    assert_eq!(failed.data["run"]["facets"]["errorMessage"]["message"], "why");
    for facet in [&data["run"]["facets"]["parent"], &input["facets"]["schema"], &data["job"]["facets"]["jobType"]] {
        let (producer, schema) = (facet["_producer"].as_str(), facet["_schemaURL"].as_str());
        assert!(producer.is_some_and(|it| it.starts_with("urn:rekindle:")), "{facet}");
        assert!(schema.is_some_and(|it| it.starts_with("https://openlineage.io/spec/facets/")), "{facet}");
    }
}

async fn runs_are_deleted_and_restored_unless_they_are_used(sandbox: Sandbox) {
    let created = sandbox.run("flights", vec![]).await;
    let mut runs = sandbox.runs.clone();
    let delete = DeleteRunRequest { id: created.id.clone(), why: "a mistake".into() };
    let held = runs.delete_run(delete.clone()).await.expect_err("in progress");
    assert_eq!((held.code(), reason(&held, "run").0.as_str()), (Code::FailedPrecondition, "RUN_IN_USE"));
    report(&sandbox, &created.id, RunReport::Running).await.expect("running");
    report(&sandbox, &created.id, RunReport::Finished).await.expect("finished");
    let id: rekindle_domain::RunId = created.id.parse().expect("an id");
    let model = sandbox.bundle(&bundle(&id.to_string(), vec![], 5)).await;
    sandbox.register("churn", &model).await.expect("registered");
    let held = runs.delete_run(delete.clone()).await.expect_err("it made a version");
    assert!(reason(&held, "users").1.contains("model-version/churn/1"), "{held}");
    let model = DeleteModelRequest { model: "churn".into(), version: Some(1), why: String::new() };
    sandbox.models.clone().delete_model(model).await.expect("deleted");
    let deleted = runs.delete_run(delete.clone()).await.expect("deleted").into_inner();
    assert!(deleted.deleted_at.is_some());
    assert_eq!(runs.delete_run(delete).await.expect("again").into_inner(), deleted);
    assert!(runs.list_runs(ListRunsRequest::default()).await.expect("a page").into_inner().runs.is_empty());
    let restore = RestoreRunRequest { id: created.id.clone(), why: "needed".into() };
    assert!(runs.restore_run(restore).await.expect("restored").into_inner().deleted_at.is_none());
    assert_eq!(runs.list_runs(ListRunsRequest::default()).await.expect("a page").into_inner().runs.len(), 1);
    let events = sandbox.events(6).await;
    let changed: Vec<&serde_json::Value> = events
        .iter()
        .filter(|event| event.kind.ce_type() == "dev.rekindle.registry.run.changed.v1")
        .map(|event| &event.data["deleted"])
        .collect();
    assert_eq!(changed, [&serde_json::json!(true), &serde_json::json!(false)]);
}

pub(crate) async fn report(sandbox: &Sandbox, id: &str, report: RunReport) -> Result<Run, Status> {
    let outputs = [("bundle".to_owned(), "sha256:…".to_owned())].into();
    let request =
        ReportRunRequest { id: id.to_owned(), report: report.into(), outputs, error: "why".into(), progress: None };
    sandbox.runs.clone().report_run(request).await.map(tonic::Response::into_inner)
}

async fn a_run_goes_through_its_lifecycle_with_events(sandbox: Sandbox) {
    let request = CreateRunRequest {
        idempotency_key: key(),
        id: run_id().to_string(),
        experiment: "flights".into(),
        params: [("epochs".to_owned(), "20".to_owned())].into(),
        seed: u64::MAX,
        ..Default::default()
    };
    let created = sandbox.runs.clone().create_run(request.clone()).await.expect("created").into_inner();
    assert_eq!((created.status(), created.seed, created.revision), (RunStatus::Scheduled, u64::MAX, 1));
    let again = sandbox.runs.clone().create_run(request.clone()).await.expect("the same").into_inner();
    assert_eq!(again, created);
    let taken = CreateRunRequest { idempotency_key: key(), ..request };
    assert_eq!(sandbox.runs.clone().create_run(taken).await.expect_err("the id is taken").code(), Code::AlreadyExists);

    let running = report(&sandbox, &created.id, RunReport::Running).await.expect("taken");
    assert_eq!(running.status(), RunStatus::Running);
    assert_eq!(report(&sandbox, &created.id, RunReport::Running).await.expect("renewed").revision, running.revision);
    let finished = report(&sandbox, &created.id, RunReport::Finished).await.expect("finished");
    assert_eq!((finished.status(), finished.outputs.len()), (RunStatus::Finished, 1));
    assert_eq!(report(&sandbox, &created.id, RunReport::Finished).await.expect("repeated"), finished);

    let refused = report(&sandbox, &created.id, RunReport::Killed).await.expect_err("too late");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused, "status"), ("RUN_TRANSITION_REFUSED".to_owned(), "FINISHED".to_owned()));

    let events = sandbox.events(2).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind.to_string()).collect();
    assert_eq!(kinds, ["registry.run.started", "registry.run.ended"]);
    assert_eq!(
        (events[1].name.as_str(), &events[1].data["status"]),
        (created.id.as_str(), &"RUN_STATUS_FINISHED".into())
    );
}

/// Texts of so many bytes together.
fn texts(bytes: usize) -> std::collections::BTreeMap<String, String> {
    (0..bytes / 50_000).map(|index| (format!("text {index}"), "x".repeat(50_000))).collect()
}

async fn large_runs_are_bounded_and_listed_page_by_page(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    let large = |bytes: usize| CreateRunRequest {
        idempotency_key: key(),
        experiment: "flights".into(),
        params: texts(bytes),
        ..Default::default()
    };
    let refused = runs.create_run(large(1_000_000)).await.expect_err("larger than a run");
    assert_eq!(blamed(&refused), "params");
    assert!(refused.message().contains("registry.limits.texts_bytes is 458752"), "{}", refused.message());
    for _ in 0..5 {
        let created = runs.create_run(large(450_000)).await.expect("created").into_inner();
        report(&sandbox, &created.id, RunReport::Running).await.expect("started");
        let finished = ReportRunRequest { id: created.id, report: RunReport::Finished.into(), ..Default::default() };
        let refused = ReportRunRequest { outputs: texts(1_000_000), ..finished.clone() };
        assert_eq!(blamed(&runs.report_run(refused).await.expect_err("larger than a run")), "outputs");
        runs.report_run(ReportRunRequest { outputs: texts(450_000), ..finished }).await.expect("finished");
    }
    let (mut listed, mut pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let request = ListRunsRequest { page_size: 500, page_token: token, ..Default::default() };
        let page = runs.list_runs(request).await.expect("it fits into a message").into_inner();
        listed.extend(page.runs.into_iter().map(|run| run.id));
        (pages, token) = (pages + 1, page.next_page_token);
        if token.is_empty() {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = listed.iter().collect();
    assert_eq!((distinct.len(), listed.len(), pages), (5, 5, 3), "four and a half megabytes, at most two in a page");

    let many = |names: usize| (0..names).map(|name| Metric { name: format!("m{name}"), ..Metric::default() }).collect();
    let log = |names| LogMetricsRequest { run_id: listed[0].clone(), metrics: many(names) };
    runs.log_metrics(log(1000)).await.expect("as many metrics as a run may have");
    runs.log_metrics(log(1000)).await.expect("the same");
    assert_eq!(blamed(&runs.log_metrics(log(1001)).await.expect_err("one more")), "metrics");
}

async fn a_run_without_heartbeat_is_lost_and_may_be_started_again(sandbox: Sandbox) {
    let sandbox = sandbox.with_short_leases().await;
    let run = sandbox.run("flights", vec![]).await;
    report(&sandbox, &run.id, RunReport::Running).await.expect("taken");
    let lost = eventually("the run to be lost", async || {
        let got = sandbox.runs.clone().get_run(GetRunRequest { id: run.id.clone() }).await.expect("there").into_inner();
        if got.status() == RunStatus::Lost { Ok(got) } else { Err(format!("{got:?}")) }
    })
    .await;
    assert!(lost.error.starts_with("no heartbeat since"), "{}", lost.error);
    let again = report(&sandbox, &run.id, RunReport::Running).await.expect("delivered again");
    assert_eq!((again.status(), again.error.as_str()), (RunStatus::Running, ""));
    let events = sandbox.events(3).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind.verb).collect();
    assert_eq!(kinds, ["started", "ended", "started"]);
    assert_eq!(events[1].data["status"], "RUN_STATUS_LOST");
}

async fn metrics_are_replaced_by_step(sandbox: Sandbox) {
    let run = sandbox.run("flights", vec![]).await;
    let point = |name: &str, step, value| Metric { name: name.into(), value, step, time: None };
    for metrics in [
        vec![point("loss", 1, 0.9), point("loss", 2, 0.8), point("auc", 1, 0.6)],
        vec![point("loss", 2, 0.75), point("loss", 3, 0.6), point("loss", 3, 0.7)],
    ] {
        let request = LogMetricsRequest { run_id: run.id.clone(), metrics };
        sandbox.runs.clone().log_metrics(request).await.expect("logged");
    }
    let request =
        GetMetricHistoryRequest { run_id: run.id.clone(), name: "loss".into(), page_size: 2, ..Default::default() };
    let page = sandbox.runs.clone().get_metric_history(request.clone()).await.expect("there").into_inner();
    let mut history = page.metrics;
    assert_eq!(history.len(), 2);
    let request = GetMetricHistoryRequest { page_token: page.next_page_token, ..request };
    let page = sandbox.runs.clone().get_metric_history(request).await.expect("there").into_inner();
    assert_eq!(page.next_page_token, "");
    history.extend(page.metrics);
    let history: Vec<_> = history.iter().map(|point| (point.step, point.value)).collect();
    assert_eq!(history, [(1, 0.9), (2, 0.75), (3, 0.7)]);
    let request = GetMetricHistoryRequest { run_id: run.id.clone(), name: "lost".into(), ..Default::default() };
    let unknown = sandbox.runs.clone().get_metric_history(request).await.expect_err("no such metric");
    assert_eq!(unknown.message(), "name: is \"lost\": expected one of auc, loss");
    let got = sandbox.runs.clone().get_run(GetRunRequest { id: run.id }).await.expect("there").into_inner();
    let last: Vec<_> = got.metrics.iter().map(|point| (point.name.as_str(), point.value)).collect();
    assert_eq!(last, [("auc", 0.6), ("loss", 0.7)]);
}

async fn runs_are_listed(sandbox: Sandbox) {
    let mut made = Vec::new();
    for experiment in ["a", "b", "a", "a"] {
        made.push(sandbox.run(experiment, vec![]).await.id);
    }
    let list = async |experiment: &str, page_token: String| {
        let request = ListRunsRequest { experiment: experiment.into(), page_size: 2, page_token, ..Default::default() };
        let page = sandbox.runs.clone().list_runs(request).await.expect("a page").into_inner();
        (page.runs.into_iter().map(|run| run.id).collect::<Vec<_>>(), page.next_page_token)
    };
    let (first, token) = list("a", String::new()).await;
    assert_eq!(first, [made[3].clone(), made[2].clone()]);
    assert_eq!(list("a", token).await, (vec![made[0].clone()], String::new()));
    assert_eq!(list("", String::new()).await.0, [made[3].clone(), made[2].clone()]);
    assert_eq!(list("none", String::new()).await.0, Vec::<String>::new());
}

async fn an_id_can_be_abbreviated_while_one_run_is_meant(sandbox: Sandbox) {
    let ids = ["0198aaaa-0000-7000-8000-000000000001", "0198aaab-0000-7000-8000-000000000002"];
    for id in ids {
        let request = CreateRunRequest {
            idempotency_key: key(),
            id: id.into(),
            experiment: "flights".into(),
            ..Default::default()
        };
        sandbox.runs.clone().create_run(request).await.expect("created");
    }
    let get = async |id: &str| sandbox.runs.clone().get_run(GetRunRequest { id: id.into() }).await;
    for (prefix, id) in [("0198aaaa", ids[0]), ("0198AAAB-0000-7", ids[1]), (ids[1], ids[1])] {
        assert_eq!(get(prefix).await.expect(prefix).into_inner().id, id);
    }
    let both = get("0198aaa").await.expect_err("two runs");
    assert_eq!((both.code(), blamed(&both).as_str()), (Code::InvalidArgument, "id"));
    assert!(ids.iter().all(|id| both.message().contains(id)), "{both}");
    let none = get("0198aaac").await.expect_err("no run");
    assert_eq!((none.code(), reason(&none, "resource").1.as_str()), (Code::NotFound, "run"));
    assert!(none.message().contains("0198aaac"), "{none}");
    for short in ["", "019", "flights"] {
        assert_eq!(blamed(&get(short).await.expect_err(short)), "id");
    }
}

/// The param `n` of the runs that are found, in their order, in pages of `page_size`.
async fn found(sandbox: &Sandbox, filter: &str, order_by: &[&str], page_size: u32) -> Result<Vec<String>, Status> {
    let (mut runs, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListRunsRequest {
            experiment: String::new(),
            page_size,
            page_token: token,
            filter: filter.to_owned(),
            order_by: order_by.iter().map(|&field| field.to_owned()).collect(),
        };
        let page = sandbox.runs.clone().list_runs(request).await?.into_inner();
        assert!(page.runs.len() <= page_size as usize);
        runs.extend(page.runs.into_iter().map(|run| run.params["n"].clone()));
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(runs);
        }
    }
}

async fn runs_are_found_by_conditions_and_listed_in_any_order(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    // By n: the metric auc, the tag team, the param path.
    let given = [
        (Some(0.7), Some("risk"), "a%b"),
        (None, Some("Risk"), "a\\b"),
        (Some(0.9), None, "A_b"),
        (Some(0.7), Some("ops"), "[a]*"),
        (Some(-1.5), None, "a-b"),
    ];
    let mut ids = Vec::new();
    for (n, (auc, team, path)) in given.into_iter().enumerate() {
        let params = [("n".to_owned(), n.to_string()), ("the path".to_owned(), path.to_owned())].into();
        let tags = team.map(|team| ("team".to_owned(), team.to_owned())).into_iter().collect();
        let experiment = if n < 3 { "flights" } else { "trains" }.to_owned();
        let request = CreateRunRequest { idempotency_key: key(), experiment, params, tags, ..Default::default() };
        let run = runs.create_run(request).await.expect("created").into_inner();
        if let Some(auc) = auc {
            // The last step counts, in whichever order the points come.
            for (step, value) in [(3, auc), (2, 0.1), (1, 0.99)] {
                let metric = Metric { name: "validation.auc".into(), value, step, time: None };
                let request = LogMetricsRequest { run_id: run.id.clone(), metrics: vec![metric] };
                runs.log_metrics(request).await.expect("logged");
            }
        }
        ids.push(run.id);
    }
    report(&sandbox, &ids[4], RunReport::Running).await.expect("started");

    let newest_first: [(&str, &[&str]); 20] = [
        ("", &["4", "3", "2", "1", "0"]),
        ("metrics.validation.auc >= 0.7", &["3", "2", "0"]),
        ("metrics.\"validation.auc\" = -1.5", &["4"]),
        ("metrics.validation.auc != 0.7", &["4", "2"]),
        ("NOT metrics.validation.auc = 0.7", &["4", "2", "1"]),
        ("metrics.validation.auc IS NULL", &["1"]),
        ("metrics.validation.auc BETWEEN 0 AND 0.8 AND tags.team IS NOT NULL", &["3", "0"]),
        ("tags.team = 'risk' OR tags.team = 'ops'", &["3", "0"]),
        ("NOT tags.team IN ('risk', 'ops')", &["4", "2", "1"]),
        ("tags.team NOT IN ('risk')", &["4", "3", "2", "1"]),
        ("tags.team LIKE 'r%'", &["0"]),
        ("tags.team ILIKE 'R_SK'", &["1", "0"]),
        ("params.\"the path\" LIKE 'a_b'", &["4", "1", "0"]),
        ("params.`the path` LIKE '[a]*'", &["3"]),
        ("params.`the path` LIKE 'a\\b'", &["1"]),
        ("params.n IN (1, 2) AND experiment = 'flights'", &["2", "1"]),
        ("status = 'RUNNING'", &["4"]),
        ("started_at IS NULL AND created_at > '2020-01-01T00:00:00Z'", &["3", "2", "1", "0"]),
        ("started_at > '2020-01-01T00:00:00Z'", &["4"]),
        ("created_at < '2020-01-01T00:00:00Z'", &[]),
    ];
    for (filter, expected) in newest_first {
        assert_eq!(found(&sandbox, filter, &[], 500).await.expect(filter), expected, "{filter}");
    }
    let with_auc = found(&sandbox, "NOT metrics.validation.auc IS NULL", &["metrics.validation.auc"], 1).await;
    assert_eq!(with_auc.expect("found"), ["4", "3", "0", "2"], "page by page");
    let by_id = format!("id IN ('{}', '{}')", ids[0], ids[3]);
    assert_eq!(found(&sandbox, &by_id, &[], 500).await.expect("found"), ["3", "0"]);

    let orders: [(&[&str], [&str; 5]); 7] = [
        (&["metrics.validation.auc DESC"], ["2", "3", "0", "4", "1"]),
        (&["metrics.validation.auc"], ["4", "3", "0", "2", "1"]),
        (&["metrics.validation.auc DESC", "params.n"], ["2", "0", "3", "4", "1"]),
        (&["tags.missing", "created_at"], ["0", "1", "2", "3", "4"]),
        (&["started_at", "experiment DESC", "id"], ["4", "3", "0", "1", "2"]),
        (&["status", "params.n DESC"], ["4", "3", "2", "1", "0"]),
        (&["tags.team DESC", "params.n"], ["0", "3", "1", "2", "4"]),
    ];
    for (order, expected) in orders {
        for page_size in 1..=6 {
            assert_eq!(found(&sandbox, "", order, page_size).await.expect("found"), expected, "{order:?}, {page_size}");
        }
    }

    for (filter, named) in [("metrics.auc >", "cannot be parsed"), ("colour = 'red'", "unknown attribute")] {
        let refused = found(&sandbox, filter, &[], 1).await.expect_err(filter);
        assert_eq!((blamed(&refused).as_str(), refused.code()), ("filter", Code::InvalidArgument));
        assert!(refused.message().contains(named), "{refused}");
    }
    assert_eq!(blamed(&found(&sandbox, "", &["weights.a"], 1).await.expect_err("no field")), "order_by[0]");
    let first = ListRunsRequest { page_size: 1, order_by: vec!["params.n".into()], ..Default::default() };
    let page_token = runs.list_runs(first.clone()).await.expect("a page").into_inner().next_page_token;
    for other in [
        ListRunsRequest { order_by: Vec::new(), ..first.clone() },
        ListRunsRequest { order_by: vec!["params.n DESC".into()], ..first.clone() },
        ListRunsRequest { filter: "params.n = 1".into(), ..first.clone() },
        ListRunsRequest { experiment: "trains".into(), ..first.clone() },
    ] {
        let other = ListRunsRequest { page_token: page_token.clone(), ..other };
        assert_eq!(blamed(&runs.list_runs(other).await.expect_err("another list")), "page_token");
    }
}

async fn names_and_values_may_have_any_character(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    let names = ["$", "$lr", "$.a", "[0]", "a\"b", "a\\b", "a.b", "a'b", "ä", "a b", "%", "_"];
    for (n, name) in names.into_iter().enumerate() {
        let params = [("n".to_owned(), format!("{n:02}")), (name.to_owned(), name.to_owned())].into();
        let request =
            CreateRunRequest { idempotency_key: key(), experiment: "flights".into(), params, ..Default::default() };
        runs.create_run(request).await.expect("created");
    }
    for (n, name) in names.into_iter().enumerate() {
        let field = format!("params.\"{}\"", name.replace('"', "\"\""));
        let filter = format!("{field} = '{}'", name.replace('\'', "''"));
        assert_eq!(found(&sandbox, &filter, &[], 500).await.expect(&filter), [format!("{n:02}")], "{filter}");
        let ordered = found(&sandbox, "", &[&field, "params.n"], 5).await.expect(&field);
        assert_eq!((ordered.len(), &ordered[0]), (names.len(), &format!("{n:02}")), "{field}");
    }
}

async fn params_are_written_once_and_tags_as_often_as_needed(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    let run = sandbox.run("flights", vec![]).await;
    let texts =
        |pairs: &[(&str, &str)]| pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let log = |params| LogParamsRequest { run_id: run.id.clone(), params };
    let logged = runs.log_params(log(texts(&[("a", "1"), ("b", "2")]))).await.expect("new").into_inner();
    assert_eq!((logged.params.len(), logged.revision), (2, run.revision + 1));
    let again = runs.log_params(log(texts(&[("a", "1")]))).await.expect("the same").into_inner();
    assert_eq!(again, logged);
    let refused = runs.log_params(log(texts(&[("c", "3"), ("a", "2")]))).await.expect_err("another value");
    assert_eq!(reason(&refused, "param"), ("PARAM_EXISTS".to_owned(), "a".to_owned()));
    let unchanged = runs.get_run(GetRunRequest { id: run.id.clone() }).await.expect("there").into_inner();
    assert_eq!(unchanged, logged, "all or nothing");

    report(&sandbox, &run.id, RunReport::Running).await.expect("started");
    report(&sandbox, &run.id, RunReport::Finished).await.expect("finished");
    let set = |tags, delete: &[&str]| SetRunTagsRequest {
        run_id: run.id.clone(),
        tags,
        delete: delete.iter().map(|&name| name.to_owned()).collect(),
    };
    runs.set_run_tags(set(texts(&[("team", "risk"), ("draft", "yes")]), &[])).await.expect("after its end, too");
    let tagged =
        runs.set_run_tags(set(texts(&[("team", "ops")]), &["draft", "unknown"])).await.expect("set").into_inner();
    assert_eq!((tagged.tags.len(), tagged.tags["team"].as_str(), tagged.status()), (1, "ops", RunStatus::Finished));

    let many = |names: usize| (0..names).map(|name| (format!("name {name}"), String::new())).collect();
    assert_eq!(blamed(&runs.set_run_tags(set(many(1001), &[])).await.expect_err("too many")), "tags");
    assert_eq!(blamed(&runs.set_run_tags(set(many(1000), &[])).await.expect_err("together too many")), "tags");
    assert_eq!(blamed(&runs.log_params(log(many(1000))).await.expect_err("together too many")), "params");
    let unknown = LogParamsRequest { run_id: run_id().to_string(), params: many(1) };
    assert_eq!(runs.log_params(unknown).await.expect_err("no run").code(), Code::NotFound);
}

async fn a_run_may_be_part_of_another_and_choose_its_lease(sandbox: Sandbox) {
    let sandbox = sandbox.with_short_leases().await;
    let mut runs = sandbox.runs.clone();
    let parent = sandbox.run("flights", vec![]).await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let request = |parent_id: &str, lease| CreateRunRequest {
        idempotency_key: key(),
        experiment: "flights".into(),
        parent_id: parent_id.to_owned(),
        lease,
        ..Default::default()
    };
    let child = runs.create_run(request(&parent.id, seconds(3600))).await.expect("created").into_inner();
    assert_eq!(child.parent_id, parent.id);
    let unknown = runs.create_run(request(&run_id().to_string(), None)).await.expect_err("no such parent");
    assert_eq!(unknown.code(), Code::NotFound);
    for lease in [0, -1, 31 * 24 * 3600] {
        assert_eq!(blamed(&runs.create_run(request("", seconds(lease))).await.expect_err("out of bounds")), "lease");
    }
    let filter = format!("parent_id = '{}'", parent.id);
    let children = runs.list_runs(ListRunsRequest { filter, ..Default::default() }).await.expect("listed").into_inner();
    assert_eq!(children.runs.iter().map(|run| &run.id).collect::<Vec<_>>(), [&child.id]);

    // The other run, whose lease is that of the configuration, is lost first.
    for id in [&child.id, &parent.id] {
        report(&sandbox, id, RunReport::Running).await.expect("started");
    }
    let status = async |id: &str| {
        sandbox.runs.clone().get_run(GetRunRequest { id: id.to_owned() }).await.expect("there").into_inner().status()
    };
    eventually("the run to be lost", async || match status(&parent.id).await {
        RunStatus::Lost => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(status(&child.id).await, RunStatus::Running);
    let closed = report(&sandbox, &parent.id, RunReport::Finished).await.expect("its owner was slow");
    assert_eq!((closed.status(), closed.outputs.len(), closed.error.as_str()), (RunStatus::Finished, 1, ""));
}

async fn a_sample_of_a_metric_keeps_the_extremes(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    let run = sandbox.run("flights", vec![]).await;
    let value = |step: i64| if step == 7_777 { -9.0 } else { (step % 10) as f64 };
    // More than one read.
    for steps in [0..4_000, 8_000..12_000, 4_000..8_000] {
        let metrics = steps.map(|step| Metric { name: "loss".into(), value: value(step), step, time: None }).collect();
        runs.log_metrics(LogMetricsRequest { run_id: run.id.clone(), metrics }).await.expect("logged");
    }
    let request = |max_points| GetMetricHistoryRequest {
        run_id: run.id.clone(),
        name: "loss".into(),
        max_points,
        ..Default::default()
    };
    let sample = runs.get_metric_history(request(100)).await.expect("sampled").into_inner();
    assert!(sample.next_page_token.is_empty());
    let points: Vec<_> = sample.metrics.iter().map(|point| (point.step, point.value)).collect();
    assert!((90..=100).contains(&points.len()) && points.is_sorted_by_key(|(step, _)| *step), "{points:?}");
    assert_eq!((points[0].0, points[points.len() - 1].0), (0, 11_999));
    assert!(points.iter().all(|&(step, at)| at == value(step)));
    assert!(points.contains(&(7_777, -9.0)));
    for max_points in [3, 10_001] {
        assert_eq!(
            blamed(&runs.get_metric_history(request(max_points)).await.expect_err("out of bounds")),
            "max_points"
        );
    }
}

async fn the_history_has_the_last_point_of_each_step_however_they_are_logged(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    let run = sandbox.run("flights", vec![]).await;
    let mut state = 7_u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut expected = std::collections::BTreeMap::<String, std::collections::BTreeMap<i64, f64>>::new();
    for call in 0..120 {
        let points = if draw(10) == 0 { draw(3_000) } else { draw(5) };
        let first = draw(2_000).cast_signed() - 500;
        let metrics: Vec<Metric> = (0..points.cast_signed())
            .map(|at| Metric {
                name: format!("m{}", draw(3)),
                // Some steps twice in a call.
                step: first + at / 2 * 2 * (1 - 2 * (call % 2)),
                value: draw(1_000_000) as f64 / 7.0,
                time: None,
            })
            .collect();
        for metric in &metrics {
            expected.entry(metric.name.clone()).or_default().insert(metric.step, metric.value);
        }
        runs.log_metrics(LogMetricsRequest { run_id: run.id.clone(), metrics }).await.expect("logged");
    }
    for (name, points) in &expected {
        let (mut history, mut token) = (Vec::new(), String::new());
        loop {
            let request = GetMetricHistoryRequest {
                run_id: run.id.clone(),
                name: name.clone(),
                page_size: 1 + draw(500) as u32,
                page_token: token,
                max_points: 0,
            };
            let page = runs.get_metric_history(request).await.expect("a page").into_inner();
            history.extend(page.metrics.into_iter().map(|point| (point.step, point.value)));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(history, points.iter().map(|(&step, &value)| (step, value)).collect::<Vec<_>>(), "{name}");
    }
    let last = runs.get_run(GetRunRequest { id: run.id }).await.expect("there").into_inner().metrics;
    let last: Vec<_> = last.into_iter().map(|point| (point.name, point.step, point.value)).collect();
    let highest = expected.iter().map(|(name, points)| (name, points.last_key_value().expect("a point")));
    assert_eq!(last, highest.map(|(name, (&step, &value))| (name.clone(), step, value)).collect::<Vec<_>>());
}
