//! Bundles assembled by hand: manifest encoding, verification on load, and predictions of the loaded model.

use std::{
    collections::BTreeMap,
    future::ready,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use bytes::Bytes;
use rekindle_bundle::{
    Backend, Bundle, Datatype, Error, Input, Manifest, Model, Output, Provenance, Reference, Signature,
    card::{self, TrainingSummary},
    manifest::{CARD, FORMAT_VERSION, PIPELINE, PROFILE, ReferenceLoss, WEIGHTS},
    network::{Layer, Matrix, Network},
    pipeline::{Encoding, Feature, Pipeline},
    reference::FeatureProfile,
};
use rekindle_domain::{
    Architecture, ColumnKind, Digest, Recipe, Task,
    recipe::{LinearRecipe, ModelRecipe},
};
use rekindle_statistics::profile::ColumnProfile;

fn manifest() -> Manifest {
    let recipe = Recipe { model: ModelRecipe::Linear(LinearRecipe::default()), ..Recipe::for_target("late") };
    let input = |name: &str, datatype, kind, nullable| Input { name: name.into(), datatype, kind, nullable };
    Manifest {
        format_version: FORMAT_VERSION,
        backend: Backend::Network,
        task: Task::Binary,
        classes: Some(vec!["0".into(), "1".into()]),
        target: "late".into(),
        architecture: Some(Architecture::Linear),
        onnx: None,
        signature: Signature {
            inputs: vec![
                input("x", Datatype::Fp64, ColumnKind::Numeric, false),
                input("color", Datatype::Bytes, ColumnKind::Categorical, true),
            ],
            outputs: Output::of_task(Task::Binary, 2),
            time_input: None,
        },
        blobs: BTreeMap::new(),
        metrics: BTreeMap::from([("log_loss".to_owned(), 0.5)]),
        reference: ReferenceLoss { loss_mean: 0.5, loss_std: 0.1, rows: 100, batch_std: None },
        provenance: Provenance {
            run_id: "run".into(),
            dataset_digests: vec![Digest::of(b"rows")],
            code_revision: "abc".into(),
            seed: recipe.seed,
            toolchain: "none".into(),
            trained_until: None,
            recipe: Some(Box::new(recipe)),
        },
    }
}

/// A logistic regression with log odds `x + weight of color`.
fn bundle() -> Bundle {
    let pipeline = Pipeline {
        features: vec![
            Feature {
                name: "x".into(),
                encoding: Encoding::Number { median: 0.0, mean: 0.0, std: 1.0, indicator: false },
            },
            Feature {
                name: "color".into(),
                encoding: Encoding::Category {
                    vocabulary: vec!["blue".into(), "red".into()],
                    counts: vec![0, 0, 5, 6],
                },
            },
        ],
    };
    let network = Network {
        convolution: None,
        embeddings: vec![Matrix { rows: 4, columns: 1, data: vec![0.0, 0.5, -1.0, 1.0] }],
        members: None,
        hidden: vec![],
        output: Layer { weight: Matrix { rows: 1, columns: 1, data: vec![1.0] }, bias: vec![0.0] },
    };
    let profile = ColumnProfile::of_numbers([Some(0.0), Some(1.0)]);
    let reference = Reference {
        features: vec![FeatureProfile { name: "x".into(), profile: profile.clone() }],
        prediction: profile,
        blocks: None,
        repeated: None,
        correlations: None,
        validation: None,
    };
    let manifest = manifest();
    let (temperature, baselines) = (None, Vec::new());
    let summary = TrainingSummary {
        training_rows: 85,
        served_rows: 100,
        validation_rows: 15,
        epochs: 7,
        best_epoch: 4,
        temperature,
        baselines,
    };
    let blobs = BTreeMap::from([
        (WEIGHTS.to_owned(), network.to_bytes().expect("weights")),
        (PIPELINE.to_owned(), pipeline.to_bytes().expect("a pipeline")),
        (PROFILE.to_owned(), reference.to_bytes().expect("a profile")),
        (CARD.to_owned(), Bytes::from(card::render(&manifest, &summary, &[], &pipeline))),
    ]);
    Bundle::seal(manifest, blobs)
}

/// Blobs by digest, as a store keeps them.
fn stored(bundle: &Bundle) -> BTreeMap<Digest, Bytes> {
    bundle.parts().expect("parts").into_iter().map(|part| (Digest::of(&part), part)).collect()
}

async fn load(digest: Digest, store: &BTreeMap<Digest, Bytes>) -> Result<Bundle, Error> {
    Bundle::load(&digest, |digest, _| ready(store.get(&digest).cloned().ok_or_else(|| format!("no {digest}")))).await
}

#[test]
fn other_tasks_have_a_turn_while_blobs_are_hashed() {
    let store = stored(&bundle());
    let digest = bundle().digest().expect("a digest");
    let mut loading = pin!(load(digest, &store));
    let mut context = Context::from_waker(Waker::noop());
    let mut turns = 0;
    while loading.as_mut().poll(&mut context).is_pending() {
        turns += 1;
    }
    assert_eq!(turns, store.len(), "one for each small blob, which are fetched at once");
}

/// The message of the manifest's refusal after `edit` of its JSON.
fn refusal(edit: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut json = serde_json::from_slice(&manifest().to_bytes().expect("bytes")).expect("JSON");
    edit(&mut json);
    let bytes = serde_json_canonicalizer::to_vec(&json).expect("bytes");
    Manifest::from_bytes(&bytes).expect_err("refused").to_string()
}

fn scores(model: &Model, x: &[f64], color: &[Option<&str>]) -> Vec<f32> {
    let columns: [(&str, ArrayRef); 2] =
        [("x", Arc::new(Float64Array::from(x.to_vec()))), ("color", Arc::new(StringArray::from(color.to_vec())))];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)));
    model.predict(&rows.expect("columns of one length")).expect("predicts").scores().1.to_vec()
}

