//! Swaps, failures and restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use rekindle_client::wire::raw;
use rekindle_domain::{Digest, Routes, ServedModel, VersionRef, routes::WeightedVersion};
use rekindle_proto::inference::{
    InferParameter, ModelInferRequest, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
};
use rekindle_testkit::eventually;
use tonic::Code;

use crate::world::{MODEL, Replica, World, model, parameter, request};

fn is_served(generation: u64, version: VersionRef) -> impl Fn(&ServedModel) -> bool {
    move |served| served.generation == generation && served.serving() == Some(version) && served.failure.is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_loses_no_request() {
    let world = World::start().await;
    let versions = [world.publish(1).await.0, world.publish(2).await.0];
    world.route(1, versions[0]).await;
    let replica = world.replica().await;
    replica.ready().await;

    let stop = Arc::new(AtomicBool::new(false));
    let last_answers: Arc<[AtomicU32; 8]> = Arc::default();
    let clients: Vec<_> = (0..last_answers.len())
        .map(|client_index| {
            let (stop, client, last_answers) = (Arc::clone(&stop), replica.client.clone(), Arc::clone(&last_answers));
            tokio::spawn(async move {
                let (mut answered, mut versions) = (0u32, BTreeSet::new());
                while !stop.load(Relaxed) {
                    let answer = client.clone().model_infer(request(1)).await.expect("no request is lost").into_inner();
                    last_answers[client_index].store(answer.model_version.parse().expect("a number"), Relaxed);
                    versions.insert(answer.model_version);
                    answered += 1;
                }
                (answered, versions)
            })
        })
        .collect();
    for generation in 2..=12 {
        let version = versions[usize::try_from(generation % 2).unwrap()];
        world.route(generation, version).await;
        world.reports("the swap", is_served(generation, version)).await;
        // Every client must have requests in flight at the next swap, however busy the machine is.
        eventually("every client is answered by the new version", async || {
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
    world.reports("the end of all requests", |served| served.in_flight() == 0 && served.draining == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_blob_leaves_the_earlier_version_in_place_and_is_reported() {
    let world = World::start().await;
    let (first, _) = world.publish(1).await;
    let (second, bundle) = world.publish(2).await;
    let weights = world.blob_path(&bundle.manifest.blobs["weights"].digest);
    let intact = std::fs::read(&weights).unwrap();
    let mut damaged = intact.clone();
    damaged[100] ^= 1;
    std::fs::write(&weights, &damaged).unwrap();

    world.route(1, first).await;
    let replica = world.replica().await;
    replica.ready().await;
    world.route(2, second).await;
    let served = world.reports("the failure", |served| served.generation == 2 && served.failure.is_some()).await;
    assert_eq!(served.serving(), Some(first));
    assert!(served.failure.as_ref().unwrap().contains("corrupt"), "{served:?}");
    assert_eq!(replica.infer(request(1)).await.unwrap().model_version, "1");

    // The earlier version is still loaded.
    world.route(3, first).await;
    world.reports("the return", is_served(3, first)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_retried_until_it_succeeds() {
    let world = World::start().await;
    let (version, bundle) = world.publish(1).await;
    let weights = world.blob_path(&bundle.manifest.blobs["weights"].digest);
    let moved = weights.with_extension("moved");
    std::fs::rename(&weights, &moved).unwrap();
    world.route(1, version).await;
    let mut config = world.config();
    config.resync_interval = std::time::Duration::from_millis(200);
    let replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    world.reports("the failure", |served| served.generation == 1 && served.failure.is_some()).await;
    let refused = replica.infer(request(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(!replica.app.ready());
    std::fs::rename(&moved, &weights).unwrap();
    world.reports("the recovery", is_served(1, version)).await;
    replica.infer(request(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_from_the_cache_with_nothing_else_up() {
    let mut world = World::start().await;
    let (first, _) = world.publish(1).await;
    let (second, _) = world.publish(2).await;
    world.route(1, first).await;
    let replica = world.replica().await;
    replica.ready().await;
    replica.stop().await;
    world.nats.kill();

    let replica = Replica::start(world.config(), None, None).await;
    replica.ready().await;
    assert_eq!(replica.infer(request(1)).await.unwrap().model_version, "1");

    // A bus that is attached later is used.
    world.nats.restart().await;
    let bus = rekindle_bus::Bus::connect(&rekindle_bus::Config::at(world.nats.url())).await.unwrap();
    replica.app.attach_bus(bus);
    replica.app.attach_artifacts(world.artifacts.clone());
    eventually("the bus to accept writes", async || {
        world.bus.routes().await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    world.route(2, second).await;
    world.reports("the second version", is_served(2, second)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_know_its_routes_is_not_ready() {
    let world = World::start().await;
    let alone = Replica::start(world.config(), None, None).await;
    assert_eq!(alone.infer(request(1)).await.unwrap_err().code(), Code::NotFound);
    assert!(!alone.app.ready());
    // That nothing is deployed is known too.
    alone.app.attach_bus(world.bus.clone());
    alone.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_withdrawn_at_shutdown() {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    world.route(1, version).await;
    let replica = world.replica().await;
    world.reports("a report", is_served(1, version)).await;
    replica.stop().await;
    assert_eq!(world.reported().await.unwrap_err(), "no report");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_the_first_schema_are_carried_out() {
    let world = World::start().await;
    let (version, _) = world.publish(1).await;
    let json = format!(
        r#"{{"model":"{MODEL}","generation":4,"stable":{{"version":1,"bundle":"{}"}},"rollout":null}}"#,
        version.bundle
    );
    let bucket = world.bus.bucket::<serde_json::Value>(rekindle_bus::streams::DEPLOYMENTS).await.unwrap();
    bucket.put(MODEL, &serde_json::from_str(&json).unwrap()).await.unwrap();
    let replica = world.replica().await;
    world.reports("the version", is_served(4, version)).await;
    assert_eq!(replica.infer(request(1)).await.unwrap().model_version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn weighted_versions_answer_their_share_and_a_routing_key_stays_with_its_version() {
    let world = World::start().await;
    let ((primary, _), (canary, _)) = (world.publish(1).await, world.publish(2).await);
    let weighted = vec![WeightedVersion { version: canary, weight: 5_000 }];
    world.set_routes(&Routes { weighted, ..Routes::to(model(), 1, primary) }).await;
    let replica = world.replica().await;
    world.reports("both versions", |served| served.versions.len() == 2 && served.failure.is_none()).await;

    let mut answered = BTreeMap::new();
    for _ in 0..200 {
        let answer = replica.infer(request(1)).await.unwrap();
        let route = parameter(&answer, "route");
        *answered.entry((answer.model_version, route)).or_insert(0) += 1;
    }
    // Each of two equal shares of 200 is within 100 +- 45 but for 2 times in 10^10.
    assert_eq!(answered.len(), 2, "{answered:?}");
    assert!((55..=145).contains(&answered[&("2".to_owned(), "weight".to_owned())]), "{answered:?}");
    assert!(answered.contains_key(&("1".to_owned(), "primary".to_owned())), "{answered:?}");

    let with_key = |key: &str| {
        let mut request = request(1);
        let parameter_choice = Some(ParameterChoice::StringParam(key.to_owned()));
        request.parameters.insert("routing_key".to_owned(), InferParameter { parameter_choice });
        request
    };
    let with_entity = |key: &str| {
        let mut request = request(1);
        let shape = vec![1];
        let tensor =
            InferInputTensor { name: "entity_key".into(), datatype: "BYTES".into(), shape, ..Default::default() };
        request.inputs.push(tensor);
        request.raw_input_contents.push(raw::encode_texts(&[key]));
        request
    };
    let mut versions = BTreeSet::new();
    for key in (0..20).map(|n| format!("user-{n}")) {
        let mut of_key = BTreeSet::new();
        for request in [with_key(&key), with_entity(&key), with_key(&key)] {
            of_key.insert(replica.infer(request).await.unwrap().model_version);
        }
        assert_eq!(of_key.len(), 1, "{key}");
        versions.extend(of_key);
    }
    assert_eq!(versions.len(), 2, "twenty keys on one side of equal shares occur 2 times in 10^6");
    let answer = replica.infer(ModelInferRequest { model_version: "2".into(), ..request(1) }).await.unwrap();
    assert_eq!((answer.model_version.as_str(), parameter(&answer, "route").as_str()), ("2", "version"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weighted_version_that_cannot_be_loaded_is_reported_while_the_primary_version_answers() {
    let world = World::start().await;
    let (primary, _) = world.publish(1).await;
    let absent = VersionRef { version: 2, bundle: Digest::of(b"nowhere") };
    let weighted = vec![WeightedVersion { version: absent, weight: 9_000 }];
    world.set_routes(&Routes { weighted, shadow: None, ..Routes::to(model(), 1, primary) }).await;
    let replica = world.replica().await;
    let served = world.reports("the failure", |served| served.failure.is_some()).await;
    assert_eq!(served.serving(), Some(primary));
    assert!(served.failure.as_ref().unwrap().starts_with("version 2: "), "{served:?}");
    for _ in 0..10 {
        assert_eq!(replica.infer(request(1)).await.unwrap().model_version, "1");
    }
    world.route(2, primary).await;
    world.reports("no failure", is_served(2, primary)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_version_is_compared_and_never_answers() {
    const REQUESTS: u64 = 50;
    let world = World::start().await;
    let ((primary, _), (other, _)) = (world.publish(1).await, world.publish(2).await);
    let replica = world.replica().await;
    // The same bundle under another number has the same bits.
    for (generation, shadow) in [(1, VersionRef { version: 3, ..primary }), (2, other)] {
        world.set_routes(&Routes { shadow: Some(shadow), ..Routes::to(model(), generation, primary) }).await;
        world.reports("the shadow", |served| served.shadow.is_some_and(|of| of.version == shadow.version)).await;
        for _ in 0..REQUESTS {
            assert_eq!(replica.infer(request(4)).await.unwrap().model_version, "1");
        }
        let is_complete = |served: &ServedModel| served.shadow.is_some_and(|of| of.requests == REQUESTS);
        let compared = world.reports("every comparison", is_complete).await.shadow.unwrap();
        let is_same = shadow.bundle == primary.bundle;
        assert_eq!((compared.rows, compared.skipped, compared.failed), (4 * REQUESTS, 0, 0), "{compared:?}");
        assert_eq!(compared.identical, if is_same { 4 * REQUESTS } else { 0 }, "{compared:?}");
        assert_eq!(compared.max_difference > 0.0, !is_same, "{compared:?}");
    }
    world.route(3, primary).await;
    let served = world.reports("no shadow", |served| served.generation == 3).await;
    assert!(served.shadow.is_none() && served.versions.len() == 1, "{served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_out_of_bounds_is_refused_with_every_violation() {
    let world = World::start().await;
    let mut config = world.config();
    config.fetch_attempts = 0;
    config.limits.max_concurrent_requests = 0;
    let error = rekindle_inference::App::build(config, None, None).await.err().expect("refused").to_string();
    assert!(error.contains("inference.fetch_attempts: is 0: expected at least 1"), "{error}");
    assert!(error.contains("inference.limits.max_concurrent_requests: is 0"), "{error}");
}
