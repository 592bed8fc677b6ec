//! Bundles trained on small made tables: what is learnt, kept, refused, and answered bit for bit alike.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    compute::concat_batches,
};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rekindle_dataset::Table;
use rekindle_domain::{Architecture, Digest, Recipe, Task};
use rekindle_model::{
    Bundle, Datatype, Error, Model, Truth, Values,
    manifest::{PIPELINE, WEIGHTS},
    target::Targets,
    train::{Epoch, Origin, TrainInput, train},
};

const HOUR_MS: i64 = 3_600_000;

/// Rows an hour apart whose target depends on a number, a category and a flag.
struct Rows {
    columns: Vec<(&'static str, ArrayRef)>,
}

fn rows(count: usize, seed: u64) -> Rows {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| random.random::<f64>()).collect() };
    let (x, noise, holes, category, flag) = (draw(count), draw(count), draw(count), draw(count), draw(count));
    let color = |row: usize| ["red", "green", "blue"][(category[row] * 3.0) as usize];
    let score = |row: usize| {
        4.0 * (x[row] - 0.5) + if color(row) == "red" { 2.0 } else { -1.0 } + f64::from(u8::from(flag[row] < 0.3))
    };
    let late = (0..count).map(|row| i64::from(1.0 / (1.0 + (-score(row)).exp()) > noise[row]));
    let columns: Vec<(&'static str, ArrayRef)> = vec![
        ("at", Arc::new((0..).take(count).map(|row: i64| Some(row * HOUR_MS)).collect::<TimestampMillisecondArray>())),
        ("x", Arc::new(Float64Array::from(x.clone()))),
        ("gap", Arc::new((0..count).map(|row| (holes[row] > 0.2).then_some(noise[row])).collect::<Float64Array>())),
        ("color", Arc::new((0..count).map(|row| Some(color(row))).collect::<StringArray>())),
        ("flag", Arc::new((0..count).map(|row| Some(flag[row] < 0.3)).collect::<BooleanArray>())),
        ("late", Arc::new(late.collect::<Int64Array>())),
        ("amount", Arc::new((0..count).map(|row| Some(1e4 + 300.0 * score(row))).collect::<Float64Array>())),
        (
            "grade",
            Arc::new(
                (0..count)
                    .map(|row| Some(["c", "b", "a"][(score(row) / 2.0 + 1.0).clamp(0.0, 2.0) as usize]))
                    .collect::<StringArray>(),
            ),
        ),
    ];
    Rows { columns }
}

impl Rows {
    fn table(self) -> Table {
        Table::from_batch(&RecordBatch::try_from_iter(self.columns).expect("columns of one length")).expect("a table")
    }

    fn with(mut self, name: &'static str, array: ArrayRef) -> Self {
        self.columns.retain(|(known, _)| *known != name);
        self.columns.push((name, array));
        self
    }
}

fn recipe(target: &str) -> Recipe {
    let others = ["late", "amount", "grade"].into_iter().filter(|other| *other != target);
    Recipe {
        ignore: others.map(str::to_owned).collect(),
        max_epochs: 8,
        batch_size: 64,
        learning_rate: 0.01,
        architecture: Architecture::Mlp { hidden: vec![16, 8], dropout: 0.1 },
        ..Recipe::for_target(target)
    }
}

fn origin() -> Origin {
    Origin { run_id: "run".into(), dataset_digests: vec![Digest::of(b"rows")], code_revision: "abc".into() }
}

fn trained(table: &Table, recipe: &Recipe) -> Result<Bundle, Error> {
    let input = TrainInput { table, time_column: Some("at"), recipe };
    train(&input, &origin(), |_| ControlFlow::Continue(()))
}

fn model(table: &Table, recipe: &Recipe) -> Model {
    Model::from_bundle(&trained(table, recipe).expect("trains")).expect("a model")
}

/// The prediction's bits, so that equality means equality.
fn bits(model: &Model, batch: &RecordBatch) -> Vec<Vec<u32>> {
    let prediction = model.predict(batch).expect("predicts");
    let (width, scores) = prediction.scores();
    scores.chunks(width).map(|row| row.iter().map(|score| score.to_bits()).collect()).collect()
}

#[test]
fn each_task_learns_what_there_is_to_learn() {
    let (past, future) = (rows(3000, 1).table(), rows(1000, 2).table());
    let metric = |target: &str, architecture: Architecture, name: &str| {
        let model = model(&past, &Recipe { architecture, ..recipe(target) });
        let prediction = model.score(&future.batch).expect("scores");
        model.metrics(&prediction, &model.targets(&future.batch).expect("targets")).expect("metrics")[name]
    };
    for architecture in [Architecture::Linear, recipe("late").architecture] {
        assert!(metric("late", architecture.clone(), "auc") > 0.8, "{architecture:?}");
        assert!(metric("grade", architecture.clone(), "accuracy") > 0.8, "{architecture:?}");
        assert!(metric("amount", architecture.clone(), "r2") > 0.9, "{architecture:?}");
    }
}

