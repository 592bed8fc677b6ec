//! How the failure of one model affects the replica, and when a failed load is retried.

use std::time::Duration;

use rekindle_domain::{Digest, Routes, ServedModel, VersionRef};
use rekindle_proto::inference::{ModelReadyRequest, ServerReadyRequest};
use rekindle_runtime::telemetry;
use rekindle_testkit::eventually;

use crate::world::{MODEL, Replica, World, request};

/// Routes to a version whose bundle does not exist.
fn missing(model: &str, generation: u64) -> Routes {
    let version = VersionRef { version: 1, bundle: Digest::of(b"missing") };
    Routes::to(model.parse().unwrap(), generation, version)
}

async fn failed(world: &World, model: &str, generation: u64) -> ServedModel {
    eventually("the failure", async || {
        let served = world.reported_of(model).await?;
        let is_failed = served.generation == generation && served.failure.is_some();
        if is_failed { Ok(served) } else { Err(format!("{served:?}")) }
    })
    .await
}

/// The failed loads of `model` in this process's metrics.
fn failed_loads(model: &str) -> u64 {
    let name = format!("rekindle_inference_loads_total{{model=\"{model}\",outcome=\"failed\"}} ");
    let text = telemetry::prometheus().render();
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().expect("a count"))
}

async fn is_ready(replica: &Replica, model: &str) -> (bool, bool) {
    let mut client = replica.client.clone();
    let server = client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready;
    let model = ModelReadyRequest { name: model.to_owned(), version: String::new() };
    (server, client.model_ready(model).await.unwrap().into_inner().ready)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_retried_once_per_interval_and_new_routes_are_tried_at_once() {
    telemetry::prometheus();
    let model = "tried-again";
    let world = World::start().await;
    world.set_routes(&missing(model, 1)).await;
    let mut config = world.config();
    config.resync_interval = Duration::from_secs(3600);
    let _replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    failed(&world, model, 1).await;
    // Changes of other models do not cause a retry.
    let (other, _) = world.publish(1).await;
    for generation in 1..=5 {
        world.route(generation, other).await;
        world.reports("the other model", |served| served.generation == generation).await;
    }
    assert_eq!(failed_loads(model), 1);
    world.set_routes(&missing(model, 2)).await;
    failed(&world, model, 2).await;
    assert_eq!(failed_loads(model), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_retried_after_the_interval() {
    telemetry::prometheus();
    let model = "tried-in-time";
    let world = World::start().await;
    world.set_routes(&missing(model, 1)).await;
    let mut config = world.config();
    config.resync_interval = Duration::from_millis(500);
    let began = std::time::Instant::now();
    let _replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    let tries =
        eventually("the third try", async || Some(failed_loads(model)).filter(|n| *n >= 3).ok_or("too few".into()))
            .await;
    let intervals = u64::try_from(began.elapsed().as_millis() / 500).unwrap();
    assert!(tries <= intervals + 1, "{tries} tries in {intervals} intervals");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_model_that_fails_to_load_does_not_affect_readiness_even_after_a_restart() {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    world.route(1, version).await;
    let replica = world.replica().await;
    replica.ready().await;
    world.set_routes(&missing("never-loads", 1)).await;
    failed(&world, "never-loads", 1).await;
    assert_eq!(is_ready(&replica, "never-loads").await, (true, false));
    assert_eq!(is_ready(&replica, MODEL).await, (true, true));
    replica.stop().await;

    let replica = world.replica().await;
    replica.ready().await;
    replica.infer(request(1)).await.unwrap();
    assert_eq!(is_ready(&replica, "never-loads").await, (true, false));
}
