//! Losses and metrics of the labelled rows, by task.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float32Type,
};
use rekindle_bundle::{Manifest, prediction::PROBABILITY_MARGIN, target::Targets};
use rekindle_domain::{Task, outcome::Label, report::MAX_NEW_CLASSES};
use rekindle_statistics::quality;

use super::{
    as_target, mean,
    metrics::{self, Intervals, Measured, without},
    output, scalar,
};
use crate::{Error, chunk::columns::OUTPUT};

/// Labels with a greater squared error are invalid: the variance of such errors exceeds the range of a double.
const MAX_SQUARED_ERROR: f64 = 1e100;

/// Losses and metrics of the rows with a valid label.
pub(super) struct Scored {
    /// The rows, in ascending order.
    pub(super) rows: Vec<usize>,
    /// The loss of each.
    pub(super) losses: Vec<f64>,
    pub(super) measured: Measured,
    /// Labels that are no number for a regression, or a fraction that is no class.
    pub(super) invalid: u64,
    /// Rows of each new class.
    pub(super) new_classes: BTreeMap<String, u64>,
}

impl Scored {
    /// Scores the predictions in `batch` against `labels`, one per row.
    pub(super) fn of<'a>(
        manifest: &Manifest,
        batch: &RecordBatch,
        labels: impl Iterator<Item = Option<&'a Label>>,
        intervals: Intervals,
    ) -> Result<Self, Error> {
        match manifest.task {
            Task::Binary => binary(manifest, batch, labels, intervals),
            Task::Multiclass => multiclass(manifest, batch, labels, intervals),
            Task::Regression => regression(batch, labels, intervals),
        }
    }
}

/// Outputs that are no probability, such as NaN, are ignored like missing ones.
fn is_probability(output: &f64) -> bool {
    (0.0..=1.0).contains(output)
}

/// The labels of classes.
#[derive(Default)]
struct Classes {
    /// Row indices and classes of the labels that are a class of the model.
    known: Vec<(usize, usize)>,
    /// Rows of each class that the model does not know.
    new: BTreeMap<String, u64>,
    /// Row indices of these classes.
    new_rows: Vec<usize>,
    /// Labels that are a fraction, and no class.
    invalid: u64,
}

impl Classes {
    fn of<'a>(manifest: &Manifest, labels: impl Iterator<Item = Option<&'a Label>>) -> Result<Self, Error> {
        let labelled: Vec<(usize, &Label)> =
            labels.enumerate().filter_map(|(index, label)| label.map(|label| (index, label))).collect();
        let names = manifest.classes.as_deref().unwrap_or_default();
        let targets = Targets::from_labels(labelled.iter().map(|(_, label)| as_target(label)), Some(names))?;
        let mut found = Self::default();
        let Targets::Classes(classes) = targets else { return Ok(found) };
        for ((index, label), class) in labelled.into_iter().zip(classes) {
            match (class, as_target(label).class()) {
                (Some(class), _) => found.known.push((index, class)),
                (None, Some(new)) => {
                    *found.new.entry(new.into_owned()).or_default() += 1;
                    found.new_rows.push(index);
                }
                (None, None) => found.invalid += 1,
            }
        }
        Ok(found)
    }

    /// The score of all labels, from the losses of `rows`, whose classes are known, and their metrics. A row of a new class has the maximum
    /// loss, as in the evaluation of a challenger, and is inaccurate.
    fn scored(self, rows: Vec<usize>, losses: Vec<f64>, mut measured: Measured) -> Scored {
        let known = losses.len();
        let of_new = self.new_rows.iter().map(|&row| (row, -PROBABILITY_MARGIN.ln()));
        let mut by_row: Vec<(usize, f64)> = rows.into_iter().zip(losses).chain(of_new).collect();
        by_row.sort_unstable_by_key(|(row, _)| *row);
        let (rows, losses): (Vec<usize>, Vec<f64>) = by_row.into_iter().unzip();
        if !self.new.is_empty() {
            measured.metrics.insert("log_loss".to_owned(), mean(&losses));
            let accuracy = measured.metrics.entry("accuracy".to_owned()).or_default();
            *accuracy *= known as f64 / losses.len() as f64;
            // The intervals are those of the known classes.
            measured.intervals.retain(|name, _| !["log_loss", "accuracy"].contains(&name.as_str()));
        }
        let mut by_rows: Vec<(String, u64)> = self.new.into_iter().collect();
        by_rows.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        let new_classes = by_rows.into_iter().take(MAX_NEW_CLASSES).collect();
        Scored { rows, losses, measured, invalid: self.invalid, new_classes }
    }
}