#[test]
fn network_backend_has_one_spelling() {
    let bytes = manifest().to_bytes().expect("bytes");
    assert!(!String::from_utf8_lossy(&bytes).contains("backend"));
    let message = refusal(|json| json["backend"] = "network".into());
    assert!(message.contains("not canonical"), "{message}");
}

#[test]
fn unknown_backends_keys_and_versions_are_refused() {
    let message = refusal(|json| json["backend"] = "script".into());
    assert!(message.contains("manifest of the bundle is invalid") && message.contains("`script`"), "{message}");
    let message = refusal(|json| json["backend"] = "onnx".into());
    assert!(message.contains("an ONNX model has onnx, and no architecture"), "{message}");
    let message = refusal(|json| json["backnd"] = "network".into());
    assert!(message.contains("`backnd`"), "{message}");
    let message = refusal(|json| json["format_version"] = 2.into());
    assert!(message.contains("format_version is 2, expected 1"), "{message}");
}

#[test]
fn indented_manifest_is_refused() {
    let indented = serde_json::to_vec_pretty(&manifest()).expect("bytes");
    let message = Manifest::from_bytes(&indented).expect_err("refused").to_string();
    assert!(message.contains("not canonical"), "{message}");
}

#[tokio::test]
async fn bundle_round_trips_through_a_store() {
    let bundle = bundle();
    let loaded = load(bundle.digest().expect("a digest"), &stored(&bundle)).await.expect("loads");
    assert_eq!(loaded, bundle);
    assert!(loaded.reference().expect("a profile").feature("x").is_some());
    assert!(loaded.card().expect("a card").contains("best epoch: 4 of 7"));
}

#[tokio::test]
async fn corrupt_and_missing_blobs_are_refused() {
    let bundle = bundle();
    let digest = bundle.digest().expect("a digest");
    for part in stored(&bundle).into_keys() {
        let mut store = stored(&bundle);
        store.insert(part, Bytes::from_static(b"other"));
        assert!(matches!(load(digest, &store).await, Err(Error::Corrupt { expected, .. }) if expected == part));
        store.remove(&part);
        assert!(matches!(load(digest, &store).await, Err(Error::Fetch { digest, .. }) if digest == part));
    }
}

#[tokio::test]
async fn blobs_must_be_those_of_the_backend() {
    let refusal = async |edit: fn(&mut BTreeMap<String, Bytes>)| {
        let Bundle { manifest, mut blobs } = bundle();
        edit(&mut blobs);
        let bundle = Bundle::seal(manifest, blobs);
        load(bundle.digest().expect("a digest"), &stored(&bundle)).await.expect_err("refused").to_string()
    };
    let message = refusal(|blobs| {
        blobs.insert("script".to_owned(), Bytes::from_static(b"#!"));
    });
    assert!(message.await.contains("unknown blob \"script\", expected weights, pipeline, profile, card"));
    let message = refusal(|blobs| {
        blobs.remove(PROFILE);
    });
    assert!(message.await.contains("blob profile is missing"));
}

#[test]
fn loaded_model_predicts() {
    let model = Model::from_bundle(&bundle()).expect("loads");
    model.warm_up().expect("predicts");
    let sigmoid = |log_odds: f64| (1.0 / (1.0 + (-log_odds).exp())) as f32;
    let color = [Some("red"), Some("blue"), Some("violet"), None];
    assert_eq!(
        scores(&model, &[0.5, 0.5, 0.5, 0.5], &color),
        [sigmoid(1.5), sigmoid(-0.5), sigmoid(0.5), sigmoid(1.0)],
        "known, known, unknown and missing category"
    );
}

#[test]
fn parts_that_do_not_fit_each_other_are_refused() {
    let refusal = |edit: fn(&mut Bundle)| {
        let mut bundle = bundle();
        edit(&mut bundle);
        Model::from_bundle(&bundle).expect_err("refused").to_string()
    };
    let message = refusal(|bundle| bundle.manifest.signature.inputs.reverse());
    assert!(message.contains("pipeline of the bundle is invalid"), "{message}");
    let message = refusal(|bundle| bundle.manifest.task = Task::Regression);
    assert!(message.contains("manifest of the bundle is invalid"), "{message}");
    let message =
        refusal(|bundle| bundle.manifest.architecture = Some(Architecture::Mlp { hidden: vec![4], dropout: 0.0 }));
    assert!(message.contains("weights of the bundle is invalid"), "{message}");
    for (members, hidden) in [(0, vec![4]), (usize::MAX, vec![4]), (2, vec![])] {
        let mut bundle = bundle();
        bundle.manifest.architecture = Some(Architecture::TabM { members, bins: 0, hidden, dropout: 0.0 });
        let message = Model::from_bundle(&bundle).expect_err("refused").to_string();
        assert!(message.contains("an ensemble has 1 to 64 members"), "{message}");
    }
    let mut empty = bundle();
    empty.manifest.architecture = Some(Architecture::TabM { members: 2, bins: 0, hidden: vec![4], dropout: 0.0 });
    let feature = |name: &str| Feature { name: name.into(), encoding: Encoding::Constant { indicator: false } };
    let pipeline = Pipeline { features: vec![feature("x"), feature("color")] };
    empty.blobs.insert(PIPELINE.to_owned(), pipeline.to_bytes().expect("a pipeline"));
    let message = Model::from_bundle(&empty).expect_err("no input").to_string();
    assert!(message.contains("an ensemble needs at least one input"), "{message}");
    let message = refusal(|bundle| drop(bundle.blobs.remove(WEIGHTS)));
    assert!(message.contains("the bundle has no such blob"), "{message}");
}
