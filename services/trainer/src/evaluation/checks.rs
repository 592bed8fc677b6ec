//! The checks of the gate: fairness, calibration, behaviour and cost of the challenger.
//!
//! But for the time of a prediction they are computed from the predictions alone, without a confidence: the same rows and bundle give the
//! same result.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch, UInt32Array},
    compute::{take, take_record_batch},
    datatypes::{DataType, Float64Type, Int64Type},
};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use rekindle_bundle::{Model, Prediction, target::Targets};
use rekindle_dataset::Table;
use rekindle_domain::{
    Task,
    evaluation::CheckEvaluation,
    gate_check::{Direction, GateCheck, GroupMetric},
};
use rekindle_statistics::quality::calibration_error;

use super::{Cases, disagreement, mean, slices, std};
use crate::Error;

/// Rows whose predictions are repeated with other values, at most.
const MOST_ROWS: usize = 10_000;
/// The share of the rows that may move against the direction of a monotonic prediction, and by how much a prediction may move without counting: of
/// a probability, or of a number in standard deviations of the predictions.
const MOST_AGAINST: f64 = 0.01;
const NEGLIGIBLE: f64 = 0.001;
/// Rows of cases that are named.
const MOST_NAMED: usize = 5;
/// Predictions whose time is measured, and those before them.
const TIMED: usize = 1_000;
const WARM_UP: usize = 100;
/// How often each of them is repeated.
const REPEATED: usize = 3;
/// How long they take together, more or less, of a slow model.
const MOST_TIME: Duration = Duration::from_secs(20);
/// Of two classes, the one that probabilities are of.
const POSITIVE: usize = 1;

/// The challenger on the rows of the evaluation.
pub(super) struct Challenger<'a> {
    pub model: &'a Model,
    pub rows: &'a Table,
    pub targets: &'a Targets,
    pub prediction: &'a Prediction,
    pub losses: &'a [f64],
    /// Rows of a group at least.
    pub least_rows: u64,
    /// Of its files.
    pub bytes: u64,
    /// Reads the rows that it must predict.
    pub cases: &'a Cases<'a>,
}

/// The results of the checks, in their order.
pub(super) fn of(challenger: &Challenger<'_>, checks: &[GateCheck]) -> Result<Vec<CheckEvaluation>, Error> {
    if checks.is_empty() {
        return Ok(Vec::new());
    }
    let sample = challenger.sample()?;
    checks.iter().map(|check| challenger.check(check, &sample)).collect()
}

/// Rows at equal distances, whose predictions are repeated with other values of a column.
struct Sample {
    batch: RecordBatch,
    prediction: Prediction,
}

/// What was found: a value within its bounds or not, or why the check does not apply.
struct Found {
    value: f64,
    explanation: String,
}

