//! The routes in the bucket are those of the record, whatever else writes to the bucket.

use chrono::TimeDelta;
use rekindle_bus::streams;
use rekindle_domain::{
    Digest, ReplicaState, Routes, VersionRef, deployment_status::RolloutOutcome, routes::MAX_GENERATION,
};
use rekindle_testkit::{Poison, eventually};
use serde_json::{Value, json};

use crate::{
    alerts::{drift, started},
    world::{MODEL, World, model, policy},
};

/// Routes of another writer, to a version that exists nowhere.
fn foreign(generation: u64) -> Routes {
    Routes::to(model(), generation, VersionRef { version: 9, bundle: Digest::of(b"nowhere") })
}

async fn put(world: &World, value: &Value) {
    let bucket = world.bus.bucket::<Value>(streams::DEPLOYMENTS).await.expect("it exists");
    bucket.put(MODEL, value).await.expect("written");
}

/// Waits until the bucket has the routes of the deployment and every replica serves them.
async fn healed(world: &World, version: u32) {
    let deployment = world.client().deployment(&model()).await.expect("it exists");
    eventually("the routes of the record", async || {
        let routes = world.bus.routes().await.map_err(|error| error.to_string())?;
        let present = routes.get(MODEL).await.map_err(|error| error.to_string())?.map(|entry| entry.value);
        match present {
            Some(routes) if (routes.generation, routes.primary) == (deployment.generation, deployment.stable) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.every_replica_serves(version).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_another_writer_are_replaced() {
    let world = World::on_sqlite().await;
    world.deploy("first", 1).await.expect("deployed");
    world.settled(1, RolloutOutcome::Completed).await;
    let mut endless = serde_json::to_value(foreign(7)).expect("json");
    endless["generation"] = json!(u64::MAX);
    let greatest = serde_json::to_value(foreign(MAX_GENERATION)).expect("json");
    let earlier = serde_json::to_value(foreign(1)).expect("json");
    for value in [endless, greatest, earlier, json!("no routes"), json!({ "generation": -1 })] {
        put(&world, &value).await;
        healed(&world, 1).await;
    }
    world.bus.routes().await.expect("it exists").delete(MODEL).await.expect("deleted");
    healed(&world, 1).await;
    world.deploy("second", 2).await.expect("deployed");
    world.settled(2, RolloutOutcome::Completed).await;
    healed(&world, 2).await;
}

/// As after the database was restored from a backup: the bucket has routes of later generations.
#[tokio::test(flavor = "multi_thread")]
async fn routes_of_a_later_record_are_replaced_at_the_start() {
    let mut world = World::on_sqlite().await;
    world.deploy("first", 1).await.expect("deployed");
    world.settled(1, RolloutOutcome::Completed).await;
    world.kill().await;
    put(&world, &serde_json::to_value(foreign(1_000)).expect("json")).await;
    world.every_replica_has_generation(1_000).await;
    world.start().await;
    healed(&world, 1).await;
    world.deploy("second", 2).await.expect("deployed");
    world.settled(2, RolloutOutcome::Completed).await;
    healed(&world, 2).await;
}

/// Whatever is published to the bus, routes are carried out and alerts start workflows.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_the_bus_stops_the_orchestrator() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    let mut poison = Poison::of(&world.nats.url(), MODEL).await;
    for (round, version) in [2, 1, 2].into_iter().enumerate() {
        poison.publish(25).await;
        world.deploy(&format!("round-{round}"), version).await.expect("deployed");
        world.settled(version, RolloutOutcome::Completed).await;
        healed(&world, version).await;
    }
    poison.publish(25).await;
    let window = drift(&world, TimeDelta::zero(), 2).await;
    started(&world, window).await;
}

/// A state under the key of another replica is no report of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_under_another_key_is_no_replica() {
    let world = World::on_sqlite().await;
    world.deploy("first", 1).await.expect("deployed");
    let bucket = world.bus.replica_states().await.expect("it exists");
    let state = eventually("a report", async || {
        let entry = bucket.get("replica-0").await.map_err(|error| error.to_string())?;
        entry.map(|entry| entry.value).ok_or_else(|| "none".to_owned())
    })
    .await;
    let silent = ReplicaState { models: Default::default(), ..state };
    bucket.put("another", &silent).await.expect("written");
    world.settled(1, RolloutOutcome::Completed).await;
    world.deploy("second", 2).await.expect("deployed");
    world.settled(2, RolloutOutcome::Completed).await;
    assert_eq!(world.serving().await, [2; 3]);
}
