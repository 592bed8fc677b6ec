//! Models in the ONNX format: imported or registered, they are READY only if a process of its own has run them.

use std::path::Path;

use bytes::Bytes;
use rekindle_bundle::{
    Manifest, Reference,
    manifest::PROFILE,
    onnx::{Import, import, library},
};
use rekindle_proto::registry::{GetModelVersionRequest, ImportModelVersionRequest, Scores, Task, VersionStatus};
use rekindle_testkit::{onnx_file, onnx_runtime};
use tonic::{Code, Status};

use crate::{
    on_both,
    sandbox::{Sandbox, blamed, key},
};

on_both!(an_imported_file_becomes_a_version_once, a_file_that_cannot_be_served_makes_nothing,);

/// The process of a check, which the registry of another test starts with the folder as the last argument.
#[test]
#[ignore = "started by the registry of other tests"]
fn check_model() {
    let folder = std::env::args().next_back().expect("a folder");
    rekindle_registry::check_model(Path::new(&folder)).expect("an outcome");
}

async fn request(sandbox: &Sandbox, file: &str) -> ImportModelVersionRequest {
    library::use_library(onnx_runtime());
    ImportModelVersionRequest {
        idempotency_key: key(),
        model: "imported".into(),
        file_digest: sandbox.upload(&onnx_file(format!("{file}.onnx"))).await,
        target: "late".into(),
        ..Default::default()
    }
}

/// Sixty rows with four sensors, an id and the target.
fn csv() -> String {
    let row = |row: i32| format!("{row},{},{},0.5,{},{}\n", row - 30, row % 7, row % 3, i32::from(row > 30));
    ["id,a,b,c,d,late\n".to_owned()].into_iter().chain((0..60).map(row)).collect()
}

async fn an_imported_file_becomes_a_version_once(sandbox: Sandbox) {
    let dataset = sandbox.dataset(sandbox.csv("sensors", &csv()).await).await;
    let request = ImportModelVersionRequest {
        dataset: "sensors".into(),
        ignore: vec!["id".into()],
        description: "from scikit-learn".into(),
        ..request(&sandbox, "sklearn_logistic").await
    };
    let mut models = sandbox.models.clone();
    let made = models.import_model_version(request.clone()).await.expect("imported").into_inner();
    assert_eq!((made.version, made.status()), (1, VersionStatus::Ready));
    assert!(made.metrics["accuracy"] > 0.5 && made.metrics.contains_key("log_loss"), "{:?}", made.metrics);
    assert_eq!((made.description.as_str(), made.run_id.as_str()), ("from scikit-learn", ""));
    let again = models.import_model_version(request).await.expect("the same").into_inner();
    assert_eq!(again, made);

    let read = async |digest| sandbox.artifacts.get(&digest).await.expect("stored");
    let manifest = Manifest::from_bytes(&read(made.bundle_digest.parse().expect("a digest")).await).expect("valid");
    let inputs: Vec<_> = manifest.signature.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!((inputs, manifest.target.as_str()), (vec!["a", "b", "c", "d"], "late"));
    assert_eq!(manifest.provenance.dataset_digests[0].to_string(), dataset.content_digest);
    assert_eq!(manifest.reference.rows, 60);
    let reference = Reference::from_bytes(&read(manifest.blobs[PROFILE].digest).await).expect("a profile");
    assert_eq!(reference.feature("a").expect("a profile").rows(), 60);
    assert_eq!(reference.prediction.rows(), 60);
}

async fn refused(sandbox: &Sandbox, request: ImportModelVersionRequest) -> Status {
    let refused = sandbox.models.clone().import_model_version(request).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    refused
}

async fn a_file_that_cannot_be_served_makes_nothing(sandbox: Sandbox) {
    for (file, problem) in [
        ("refused/zipmap", "export it with zipmap=False"),
        ("refused/custom_operator", "only operators of ai.onnx and ai.onnx.ml are run"),
        ("refused/external_data", "has external data"),
        ("refused/batch_mean", "depends on the other rows of its batch"),
        ("refused/gigantic_when_run", "the model failed"),
    ] {
        let refused = refused(&sandbox, request(&sandbox, file).await).await;
        assert_eq!(blamed(&refused), "file_digest", "{file}: {refused}");
        assert!(refused.message().contains(problem), "{file}: {}", refused.message());
    }
    let mlp = request(&sandbox, "sklearn_mlp").await;
    assert_eq!(blamed(&refused(&sandbox, mlp.clone()).await), "classes");
    let classes = ImportModelVersionRequest { classes: vec!["high".into(), String::new()], ..mlp };
    assert_eq!(blamed(&refused(&sandbox, classes).await), "classes[1]");
    let logistic = request(&sandbox, "sklearn_logistic").await;
    let scores = ImportModelVersionRequest { task: Task::Binary.into(), scores: Scores::Numbers.into(), ..logistic };
    assert_eq!(blamed(&refused(&sandbox, scores).await), "scores");
    let other = sandbox.dataset(sandbox.csv("other", "x,late\n1,0\n2,1\n").await).await;
    let dataset = ImportModelVersionRequest { dataset: other.name, ..request(&sandbox, "sklearn_pipeline").await };
    let message = refused(&sandbox, dataset).await;
    assert_eq!(blamed(&message), "dataset", "{message}");
    assert!(message.message().contains("has no column \"delay\", which is an input of the file"), "{message}");

    // Registered as a bundle, a model is run as well.
    let options = Import { target: "late".into(), ..Import::default() };
    let file = Bytes::from(onnx_file("refused/batch_mean.onnx"));
    let digest = sandbox.bundle(&import(file, &options, None).expect("a bundle")).await;
    let message = sandbox.register("imported", &digest).await.expect_err("refused");
    assert_eq!(blamed(&message), "bundle_digest");
    assert!(message.message().contains("depends on the other rows"), "{message}");
    let latest = GetModelVersionRequest { model: "imported".into(), selector: None };
    assert_eq!(sandbox.models.clone().get_model_version(latest).await.expect_err("none").code(), Code::NotFound);

    let file = Bytes::from(onnx_file("sklearn_forest.onnx"));
    let digest = sandbox.bundle(&import(file, &options, None).expect("a bundle")).await;
    assert_eq!(sandbox.register("imported", &digest).await.expect("valid").version, 1);
}
