//! The gate.

use chrono::DateTime;
use rekindle_client::wire;
use rekindle_domain::{
    Digest, Gate,
    evaluation::Evaluation,
    job::{Requirement, Work},
    run::{Run, RunStatus},
};

use crate::world::{World, evaluate, rows, train};

/// Two models: one trained before the drift, one after. Neither was trained on rows after the 1200th hour.
async fn models(world: &World) -> (Digest, Digest) {
    world.dataset("before", rows(0, 600, false)).await;
    world.dataset("after", rows(600, 600, true)).await;
    let champion = world.finished(&train("before")).await;
    let challenger = world.finished(&train("after")).await;
    let bundle = |run: &Run| run.outputs["bundle"].parse().expect("a digest");
    (bundle(&champion), bundle(&challenger))
}

async fn evaluation(world: &World, run: &Run) -> Evaluation {
    let digest = run.outputs["evaluation"].parse().expect("a digest");
    let bytes = world.artifacts.get(&digest).await.expect("stored");
    wire::evaluation::from_json(&bytes).expect("an evaluation")
}

fn gate(min_rows: u64) -> Gate {
    Gate { min_rows, slices: vec!["place".to_owned()], ..Gate::default() }
}

#[tokio::test]
async fn a_better_challenger_passes_and_a_worse_one_does_not() {
    let world = World::start().await;
    let (old, new) = models(&world).await;
    // The challenger was trained on the first 200 rows, which are excluded.
    world.dataset("holdout", rows(1000, 500, true)).await;
    let better = world.finished(&evaluate("holdout", old, new, gate(100))).await;
    assert_eq!(better.outputs["verdict"], "pass");
    let evaluated = evaluation(&world, &better).await;
    assert!(evaluated.pass && evaluated.improvement_lower_bound > 0.0, "{evaluated:?}");
    assert_eq!(evaluated.rows, 300, "the rows that neither was trained on");
    let slices: Vec<_> = evaluated.slices.iter().map(|slice| (slice.value.as_str(), slice.rows)).collect();
    assert_eq!(slices, [("north", 200), ("south", 100)]);
    assert!(evaluated.challenger_metrics["log_loss"] < evaluated.champion_metrics["log_loss"]);
    assert!(better.metrics.iter().any(|metric| metric.name == "challenger.log_loss"), "the metrics of both are logged");

    let worse = world.finished(&evaluate("holdout", new, old, gate(100))).await;
    assert_eq!(worse.outputs["verdict"], "reject");
    let same = world.finished(&evaluate("holdout", new, new, gate(100))).await;
    assert_eq!(same.outputs["verdict"], "reject", "ties go to the champion");
}

#[tokio::test]
async fn an_equal_challenger_passes_if_it_has_only_not_to_be_worse() {
    let world = World::start().await;
    let (old, new) = models(&world).await;
    world.dataset("holdout", rows(1000, 500, true)).await;
    let required = async |champion, challenger, requirement| {
        let mut job = evaluate("holdout", champion, challenger, gate(100));
        if let Work::Evaluate(work) = &mut job.work {
            (work.requirement, work.from) = (requirement, DateTime::from_timestamp(1_704_067_200 + 1000 * 3600, 0));
        }
        let run = world.finished(&job).await;
        (run.outputs["verdict"].clone(), evaluation(&world, &run).await)
    };
    let (verdict, evaluated) = required(new, new, Requirement::NotWorse).await;
    assert_eq!((verdict.as_str(), evaluated.rows), ("pass", 300), "{}", evaluated.reason);
    assert_eq!(required(new, old, Requirement::NotWorse).await.0, "reject");
    // The rows that a refit was trained on are not excluded.
    let (verdict, evaluated) = required(new, new, Requirement::Consistent).await;
    assert_eq!((verdict.as_str(), evaluated.rows), ("pass", 500), "{}", evaluated.reason);
    let (verdict, evaluated) = required(old, new, Requirement::Consistent).await;
    assert_eq!(verdict, "pass", "it differs, and is better: {}", evaluated.reason);
    assert_eq!(required(new, old, Requirement::Consistent).await.0, "reject");
}

#[tokio::test]
async fn too_few_unseen_rows_are_inconclusive() {
    let world = World::start().await;
    let (old, new) = models(&world).await;
    world.dataset("holdout", rows(1000, 500, true)).await;
    let run = world.finished(&evaluate("holdout", old, new, gate(301))).await;
    assert_eq!(run.outputs["verdict"], "reject");
    let reason = evaluation(&world, &run).await.reason;
    assert!(reason.contains("300 rows") && reason.contains("301"), "{reason}");
}

