//! Models of the usual converters: imported, they answer what ONNX Runtime answers to Python. Files that are refused, each with its reason.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use bytes::Bytes;
use rekindle_bundle::{
    Bundle, Datatype, Error, Model, Values,
    onnx::{Data, File, Import, InputForm, Scores, TOLERANCE, Training, import, library},
};
use rekindle_domain::{ColumnKind, Digest, Task};
use rekindle_testkit::{onnx_file, onnx_runtime};
use serde_json::Value;

/// What was recorded of a model (`integration-tests/python/onnx_fixtures.py`).
struct Recorded {
    inputs: BTreeMap<String, Vec<Value>>,
    width: usize,
    scores: Vec<f32>,
}

fn recorded(name: &str) -> Recorded {
    let json: Value = serde_json::from_slice(&onnx_file(format!("{name}.json"))).expect("JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let inputs = json["inputs"].as_object().expect("inputs").iter();
    Recorded {
        inputs: inputs.map(|(name, values)| (name.clone(), list(values))).collect(),
        width: json["width"].as_u64().expect("a width") as usize,
        scores: list(&json["scores"]).iter().map(|score| score.as_f64().expect("a number") as f32).collect(),
    }
}

fn file(name: &str) -> Bytes {
    Bytes::from(onnx_file(format!("{name}.onnx")))
}

fn options() -> Import {
    library::use_library(onnx_runtime());
    Import { target: "y".to_owned(), ..Import::default() }
}

fn nullable() -> Import {
    Import { nullable: ["f0", "f1", "f2", "f3"].map(str::to_owned).to_vec(), ..options() }
}

fn classes(classes: &[&str]) -> Import {
    Import { classes: classes.iter().map(|&class| class.to_owned()).collect(), ..options() }
}

/// The recorded rows as the model's inputs.
fn rows(bundle: &Bundle, recorded: &Recorded) -> RecordBatch {
    let columns = bundle.manifest.signature.inputs.iter().map(|input| {
        let values = &recorded.inputs[&input.name];
        let column: ArrayRef = match input.datatype {
            Datatype::Int64 => Arc::new(values.iter().map(Value::as_i64).collect::<Int64Array>()),
            Datatype::Bool => Arc::new(values.iter().map(Value::as_bool).collect::<BooleanArray>()),
            Datatype::Bytes => Arc::new(values.iter().map(Value::as_str).collect::<StringArray>()),
            Datatype::Fp32 | Datatype::Fp64 => Arc::new(values.iter().map(Value::as_f64).collect::<Float64Array>()),
        };
        (input.name.clone(), column, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn scores(model: &Model, rows: &RecordBatch) -> Vec<f32> {
    model.predict(rows).expect("predicts").scores().1.to_vec()
}

fn assert_close(name: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        let tolerance = TOLERANCE * expected.abs().max(1.0);
        assert!((got - expected).abs() <= tolerance, "{name}, {row}: {got} instead of {expected}");
    }
}

/// What ONNX Runtime answers, as the task has it.
fn expected(bundle: &Bundle, recorded: &Recorded) -> Vec<f32> {
    let onnx = bundle.manifest.onnx.as_ref().expect("the section");
    let positive = |row: &[f32]| row[row.len() - 1];
    let sigmoid = |log_odds: f32| 1.0 / (1.0 + (-log_odds).exp());
    match (bundle.manifest.task, onnx.scores) {
        (Task::Binary, Scores::Logits) => recorded.scores.iter().map(|&score| sigmoid(score)).collect(),
        (Task::Binary, _) => recorded.scores.chunks_exact(recorded.width).map(positive).collect(),
        _ => recorded.scores.clone(),
    }
}

/// Imports a model, checks its answers, and that they depend on their batch by rounding alone.
fn check(name: &str, options: &Import, task: Task) {
    let recorded = recorded(name);
    let bundle = import(file(name), options, None).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(bundle.manifest.task, task, "{name}");
    bundle.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
    let model = Model::from_bundle(&bundle).expect("loads");
    assert_eq!(model.platform(), "onnxruntime_onnx");
    model.warm_up().expect("finite");
    let (rows, expected) = (rows(&bundle, &recorded), expected(&bundle, &recorded));
    let together = scores(&model, &rows);
    assert_close(name, &together, &expected);
    let prediction = model.predict(&rows).expect("predicts");
    let width = prediction.scores().0;
    for size in [1, 2, 3, 7, 16] {
        for start in (0..rows.num_rows()).step_by(size) {
            let rows = rows.slice(start, size.min(rows.num_rows() - start));
            let end = start + rows.num_rows();
            assert_close(name, &scores(&model, &rows), &together[start * width..end * width]);
        }
    }
    // The same number of rows, other neighbours: the same bits.
    let of = |other: usize| {
        let pair = arrow::compute::concat_batches(rows.schema_ref(), [&rows.slice(5, 1), &rows.slice(other, 1)]);
        scores(&model, &pair.expect("two rows"))[..width].to_vec()
    };
    assert!((0..rows.num_rows()).all(|other| of(other) == of(0)), "{name}: a neighbour changes the answer");
}

#[test]
fn classifiers_of_scikit_learn_answer_as_in_python() {
    check("sklearn_logistic", &options(), Task::Binary);
    check("sklearn_boosting", &options(), Task::Binary);
    check("sklearn_svc", &options(), Task::Binary);
    check("sklearn_forest", &options(), Task::Multiclass);
    // The classes of a neural network are in the file, but not where its scores are.
    check("sklearn_mlp", &classes(&["high", "low", "middle"]), Task::Multiclass);
}

#[test]
fn regressors_of_scikit_learn_answer_as_in_python() {
    check("sklearn_linear", &options(), Task::Regression);
    check("sklearn_forest_regressor", &options(), Task::Regression);
}

#[test]
fn a_pipeline_takes_one_column_per_feature() {
    check("sklearn_pipeline", &options(), Task::Binary);
    let bundle = import(file("sklearn_pipeline"), &options(), None).expect("imports");
    let onnx = bundle.manifest.onnx.expect("the section");
    assert_eq!((onnx.inputs, onnx.output.as_str()), (InputForm::Columns, "probabilities"));
    let inputs = &bundle.manifest.signature.inputs;
    let described: Vec<_> = inputs.iter().map(|input| (input.name.as_str(), input.datatype, input.kind)).collect();
    let expected = [
        ("delay", Datatype::Fp64, ColumnKind::Numeric),
        ("minutes", Datatype::Int64, ColumnKind::Numeric),
        ("color", Datatype::Bytes, ColumnKind::Categorical),
    ];
    assert_eq!(described, expected);
}

#[test]
fn boosted_trees_take_missing_values() {
    check("lightgbm", &nullable(), Task::Binary);
    check("lightgbm_regressor", &nullable(), Task::Regression);
    check("xgboost", &nullable(), Task::Binary);
    check("xgboost_regressor", &nullable(), Task::Regression);
}

#[test]
fn log_odds_become_probabilities() {
    let logits = Import { task: Some(Task::Binary), scores: Some(Scores::Logits), ..options() };
    check("network_log_odds", &logits, Task::Binary);
    check("network_log_odds", &options(), Task::Regression);
}

#[test]
fn a_bundle_of_an_import_is_stored_and_read_back() {
    let bundle = import(file("sklearn_forest"), &options(), None).expect("imports");
    let json = String::from_utf8(bundle.manifest_bytes().expect("bytes").to_vec()).expect("UTF-8");
    assert!(json.contains(r#""backend":"onnx""#) && !json.contains("architecture"), "{json}");
    let section =
        r#""onnx":{"inputs":{"form":"matrix","tensor":"X"},"output":"probabilities","scores":"probabilities"}"#;
    assert!(json.contains(section), "{json}");
    let manifest = rekindle_bundle::Manifest::from_bytes(json.as_bytes()).expect("canonical");
    assert_eq!(manifest, bundle.manifest);
    assert!(bundle.card().expect("a card").contains("written by skl2onnx"));
    let model = Model::from_bundle(&bundle).expect("loads");
    let labels = model.predict(&rows(&bundle, &recorded("sklearn_forest"))).expect("predicts");
    let known = ["high", "low", "middle"];
    assert!(labels.outputs.iter().any(|output| matches!(output, Values::Text(labels) if labels.len() == 64
        && labels.iter().all(|label| known.contains(&&**label)))));
}

#[test]
fn data_give_names_profile_and_expected_loss() {
    let recorded = recorded("sklearn_logistic");
    let named = |column: &str| recorded.inputs[column].iter().map(Value::as_f64).collect::<Float64Array>();
    let late: StringArray =
        recorded.scores.chunks_exact(2).map(|row| Some(if row[1] > 0.5 { "1" } else { "0" })).collect();
    let ids: Int64Array = (0..64).map(Some).collect();
    let columns = ["f0", "f1", "f2", "f3"].map(|name| (name.replace('f', "sensor"), Arc::new(named(name)) as ArrayRef));
    let others = [("id".to_owned(), Arc::new(ids) as ArrayRef), ("late".to_owned(), Arc::new(late))];
    let rows = RecordBatch::try_from_iter(columns.into_iter().chain(others)).expect("columns of one length");
    let data = Data { rows: &rows, digest: Digest::of(b"rows"), time_column: None };
    let import = |options: &Import| import(file("sklearn_logistic"), options, Some(data));
    let refused =
        import(&Import { target: "late".to_owned(), ..options() }).expect_err("a column too many").to_string();
    assert!(refused.contains("features: are 5 (sensor0, sensor1, sensor2, sensor3, id)"), "{refused}");
    let options = Import { target: "late".to_owned(), ignore: vec!["id".to_owned()], ..options() };
    let renamed = Import { classes: vec!["no".to_owned(), "yes".to_owned()], ..options.clone() };
    let refused = import(&renamed).expect_err("labels are 0 and 1").to_string();
    assert!(refused.contains("classes: are no, yes, and column \"late\" of the dataset has none of them"), "{refused}");
    let bundle = import(&options).expect("imports");
    bundle.validate().expect("valid");
    let reference = bundle.reference().expect("a profile");
    let names: Vec<_> = reference.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["sensor0", "sensor1", "sensor2", "sensor3"]);
    assert_eq!(bundle.manifest.metrics["accuracy"], 1.0);
    assert_eq!(bundle.manifest.reference.rows, 64);
    assert!(bundle.card().expect("a card").contains("## Feature importance"), "the rows have the target");
    assert_eq!(bundle.manifest.provenance.dataset_digests, [Digest::of(b"rows")]);
}

/// Rows an hour apart, the first half in reverse, with labels that the model gives in the first 48 hours only.
fn hourly(recorded: &Recorded) -> RecordBatch {
    let order: Vec<usize> = (0..32).rev().chain(32..64).collect();
    let named = |column: &str| {
        let values: Vec<Option<f64>> = recorded.inputs[column].iter().map(Value::as_f64).collect();
        order.iter().map(|&row| values[row]).collect::<Float64Array>()
    };
    let predicted: Vec<bool> = recorded.scores.chunks_exact(2).map(|row| row[1] > 0.5).collect();
    let label = |&row: &usize| Some(if predicted[row] == (row < 48) { "1" } else { "0" });
    let late: StringArray = order.iter().map(label).collect();
    let hours = order.iter().map(|&row| i64::try_from(row).expect("few rows") * 3_600_000);
    let at = TimestampMillisecondArray::from_iter_values(hours).with_timezone("UTC");
    let columns = ["f0", "f1", "f2", "f3"].map(|name| (name.to_owned(), Arc::new(named(name)) as ArrayRef));
    let others = [("at".to_owned(), Arc::new(at) as ArrayRef), ("late".to_owned(), Arc::new(late))];
    RecordBatch::try_from_iter(columns.into_iter().chain(others)).expect("columns of one length")
}

#[test]
fn a_training_says_which_rows_were_not_trained_on() {
    const HOUR: i64 = 3_600_000;
    let recorded = recorded("sklearn_logistic");
    let rows = hourly(&recorded);
    let data = Data { rows: &rows, digest: Digest::of(b"rows"), time_column: Some("at") };
    let trained = |until: Option<i64>, validation_from: Option<i64>| {
        let training = Training { run_id: "run".to_owned(), until, validation_from };
        let options = Import { target: "late".to_owned(), training: Some(training), ..options() };
        import(file("sklearn_logistic"), &options, Some(data))
    };
    let right = trained(Some(48 * HOUR), Some(40 * HOUR)).expect("imports");
    right.validate().expect("valid");
    let provenance = &right.manifest.provenance;
    assert_eq!((provenance.run_id.as_str(), provenance.trained_until), ("run", Some(48 * HOUR)));
    assert_eq!((right.manifest.metrics["accuracy"], right.manifest.reference.rows), (1.0, 8), "of hours 40 to 47");
    assert_eq!(right.reference().expect("a profile").features[0].profile.rows(), 48, "the profile is of all");
    let wrong = trained(None, Some(48 * HOUR)).expect("imports");
    assert_eq!((wrong.manifest.metrics["accuracy"], wrong.manifest.reference.rows), (0.0, 16));
    let later = trained(Some(1_000 * HOUR), None).expect("imports");
    assert_eq!(later.manifest.provenance.trained_until, Some(63 * HOUR + 1), "not after the last row");
    let refused = trained(Some(10 * HOUR), Some(10 * HOUR)).expect_err("no rows").to_string();
    assert!(refused.contains("validation_from: leaves no rows"), "{refused}");
    let untimed = Data { time_column: None, ..data };
    let training = Some(Training { until: Some(HOUR), ..Training::default() });
    let options = Import { target: "late".to_owned(), ignore: vec!["at".to_owned()], training, ..options() };
    let refused = import(file("sklearn_logistic"), &options, Some(untimed)).expect_err("no times").to_string();
    assert!(refused.contains("until: is set, and not every row has a time"), "{refused}");
}

fn refusal(name: &str, options: &Import) -> String {
    let refused = import(file(name), options, None).and_then(|bundle| bundle.validate());
    refused.expect_err(name).to_string()
}

#[test]
fn files_that_cannot_be_served_are_refused_with_the_reason() {
    for (name, reason) in [
        ("zipmap", "export it with zipmap=False"),
        ("custom_operator", "of the domain \"com.example\": only operators of ai.onnx and ai.onnx.ml are run"),
        ("external_data", "initializer \"w1\" has external data: save the model as one file"),
        ("gigantic_initializer", "initializer \"w1\" claims more bytes than a file can have"),
        ("short_initializer", "initializer \"w1\" claims 16777216 bytes by its shape [1048576, 4] and has 128"),
        ("loop", "operator \"Loop\" has a graph of its own: control flow is not run"),
        ("fixed_batch", "for 1 rows: export it with a dynamic first dimension"),
        ("batch_mean", "the answer to a row depends on the other rows of its batch"),
    ] {
        let message = refusal(&format!("refused/{name}"), &options());
        assert!(message.contains(reason), "{name}: {message}");
    }
}

#[test]
fn every_truncation_and_every_flipped_byte_is_read_or_refused() {
    for name in ["sklearn_pipeline", "network_log_odds", "lightgbm"] {
        let bytes = file(name);
        let whole = File::parse(&bytes).expect("a model");
        for end in 0..bytes.len() {
            match File::parse(&bytes[..end]) {
                // The last operator sets are all that is missing.
                Ok(file) => assert_eq!(File { bytes: whole.bytes, ..file }, whole, "{name}: {end}"),
                Err(error) => assert!(matches!(error, Error::Invalid { part: "model", .. }), "{name}: {end}"),
            }
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[position] ^= 1 << bit;
                // Some flips change a weight or a name; none may panic.
                drop(File::parse(&flipped));
            }
        }
    }
}

#[test]
fn more_rows_than_one_run_takes_are_predicted_in_parts() {
    let recorded = recorded("sklearn_forest");
    let bundle = import(file("sklearn_forest"), &options(), None).expect("imports");
    let (model, rows) = (Model::from_bundle(&bundle).expect("loads"), rows(&bundle, &recorded));
    let many = arrow::compute::concat_batches(rows.schema_ref(), vec![&rows; 300]).expect("one schema");
    assert_eq!(many.num_rows(), 19_200);
    let scores = scores(&model, &many);
    for part in scores.chunks_exact(recorded.scores.len()) {
        assert_close("sklearn_forest", part, &recorded.scores);
    }
    assert_eq!(model.predict(&rows.slice(0, 0)).expect("no rows").rows, 0);
}

#[test]
fn memory_of_trees_is_counted_as_more_than_their_file() {
    let counted = |name: &str| {
        let file = File::parse(&file(name)).expect("a model");
        (file.session_bytes() as f64 / file.bytes as f64, file.bytes)
    };
    let (trees, size) = counted("sklearn_forest");
    assert!(trees > 6.0 && size == file("sklearn_forest").len() as u64, "{trees}");
    let bundle = import(file("sklearn_forest"), &options(), None).expect("imports");
    let of_one = File::parse(&file("sklearn_forest")).expect("a model").session_bytes();
    let loaded = bundle.loaded_bytes().expect("a model");
    assert!(of_one >= 6 * size && loaded.is_multiple_of(of_one), "{loaded} of sessions with {of_one}");
}

#[test]
fn what_is_no_onnx_file_is_refused() {
    for bytes in
        [&b""[..], b"PK\x03\x04archive.pkl", b"\x80\x04\x95pickled", b"name,value\n1,2\n", &[0xff; 64], &[0; 64]]
    {
        let message = File::parse(bytes).expect_err("refused").to_string();
        assert!(message.contains("not an ONNX file"), "{bytes:?}: {message}");
    }
}

#[test]
fn options_that_do_not_fit_the_file_are_named() {
    for (name, options, reason) in [
        ("sklearn_mlp", options(), "classes: are missing: tensor(float)[?, 3] has 3 scores per row"),
        ("sklearn_logistic", classes(&["a", "b", "c"]), "classes: are 3 (a, b, c), and tensor(float)[?, 2]"),
        (
            "sklearn_logistic",
            Import { task: Some(Task::Multiclass), ..options() },
            "task: does not fit 2 classes: 0, 1",
        ),
        ("sklearn_logistic", Import { target: String::new(), ..options() }, "target: is empty"),
        (
            "sklearn_logistic",
            Import { output: Some("label".into()), ..options() },
            "output: \"label\" is tensor(int64)[?]",
        ),
        (
            "sklearn_logistic",
            Import { nullable: vec!["g".into()], ..options() },
            "nullable: names \"g\", which is no input",
        ),
        (
            "sklearn_logistic",
            Import { features: vec!["a".into()], ..options() },
            "features: are 1 (a), and the file takes 4",
        ),
        (
            "sklearn_pipeline",
            Import { features: vec!["a".into()], ..options() },
            "features: are given, and the file has one",
        ),
        ("sklearn_pipeline", Import { nullable: vec!["minutes".into()], ..options() }, "which is no nullable INT64"),
        ("network_log_odds", Import { task: Some(Task::Binary), ..options() }, "is no probability"),
    ] {
        let message = refusal(name, &options);
        assert!(message.contains(reason), "{name}: {message}");
    }
}

#[test]
fn a_bundle_whose_signature_differs_from_the_file_is_refused() {
    let bundle = || import(file("sklearn_pipeline"), &options(), None).expect("imports");
    let message = |edit: fn(&mut Bundle)| {
        let mut bundle = bundle();
        edit(&mut bundle);
        Model::from_bundle(&bundle).expect_err("refused").to_string()
    };
    let renamed = message(|bundle| bundle.manifest.signature.inputs[0].name = "other".into());
    assert!(renamed.contains("its input \"delay\" is no input of the signature"), "{renamed}");
    let retyped = message(|bundle| bundle.manifest.signature.inputs[1].datatype = Datatype::Bytes);
    assert!(retyped.contains("\"minutes\" is tensor(int64)[?, 1], which is no BYTES"), "{retyped}");
    let scores = message(|bundle| bundle.manifest.onnx.as_mut().expect("the section").scores = Scores::Numbers);
    assert!(scores.contains("the scores of a Binary model are not numbers"), "{scores}");
    let output = message(|bundle| bundle.manifest.onnx.as_mut().expect("the section").output = "label".into());
    assert!(output.contains("its output \"label\" is tensor(int64)[?], expected floats"), "{output}");
}
