//! Estimated performance on real data: a model is trained on the first rows, and the loss of each later window is estimated from its
//! predictions, beside the loss that was measured.
//!
//! In shuffled rows the relation between inputs and outcomes does not change, however the windows are chosen: at random, or so that their
//! predictions drift. The intervals have to cover the loss there. In order of time nothing is known about that relation: each estimate and
//! its record are printed.

use std::ops::ControlFlow;

use arrow::array::UInt32Array;
use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use rekindle_bundle::{Bundle, Model, validation::scores};
use rekindle_dataset::{Table, read_parquet};
use rekindle_domain::{Digest, Recipe, recipe::ModelRecipe};
use rekindle_testkit::{flights, shared_data};
use rekindle_training::{Origin, TrainInput, train};

const DAY_MS: i64 = 86_400_000;

/// A data set and its model.
struct Data {
    name: &'static str,
    table: Table,
    recipe: Recipe,
    /// The metric of the loss.
    metric: &'static str,
    /// Length of a window, in days.
    window: i64,
    /// Windows after which the outcomes of a window are known.
    delay: usize,
    /// The share of the rows that the model is trained on.
    trained: f64,
}

impl Data {
    fn new(name: &'static str, bytes: Vec<u8>, target: &str, ignore: &[&str], metric: &'static str) -> Self {
        let ignore = ignore.iter().map(|&name| name.to_owned()).collect();
        // The fastest model: the estimate does not depend on the kind.
        let recipe = Recipe { ignore, model: ModelRecipe::Linear(Default::default()), ..Recipe::for_target(target) };
        let table = read_parquet(bytes.into()).expect("Parquet");
        Self { name, table, recipe, metric, window: 7, delay: 3, trained: 0.4 }
    }

    fn first_rows(&self) -> usize {
        (self.table.rows() as f64 * self.trained) as usize
    }

    /// The rows in another order.
    fn shuffled(&self, seed: u64) -> Table {
        let mut order: Vec<u32> = (0..u32::try_from(self.table.rows()).expect("few rows")).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        self.table.take(&UInt32Array::from(order)).expect("every row exists")
    }

    fn trained_on(&self, table: &Table, time_column: Option<&str>) -> Bundle {
        let origin =
            Origin { run_id: String::new(), dataset_digests: vec![Digest::of(b"")], code_revision: String::new() };
        let input = TrainInput { table, time_column, recipe: &self.recipe };
        train(&input, &origin, |_| ControlFlow::Continue(())).expect("trains")
    }
}

/// The estimate of one window and what was measured.
struct Window {
    measured: f64,
    estimate: f64,
    interval: (f64, f64),
}

impl Window {
    fn is_covered(&self) -> bool {
        (self.interval.0..=self.interval.1).contains(&self.measured)
    }
}

/// The windows of a table with these rows, but for those of fewer than 50.
fn windows(data: &Data, bundle: &Bundle, table: &Table, rows: &[Vec<u32>]) -> Vec<Window> {
    let (model, reference) = (Model::from_bundle(bundle).expect("a model"), bundle.reference().expect("a profile"));
    let expected = reference.validation.and_then(|validation| validation.expected).expect("enough rows");
    let of_rows = |rows: &Vec<u32>| {
        let batch = table.take(&UInt32Array::from(rows.clone())).expect("every row exists").batch;
        let prediction = model.score(&batch).expect("scores");
        let measured = model.metrics(&prediction, &model.targets(&batch).expect("targets")).expect("metrics");
        let scores = scores(model.manifest().task, &prediction);
        let estimate = expected.estimate(&expected.count(scores))[data.metric];
        Window { measured: measured[data.metric], estimate: estimate.value, interval: (estimate.lower, estimate.upper) }
    };
    rows.iter().filter(|rows| rows.len() >= 50).map(of_rows).collect()
}

/// The share of covered windows of shuffled rows, over some trainings: of random rows, and of rows that were chosen by their prediction.
fn covered_when_shuffled(data: &Data, trainings: u64, rows: usize) -> (f64, f64) {
    let (mut random, mut chosen) = (Vec::new(), Vec::new());
    for seed in 0..trainings {
        let (table, first) = (data.shuffled(seed), data.first_rows());
        let bundle = data.trained_on(&table.slice(0, first), None);
        let model = Model::from_bundle(&bundle).expect("a model");
        let later: Vec<u32> = (first..table.rows()).map(|row| u32::try_from(row).expect("few rows")).collect();
        let in_windows = |order: &[u32]| order.chunks_exact(rows).map(<[u32]>::to_vec).take(40).collect::<Vec<_>>();
        random.extend(windows(data, &bundle, &table, &in_windows(&later)));
        // The higher its score is among the others, the more likely a row is chosen.
        let prediction = model.score(&table.slice(first, table.rows() - first).batch).expect("scores");
        let scores = scores(model.manifest().task, &prediction);
        let mut by_score: Vec<usize> = (0..scores.len()).collect();
        by_score.sort_by(|&one, &other| scores[one].total_cmp(&scores[other]));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut kept: Vec<u32> = Vec::new();
        for (rank, row) in by_score.into_iter().enumerate() {
            if random.random::<f64>() * later.len() as f64 <= rank as f64 {
                kept.push(later[row]);
            }
        }
        kept.shuffle(&mut random);
        chosen.extend(windows(data, &bundle, &table, &in_windows(&kept)));
    }
    let covered =
        |windows: &[Window]| windows.iter().filter(|window| window.is_covered()).count() as f64 / windows.len() as f64;
    println!(
        "{}: shuffled rows, {} of {} windows of random rows and {} of {} windows of rows chosen by their prediction have their {} within its interval",
        data.name,
        random.iter().filter(|window| window.is_covered()).count(),
        random.len(),
        chosen.iter().filter(|window| window.is_covered()).count(),
        chosen.len(),
        data.metric
    );
    (covered(&random), covered(&chosen))
}