#[tokio::test]
async fn a_blob_that_is_not_a_bundle_fails_the_run() {
    let world = World::start().await;
    world.dataset("holdout", rows(0, 100, true)).await;
    let stored = world.artifacts.put("not a manifest".into()).await.expect("stored");
    let id = world.submit(&evaluate("holdout", stored, stored, gate(20))).await.expect("submitted");
    let run = world.ended(id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.contains("manifest"), "{}", run.error);
}

#[tokio::test]
async fn a_better_challenger_that_fails_a_check_is_rejected_and_the_check_is_named() {
    let world = World::start().await;
    let (old, new) = models(&world).await;
    world.dataset("holdout", rows(1000, 500, true)).await;
    // Clear cases as the challenger knows them: a great x is not late.
    let cases = |late: u8| {
        format!(
            "at,x,place,late\n2024-03-01T00:00:00Z,95.5,north,{late}\n2024-03-01T01:00:00Z,2.5,south,{}\n",
            1 - late
        )
    };
    world.dataset("cases", cases(0)).await;
    world.dataset("cases", cases(1)).await;
    let checked = async |checks: &[&str]| {
        let checks = checks.iter().map(|check| check.parse().expect("a check")).collect();
        let run = world.finished(&evaluate("holdout", old, new, Gate { checks, ..gate(30) })).await;
        (run.outputs["verdict"].clone(), evaluation(&world, &run).await)
    };
    // The challenger has learned that rows of a greater x are late less often, and that the place does not matter.
    let kept = [
        "monotonic_decreasing:x",
        "invariant:place<=0.1",
        "demographic_parity_difference:place<=0.2",
        "equal_opportunity_difference:place<=0.2",
        "loss_difference:place<=0.2",
        "expected_calibration_error<=0.4",
        "must_pass:cases:1",
        "bundle_bytes<=10000000",
        "prediction_seconds<=10",
    ];
    let (verdict, passed) = checked(&kept).await;
    assert_eq!(verdict, "pass", "{passed:?}");
    let names: Vec<&str> = passed.checks.iter().map(|check| check.check.as_str()).collect();
    assert_eq!(names, kept);
    assert!(passed.checks.iter().all(|check| check.pass && check.value.is_some()), "{:?}", passed.checks);
    for failing in [
        "monotonic_increasing:x",
        "invariant:x<=0.01",
        "expected_calibration_error<=0",
        "loss_difference:place<=0",
        "monotonic_increasing:place",
        "must_pass:cases:2",
        "must_pass:cases:1<=0.5",
        "bundle_bytes<=100",
        "prediction_seconds<=0",
    ] {
        let (verdict, rejected) = checked(&["invariant:place<=0.1", failing]).await;
        let pass: Vec<bool> = rejected.checks.iter().map(|check| check.pass).collect();
        assert_eq!((verdict.as_str(), pass), ("reject", vec![true, false]), "{failing}");
        let named = format!("the challenger fails {failing}: ");
        assert!(rejected.reason.starts_with(&named) && rejected.reason.contains("is better"), "{}", rejected.reason);
    }
    let (_, wrong) = checked(&["must_pass:cases"]).await;
    assert_eq!(wrong.checks[0].check, "must_pass:cases:2", "the latest version when it was submitted");
    assert!(wrong.reason.contains("2 of 2 cases are not predicted, first in rows 0, 1"), "{}", wrong.reason);
    let unknown = Gate { checks: vec!["must_pass:nothing".parse().expect("a check")], ..gate(30) };
    let refused = world.submit(&evaluate("holdout", old, new, unknown)).await.expect_err("refused");
    assert!(format!("{refused:?}").contains("must_pass:nothing: it does not exist"), "{refused:?}");
    let (_, inapplicable) = checked(&["monotonic_increasing:place"]).await;
    assert_eq!((inapplicable.checks[0].value, inapplicable.checks[0].pass), (None, false));
    assert!(inapplicable.reason.contains("place is not a number"), "{}", inapplicable.reason);
    let (_, ignored) = checked(&["invariant:late<=1"]).await;
    assert!(!ignored.pass && ignored.reason.contains("late is no feature"), "{}", ignored.reason);
}
