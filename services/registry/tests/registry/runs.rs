use rekindle_proto::registry::{
    CreateRunRequest, GetMetricHistoryRequest, GetRunRequest, ListRunsRequest, LogMetricsRequest, Metric,
    ReportRunRequest, Run, RunReport, RunStatus,
};
use rekindle_testkit::eventually;
use tonic::{Code, Status};

use crate::{
    on_both,
    sandbox::{Sandbox, blamed, key, reason, run_id},
};

on_both!(
    a_run_goes_through_its_lifecycle_with_events,
    a_run_without_heartbeat_is_lost_and_may_be_started_again,
    metrics_are_replaced_by_step,
    runs_are_listed,
    large_runs_are_bounded_and_listed_page_by_page,
    an_id_can_be_abbreviated_while_one_run_is_meant
);

async fn report(sandbox: &Sandbox, id: &str, report: RunReport) -> Result<Run, Status> {
    let outputs = [("bundle".to_owned(), "sha256:…".to_owned())].into();
    let request = ReportRunRequest { id: id.to_owned(), report: report.into(), outputs, error: "why".into() };
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
    let request = GetMetricHistoryRequest {
        run_id: run.id.clone(),
        name: "loss".into(),
        page_size: 2,
        page_token: String::new(),
    };
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
        let request = ListRunsRequest { experiment: experiment.into(), page_size: 2, page_token };
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
