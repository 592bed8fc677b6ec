//! The gate.

use rekindle_proto::{
    json,
    registry::{Run, RunStatus},
    trainer::{Evaluation, Gate},
};

use crate::sandbox::{Sandbox, evaluate, rows, train};

/// Two models: one learnt before the world turned, one after. Both have seen rows up to the 1200th hour at most.
async fn models(sandbox: &Sandbox) -> (String, String) {
    sandbox.dataset("before", rows(0, 600, false)).await;
    sandbox.dataset("after", rows(600, 600, true)).await;
    let champion = sandbox.finished(&train("before")).await;
    let challenger = sandbox.finished(&train("after")).await;
    (champion.outputs["bundle"].clone(), challenger.outputs["bundle"].clone())
}

async fn evaluation(sandbox: &Sandbox, run: &Run) -> Evaluation {
    let digest = run.outputs["evaluation"].parse().expect("a digest");
    let bytes = sandbox.artifacts.get(&digest).await.expect("stored");
    json::from_slice(&bytes).expect("an evaluation")
}

fn gate(min_rows: u64) -> Gate {
    Gate { min_rows, slices: vec!["place".to_owned()], ..Gate::default() }
}

#[tokio::test]
async fn a_better_challenger_passes_and_a_worse_one_does_not() {
    let sandbox = Sandbox::start().await;
    let (old, new) = models(&sandbox).await;
    // The first 200 rows were seen by the challenger, and do not count.
    sandbox.dataset("holdout", rows(1000, 500, true)).await;
    let better = sandbox.finished(&evaluate("holdout", &old, &new, gate(100))).await;
    assert_eq!(better.outputs["verdict"], "pass");
    let judged = evaluation(&sandbox, &better).await;
    assert!(judged.pass && judged.improvement_lower_bound > 0.0, "{judged:?}");
    assert_eq!(judged.rows, 300, "those that neither has seen");
    let slices: Vec<_> = judged.slices.iter().map(|slice| (slice.value.as_str(), slice.rows)).collect();
    assert_eq!(slices, [("north", 200), ("south", 100)]);
    assert!(judged.challenger_metrics["log_loss"] < judged.champion_metrics["log_loss"]);
    assert!(better.metrics.iter().any(|metric| metric.name == "challenger.log_loss"), "both were logged");

    let worse = sandbox.finished(&evaluate("holdout", &new, &old, gate(100))).await;
    assert_eq!(worse.outputs["verdict"], "reject");
    let same = sandbox.finished(&evaluate("holdout", &new, &new, gate(100))).await;
    assert_eq!(same.outputs["verdict"], "reject", "ties go to the champion");
}

#[tokio::test]
async fn too_few_unseen_rows_cannot_tell() {
    let sandbox = Sandbox::start().await;
    let (old, new) = models(&sandbox).await;
    sandbox.dataset("holdout", rows(1000, 500, true)).await;
    let run = sandbox.finished(&evaluate("holdout", &old, &new, gate(301))).await;
    assert_eq!(run.outputs["verdict"], "reject");
    let reason = evaluation(&sandbox, &run).await.reason;
    assert!(reason.contains("300 rows") && reason.contains("301"), "{reason}");
}

#[tokio::test]
async fn a_bundle_that_is_no_bundle_fails_the_run() {
    let sandbox = Sandbox::start().await;
    sandbox.dataset("holdout", rows(0, 100, true)).await;
    let stored = sandbox.artifacts.put("not a manifest".into()).await.expect("stored").to_string();
    let id = sandbox.submit(&evaluate("holdout", &stored, &stored, gate(10))).await.expect("submitted");
    let run = sandbox.ended(&id).await;
    assert_eq!(run.status(), RunStatus::Failed);
    assert!(run.error.contains("manifest"), "{}", run.error);
}
