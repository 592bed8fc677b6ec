//! What earlier releases stored is read: a cache is served, and the values of both buckets are understood.

use std::collections::BTreeMap;

use rekindle_client::wire::raw;
use rekindle_domain::{ReplicaState, Routes, VersionRef};
use rekindle_proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
use rekindle_testkit::Fixture;

use crate::world::{Replica, World};

/// Three rows whose predictions the fixture's README has.
fn arrivals() -> ModelInferRequest {
    let tensor = |name: &str, datatype: &str| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![3],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "arrival".into(),
        inputs: vec![
            tensor("time", "INT64"),
            tensor("origin", "BYTES"),
            tensor("distance", "INT64"),
            tensor("dep_delay", "FP64"),
        ],
        raw_input_contents: vec![
            raw::encode(&[1_767_333_600_000; 3], i64::to_le_bytes),
            raw::encode_texts(&["EWR", "LGA", "never seen"]),
            raw::encode(&[200, 900, 1400], i64::to_le_bytes),
            raw::encode(&[3.5, f64::NAN, 40.0], f64::to_le_bytes),
        ],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_release_0_1_0_is_served_with_the_same_bits() {
    let world = World::start().await;
    let config = world.config();
    Fixture::of("0.1.0").copy_cache(&config.cache_dir);
    let replica = Replica::start(config, None, None).await;
    replica.ready().await;
    // A rollout is under way, and this replica is one of those that it has updated.
    for (model, version) in [("arrival", "1"), ("late", "3"), ("late-linear", "2")] {
        let request = ModelInferRequest { model_name: model.into(), ..Default::default() };
        let refused = replica.infer(request).await.expect_err("no inputs");
        assert!(refused.message().starts_with("inputs: is empty"), "{model}: {refused}");
        let request = ModelInferRequest { model_name: model.into(), model_version: "9".into(), ..Default::default() };
        let refused = replica.infer(request).await.expect_err("no such version");
        assert!(refused.message().contains(&format!("request version {version}, ")), "{model}: {refused}");
    }
    let answer = replica.infer(arrivals()).await.expect("answered");
    let expected = raw::encode(&[2.642_652_8, 20.669_313, 38.091_96], f32::to_le_bytes);
    assert_eq!(answer.raw_output_contents[0], expected);
}

#[test]
fn values_of_both_buckets_of_release_0_1_0_are_read() {
    let fixture = Fixture::of("0.1.0");
    let routes: BTreeMap<String, Routes> =
        serde_json::from_str(&fixture.text("buckets/rekindle-deployments.json")).expect("routes");
    let linear = &routes["late-linear"];
    let rollout = linear.rollout.as_ref().expect("a rollout");
    let replica = "replica-1".parse().expect("a name");
    assert_eq!((linear.generation, linear.primary.version, rollout.target.version), (3, 1, 2));
    assert_eq!(linear.assignment(&replica).version, rollout.target);
    assert_eq!((routes["late"].primary.version, routes["late"].rollout.is_none()), (3, true));

    let states: BTreeMap<String, ReplicaState> =
        serde_json::from_str(&fixture.text("buckets/rekindle-replicas.json")).expect("states");
    let late = &states["replica-1"].models[&"late".parse().expect("a name")];
    let VersionRef { version, bundle } = late.serving().expect("a version");
    assert_eq!((version, bundle), (3, routes["late"].primary.bundle));
    let loaded = late.versions[&3];
    assert_eq!((loaded.answered, loaded.failed, late.in_flight()), (363, 0, 0));
}
