//! Predictions of trained models, and bundles of trained models.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    compute::concat_batches,
};
use bytes::Bytes;
use rekindle_bundle::{Bundle, Datatype, Model, Values, manifest::WEIGHTS};
use rekindle_domain::{Digest, Task};

use crate::rows::{Rows, linear, model, recipe, rows, trained};

/// The bits of each row's scores, so that equality is exact.
fn bits(model: &Model, batch: &RecordBatch) -> Vec<Vec<u32>> {
    let prediction = model.predict(batch).expect("predicts");
    let (width, scores) = prediction.scores();
    scores.chunks(width).map(|row| row.iter().map(|score| score.to_bits()).collect()).collect()
}

#[test]
fn outputs_match_the_signature() {
    let table = rows(400, 1).table();
    let binary = model(&table, &recipe("late"));
    assert_eq!(binary.manifest().task, Task::Binary);
    let names: Vec<_> = binary.signature().outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["probability", "label"]);
    let prediction = binary.predict(&table.batch).expect("predicts");
    let (_, scores) = prediction.scores();
    for (score, label) in scores.iter().zip(prediction.labels().expect("labels")) {
        assert_eq!(&**label, if *score >= 0.5 { "1" } else { "0" });
    }
    let multiclass = model(&table, &recipe("grade"));
    assert_eq!(multiclass.signature().outputs[0].shape, [-1, 3]);
    assert_eq!(multiclass.manifest().classes.as_deref(), Some(["a", "b", "c"].map(str::to_owned).as_slice()));
    let Values::Fp32 { width: 3, values } = &multiclass.predict(&table.batch).expect("predicts").outputs[0] else {
        panic!("three probabilities per row")
    };
    assert!(values.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    let regression = model(&table, &recipe("amount"));
    assert_eq!(regression.signature().outputs.len(), 1);
    for model in [&binary, &multiclass, &regression] {
        model.warm_up().expect("warms up");
    }
}

#[test]
fn signature_describes_the_inputs() {
    let model = model(&rows(200, 1).table(), &recipe("late"));
    let described: Vec<_> =
        model.signature().inputs.iter().map(|input| (input.name.as_str(), input.datatype, input.nullable)).collect();
    let expected = [
        ("at", Datatype::Int64, false),
        ("x", Datatype::Fp64, false),
        ("gap", Datatype::Fp64, true),
        ("color", Datatype::Bytes, false),
        ("flag", Datatype::Bool, false),
    ];
    assert_eq!(described, expected);
    assert_eq!(model.signature().time_input.as_deref(), Some("at"));
}

#[test]
fn row_has_the_same_bits_alone_and_in_every_batch() {
    let table = rows(600, 1).table();
    for target in ["late", "grade", "amount"] {
        for recipe in [linear(target), recipe(target)] {
            let model = model(&table, &recipe);
            let whole = bits(&model, &table.batch);
            for (row, expected) in whole.iter().enumerate() {
                assert_eq!(&bits(&model, &table.batch.slice(row, 1))[0], expected, "{target}, row {row}");
            }
            let reordered =
                concat_batches(&table.batch.schema(), [&table.batch.slice(100, 37), &table.batch.slice(0, 100)])
                    .expect("one schema");
            assert_eq!(bits(&model, &reordered), [&whole[100..137], &whole[..100]].concat());
        }
    }
}

#[test]
fn invalid_rows_are_refused_with_the_input() {
    let model = model(&rows(200, 1).table(), &recipe("late"));
    let message = |rows: Rows| {
        let batch = RecordBatch::try_from_iter(rows.columns).expect("columns of one length");
        model.predict(&batch).expect_err("refused").to_string()
    };
    let mut without = rows(3, 1);
    without.columns.retain(|(name, _)| *name != "color");
    assert!(message(without).contains("input color is missing"));
    let text = message(rows(3, 1).with("x", Arc::new(StringArray::from(vec!["1", "2", "3"]))));
    assert!(text.contains("input x must be Float64, got Utf8"), "{text}");
    let hole = message(rows(3, 1).with("color", Arc::new(StringArray::from(vec![Some("red"), None, None]))));
    assert!(hole.contains("input color, row 1"), "{hole}");
    let nan = message(rows(3, 1).with("x", Arc::new(Float64Array::from(vec![0.0, 1.0, f64::NAN]))));
    assert!(nan.contains("input x, row 2: NaN"), "{nan}");
    let infinite = message(rows(3, 1).with("gap", Arc::new(Float64Array::from(vec![f64::INFINITY; 3]))));
    assert!(infinite.contains("input gap, row 0"), "{infinite}");
}

#[test]
fn unknown_and_missing_values_are_predicted() {
    let model = model(&rows(500, 1).table(), &recipe("late"));
    let colors = StringArray::from(vec!["violet", "violet", "red"]);
    let gaps = Float64Array::from(vec![None, Some(f64::NAN), Some(0.5)]);
    let mut rows = rows(3, 1).with("color", Arc::new(colors)).with("gap", Arc::new(gaps));
    for (name, array) in &mut rows.columns {
        if *name == "x" {
            *array = Arc::new(Float64Array::from(vec![0.5; 3]));
        } else if *name == "flag" {
            *array = Arc::new(BooleanArray::from(vec![true; 3]));
        } else if *name == "at" {
            *array = Arc::new(TimestampMillisecondArray::from(vec![0; 3]));
        }
    }
    let bits = bits(&model, &RecordBatch::try_from_iter(rows.columns).expect("columns of one length"));
    assert_eq!(bits[0], bits[1], "not-a-number is a missing value");
    assert_ne!(bits[0], bits[2]);
}

#[test]
fn mismatched_weights_are_refused() {
    let table = rows(200, 1).table();
    let (small, large) =
        (trained(&table, &recipe("late")).expect("trains"), trained(&table, &linear("late")).expect("trains"));
    let mut blobs = small.blobs.clone();
    blobs.insert(WEIGHTS.to_owned(), large.blobs[WEIGHTS].clone());
    let mixed = Bundle::seal(small.manifest.clone(), blobs);
    let error = Model::from_bundle(&mixed).expect_err("weights of another network").to_string();
    assert!(error.contains("weights"), "{error}");
}

#[tokio::test]
async fn bundle_loads_only_with_intact_blobs() {
    let bundle = trained(&rows(200, 1).table(), &recipe("late")).expect("trains");
    let digest = bundle.digest().expect("a digest");
    let mut store: BTreeMap<Digest, Bytes> =
        bundle.parts().expect("parts").into_iter().map(|part| (Digest::of(&part), part)).collect();
    let load = async |store: &BTreeMap<Digest, Bytes>| {
        Bundle::load(&digest, |digest, _| {
            std::future::ready(store.get(&digest).cloned().ok_or_else(|| format!("no {digest}")))
        })
        .await
    };
    let loaded = load(&store).await.expect("loads");
    assert_eq!(loaded, bundle);
    assert_eq!(loaded.digest().expect("a digest"), digest);
    loaded.reference().expect("a profile").feature("x").expect("profile of x");
    assert!(loaded.card().expect("a card").contains("`late`"));

    let weights = bundle.manifest.blobs[WEIGHTS].digest;
    let whole = store.insert(weights, Bytes::from_static(b"other")).expect("was stored");
    assert!(matches!(load(&store).await, Err(rekindle_bundle::Error::Corrupt { expected, .. }) if expected == weights));
    store.remove(&weights);
    assert!(matches!(load(&store).await, Err(rekindle_bundle::Error::Fetch { digest, .. }) if digest == weights));
    store.insert(weights, whole);
    load(&store).await.expect("loads again");
}