#[test]
fn outputs_follow_the_signature() {
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
        panic!("three probabilities to a row")
    };
    assert!(values.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    let regression = model(&table, &recipe("amount"));
    assert_eq!(regression.signature().outputs.len(), 1);
    for model in [&binary, &multiclass, &regression] {
        model.warm_up().expect("warms up");
    }
}

#[test]
fn inputs_are_described_as_they_must_be_sent() {
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
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    let table = rows(600, 1).table();
    for target in ["late", "grade", "amount"] {
        for architecture in [Architecture::Linear, recipe(target).architecture] {
            let model = model(&table, &Recipe { architecture, ..recipe(target) });
            let whole = bits(&model, &table.batch);
            for (row, expected) in whole.iter().enumerate() {
                assert_eq!(&bits(&model, &table.batch.slice(row, 1))[0], expected, "{target}, row {row}");
            }
            let turned =
                concat_batches(&table.batch.schema(), [&table.batch.slice(100, 37), &table.batch.slice(0, 100)])
                    .expect("one schema");
            assert_eq!(bits(&model, &turned), [&whole[100..137], &whole[..100]].concat());
        }
    }
}

#[test]
fn the_same_training_gives_the_same_bundle_and_another_seed_another() {
    let table = rows(500, 1).table();
    let digest =
        |seed| trained(&table, &Recipe { seed, ..recipe("late") }).expect("trains").digest().expect("a digest");
    let first = digest(7);
    // Other trainings in the same process must not disturb it.
    let beside: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = [7, 8, 7].map(|seed| scope.spawn(move || digest(seed))).into();
        threads.into_iter().map(|thread| thread.join().expect("trains")).collect()
    });
    assert_eq!((beside[0], beside[2]), (first, first));
    assert_ne!(beside[1], first);
}

#[test]
fn order_in_the_table_does_not_count_where_there_is_time() {
    let table = rows(300, 1).table();
    let reversed: Vec<u32> = (0..300).rev().collect();
    let shuffled = table.take(&reversed.into()).expect("rows");
    let digest = |table: &Table| trained(table, &recipe("late")).expect("trains").digest().expect("a digest");
    assert_eq!(digest(&table), digest(&shuffled));
}

/// The loss of each epoch on the rows learnt from, and the pipeline that is served.
fn told(table: &Table) -> (Vec<f64>, Bytes) {
    let recipe = Recipe { max_epochs: 3, ..recipe("late") };
    let mut losses = Vec::new();
    let bundle = train(&TrainInput { table, time_column: Some("at"), recipe: &recipe }, &origin(), |epoch| {
        losses.push(epoch.train_loss);
        ControlFlow::Continue(())
    });
    (losses, bundle.expect("trains").blobs[PIPELINE].clone())
}

#[test]
fn validation_rows_leave_no_trace_in_what_they_judge_but_in_what_is_served() {
    let mut x: Vec<f64> = (0..400).map(f64::from).collect();
    let (calm, calm_pipeline) = told(&rows(400, 1).with("x", Arc::new(Float64Array::from(x.clone()))).table());
    // The last 15 % are validation rows.
    x[340..].fill(1e12);
    let (wild, wild_pipeline) = told(&rows(400, 1).with("x", Arc::new(Float64Array::from(x))).table());
    assert_eq!(calm, wild);
    assert_ne!(calm_pipeline, wild_pipeline, "the network that serves has learnt from all rows");
}

#[test]
fn the_best_epoch_is_kept_and_patience_ends_training() {
    let table = rows(400, 1).table();
    let recipe = Recipe { max_epochs: 200, patience: 3, learning_rate: 0.05, ..recipe("late") };
    let mut epochs: Vec<Epoch> = Vec::new();
    let bundle = train(&TrainInput { table: &table, time_column: Some("at"), recipe: &recipe }, &origin(), |epoch| {
        epochs.push(epoch.clone());
        ControlFlow::Continue(())
    })
    .expect("trains");
    let lowest = epochs.iter().map(|epoch| epoch.metrics["log_loss"]).fold(f64::INFINITY, f64::min);
    assert_eq!(bundle.manifest.metrics["log_loss"], lowest);
    assert_eq!(bundle.manifest.reference.loss_mean, lowest);
    assert_eq!(bundle.manifest.reference.rows, 60);
    assert!(epochs.len() < 200, "ended early");
    assert!(epochs[epochs.len() - 3..].iter().all(|epoch| !epoch.best));
    assert_eq!(bundle.manifest.provenance.trained_until, Some(399 * HOUR_MS + 1));
}

#[test]
fn an_observer_can_stop_it() {
    let table = rows(200, 1).table();
    let recipe = recipe("late");
    let input = TrainInput { table: &table, time_column: Some("at"), recipe: &recipe };
    let error = train(&input, &origin(), |_| ControlFlow::Break(())).expect_err("stopped");
    assert!(matches!(error, Error::Stopped { epoch: 1 }), "{error}");
}

