//! Names of models that do not exist cause no log, no metric and no work.

use rekindle_bus::streams;

use crate::{
    rows::{DAY, Distribution, START, labels, rows},
    world::{World, count},
};

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_models_that_do_not_exist_are_dead_lettered_and_leave_nothing() {
    let world = World::on_sqlite().await;
    world.watch().await;
    let day = rows(1, 10, START, START + DAY, Distribution::Reference);
    for made_up in 0..50 {
        world
            .publish_to(&format!("rekindle.outcomes.made-up-{made_up}"), &format!("o-{made_up}"), labels(&day).into())
            .await;
    }
    // Its model is monitored, so its predictions may come later.
    world.outcomes("known", labels(&day)).await;
    world.captured(0, 10).await;
    let dead = world.stream(streams::DEAD_LETTERS, 50).await;
    assert_eq!(dead.len(), 50);
    let database = world.database().await;
    for table in ["logs", "chunks", "outcome_checks"] {
        assert_eq!(count(&database, table).await, 1, "{table}");
    }
    let metrics = rekindle_runtime::telemetry::prometheus().render();
    assert!(!metrics.contains("made-up"), "{metrics}");
}