impl Challenger<'_> {
    fn check(&self, check: &GateCheck, sample: &Sample) -> Result<CheckEvaluation, Error> {
        let (found, bounds) = match check {
            GateCheck::CalibrationError { most } => (self.calibration_error()?, 0.0..=*most),
            GateCheck::Difference { of, column, most } => (self.difference(*of, column)?, 0.0..=*most),
            GateCheck::Monotonic { column, direction } => {
                (self.against(sample, column, *direction)?, 0.0..=MOST_AGAINST)
            }
            GateCheck::Invariant { column, most } => (self.moved(sample, column)?, 0.0..=*most),
            GateCheck::MustPass { most, .. } => (self.not_predicted(check, *most)?, 0.0..=0.0),
            GateCheck::BundleBytes { most } => (Ok(self.size()), 0.0..=*most),
            GateCheck::PredictionSeconds { most } => (self.seconds(sample)?, 0.0..=*most),
        };
        Ok(evaluation(check, found, &bounds))
    }

    fn task(&self) -> Task {
        self.model.manifest().task
    }

    fn calibration_error(&self) -> Result<Result<Found, String>, Error> {
        let (width, scores) = self.prediction.scores();
        let Targets::Classes(classes) = self.targets else { return Ok(Err("it is for classes".to_owned())) };
        let (probabilities, hits): (Vec<f64>, Vec<bool>) = match self.task() {
            Task::Binary => {
                scores.iter().zip(classes).map(|(score, class)| (f64::from(*score), *class == Some(POSITIVE))).unzip()
            }
            // The probability of the predicted class.
            _ => scores
                .chunks_exact(width)
                .zip(classes)
                .filter_map(|(row, class)| {
                    let best = row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
                    Some((f64::from(*best.1), *class == Some(best.0)))
                })
                .unzip(),
        };
        let value = calibration_error(&probabilities, &hits).map_err(|error| Error::Evaluation(error.to_string()))?;
        Ok(Ok(Found { value, explanation: format!("the expected calibration error is {value:.4}") }))
    }

    fn difference(&self, of: GroupMetric, column: &str) -> Result<Result<Found, String>, Error> {
        if of != GroupMetric::Loss && self.task() != Task::Binary {
            return Ok(Err("it is for two classes".to_owned()));
        }
        let mut groups: Vec<(String, f64)> = Vec::new();
        let values = match slices::values(self.rows, column) {
            Err(Error::Evaluation(why)) => return Ok(Err(why)),
            values => values?,
        };
        for (value, members) in values {
            let members = self.counted(of, members);
            if members.len() as u64 >= self.least_rows {
                groups.push((value, self.rate(of, &members)));
            }
        }
        groups.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        let ([(least, low), ..], [.., (most, high)]) = (groups.as_slice(), groups.as_slice()) else {
            return Ok(Err(format!("no group has {} rows", self.least_rows)));
        };
        if groups.len() < 2 {
            return Ok(Err(format!("only one group has {} rows", self.least_rows)));
        }
        let explanation = format!("{low:.4} where {column} is {least}, {high:.4} where it is {most}");
        Ok(Ok(Found { value: high - low, explanation }))
    }

    /// The rows that a metric counts.
    fn counted(&self, of: GroupMetric, mut members: Vec<usize>) -> Vec<usize> {
        if let (GroupMetric::TruePositiveRate, Targets::Classes(classes)) = (of, self.targets) {
            members.retain(|&row| classes[row] == Some(POSITIVE));
        }
        members
    }

    fn rate(&self, of: GroupMetric, members: &[usize]) -> f64 {
        let (_, scores) = self.prediction.scores();
        let value = |&row: &usize| match of {
            GroupMetric::Loss => self.losses[row],
            GroupMetric::PositiveRate | GroupMetric::TruePositiveRate => f64::from(u8::from(scores[row] >= 0.5)),
        };
        mean(&members.iter().map(value).collect::<Vec<f64>>())
    }

    /// The share of the rows whose prediction moves against the direction if the feature grows by its standard deviation.
    fn against(&self, sample: &Sample, column: &str, direction: Direction) -> Result<Result<Found, String>, Error> {
        if self.task() == Task::Multiclass {
            return Ok(Err("it is for two classes or a number".to_owned()));
        }
        let Some(values) = self.feature(sample, column) else { return Ok(Err(no_feature(column))) };
        let Some(greater) = greater(values) else {
            return Ok(Err(format!("{column} is not a number, or has one value")));
        };
        let has_value: Vec<bool> = (0..values.len()).map(|row| values.is_valid(row)).collect();
        let after = self.with(sample, column, greater)?;
        let (before, after) = (scores(&sample.prediction), scores(&after));
        let sign = if direction == Direction::Increasing { 1.0 } else { -1.0 };
        let unit = if self.task() == Task::Regression { std(&before) } else { 1.0 };
        let moves = before.iter().zip(&after).zip(&has_value).filter(|(_, has_value)| **has_value);
        let against = moves.filter(|((before, after), _)| sign * (*after - *before) < -NEGLIGIBLE * unit);
        let value = against.count() as f64 / has_value.iter().filter(|has_value| **has_value).count() as f64;
        let word = if direction == Direction::Increasing { "lowers" } else { "raises" };
        let explanation = format!("a greater {column} {word} {:.1} % of the predictions", 100.0 * value);
        Ok(Ok(Found { value, explanation }))
    }

    /// The mean change of the predictions if the values of the feature are those of other rows.
    fn moved(&self, sample: &Sample, column: &str) -> Result<Result<Found, String>, Error> {
        let Some(values) = self.feature(sample, column) else { return Ok(Err(no_feature(column))) };
        let mut order: Vec<u32> = (0..u32::try_from(values.len()).unwrap_or(u32::MAX)).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
        let others = take(values, &UInt32Array::from(order), None).map_err(unexpected)?;
        let value = disagreement(&sample.prediction, &self.with(sample, column, others)?);
        let explanation = format!("the values of {column} of other rows move the predictions by {value:.4} on average");
        Ok(Ok(Found { value, explanation }))
    }

    /// The number of cases that the challenger does not predict.
    fn not_predicted(&self, check: &GateCheck, most: Option<f64>) -> Result<Result<Found, String>, Error> {
        let Some(cases) = (self.cases)(check)?.filter(|cases| cases.rows() > 0) else {
            return Ok(Err("the dataset has no rows".to_owned()));
        };
        let (prediction, targets) = match (self.model.score(&cases.batch), self.model.targets(&cases.batch)) {
            (Ok(prediction), Ok(targets)) => (prediction, targets),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error.to_string())),
        };
        let is_right: Vec<bool> = match (&targets, prediction.labels(), most) {
            (Targets::Numbers(numbers), _, Some(most)) => {
                let (_, scores) = prediction.scores();
                scores.iter().zip(numbers).map(|(score, number)| (f64::from(*score) - number).abs() <= most).collect()
            }
            (Targets::Numbers(_), ..) => return Ok(Err("numbers need a limit of the error".to_owned())),
            (Targets::Classes(classes), Some(labels), None) => {
                let names = self.model.manifest().classes.as_deref().unwrap_or_default();
                let is_right = |(class, label): (&Option<usize>, &Arc<str>)| {
                    class.and_then(|class| names.get(class)).is_some_and(|name| name.as_str() == &**label)
                };
                classes.iter().zip(labels).map(is_right).collect()
            }
            (Targets::Classes(_), ..) => return Ok(Err("classes have no limit of the error".to_owned())),
        };
        let failed: Vec<usize> = (0..is_right.len()).filter(|&row| !is_right[row]).collect();
        let first: Vec<String> = failed.iter().take(MOST_NAMED).map(usize::to_string).collect();
        let named = if failed.is_empty() { String::new() } else { format!(", first in rows {}", first.join(", ")) };
        let explanation = format!("{} of {} cases are not predicted{named}", failed.len(), is_right.len());
        Ok(Ok(Found { value: failed.len() as f64, explanation }))
    }

    fn size(&self) -> Found {
        Found { value: self.bytes as f64, explanation: format!("its files have {} bytes", self.bytes) }
    }

    /// The 99th percentile of the time of a prediction of one row.
    fn seconds(&self, sample: &Sample) -> Result<Result<Found, String>, Error> {
        let rows = sample.batch.num_rows();
        let mut times = Vec::with_capacity(WARM_UP + TIMED);
        let all = Instant::now();
        for at in 0..WARM_UP + TIMED {
            if all.elapsed() > MOST_TIME && times.len() > WARM_UP {
                break;
            }
            let row = sample.batch.slice(at % rows, 1);
            // The shortest of a few: the thread gives way to others.
            let mut shortest = f64::INFINITY;
            for _ in 0..REPEATED {
                let began = Instant::now();
                self.model.score(&row)?;
                shortest = shortest.min(began.elapsed().as_secs_f64());
            }
            times.push(shortest);
        }
        let mut times = times.split_off(WARM_UP);
        times.sort_by(f64::total_cmp);
        let value = times[(times.len() * 99 / 100).min(times.len() - 1)];
        let explanation = format!(
            "99 of 100 predictions of one row take {value:.6} seconds at most, each the shortest of {REPEATED}"
        );
        Ok(Ok(Found { value, explanation }))
    }

    fn sample(&self) -> Result<Sample, Error> {
        let rows = self.rows.rows();
        let taken = rows.min(MOST_ROWS);
        let positions = (0..taken).map(|at| u32::try_from(at * rows / taken).unwrap_or(u32::MAX));
        let batch = take_record_batch(&self.rows.batch, &positions.collect::<UInt32Array>()).map_err(unexpected)?;
        Ok(Sample { prediction: self.model.score(&batch)?, batch })
    }

    /// The predictions with other values of one column.
    fn with(&self, sample: &Sample, column: &str, values: ArrayRef) -> Result<Prediction, Error> {
        let (schema, mut columns) = (sample.batch.schema(), sample.batch.columns().to_vec());
        let at = schema.index_of(column).map_err(unexpected)?;
        columns[at] = values;
        Ok(self.model.score(&RecordBatch::try_new(schema, columns).map_err(unexpected)?)?)
    }

    /// The values of a feature of the model.
    fn feature<'a>(&self, sample: &'a Sample, column: &str) -> Option<&'a ArrayRef> {
        let is_feature = self.model.signature().inputs.iter().any(|input| input.name == column);
        sample.batch.column_by_name(column).filter(|_| is_feature)
    }
}

