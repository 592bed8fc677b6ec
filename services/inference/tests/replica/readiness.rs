//! What one model's trouble does to the replica, and how often it is tried.

use std::time::Duration;

use rekindle_domain::{Digest, ServedModel, VersionRef};
use rekindle_proto::inference::{ModelReadyRequest, ServerReadyRequest};
use rekindle_runtime::telemetry;
use rekindle_testkit::eventually;

use crate::support::{MODEL, Replica, World, request};

/// A version whose bundle is nowhere.
fn missing(version: u32) -> VersionRef {
    VersionRef { version, bundle: Digest::of(format!("nowhere {version}").as_bytes()) }
}

async fn refused(world: &World, model: &str, generation: u64) -> ServedModel {
    eventually("the refusal", async || {
        let served = world.reported_of(model).await?;
        let is_refused = served.generation == generation && served.failure.is_some();
        if is_refused { Ok(served) } else { Err(format!("{served:?}")) }
    })
    .await
}

/// How often a version of `model` could not be loaded, by this process's metrics.
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
async fn a_failed_assignment_is_tried_once_per_interval_and_at_once_when_a_new_one_comes() {
    telemetry::prometheus();
    let model = "tried-again";
    let world = World::start().await;
    world.desire_of(model, 1, missing(1)).await;
    let mut config = world.config();
    config.resync_interval = Duration::from_secs(3600);
    let _replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    refused(&world, model, 1).await;
    // Whatever else happens to the replica is no reason to try again.
    let (other, _) = world.publish(1).await;
    for generation in 1..=5 {
        world.desire(generation, other).await;
        world.reports("the other model", |served| served.generation == generation).await;
    }
    assert_eq!(failed_loads(model), 1);
    world.desire_of(model, 2, missing(1)).await;
    refused(&world, model, 2).await;
    assert_eq!(failed_loads(model), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_assignment_is_tried_again_after_the_interval() {
    telemetry::prometheus();
    let model = "tried-in-time";
    let world = World::start().await;
    world.desire_of(model, 1, missing(1)).await;
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
async fn a_new_model_that_cannot_be_served_is_its_own_trouble_even_after_a_restart() {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    world.desire(1, version).await;
    let replica = world.replica().await;
    replica.ready().await;
    world.desire_of("never-loads", 1, missing(1)).await;
    refused(&world, "never-loads", 1).await;
    assert_eq!(is_ready(&replica, "never-loads").await, (true, false));
    assert_eq!(is_ready(&replica, MODEL).await, (true, true));
    replica.stop().await;

    let replica = world.replica().await;
    replica.ready().await;
    replica.infer(request(1)).await.unwrap();
    assert_eq!(is_ready(&replica, "never-loads").await, (true, false));
}
