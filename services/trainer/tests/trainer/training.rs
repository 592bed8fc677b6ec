//! Jobs that train: their results, and the effect of disturbances.

use std::time::Duration;

use async_nats::HeaderMap;
use rekindle_bundle::{Bundle, Model};
use rekindle_bus::subject;
use rekindle_client::{PageRequest, registry::RunSearch, wire};
use rekindle_domain::{
    Digest, Search,
    job::{Job, Priority, Work},
    run::RunStatus,
};
use rekindle_runtime::shutdown::Shutdown;
use rekindle_testkit::eventually;

use crate::world::{World, rows, train, train_long};

/// A job that ends only when it is stopped.
fn endless(dataset: &str) -> Job {
    train_long(dataset, 1000, 8)
}

async fn running(world: &World, job: &Job) {
    eventually("a metric was logged", async || {
        let run = world.run(job.id).await.map_err(|error| error.to_string())?;
        if run.metrics.is_empty() { Err(format!("it is {:?}", run.status)) } else { Ok(()) }
    })
    .await;
}

async fn versions(world: &World) -> usize {
    let model = "late-flights".parse().expect("a name");
    world.registry.model_versions(&model, PageRequest::first(100)).await.expect("a model").items.len()
}

#[tokio::test]
async fn a_finished_job_leaves_a_model_version_with_its_provenance() {
    let world = World::start().await;
    let dataset = world.dataset("flights", rows(0, 600, false)).await;
    let mut job = train("flights");
    let (_, last) = dataset.time_range.expect("a time column");
    if let Work::Train(work) = &mut job.work {
        work.until = Some(last);
    }
    let run = world.finished(&job).await;
    assert_eq!(run.outputs["model_version"], "1");
    let digest: Digest = run.outputs["bundle"].parse().expect("a digest");
    let bundle = Bundle::load(&digest, |digest, _| {
        let artifacts = world.artifacts.clone();
        async move { artifacts.get(&digest).await }
    })
    .await
    .expect("stored whole");
    Model::from_bundle(&bundle).expect("a model").warm_up().expect("predicts");
    let provenance = &bundle.manifest.provenance;
    assert_eq!(provenance.run_id, job.id.to_string());
    assert_eq!(provenance.dataset_digests[0], dataset.content);
    let until = last.timestamp_millis();
    assert!(provenance.trained_until.expect("a time column") <= until, "the last row is excluded");

    let page = PageRequest::first(500);
    let history = world.registry.metric_history(job.id, "log_loss", page).await.expect("a history").items;
    let steps: Vec<i64> = history.iter().map(|point| point.step).collect();
    assert_eq!(steps, (1..=i64::try_from(steps.len()).expect("few")).collect::<Vec<_>>());
    let best = run.metrics.iter().find(|metric| metric.name == "best.log_loss").expect("logged").value;
    assert_eq!(best, bundle.manifest.metrics["log_loss"]);
}

#[tokio::test]
async fn a_job_of_high_priority_does_not_wait_for_a_long_one() {
    let world = World::start().await;
    world.dataset("flights", rows(0, 600, false)).await;
    let long = endless("flights");
    world.submit(&long).await.expect("submitted");
    running(&world, &long).await;
    let urgent = Job { priority: Priority::High, ..train("flights") };
    world.finished(&urgent).await;
    let waiting = train("flights");
    world.submit(&waiting).await.expect("submitted");
    assert_eq!(world.run(long.id).await.expect("its run").status, RunStatus::Running);
    assert_eq!(world.run(waiting.id).await.expect("its run").status, RunStatus::Scheduled, "one worker is for these");
    world.cancel(&long).await;
    assert_eq!(world.ended(waiting.id).await.status, RunStatus::Finished);
}

#[tokio::test]
async fn each_trial_of_a_search_is_a_nested_run() {
    let world = World::start().await;
    world.dataset("flights", rows(0, 1200, false)).await;
    let mut job = train("flights");
    if let Work::Train(work) = &mut job.work {
        work.search = Search { trials: 3, ..Search::for_everything() };
    }
    let run = world.finished(&job).await;
    assert_eq!((run.outputs["model_version"].as_str(), run.params["search.trials"].as_str()), ("1", "3"));
    let nested = RunSearch { filter: format!("attributes.parent_id = '{}'", job.id), ..RunSearch::default() };
    let mut trials = world.registry.runs(&nested, PageRequest::first(10)).await.expect("found").items;
    trials.sort_by_key(|trial| trial.params["trial"].clone());
    let shown: Vec<_> = trials.iter().map(|trial| (trial.params["trial"].as_str(), trial.status)).collect();
    assert_eq!(shown, [("1", RunStatus::Finished), ("2", RunStatus::Finished), ("3", RunStatus::Finished)]);
    assert_eq!(
        (trials[0].params["recipe.lookback"].as_str(), trials[0].params["recipe.model.kind"].as_str()),
        ("null", "linear")
    );
    assert!(trials.iter().all(|trial| trial.metrics.iter().any(|metric| metric.name == "log_loss")), "{trials:?}");
}

