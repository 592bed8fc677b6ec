//! What is refused before anything is queued, and what a repetition changes.

use rekindle_proto::{
    registry::RunStatus,
    trainer::{Gate, Job, TrainWork, job::Work},
};
use tonic::Code;

use crate::sandbox::{Sandbox, evaluate, rows, train, train_with};

#[tokio::test]
async fn bad_jobs_are_refused_by_field_and_leave_nothing() {
    let sandbox = Sandbox::without_worker().await;
    sandbox.dataset("flights", rows(0, 10, false)).await;
    let stored = format!("sha256:{}", "0".repeat(64));
    let no_target = serde_json::json!({ "target": "lateness" });
    let typo = serde_json::json!({ "target": "late", "epochs": 3 });
    let slices = Gate { slices: vec!["airport".into()], ..Gate::default() };
    let cases = [
        (train("trains"), Code::NotFound, "trains"),
        (train_with("flights", &no_target), Code::InvalidArgument, "lateness"),
        (train_with("flights", &typo), Code::InvalidArgument, "epochs"),
        (Job { id: "7".into(), ..train("flights") }, Code::InvalidArgument, "job.id"),
        (Job { work: None, ..train("flights") }, Code::InvalidArgument, "job.work"),
        (evaluate("flights", &stored, &stored, Gate::default()), Code::InvalidArgument, "champion_bundle"),
        (evaluate("flights", &stored, &stored, slices), Code::InvalidArgument, "airport"),
    ];
    for (job, code, word) in cases {
        let status = sandbox.submit(&job).await.expect_err(word);
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(word), "{word}: {status:?}");
        assert!(sandbox.run(&job.id).await.is_err(), "{word}: no run was made");
    }
}

#[tokio::test]
async fn a_repeated_job_is_one_job_and_a_reused_id_is_refused() {
    let sandbox = Sandbox::without_worker().await;
    sandbox.dataset("flights", rows(0, 200, false)).await;
    let job = train("flights");
    let first = sandbox.submit(&job).await.expect("submitted");
    assert_eq!(first, job.id);
    // Another version comes along: the job keeps the one that was the latest when it was submitted.
    sandbox.dataset("flights", rows(0, 300, false)).await;
    assert_eq!(sandbox.submit(&job).await.expect("again"), first);
    let run = sandbox.run(&first).await.expect("its run");
    assert_eq!(run.status(), RunStatus::Scheduled);
    assert_eq!(run.params["dataset.version"], "1");
    assert_eq!(run.params["recipe.architecture.kind"], "linear");
    assert_eq!(run.code_revision, rekindle_trainer::CODE_REVISION);

    let mut other = job.clone();
    if let Some(Work::Train(TrainWork { description, .. })) = &mut other.work {
        *description = "another".to_owned();
    }
    let status = sandbox.submit(&other).await.expect_err("another job");
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
}
