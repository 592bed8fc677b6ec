//! What is refused before a job is enqueued, and what a repetition changes.

use rekindle_domain::{
    Digest, Gate, Recipe,
    job::{Job, Work},
    run::RunStatus,
};
use tonic::Code;

use crate::world::{World, evaluate, rows, train, train_with};

fn message(error: &rekindle_client::Error) -> String {
    error.status().map(|status| status.message().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn bad_jobs_are_refused_by_field_and_leave_nothing() {
    let world = World::without_worker().await;
    world.dataset("flights", rows(0, 10, false)).await;
    let missing = Digest::of(b"not stored");
    let slices = Gate { slices: vec!["airport".into()], ..Gate::default() };
    let check = Gate { checks: vec!["invariant:airline<=1".parse().expect("a check")], ..Gate::default() };
    let loose = Gate { confidence: 0.5, ..Gate::default() };
    let cases = [
        (train("trains"), Code::NotFound, "trains"),
        (train_with("flights", Recipe::for_target("lateness")), Code::InvalidArgument, "job.train.recipe.target"),
        (evaluate("flights", missing, missing, Gate::default()), Code::InvalidArgument, "champion_bundle"),
        (evaluate("flights", missing, missing, slices), Code::InvalidArgument, "airport"),
        (evaluate("flights", missing, missing, check), Code::InvalidArgument, "airline"),
        (evaluate("flights", missing, missing, loose), Code::InvalidArgument, "gate.confidence"),
    ];
    for (job, code, word) in cases {
        let error = world.submit(&job).await.expect_err(word);
        assert_eq!(error.code(), code, "{error:?}");
        assert!(message(&error).contains(word), "{word}: {error:?}");
        assert!(world.run(job.id).await.is_err(), "{word}: no run was created");
    }
}

#[tokio::test]
async fn a_repeated_job_is_one_job_and_a_reused_id_is_refused() {
    let world = World::without_worker().await;
    world.dataset("flights", rows(0, 200, false)).await;
    let job = train("flights");
    let first = world.submit(&job).await.expect("submitted");
    assert_eq!(first, job.id);
    // The job keeps the dataset version that was the latest when it was submitted.
    world.dataset("flights", rows(0, 300, false)).await;
    assert_eq!(world.submit(&job).await.expect("repeated"), first);
    let run = world.run(first).await.expect("its run");
    assert_eq!(run.status, RunStatus::Scheduled);
    assert_eq!(run.params["dataset.version"], "1");
    assert_eq!(run.params["recipe.model.kind"], "linear");
    assert_eq!(run.code_revision, rekindle_trainer::CODE_REVISION);

    let mut other: Job = job.clone();
    if let Work::Train(train) = &mut other.work {
        "another".clone_into(&mut train.description);
    }
    let error = world.submit(&other).await.expect_err("another job");
    assert_eq!((error.code(), error.reason().as_str()), (Code::AlreadyExists, "JOB_REUSED"), "{error:?}");
}
