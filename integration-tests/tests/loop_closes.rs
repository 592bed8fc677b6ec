//! The whole loop, told once and run on every wiring: files or servers, one process or one each.

use rekindle_integration_tests::{
    Clients, Cluster, Platform, Wiring,
    story::{self, MODEL},
    table::{self, csv},
};
use rekindle_proto::{
    monitor::{ListReportsRequest, Verdict},
    orchestrator::{Trigger, WorkflowState},
    registry::{GetAliasHistoryRequest, GetAliasRequest, GetLineageRequest},
};

const CHANGE: u64 = 72;

/// Three days to learn from, then two more in which the world turns over.
async fn the_loop_closes(clients: &Clients) {
    let learnt = story::register(clients, csv(&table::rows(0..CHANGE, CHANGE)), "learn").await;
    assert_eq!((learnt.version, learnt.rows), (1, CHANGE * table::ROWS_PER_HOUR));
    let (run, version) = story::train(clients, "01890000-0000-7000-8000-000000000001").await;
    assert!(run.metrics.iter().any(|metric| metric.name.contains("log_loss")), "{:?}", run.metrics);
    story::promote_and_deploy(clients, version.version).await;
    story::set_policy(clients, |_| ()).await;

    let lived = table::rows(CHANGE..CHANGE + 48, CHANGE);
    story::live_through(clients, &lived).await;

    let workflow = story::workflow_in(clients, WorkflowState::Succeeded).await;
    assert!(matches!(workflow.trigger(), Trigger::Drift | Trigger::Degradation), "{workflow:?}");
    assert_eq!((workflow.from_version, workflow.to_version), (1, 2));
    assert!(workflow.serving_everywhere_at.is_some() && workflow.window_closed_at.is_some());
    story::deployed(clients, story::at_rest(clients).await.stable.expect("one is served").version).await;

    story::captured(clients, lived.len() as u64).await;
    the_drift_names_its_cause(clients).await;
    the_new_version_came_from_the_captured_rows(clients).await;
}

async fn the_drift_names_its_cause(clients: &Clients) {
    let request = ListReportsRequest { model: MODEL.into(), page_size: 100, ..Default::default() };
    let reports = clients.monitor().list_reports(request).await.expect("listed").into_inner().reports;
    let first_model: Vec<_> = reports.iter().filter(|report| report.model_version == 1).collect();
    let drifted = first_model.iter().find(|report| report.drift() == Verdict::Drifted).expect("the change was seen");
    let most = drifted.features.iter().max_by(|a, b| a.cause_share.total_cmp(&b.cause_share)).expect("features");
    assert_eq!(most.name, "temperature");
    let unchanged = drifted.features.iter().find(|feature| feature.name == "region").expect("a feature");
    assert_ne!(unchanged.verdict(), Verdict::Drifted, "{unchanged:?}");
}

async fn the_new_version_came_from_the_captured_rows(clients: &Clients) {
    let alias = GetAliasRequest { model: MODEL.into(), alias: "champion".into() };
    let champion = clients.models().get_alias(alias).await.expect("set").into_inner();
    assert!(champion.version >= 2);
    let history = GetAliasHistoryRequest { model: MODEL.into(), alias: "champion".into(), ..Default::default() };
    let moves = clients.models().get_alias_history(history).await.expect("kept").into_inner().moves;
    assert_eq!(moves.last().map(|first| first.version), Some(1));
    let request = GetLineageRequest { bundle_digest: champion.bundle_digest };
    let lineage = clients.models().get_lineage(request).await.expect("known").into_inner();
    let names: Vec<_> = lineage.datasets.iter().map(|dataset| (dataset.name.as_str(), dataset.version)).collect();
    assert!(names.contains(&(story::DATASET, 1)), "the first rows are among the ancestors: {names:?}");
    assert!(names.len() >= 2 && lineage.run.is_some(), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_process_on_files() {
    let platform = Platform::start(Wiring::Embedded, 2).await;
    the_loop_closes(&platform.clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_process_on_servers() {
    let platform = Platform::start(Wiring::servers().await, 2).await;
    the_loop_closes(&platform.clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_separate_processes_on_files() {
    let cluster = Cluster::start(Wiring::Embedded, 2).await;
    the_loop_closes(&cluster.clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_separate_processes_on_servers() {
    let cluster = Cluster::start(Wiring::servers().await, 2).await;
    the_loop_closes(&cluster.clients).await;
}