fn binary<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
    intervals: Intervals,
) -> Result<Scored, Error> {
    let classes = Classes::of(manifest, labels)?;
    let outputs = scalar(batch, "probability")?;
    let (mut rows, mut probabilities, mut positive) = (Vec::new(), Vec::new(), Vec::new());
    for &(index, class) in &classes.known {
        if let Some(probability) = outputs[index].filter(is_probability) {
            rows.push(index);
            probabilities.push(probability);
            positive.push(class == 1);
        }
    }
    if probabilities.is_empty() {
        return Ok(classes.scored(Vec::new(), Vec::new(), Measured::default()));
    }
    let losses = quality::log_loss_rows(&probabilities, &positive)?;
    let measured = Measured::of(losses.len(), intervals, |left_out| {
        metrics::binary(&without(&probabilities, 1, &left_out), &without(&positive, 1, &left_out))
    })?;
    Ok(classes.scored(rows, losses, measured))
}

fn multiclass<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
    intervals: Intervals,
) -> Result<Scored, Error> {
    let width = manifest.classes.as_ref().map_or(0, Vec::len);
    let classes = Classes::of(manifest, labels)?;
    let wrong = || Error::Column { column: format!("{OUTPUT}probabilities"), expected: "one number per class" };
    let lists = output(batch, "probabilities")?.as_fixed_size_list_opt().ok_or_else(wrong)?;
    let values = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
    if usize::try_from(lists.value_length()).ok() != Some(width) {
        return Err(wrong());
    }
    let (mut rows, mut probabilities, mut actual) = (Vec::new(), Vec::new(), Vec::new());
    for &(index, class) in classes.known.iter().filter(|&&(index, _)| lists.is_valid(index)) {
        let row = values.values()[index * width..(index + 1) * width].iter().copied().map(f64::from);
        if row.clone().all(|probability| is_probability(&probability)) {
            rows.push(index);
            probabilities.extend(row);
            actual.push(class);
        }
    }
    if actual.is_empty() {
        return Ok(classes.scored(Vec::new(), Vec::new(), Measured::default()));
    }
    let losses = quality::multiclass_log_loss_rows(&probabilities, width, &actual)?;
    let names = manifest.classes.as_deref().unwrap_or_default();
    let measured = Measured::of(losses.len(), intervals, |left_out| {
        let probabilities = without(&probabilities, width, &left_out);
        metrics::multiclass(&probabilities, names, &without(&actual, 1, &left_out))
    })?;
    Ok(classes.scored(rows, losses, measured))
}

fn regression<'a>(
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
    intervals: Intervals,
) -> Result<Scored, Error> {
    let outputs = scalar(batch, "prediction")?;
    let (mut predictions, mut numbers, mut invalid) = (Vec::new(), Vec::new(), 0);
    let (mut rows, mut losses) = (Vec::new(), Vec::new());
    for (row, (output, label)) in outputs.into_iter().zip(labels).enumerate() {
        let Some(label) = label else { continue };
        let number = match Targets::from_labels([as_target(label)], None) {
            Ok(Targets::Numbers(numbers)) => numbers.first().copied(),
            _ => None,
        };
        let output = output.filter(|output| output.is_finite());
        let loss = number.map(|number| output.map_or(0.0, |output| (output - number).powi(2)));
        match (number, output, loss.filter(|&loss| loss <= MAX_SQUARED_ERROR)) {
            (Some(number), Some(output), Some(loss)) => {
                predictions.push(output);
                numbers.push(number);
                rows.push(row);
                losses.push(loss);
            }
            (_, None, Some(_)) => {}
            _ => invalid += 1,
        }
    }
    let new_classes = BTreeMap::new();
    if numbers.is_empty() {
        return Ok(Scored { rows, losses, measured: Measured::default(), invalid, new_classes });
    }
    let measured = Measured::of(losses.len(), intervals, |left_out| {
        metrics::regression(&without(&predictions, 1, &left_out), &without(&numbers, 1, &left_out))
    })?;
    Ok(Scored { rows, losses, measured, invalid, new_classes })
}