fn scores(prediction: &Prediction) -> Vec<f64> {
    prediction.scores().1.iter().copied().map(f64::from).collect()
}

/// A check that does not apply is not passed: what it was declared for is not shown.
fn evaluation(check: &GateCheck, found: Result<Found, String>, bounds: &RangeInclusive<f64>) -> CheckEvaluation {
    let check = check.to_string();
    match found {
        Ok(Found { value, explanation }) => {
            CheckEvaluation { check, value: Some(value), pass: bounds.contains(&value), explanation }
        }
        Err(why) => {
            CheckEvaluation { check, value: None, pass: false, explanation: format!("it does not apply: {why}") }
        }
    }
}

fn no_feature(column: &str) -> String {
    format!("{column} is no feature of the challenger")
}

/// Each number plus the standard deviation of all; `None` for what is no number, or one number alone.
fn greater(values: &ArrayRef) -> Option<ArrayRef> {
    match values.data_type() {
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            let step = std(&values.iter().flatten().filter(|value| value.is_finite()).collect::<Vec<f64>>());
            (step > 0.0).then_some(())?;
            Some(Arc::new(values.iter().map(|value| value.map(|value| value + step)).collect::<Float64Array>()))
        }
        DataType::Int64 => {
            let values = values.as_primitive::<Int64Type>();
            let step = std(&values.iter().flatten().map(|value| value as f64).collect::<Vec<f64>>());
            (step > 0.0).then_some(())?;
            let step = step.round().max(1.0) as i64;
            let greater = values.iter().map(|value| value.map(|value| value.saturating_add(step)));
            Some(Arc::new(greater.collect::<Int64Array>()))
        }
        _ => None,
    }
}

fn unexpected(error: arrow::error::ArrowError) -> Error {
    Error::Evaluation(error.to_string())
}
