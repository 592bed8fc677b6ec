//! Jobs that train: what they leave behind, and what disturbances change.

use async_nats::HeaderMap;
use prost::Message as _;
use rekindle_domain::Digest;
use rekindle_model::{Bundle, Model};
use rekindle_proto::{
    registry::{GetMetricHistoryRequest, ListModelVersionsRequest, RunStatus},
    trainer::{Job, job::Work},
};
use rekindle_runtime::shutdown::Shutdown;
use rekindle_testkit::eventually;

use crate::sandbox::{Sandbox, rows, train, train_with};

/// A job that ends only when it is stopped.
fn endless(dataset: &str) -> Job {
    let recipe = serde_json::json!({ "target": "late", "max_epochs": 1000, "patience": 1000, "batch_size": 8 });
    train_with(dataset, &recipe)
}

async fn running(sandbox: &Sandbox, job: &Job) {
    eventually("a metric was logged", async || {
        let run = sandbox.run(&job.id).await.map_err(|status| status.to_string())?;
        if run.metrics.is_empty() { Err(format!("it is {:?}", run.status())) } else { Ok(()) }
    })
    .await;
}

async fn versions(sandbox: &Sandbox) -> usize {
    let request = ListModelVersionsRequest { model: "late-flights".to_owned(), ..Default::default() };
    sandbox.models.clone().list_model_versions(request).await.expect("a model").into_inner().versions.len()
}

#[tokio::test]
async fn a_finished_job_leaves_a_model_version_with_its_whole_story() {
    let sandbox = Sandbox::start().await;
    let dataset = sandbox.dataset("flights", rows(0, 600, false)).await;
    let mut job = train("flights");
    if let Some(Work::Train(work)) = &mut job.work {
        work.train_until = dataset.time_max;
    }
    let run = sandbox.finished(&job).await;
    assert_eq!(run.outputs["model_version"], "1");
    let digest: Digest = run.outputs["bundle"].parse().expect("a digest");
    let bundle = Bundle::load(&digest, |digest| {
        let artifacts = sandbox.artifacts.clone();
        async move { artifacts.get(&digest).await }
    })
    .await
    .expect("stored whole");
    Model::from_bundle(&bundle).expect("a model").warm_up().expect("answers");
    let provenance = &bundle.manifest.provenance;
    assert_eq!(provenance.run_id, job.id);
    assert_eq!(provenance.dataset_digests[0].to_string(), dataset.content_digest);
    let until = dataset.time_max.expect("a time column").seconds * 1000;
    assert!(provenance.trained_until.expect("a time column") <= until, "the last row was not looked at");

    let request = GetMetricHistoryRequest { run_id: job.id.clone(), name: "log_loss".to_owned() };
    let history = sandbox.runs.clone().get_metric_history(request).await.expect("a history").into_inner().metrics;
    let steps: Vec<i64> = history.iter().map(|point| point.step).collect();
    assert_eq!(steps, (1..=i64::try_from(steps.len()).expect("few")).collect::<Vec<_>>());
    let best = run.metrics.iter().find(|metric| metric.name == "best.log_loss").expect("logged").value;
    assert_eq!(best, bundle.manifest.metrics["log_loss"]);
}

#[tokio::test]
async fn a_job_that_cannot_be_done_fails_with_the_reason() {
    let sandbox = Sandbox::start().await;
    sandbox.dataset("few", rows(0, 20, false)).await;
    let id = sandbox.submit(&train("few")).await.expect("submitted");
    let run = sandbox.ended(&id).await;
    assert_eq!(run.status(), RunStatus::Failed);
    assert!(run.error.contains("20 rows are too few"), "{}", run.error);
}

#[tokio::test]
async fn a_job_delivered_twice_has_one_effect() {
    let sandbox = Sandbox::without_worker().await;
    sandbox.dataset("flights", rows(0, 300, false)).await;
    let mut job = train("flights");
    sandbox.submit(&job).await.expect("submitted");
    if let Some(Work::Train(work)) = &mut job.work {
        work.dataset.as_mut().expect("named").version = 1;
    }
    let again = job.encode_to_vec().into();
    sandbox.bus.publish("rekindle.jobs.cpu".to_owned(), "again", HeaderMap::new(), again).await.expect("published");
    let shutdown = Shutdown::new();
    let worker = sandbox.start_worker(&shutdown).await;
    // The queue is in order: when a later job is done, both deliveries are.
    sandbox.finished(&train("flights")).await;
    assert_eq!(versions(&sandbox).await, 2);
    let run = sandbox.run(&job.id).await.expect("its run");
    assert_eq!((run.status(), run.outputs["model_version"].as_str()), (RunStatus::Finished, "1"));
    shutdown.begin();
    worker.await.expect("ends");
}

#[tokio::test]
async fn a_cancelled_job_stops_and_makes_room() {
    let sandbox = Sandbox::start().await;
    sandbox.dataset("flights", rows(0, 3000, false)).await;
    let job = endless("flights");
    sandbox.submit(&job).await.expect("submitted");
    running(&sandbox, &job).await;
    sandbox.cancel(&job).await;
    let run = sandbox.run(&job.id).await.expect("its run");
    assert_eq!((run.status(), run.error.as_str()), (RunStatus::Killed, "no longer wanted"));
    // There is one worker: it is free again.
    sandbox.finished(&train("flights")).await;
    assert_eq!(sandbox.run(&job.id).await.expect("its run").status(), RunStatus::Killed);
}

#[tokio::test]
async fn a_job_handed_back_is_finished_by_another_trainer_with_the_same_result() {
    let sandbox = Sandbox::without_worker().await;
    sandbox.dataset("flights", rows(0, 3000, false)).await;
    let long = serde_json::json!({ "target": "late", "max_epochs": 40, "patience": 40, "batch_size": 32 });
    let job = train_with("flights", &long);
    sandbox.submit(&job).await.expect("submitted");
    let first = Shutdown::new();
    let worker = sandbox.start_worker(&first).await;
    running(&sandbox, &job).await;
    first.begin();
    worker.await.expect("ends in order");
    let interrupted = sandbox.run(&job.id).await.expect("its run");
    let second = Shutdown::new();
    let worker = sandbox.start_worker(&second).await;
    let run = sandbox.ended(&job.id).await;
    assert_eq!(run.status(), RunStatus::Finished, "{}", run.error);
    assert_eq!(interrupted.status(), RunStatus::Running, "it was handed back in the middle");
    assert_eq!(versions(&sandbox).await, 1);
    second.begin();
    worker.await.expect("ends in order");
}