/// What became of the estimates of windows in order of time.
struct InTime {
    stated: usize,
    stated_and_covered: usize,
    withdrawn: usize,
    withdrawn_and_covered: usize,
}

/// The windows in order of time. An estimate is withdrawn if two or more of the last eight windows whose outcomes are known missed theirs.
fn in_order_of_time(data: &Data) -> InTime {
    let table = data.table.sort_by_time("timestamp").expect("times");
    let first = data.first_rows();
    let bundle = data.trained_on(&table.slice(0, first), Some("timestamp"));
    let times = table.times("timestamp").expect("every row has a time");
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for row in first..table.rows() {
        let window = usize::try_from((times[row] - times[first]) / (data.window * DAY_MS)).expect("later rows");
        rows.resize(rows.len().max(window + 1), Vec::new());
        rows[window].push(u32::try_from(row).expect("few rows"));
    }
    let windows = windows(data, &bundle, &table, &rows);
    let mut found = InTime { stated: 0, stated_and_covered: 0, withdrawn: 0, withdrawn_and_covered: 0 };
    let mut shown = Vec::new();
    for (at, window) in windows.iter().enumerate() {
        let known = &windows[..at.saturating_sub(data.delay)];
        let missed = known.iter().rev().take(8).filter(|window| !window.is_covered()).count();
        let (is_withdrawn, is_covered) = (missed >= 2, window.is_covered());
        found.stated += usize::from(!is_withdrawn);
        found.stated_and_covered += usize::from(!is_withdrawn && is_covered);
        found.withdrawn += usize::from(is_withdrawn);
        found.withdrawn_and_covered += usize::from(is_withdrawn && is_covered);
        let sign = if is_covered { "" } else { "!" };
        let (left, right) = if is_withdrawn { ("(", ")") } else { ("", "") };
        shown.push(format!("{left}{:.4}/{:.4}{sign}{right}", window.measured, window.estimate));
    }
    let InTime { stated, stated_and_covered, withdrawn, withdrawn_and_covered } = found;
    println!(
        "{}: in order of time, {stated_and_covered} of {stated} stated estimates cover the {}, and {withdrawn_and_covered} of {withdrawn} \
         withdrawn ones; measured/estimated, ! outside of the interval, () withdrawn: {}",
        data.name,
        data.metric,
        shown.join(" ")
    );
    found
}

/// At least 90 % of the windows are covered.
fn covers((random, chosen): (f64, f64)) {
    assert!(random >= 0.9 && chosen >= 0.9, "{random} and {chosen} of the windows are covered");
}

#[test]
fn flights_2013() {
    let ignore = ["flight_id", "flight_no", "arr_delay", "timestamp"];
    let data = Data { trained: 0.32, ..Data::new("flights", flights(), "late", &ignore, "log_loss") };
    covers(covered_when_shuffled(&data, 1, 5_000));
    let InTime { stated, stated_and_covered, .. } = in_order_of_time(&data);
    assert!(stated >= 20 && stated_and_covered * 10 >= stated * 9, "{stated_and_covered} of {stated}");
}

#[test]
fn chicago_taxi_tips_or_skipped() {
    let Some(bytes) = shared_data("chicago_taxi_tips.parquet") else { return };
    let ignore = ["trip_id", "tips", "timestamp"];
    let data = Data { window: 28, ..Data::new("taxi", bytes, "big_tip", &ignore, "log_loss") };
    covers(covered_when_shuffled(&data, 5, 400));
    in_order_of_time(&data);
}

#[test]
fn bike_hourly_or_skipped() {
    let Some(bytes) = shared_data("bike_hourly.parquet") else { return };
    let ignore = ["casual", "registered", "timestamp"];
    let data = Data::new("bike", bytes, "cnt", &ignore, "rmse");
    covers(covered_when_shuffled(&data, 5, 168));
    // Rentals grow from year to year, and no input says so.
    let InTime { withdrawn, .. } = in_order_of_time(&data);
    assert!(withdrawn >= 20, "{withdrawn} estimates are withdrawn");
}

#[test]
fn digits_8x8_or_skipped() {
    let Some(bytes) = shared_data("digits_8x8.parquet") else { return };
    let data = Data::new("digits", bytes, "label", &[], "log_loss");
    covers(covered_when_shuffled(&data, 60, 100));
}
