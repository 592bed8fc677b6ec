//! The loop from drift to a new champion, on every wiring: files or servers, one process or one per service.

use rekindle_client::{PageRequest, registry::RunSearch};
use rekindle_domain::{AliasName, Qualified as _, Trigger, WorkflowState, report::Verdict};
use rekindle_integration_tests::{
    Clients, Cluster, Platform, Wiring, scenario,
    table::{self, csv},
};

const SHIFT: u64 = 72;

const JOB: &str = "01890000-0000-7000-8000-000000000001";
const ANOTHER_JOB: &str = "01890000-0000-7000-8000-000000000002";

/// Three days of training rows, then two days of traffic with a shift.
async fn the_loop_closes(clients: &Clients, job: &str) {
    let registered = scenario::register(clients, csv(&table::rows(0..SHIFT, SHIFT)), "training rows").await;
    assert_eq!((registered.version, registered.rows), (1, SHIFT * table::ROWS_PER_HOUR));
    let (run, version) = scenario::train(clients, job).await;
    assert!(run.metrics.iter().any(|metric| metric.name.contains("log_loss")), "{:?}", run.metrics);
    scenario::promote_and_deploy(clients, version.version).await;
    scenario::set_policy(clients, |_| ()).await;

    let traffic = table::rows(SHIFT..SHIFT + 48, SHIFT);
    scenario::send_day_by_day(clients, &traffic).await;

    let workflow = scenario::workflow_in(clients, WorkflowState::Succeeded).await;
    assert!(matches!(workflow.trigger, Trigger::Drift | Trigger::Degradation), "{workflow:?}");
    // Version 2 passed the gate, and 3 is its refit on all rows.
    assert_eq!((workflow.from_version, workflow.to_version), (Some(1), Some(3)), "{:?}", workflow.steps);
    assert!(workflow.refit_run.is_some());
    assert!(workflow.serving_everywhere_at.is_some() && workflow.window_closed_at.is_some());
    scenario::deployed(clients, scenario::settled(clients).await.stable.version).await;

    scenario::captured(clients, traffic.len() as u64).await;
    the_report_names_the_cause(clients).await;
    the_new_version_is_trained_on_the_captured_rows(clients).await;
}

async fn the_report_names_the_cause(clients: &Clients) {
    let reports = clients.monitor().reports(&scenario::model(), PageRequest::first(100)).await.expect("listed").items;
    let mut of_the_first_version = reports.iter().filter(|report| report.window.version.version == 1);
    let drifted = of_the_first_version.find(|report| report.drift.verdict == Verdict::Drifted).expect("drift");
    let features = &drifted.drift.features;
    let most = features.iter().max_by(|a, b| a.cause_share.total_cmp(&b.cause_share)).expect("features");
    assert_eq!(most.name, "temperature");
    let unchanged = features.iter().find(|feature| feature.name == "region").expect("a feature");
    assert_ne!(unchanged.verdict, Verdict::Drifted, "{unchanged:?}");
}

async fn the_new_version_is_trained_on_the_captured_rows(clients: &Clients) {
    let (registry, model, alias) = (clients.registry(), scenario::model(), AliasName::champion());
    let champion = registry.alias(&model, &alias).await.expect("set");
    assert!(champion.version >= 2);
    let moves = registry.alias_history(&model, &alias, PageRequest::default()).await.expect("kept").items;
    assert_eq!(moves.last().map(|first| first.version), Some(1));
    let lineage = registry.lineage(champion.bundle).await.expect("known");
    let names: Vec<_> = lineage.datasets.iter().map(|dataset| (dataset.name.clone(), dataset.version)).collect();
    assert!(
        names.contains(&(scenario::dataset().or_within(&clients.namespace), 1)),
        "the training rows are among the ancestors: {names:?}"
    );
    assert!(names.len() >= 2 && lineage.run.is_some(), "{names:?}");
}

/// Models and datasets of the same names in two namespaces: each has its own versions, deployment, traffic and workflows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_process_on_files_in_two_namespaces() {
    let platform = Platform::start(Wiring::Embedded, 2).await;
    let (clients, theirs) = (&platform.clients, platform.clients.within("team-a"));
    tokio::join!(the_loop_closes(clients, JOB), the_loop_closes(&theirs, ANOTHER_JOB));
    for (clients, model) in [(clients, "shop"), (&theirs, "team-a.shop")] {
        let models = clients.registry().models(PageRequest::default()).await.expect("listed").items;
        assert_eq!(models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), [model]);
        let deployments = clients.orchestrator().deployments(PageRequest::default()).await.expect("listed").items;
        assert_eq!(deployments.iter().map(|deployment| deployment.model.as_str()).collect::<Vec<_>>(), [model]);
        let workflows = clients.orchestrator().workflows(None, PageRequest::first(500)).await.expect("listed").items;
        assert!(!workflows.is_empty() && workflows.iter().all(|workflow| workflow.model.as_str() == model));
        let runs = clients.registry().runs(&RunSearch::default(), PageRequest::first(500)).await.expect("listed").items;
        assert!(!runs.is_empty() && runs.iter().all(|run| run.experiment.as_str() == model));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_process_on_servers() {
    let platform = Platform::start(Wiring::servers().await, 2).await;
    the_loop_closes(&platform.clients, JOB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_separate_processes_on_files() {
    let cluster = Cluster::start(Wiring::Embedded, 2).await;
    the_loop_closes(&cluster.clients, JOB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_separate_processes_on_servers() {
    let cluster = Cluster::start(Wiring::servers().await, 2).await;
    the_loop_closes(&cluster.clients, JOB).await;
}
