//! Swaps, failures and restarts.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use rekindle_domain::VersionRef;
use rekindle_testkit::eventually;
use tonic::Code;

use crate::support::{Replica, World, request};

fn is_served(generation: u64, version: VersionRef) -> impl Fn(&rekindle_domain::ServedModel) -> bool {
    move |served| served.generation == generation && served.serving == Some(version) && served.failure.is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_loses_no_request() {
    let world = World::start().await;
    let versions = [world.publish(1).await.0, world.publish(2).await.0];
    world.desire(1, versions[0]).await;
    let replica = world.replica().await;
    replica.ready().await;

    let stop = Arc::new(AtomicBool::new(false));
    let last_answers: Arc<[AtomicU32; 8]> = Arc::default();
    let clients: Vec<_> = (0..last_answers.len())
        .map(|place| {
            let (stop, client, last_answers) = (Arc::clone(&stop), replica.client.clone(), Arc::clone(&last_answers));
            tokio::spawn(async move {
                let (mut answered, mut versions) = (0u32, BTreeSet::new());
                while !stop.load(Relaxed) {
                    let answer = client.clone().model_infer(request(1)).await.expect("no request is lost").into_inner();
                    last_answers[place].store(answer.model_version.parse().expect("a number"), Relaxed);
                    versions.insert(answer.model_version);
                    answered += 1;
                }
                (answered, versions)
            })
        })
        .collect();
    for generation in 2..=12 {
        let version = versions[usize::try_from(generation % 2).unwrap()];
        world.desire(generation, version).await;
        world.reports("the swap", is_served(generation, version)).await;
        // However busy the machine is, each client is in the middle of its requests when the next swap comes.
        eventually("every client is answered by the version that was swapped in", async || {
            let last: Vec<u32> = last_answers.iter().map(|answer| answer.load(Relaxed)).collect();
            if last.iter().all(|answer| *answer == version.version) { Ok(()) } else { Err(format!("{last:?}")) }
        })
        .await;
    }
    stop.store(true, Relaxed);
    for client in clients {
        let (answered, versions) = client.await.unwrap();
        assert!(answered > 10, "{answered}");
        assert_eq!(versions, BTreeSet::from(["1".to_owned(), "2".to_owned()]));
    }
    world.reports("the end of all requests", |served| served.in_flight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_blob_leaves_the_old_version_in_place_and_is_reported() {
    let world = World::start().await;
    let (first, _) = world.publish(1).await;
    let (second, bundle) = world.publish(2).await;
    let weights = world.blob_path(&bundle.manifest.blobs["weights"].digest);
    let intact = std::fs::read(&weights).unwrap();
    let mut damaged = intact.clone();
    damaged[100] ^= 1;
    std::fs::write(&weights, &damaged).unwrap();

    world.desire(1, first).await;
    let replica = world.replica().await;
    replica.ready().await;
    world.desire(2, second).await;
    let served = world.reports("the failure", |served| served.generation == 2 && served.failure.is_some()).await;
    assert_eq!(served.serving, Some(first));
    assert!(served.failure.as_ref().unwrap().contains("corrupt"), "{served:?}");
    assert_eq!(replica.infer(request(1)).await.unwrap().model_version, "1");

    // Going back is carried out without loading anything.
    world.desire(3, first).await;
    world.reports("the way back", is_served(3, first)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_until_it_heals() {
    let world = World::start().await;
    let (version, bundle) = world.publish(1).await;
    let weights = world.blob_path(&bundle.manifest.blobs["weights"].digest);
    let aside = weights.with_extension("aside");
    std::fs::rename(&weights, &aside).unwrap();
    world.desire(1, version).await;
    let mut config = world.config();
    config.resync_interval = std::time::Duration::from_millis(200);
    let replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    world.reports("the failure", |served| served.generation == 1 && served.failure.is_some()).await;
    let refused = replica.infer(request(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(!replica.app.ready());
    std::fs::rename(&aside, &weights).unwrap();
    world.reports("the recovery", is_served(1, version)).await;
    replica.infer(request(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_from_the_cache_with_nothing_else_up() {
    let mut world = World::start().await;
    let (first, _) = world.publish(1).await;
    let (second, _) = world.publish(2).await;
    world.desire(1, first).await;
    let replica = world.replica().await;
    replica.ready().await;
    replica.stop().await;
    world.nats.kill();

    let replica = Replica::start(world.config(), None, None).await;
    replica.ready().await;
    assert_eq!(replica.infer(request(1)).await.unwrap().model_version, "1");

    // What comes back later is joined, and followed.
    world.nats.restart().await;
    let bus = rekindle_bus::Bus::connect(&rekindle_bus::Config::at(world.nats.url())).await.unwrap();
    replica.app.attach_bus(bus);
    replica.app.attach_artifacts(world.artifacts.clone());
    eventually("the bus to take writes", async || {
        world.bus.deployments().await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    world.desire(2, second).await;
    world.reports("the second version", is_served(2, second)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_any_knowledge_is_not_ready() {
    let world = World::start().await;
    let alone = Replica::start(world.config(), None, None).await;
    assert_eq!(alone.infer(request(1)).await.unwrap_err().code(), Code::NotFound);
    assert!(!alone.app.ready());
    // Knowing that nothing is deployed is enough.
    alone.app.attach_bus(world.bus.clone());
    alone.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_withdrawn_at_the_end() {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    world.desire(1, version).await;
    let replica = world.replica().await;
    world.reports("a report", is_served(1, version)).await;
    replica.stop().await;
    assert_eq!(world.reported().await.unwrap_err(), "no report");
}