#[test]
fn what_cannot_be_learnt_from_is_refused_by_name() {
    let message = |table: Table, recipe: Recipe| trained(&table, &recipe).expect_err("refused").to_string();
    let few = message(rows(20, 1).table(), recipe("late"));
    assert!(few.contains("20 rows are too few"), "{few}");
    let absent = message(rows(200, 1).table(), recipe("lateness"));
    assert!(absent.contains("column lateness") && absent.contains("color"), "{absent}");
    let constant = rows(200, 1).with("late", Arc::new(Int64Array::from(vec![1; 200]))).table();
    let constant = message(constant, recipe("late"));
    assert!(constant.contains("column late: every row has the same class"), "{constant}");
    let mut late = vec![0; 200];
    late[190] = 1;
    let unlearnable = rows(200, 1).with("late", Arc::new(Int64Array::from(late))).table();
    let unlearnable = message(unlearnable, recipe("late"));
    assert!(unlearnable.contains("column late") && unlearnable.contains("one class"), "{unlearnable}");
    let text = message(rows(200, 1).table(), Recipe { task: Some(Task::Regression), ..recipe("grade") });
    assert!(text.contains("column grade: regression needs a column of numbers"), "{text}");
    let everything = ["at", "x", "gap", "color", "flag", "amount", "grade"].map(str::to_owned).to_vec();
    let nothing_left = message(rows(200, 1).table(), Recipe { ignore: everything, ..recipe("late") });
    assert!(nothing_left.contains("ignore fewer columns"), "{nothing_left}");
    let bounds = message(rows(200, 1).table(), Recipe { patience: 0, ..recipe("late") });
    assert!(bounds.contains("patience"), "{bounds}");
    let wild = message(rows(200, 1).table(), Recipe { learning_rate: 1e30, ..recipe("amount") });
    assert!(wild.contains("learning_rate"), "{wild}");
}

#[test]
fn bad_requests_name_the_input() {
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
fn unknown_and_missing_values_have_an_answer() {
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
    assert_eq!(bits[0], bits[1], "not-a-number means missing");
    assert_ne!(bits[0], bits[2]);
}

#[tokio::test]
async fn a_bundle_is_what_its_digest_says_or_nothing() {
    let bundle = trained(&rows(200, 1).table(), &recipe("late")).expect("trains");
    let digest = bundle.digest().expect("a digest");
    let mut store: BTreeMap<Digest, Bytes> =
        bundle.parts().expect("parts").into_iter().map(|part| (Digest::of(&part), part)).collect();
    let load = async |store: &BTreeMap<Digest, Bytes>| {
        Bundle::load(&digest, |digest| {
            std::future::ready(store.get(&digest).cloned().ok_or_else(|| format!("no {digest}")))
        })
        .await
    };
    let loaded = load(&store).await.expect("loads");
    assert_eq!(loaded, bundle);
    assert_eq!(loaded.digest().expect("a digest"), digest);
    loaded.reference().expect("a profile").feature("x").expect("of x");
    assert!(loaded.card().expect("a card").contains("`late`"));

    let weights = bundle.manifest.blobs[WEIGHTS].digest;
    let whole = store.insert(weights, Bytes::from_static(b"other")).expect("was stored");
    assert!(matches!(load(&store).await, Err(Error::Corrupt { expected, .. }) if expected == weights));
    store.remove(&weights);
    assert!(matches!(load(&store).await, Err(Error::Fetch { digest, .. }) if digest == weights));
    store.insert(weights, whole);
    load(&store).await.expect("whole again");
}

#[test]
fn parts_that_do_not_fit_each_other_are_refused() {
    let table = rows(200, 1).table();
    let (small, large) = (
        trained(&table, &recipe("late")).expect("trains"),
        trained(&table, &Recipe { architecture: Architecture::Linear, ..recipe("late") }).expect("trains"),
    );
    let mut blobs = small.blobs.clone();
    blobs.insert(WEIGHTS.to_owned(), large.blobs[WEIGHTS].clone());
    let mixed = Bundle::seal(small.manifest.clone(), blobs);
    let error = Model::from_bundle(&mixed).expect_err("another network's weights").to_string();
    assert!(error.contains("weights"), "{error}");
}

#[test]
fn losses_and_metrics_agree_on_what_is_reported_later() {
    let table = rows(300, 1).table();
    let model = model(&table, &recipe("late"));
    let validation = table.slice(255, 45);
    let prediction = model.predict(&validation.batch).expect("predicts");
    let labels: Vec<String> = (0..45)
        .map(|row| {
            let late = validation.column("late").expect("a column");
            late.as_any().downcast_ref::<Int64Array>().expect("integers").value(row).to_string()
        })
        .collect();
    let truths = labels.iter().map(|label| Truth::Label(label));
    let targets = Targets::from_truths(truths, model.manifest().classes.as_deref()).expect("classes");
    let losses = model.losses(&prediction, &targets).expect("losses");
    let mean = losses.iter().sum::<f64>() / 45.0;
    assert_eq!(model.metrics(&prediction, &targets).expect("metrics")["log_loss"], mean);
}