#[tokio::test]
async fn a_job_that_fails_records_the_reason() {
    let world = World::start().await;
    world.dataset("few", rows(0, 20, false)).await;
    let id = world.submit(&train("few")).await.expect("submitted");
    let run = world.ended(id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.contains("20 rows are too few"), "{}", run.error);
}

#[tokio::test]
async fn a_training_that_takes_longer_than_its_limit_fails() {
    let world = World::start().await;
    world.dataset("flights", rows(0, 600, false)).await;
    let mut job = endless("flights");
    let limited = |job: &mut Job, limit| {
        let Work::Train(work) = &mut job.work else { panic!("a training") };
        work.time_limit = Some(limit);
    };
    limited(&mut job, Duration::from_secs(12));
    let id = world.submit(&job).await.expect("submitted");
    let run = world.ended(id).await;
    let why = "the training exceeded its time limit of 12s";
    assert_eq!((run.status, run.error.as_str()), (RunStatus::Failed, why));
    assert_eq!(run.params["time_limit"], "12s");
    assert!(!run.metrics.is_empty(), "it was trained until then");
    let mut quick = train("flights");
    limited(&mut quick, Duration::from_secs(600));
    world.finished(&quick).await;
    let mut impossible = train("flights");
    limited(&mut impossible, Duration::ZERO);
    let refused = world.submit(&impossible).await.expect_err("refused");
    assert!(format!("{refused:?}").contains("time_limit"), "{refused:?}");
}

#[tokio::test]
async fn a_job_delivered_twice_has_one_effect() {
    let world = World::without_worker().await;
    world.dataset("flights", rows(0, 300, false)).await;
    let mut job = train("flights");
    world.submit(&job).await.expect("submitted");
    job.dataset.version = Some(1);
    let again = wire::job::encode(&job).into();
    world.bus.publish(subject::jobs("cpu"), "again", HeaderMap::new(), again).await.expect("published");
    let shutdown = Shutdown::new();
    let worker = world.start_worker(&shutdown).await;
    // The queue is ordered: once a later job is done, so are both deliveries.
    world.finished(&train("flights")).await;
    assert_eq!(versions(&world).await, 2);
    let run = world.run(job.id).await.expect("its run");
    assert_eq!((run.status, run.outputs["model_version"].as_str()), (RunStatus::Finished, "1"));
    shutdown.begin();
    worker.await.expect("ends");
}

#[tokio::test]
async fn a_cancelled_job_stops_and_frees_its_worker() {
    let world = World::start().await;
    world.dataset("flights", rows(0, 3000, false)).await;
    let job = endless("flights");
    world.submit(&job).await.expect("submitted");
    running(&world, &job).await;
    world.cancel(&job).await;
    let run = world.run(job.id).await.expect("its run");
    assert_eq!((run.status, run.error.as_str()), (RunStatus::Killed, "superseded"));
    // The only worker is free again.
    world.finished(&train("flights")).await;
    assert_eq!(world.run(job.id).await.expect("its run").status, RunStatus::Killed);
}

#[tokio::test]
async fn a_job_returned_to_the_queue_is_finished_by_another_trainer() {
    let world = World::without_worker().await;
    world.dataset("flights", rows(0, 3000, false)).await;
    let job = train_long("flights", 40, 32);
    world.submit(&job).await.expect("submitted");
    let first = Shutdown::new();
    let worker = world.start_worker(&first).await;
    running(&world, &job).await;
    eventually("a checkpoint", async || {
        let run = world.run(job.id).await.map_err(|error| error.to_string())?;
        if run.tags.contains_key("rekindle.checkpoint") { Ok(()) } else { Err(format!("{:?}", run.tags)) }
    })
    .await;
    first.begin();
    worker.await.expect("ends in order");
    let interrupted = world.run(job.id).await.expect("its run");
    assert!(interrupted.tags.contains_key("rekindle.checkpoint"), "{:?}", interrupted.tags);
    let progress = interrupted.progress.as_ref().expect("reported with the first heartbeats");
    assert_eq!((progress.stage.as_str(), progress.total, progress.unit.as_str()), ("early stopping", 40, "epochs"));
    let (second, resumed_at) = (Shutdown::new(), std::time::Instant::now());
    let worker = world.start_worker(&second).await;
    let run = world.ended(job.id).await;
    assert_eq!(run.status, RunStatus::Finished, "{}", run.error);
    // The epochs before the checkpoint are not repeated: their points keep their times.
    let history = world.registry.metric_history(job.id, "log_loss", PageRequest::first(500)).await.expect("one").items;
    let steps: Vec<i64> = history.iter().map(|point| point.step).collect();
    assert_eq!(steps, (1..=40).collect::<Vec<i64>>());
    let begun_again = chrono::Utc::now() - resumed_at.elapsed();
    assert!(history[0].time.is_some_and(|time| time < begun_again), "{history:?}");
    assert!(history[39].time.is_some_and(|time| time > begun_again), "{history:?}");
    assert!(!run.tags.contains_key("rekindle.checkpoint"), "{:?}", run.tags);
    assert_eq!(interrupted.status, RunStatus::Running, "it was returned to the queue before its end");
    assert_eq!(versions(&world).await, 1);
    second.begin();
    worker.await.expect("ends in order");
}
