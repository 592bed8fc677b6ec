//! Invalid requests are refused with the field, and change nothing.

use rekindle_proto::registry::{
    ColumnKind, CreateRunRequest, DownloadRequest, GetRunRequest, GetVersionRequest, ListDatasetsRequest,
    ListRunsRequest, LogMetricsRequest, Metric, ReadOptions, RegisterVersionRequest, ReportRunRequest, RunReport,
    SetAliasRequest, UploadRequest,
};
use tonic::Code;

use crate::{
    on_both,
    sandbox::{Sandbox, blamed, key, run_id},
};

on_both!(
    datasets_name_the_field,
    uploads_name_the_field,
    runs_name_the_field,
    what_no_database_or_event_holds_is_refused,
    unknown_resources_are_not_found
);

/// A change to a good request, and the field that is then to blame.
type Spoiled = (&'static str, fn(&mut RegisterVersionRequest));

async fn datasets_name_the_field(sandbox: Sandbox) {
    let good = sandbox.csv("flights", "when,a\n2013-01-01 00:00:00,1\n").await;
    let spoiled: [Spoiled; 15] = [
        ("idempotency_key", |request| request.idempotency_key.clear()),
        ("idempotency_key", |request| request.idempotency_key = "x".repeat(129)),
        ("name", |request| request.name = "Flights".into()),
        ("sources", |request| request.sources.clear()),
        ("sources[0].digest", |request| request.sources[0].digest = "sha256:12".into()),
        ("sources[0].format", |request| request.sources[0].format = 99),
        ("sources[0]", |request| request.sources[0].format = 2),
        ("time_column", |request| request.time_column = "a".into()),
        ("time_column", |request| request.from = Some(prost_types::Timestamp { seconds: 0, nanos: 0 })),
        ("kinds[a]", |request| request.kinds = [("a".into(), 77)].into()),
        ("kinds", |request| request.kinds = [("none".into(), ColumnKind::Boolean.into())].into()),
        ("parents[0]", |request| request.parents.push("flights/1".into())),
        ("reading.separator", |request| reading(request).separator = "ab".into()),
        ("reading.time_formats", |request| reading(request).time_formats = [("none".into(), 1)].into()),
        ("columns", |request| request.columns = 99),
    ];
    fn reading(request: &mut RegisterVersionRequest) -> &mut ReadOptions {
        request.reading.get_or_insert_default()
    }
    for (field, spoil) in spoiled {
        let mut request = RegisterVersionRequest { idempotency_key: key(), ..good.clone() };
        spoil(&mut request);
        let refused = sandbox.datasets.clone().register_version(request).await.expect_err(field);
        assert_eq!(blamed(&refused), field, "{refused}");
    }
    for text in ["a,a\n1,2\n", "a,b\n1\n", "", "a\n"] {
        let refused = sandbox.datasets.clone().register_version(sandbox.csv("flights", text).await).await;
        assert_eq!(blamed(&refused.expect_err(text)), "sources[0]");
    }
    let listed = sandbox.datasets.clone().list_datasets(ListDatasetsRequest::default()).await.expect("a page");
    assert!(listed.into_inner().datasets.is_empty(), "nothing was created");
    let token = ListDatasetsRequest { page_size: 0, page_token: "tomorrow".into() };
    assert_eq!(blamed(&sandbox.datasets.clone().list_datasets(token).await.expect_err("foreign")), "page_token");
}

async fn uploads_name_the_field(sandbox: Sandbox) {
    let chunk = |bytes: usize| bytes::Bytes::from(vec![0; bytes]);
    for (field, message) in [
        ("purpose", UploadRequest { chunk: chunk(1), purpose: 99 }),
        ("chunk", UploadRequest { chunk: chunk((1 << 20) + 1), purpose: 0 }),
    ] {
        let refused = sandbox.blobs.clone().upload(futures::stream::iter([message])).await.expect_err(field);
        assert_eq!(blamed(&refused), field);
    }
}

async fn runs_name_the_field(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    let good = CreateRunRequest { idempotency_key: key(), experiment: "flights".into(), ..Default::default() };
    for (field, request) in [
        ("experiment", CreateRunRequest { experiment: "a b".into(), ..good.clone() }),
        ("id", CreateRunRequest { id: "7".into(), ..good.clone() }),
        ("dataset_digests[0]", CreateRunRequest { dataset_digests: vec!["x".into()], ..good.clone() }),
        ("params", CreateRunRequest { params: [(String::new(), String::new())].into(), ..good.clone() }),
        ("params.value", CreateRunRequest { params: [("a".into(), "b\0".into())].into(), ..good.clone() }),
        ("code_revision", CreateRunRequest { code_revision: "\0".into(), ..good.clone() }),
    ] {
        assert_eq!(blamed(&runs.create_run(request).await.expect_err(field)), field);
    }
    assert!(runs.list_runs(ListRunsRequest::default()).await.expect("a page").into_inner().runs.is_empty());

    let run = runs.create_run(good).await.expect("created").into_inner();
    let unknown = ReportRunRequest { id: run.id.clone(), report: 9, ..Default::default() };
    assert_eq!(blamed(&runs.report_run(unknown).await.expect_err("unknown report")), "report");
    let metrics = vec![Metric { name: "loss".into(), value: f64::NAN, step: 1, time: None }];
    let refused = runs.log_metrics(LogMetricsRequest { run_id: run.id.clone(), metrics }).await.expect_err("NaN");
    assert_eq!(blamed(&refused), "metrics[0].value");
    let early = ReportRunRequest { id: run.id.clone(), report: RunReport::Finished.into(), ..Default::default() };
    assert_eq!(runs.report_run(early).await.expect_err("never started").code(), Code::FailedPrecondition);
    assert_eq!(runs.get_run(GetRunRequest { id: run.id.clone() }).await.expect("there").into_inner(), run);
}

/// A NUL, more parents than an event lists, and outputs that are too large for it: no retry can help.
async fn what_no_database_or_event_holds_is_refused(sandbox: Sandbox) {
    let mut runs = sandbox.runs.clone();
    let good = CreateRunRequest { idempotency_key: key(), experiment: "flights".into(), ..Default::default() };
    let nul = CreateRunRequest { code_revision: "a\0b".into(), ..good.clone() };
    assert_eq!(blamed(&runs.create_run(nul).await.expect_err("a NUL")), "code_revision");
    let run = runs.create_run(good).await.expect("created").into_inner();
    let texts = |bytes: usize| (0..bytes / 50_000).map(|at| (format!("text-{at}"), "x".repeat(50_000))).collect();
    let report = |report: RunReport, outputs| ReportRunRequest {
        id: run.id.clone(),
        report: report.into(),
        outputs,
        ..Default::default()
    };
    runs.report_run(report(RunReport::Running, Default::default())).await.expect("taken");
    let large = runs.report_run(report(RunReport::Finished, texts(600_000))).await.expect_err("600 kB");
    assert_eq!(blamed(&large), "outputs");
    assert!(large.message().contains("registry.limits.texts_bytes is 458752"), "{large}");
    runs.report_run(report(RunReport::Finished, texts(450_000))).await.expect("450 kB fit into the event");

    let mut request = sandbox.csv("flights", "a\n1\n").await;
    let parents =
        |count: u64| (0..count).map(|at| rekindle_domain::Digest::of(&at.to_be_bytes()).to_string()).collect();
    request.parents = parents(10_000);
    let many = sandbox.datasets.clone().register_version(request.clone()).await.expect_err("10,000 parents");
    assert_eq!(blamed(&many), "parents");
    request.parents = parents(6_000);
    sandbox.datasets.clone().register_version(request).await.expect("6,000 parents fit into the event");
}

async fn unknown_resources_are_not_found(sandbox: Sandbox) {
    let not_found = |status: tonic::Status| assert_eq!(status.code(), Code::NotFound, "{status}");
    let digest = rekindle_domain::Digest::of(b"nothing").to_string();
    let mut request = sandbox.csv("flights", "a\n1\n").await;
    request.sources[0].digest = digest.clone();
    not_found(sandbox.datasets.clone().register_version(request).await.expect_err("no blob"));
    let version = GetVersionRequest { name: "flights".into(), version: Some(3) };
    not_found(sandbox.datasets.clone().get_version(version).await.expect_err("no version"));
    not_found(sandbox.runs.clone().get_run(GetRunRequest { id: run_id().to_string() }).await.expect_err("no run"));
    not_found(sandbox.blobs.clone().download(DownloadRequest { digest }).await.expect_err("no blob"));
    let metrics = LogMetricsRequest { run_id: run_id().to_string(), metrics: vec![] };
    not_found(sandbox.runs.clone().log_metrics(metrics).await.expect_err("no run"));
    let zero = GetVersionRequest { name: "flights".into(), version: Some(0) };
    assert_eq!(blamed(&sandbox.datasets.clone().get_version(zero).await.expect_err("zero")), "version");
    let alias = SetAliasRequest { model: "m".into(), alias: "champion".into(), version: 1, ..Default::default() };
    not_found(sandbox.models.clone().set_alias(alias.clone()).await.expect_err("no version"));
    for why in ["\0".to_owned(), "x".repeat(4097)] {
        let refused = sandbox.models.clone().set_alias(SetAliasRequest { why, ..alias.clone() }).await;
        assert_eq!(blamed(&refused.expect_err("no reason")), "why");
    }
}
