//! Models in the ONNX format, served as any other.

use rekindle_bundle::{
    Bundle,
    onnx::{Import, import, library},
};
use rekindle_client::wire::raw;
use rekindle_inference::Config;
use rekindle_proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
use rekindle_testkit::{onnx_file, onnx_runtime};
use serde_json::Value;

use crate::world::{MODEL, Replica, World, parameter};

fn imported(name: &str) -> Bundle {
    library::use_library(onnx_runtime());
    let options = Import { target: "late".into(), ..Import::default() };
    import(onnx_file(format!("{name}.onnx")).into(), &options, None).expect("imports")
}

/// What was recorded of a pipeline of a number, a whole number and a text.
fn recorded() -> Value {
    serde_json::from_slice(&onnx_file("sklearn_pipeline.json")).expect("JSON")
}

/// Rows of what was recorded, as a request with one tensor per feature.
fn request(recorded: &Value, rows: std::ops::Range<usize>) -> ModelInferRequest {
    let shape = vec![i64::try_from(rows.len()).expect("few"), 1];
    let values = |name: &str| recorded["inputs"][name].as_array().expect("values")[rows.clone()].to_vec();
    let delays: Vec<f64> = values("delay").iter().map(|value| value.as_f64().expect("a number")).collect();
    let minutes: Vec<i64> = values("minutes").iter().map(|value| value.as_i64().expect("a number")).collect();
    let colors = values("color");
    let colors: Vec<&str> = colors.iter().map(|value| value.as_str().expect("a text")).collect();
    let tensor = |name: &str, datatype: &str| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.clone(),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: MODEL.into(),
        inputs: vec![tensor("color", "BYTES"), tensor("delay", "FP64"), tensor("minutes", "INT64")],
        raw_input_contents: vec![
            raw::encode_texts(&colors),
            raw::encode(&delays, f64::to_le_bytes),
            raw::encode(&minutes, i64::to_le_bytes),
        ],
        ..Default::default()
    }
}

/// The probabilities of an answer.
async fn probabilities(replica: &Replica, request: ModelInferRequest) -> Vec<f32> {
    let answer = replica.infer(request).await.expect("answered");
    assert_eq!(answer.outputs[0].name, "probability");
    let floats = answer.raw_output_contents[0].chunks_exact(4);
    floats.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect()
}

fn assert_close(got: &[f32], recorded: &Value, from: usize) {
    for (row, got) in got.iter().enumerate() {
        let expected = recorded["scores"][2 * (from + row) + 1].as_f64().expect("a probability") as f32;
        assert!((got - expected).abs() < 1e-5, "row {}: {got} instead of {expected}", from + row);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_imported_model_answers_what_it_answered_elsewhere() {
    let (world, recorded) = (World::start().await, recorded());
    let version = world.store(1, &imported("sklearn_pipeline")).await;
    world.route(1, version).await;
    let replica = world.replica().await;
    replica.ready().await;
    assert_close(&probabilities(&replica, request(&recorded, 0..64)).await, &recorded, 0);
    // More requests at once than sessions.
    let calls = (0..64).map(|row| probabilities(&replica, request(&recorded, row..row + 1)));
    for (row, got) in futures::future::join_all(calls).await.iter().enumerate() {
        assert_close(got, &recorded, row);
    }
    let answer = replica.infer(request(&recorded, 0..2)).await.expect("answered");
    assert_eq!(parameter(&answer, "bundle_digest"), version.bundle.to_string());
    let missing = ModelInferRequest { inputs: Vec::new(), raw_input_contents: Vec::new(), ..request(&recorded, 0..1) };
    assert_eq!(replica.infer(missing).await.expect_err("refused").code(), tonic::Code::InvalidArgument);

    // From an ONNX model to a network and back, like any other swap.
    let (network, _) = world.publish(2).await;
    world.route(2, network).await;
    world.reports("version 2 is served", |served| served.primary == Some(2)).await;
    world.route(3, version).await;
    world.reports("version 1 is served again", |served| served.primary == Some(1)).await;
    assert_close(&probabilities(&replica, request(&recorded, 0..64)).await, &recorded, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_fit_the_memory_is_refused_and_the_earlier_one_answers() {
    let (world, recorded) = (World::start().await, recorded());
    let (pipeline, forest) = (imported("sklearn_pipeline"), imported("sklearn_forest"));
    let fits = pipeline.loaded_bytes().expect("an estimate");
    assert!(forest.loaded_bytes().expect("an estimate") > fits);
    let config = Config { max_loaded_bytes: fits, ..world.config() };
    let (first, second) = (world.store(1, &pipeline).await, world.store(2, &forest).await);
    world.route(1, first).await;
    let replica = Replica::start(config, Some(world.bus.clone()), Some(world.artifacts.clone())).await;
    replica.ready().await;
    world.route(2, second).await;
    let report = world.reports("the second is refused", |served| served.failure.is_some()).await;
    let failure = report.failure.expect("a failure");
    assert!(failure.contains("the limit inference.max_loaded_bytes"), "{failure}");
    assert_eq!(report.primary, Some(1));
    assert_close(&probabilities(&replica, request(&recorded, 0..64)).await, &recorded, 0);
}
