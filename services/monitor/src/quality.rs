//! The quality of a window's predictions against their labels.

mod metrics;
mod selection;

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float32Type,
};
use rekindle_bundle::{Manifest, manifest::ReferenceLoss, prediction::PROBABILITY_MARGIN, target::Targets};
use rekindle_domain::{
    Task, WatchSettings,
    outcome::Label,
    report::{MAX_NEW_CLASSES, Quality, Verdict},
};
use rekindle_statistics::{
    paired::{BATCHES, batch_means},
    quality,
    rise::{Reference, rise},
};

use self::metrics::{Measured, without};
use crate::{
    Error,
    chunk::columns::{self, OUTPUT},
    estimate,
    report::finite,
};

/// Labels with a greater squared error are invalid: the variance of such errors exceeds the range of a double.
const MAX_SQUARED_ERROR: f64 = 1e100;

/// Losses and metrics of the rows with a valid label.
struct Scored {
    losses: Vec<f64>,
    measured: Measured,
    /// Labels that are no number for a regression, or a fraction that is no class.
    invalid: u64,
    /// Rows of each new class.
    new_classes: BTreeMap<String, u64>,
}

/// Evaluates the predictions in `batch`, in order of event time, against `labels`, one per row.
///
/// Degraded means that the mean loss rose by more than the margin, relative to the reference, at the confidence level
/// 1 - (the window's share of the false-alarm budget). With fewer than `min_rows` valid labels the verdict is inconclusive.
pub(crate) fn evaluate<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
    settings: &WatchSettings,
) -> Result<Quality, Error> {
    let labels: Vec<Option<&Label>> = labels.collect();
    let is_labelled: Vec<bool> = labels.iter().map(Option::is_some).collect();
    let selection = selection::statement(|| estimate::scores(manifest.task, batch), &is_labelled, settings)?;
    let labels = labels.into_iter();
    let scored = match manifest.task {
        Task::Binary => binary(manifest, batch, labels)?,
        Task::Multiclass => multiclass(manifest, batch, labels)?,
        Task::Regression => regression(batch, labels)?,
    };
    let of_rows = &manifest.reference;
    let reference = Reference { mean: of_rows.loss_mean, std: of_rows.loss_std, rows: of_rows.rows };
    let labelled = scored.losses.len() as u64;
    let mut quality = Quality {
        verdict: Verdict::Inconclusive,
        rows: batch.num_rows() as u64,
        labelled_rows: labelled,
        invalid_outcomes: scored.invalid,
        new_classes: scored.new_classes,
        metrics: scored.measured.metrics,
        intervals: scored.measured.intervals,
        reference_metrics: manifest.metrics.clone(),
        loss: mean(&scored.losses),
        reference_loss: finite(reference.mean, 0.0),
        rise_lower_bound: 0.0,
        selection: selection.unwrap_or_default(),
    };
    if labelled >= settings.min_rows && labelled >= 2 && reference.rows >= 2 {
        let confidence = 1.0 - settings.false_alarm_rate / f64::from(WatchSettings::WINDOWS);
        let found = match of_rows.batch_std.filter(|_| scored.losses.len() >= ReferenceLoss::LEAST_ROWS_IN_BATCHES) {
            // Neighbouring rows depend on each other, on both sides.
            Some(std) => {
                rise(&batch_means(&scored.losses)?, &Reference { std, rows: BATCHES as u64, ..reference }, confidence)?
            }
            None => rise(&scored.losses, &reference, confidence)?,
        };
        let degraded = found.lower_bound > settings.degradation_margin * reference.mean.abs();
        quality.verdict = if degraded { Verdict::Drifted } else { Verdict::Stable };
        quality.rise_lower_bound = finite(found.lower_bound, 0.0);
    }
    Ok(quality)
}

fn mean(losses: &[f64]) -> f64 {
    if losses.is_empty() { 0.0 } else { finite(losses.iter().sum::<f64>() / losses.len() as f64, 0.0) }
}

fn output<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, Error> {
    columns::column(batch, &format!("{OUTPUT}{name}"))
}

/// An output of one number per row.
pub(crate) fn scalar(batch: &RecordBatch, name: &str) -> Result<Vec<Option<f64>>, Error> {
    columns::numbers(output(batch, name)?)
        .ok_or_else(|| Error::Column { column: format!("{OUTPUT}{name}"), expected: "numbers" })
}

/// Outputs that are no probability, such as NaN, are ignored like missing ones.
fn is_probability(output: &f64) -> bool {
    (0.0..=1.0).contains(output)
}

/// Why a label is no value of the target; `None` if it is one, or a new class.
pub(crate) fn invalid_label(manifest: &Manifest, label: &Label) -> Option<String> {
    let given = || match label {
        Label::Class(class) => format!("{class:?}"),
        Label::Number(number) => number.to_string(),
    };
    let Some(classes) = manifest.classes.as_deref() else {
        let is_number = Targets::from_labels([as_target(label)], None).is_ok();
        return (!is_number).then(|| format!("is {}: expected a number, since the model is a regression", given()));
    };
    let known = Targets::from_labels([as_target(label)], Some(classes));
    let is_class = matches!(known, Ok(Targets::Classes(classes)) if classes.iter().any(Option::is_some));
    let is_valid = is_class || as_target(label).class().is_some();
    (!is_valid).then(|| format!("is {}: expected a class, since the model is a classifier", given()))
}

/// The label as the bundle's target encoding takes it.
pub(crate) fn as_target(label: &Label) -> rekindle_bundle::Label<'_> {
    match label {
        Label::Class(class) => rekindle_bundle::Label::Class(class),
        Label::Number(number) => rekindle_bundle::Label::Number(*number),
    }
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
        let losses: Vec<f64> = by_row.into_iter().map(|(_, loss)| loss).collect();
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
        Scored { losses, measured, invalid: self.invalid, new_classes }
    }
}

fn binary<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
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
    let measured = Measured::of(losses.len(), |left_out| {
        metrics::binary(&without(&probabilities, 1, &left_out), &without(&positive, 1, &left_out))
    })?;
    Ok(classes.scored(rows, losses, measured))
}

fn multiclass<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
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
    let measured = Measured::of(losses.len(), |left_out| {
        let probabilities = without(&probabilities, width, &left_out);
        metrics::multiclass(&probabilities, names, &without(&actual, 1, &left_out))
    })?;
    Ok(classes.scored(rows, losses, measured))
}

fn regression<'a>(batch: &RecordBatch, labels: impl Iterator<Item = Option<&'a Label>>) -> Result<Scored, Error> {
    let outputs = scalar(batch, "prediction")?;
    let (mut predictions, mut numbers, mut losses, mut invalid) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (output, label) in outputs.into_iter().zip(labels) {
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
                losses.push(loss);
            }
            (_, None, Some(_)) => {}
            _ => invalid += 1,
        }
    }
    let new_classes = BTreeMap::new();
    if numbers.is_empty() {
        return Ok(Scored { losses: Vec::new(), measured: Measured::default(), invalid, new_classes });
    }
    let measured = Measured::of(losses.len(), |left_out| {
        metrics::regression(&without(&predictions, 1, &left_out), &without(&numbers, 1, &left_out))
    })?;
    Ok(Scored { losses, measured, invalid, new_classes })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, FixedSizeListArray, Float32Array},
        datatypes::{DataType, Field},
    };
    use rekindle_bundle::{
        Signature,
        manifest::{Provenance, ReferenceLoss},
    };
    use rekindle_domain::{Architecture, Recipe};

    use super::*;

    pub(crate) fn manifest(task: Task, classes: Option<&[&str]>, loss_mean: f64) -> Manifest {
        let recipe = Recipe::for_target("y");
        Manifest {
            format_version: 1,
            backend: rekindle_bundle::Backend::Network,
            task,
            classes: classes.map(|classes| classes.iter().map(|&class| class.to_owned()).collect()),
            target: "y".to_owned(),
            architecture: Some(Architecture::Linear),
            onnx: None,
            signature: Signature { inputs: Vec::new(), outputs: Vec::new(), time_input: None },
            blobs: BTreeMap::new(),
            metrics: BTreeMap::from([("reference".to_owned(), 1.0)]),
            reference: ReferenceLoss { loss_mean, loss_std: 0.1, rows: 1000, batch_std: None },
            provenance: Provenance {
                run_id: String::new(),
                dataset_digests: Vec::new(),
                code_revision: String::new(),
                seed: recipe.seed,
                toolchain: String::new(),
                trained_until: None,
                recipe: Some(Box::new(recipe)),
            },
        }
    }

    fn batch(output: &str, values: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([(format!("{OUTPUT}{output}"), values)]).expect("one column")
    }

    fn probabilities(rows: &[[f32; 3]]) -> RecordBatch {
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let values = Arc::new(Float32Array::from(rows.concat()));
        batch(
            "probabilities",
            Arc::new(FixedSizeListArray::try_new(item, 3, values, None).expect("three values per row")),
        )
    }

    fn numbers(output: &str, values: &[f32]) -> RecordBatch {
        batch(output, Arc::new(Float32Array::from(values.to_vec())))
    }

    fn label(class: &str) -> Option<Label> {
        Some(Label::Class(class.to_owned()))
    }

    fn evaluated(manifest: &Manifest, batch: &RecordBatch, labels: &[Option<Label>], min_rows: u64) -> Quality {
        let settings = WatchSettings { min_rows, ..WatchSettings::default() };
        evaluate(manifest, batch, labels.iter().map(Option::as_ref), &settings).expect("columns of the task")
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }

    #[test]
    fn a_new_class_has_the_maximum_loss_and_is_counted_by_name() {
        let manifest = manifest(Task::Multiclass, Some(&["a", "b", "c"]), 0.5);
        let rows = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [f32::NAN; 3]];
        let labels = [label("a"), label("c"), None, label("d"), label("a")];
        let quality = evaluated(&manifest, &probabilities(&rows), &labels, 2);
        assert_eq!((quality.labelled_rows, quality.invalid_outcomes), (3, 0));
        assert_eq!(quality.new_classes, BTreeMap::from([("d".to_owned(), 1)]));
        near(quality.metrics["log_loss"], (0.5f64.ln() + 0.25f64.ln() + PROBABILITY_MARGIN.ln()) / -3.0);
        near(quality.metrics["accuracy"], 1.0 / 3.0);
        near(quality.loss, quality.metrics["log_loss"]);
        assert_eq!(quality.reference_metrics["reference"], 1.0);
    }

    #[test]
    fn a_third_of_the_outcomes_of_a_new_class_is_a_degradation() {
        let manifest = manifest(Task::Binary, Some(&["no", "yes"]), 0.1);
        let batch = numbers("probability", &[0.05; 300]);
        let labels =
            |new: usize| (0..300).map(|row| label(if row < new { "perhaps" } else { "no" })).collect::<Vec<_>>();
        let quality = evaluated(&manifest, &batch, &labels(100), 200);
        assert_eq!((quality.verdict, quality.new_classes["perhaps"]), (Verdict::Drifted, 100));
        let quality = evaluated(&manifest, &batch, &labels(0), 200);
        assert_eq!((quality.verdict, quality.new_classes.len()), (Verdict::Stable, 0));
        // A fraction that is no class is an error of the reporter.
        let quality = evaluated(&manifest, &batch, &vec![Some(Label::Number(0.5)); 300], 200);
        assert_eq!((quality.labelled_rows, quality.invalid_outcomes), (0, 300));
        let quality = evaluated(&manifest, &batch, &vec![Some(Label::Number(2.0)); 300], 200);
        assert_eq!((quality.new_classes["2"], quality.invalid_outcomes), (300, 0));
    }

    #[test]
    fn a_few_bad_hours_are_no_degradation_where_neighbouring_rows_depend_on_each_other() {
        let of_rows = manifest(Task::Regression, None, 1.0);
        let mut in_order = of_rows.clone();
        in_order.reference.batch_std = Some(0.1);
        // One stretch of forty rows has a squared error of 9, every other row one of 1: a mean of 1.8.
        let outputs: Vec<f32> = (0..400).map(|row| if (100..140).contains(&row) { 3.0 } else { 1.0 }).collect();
        let labels: Vec<_> = (0..400).map(|_| Some(Label::Number(0.0))).collect();
        let verdict = |manifest: &Manifest, outputs: &[f32]| {
            evaluated(manifest, &numbers("prediction", outputs), &labels, 200).verdict
        };
        assert_eq!(verdict(&of_rows, &outputs), Verdict::Drifted, "as independent rows");
        assert_eq!(verdict(&in_order, &outputs), Verdict::Stable, "as batches");
        assert_eq!(verdict(&in_order, &[1.5; 400]), Verdict::Drifted, "all batches are worse");
        // The same errors in turns are no event of one time.
        let spread: Vec<f32> = (0..400).map(|row| if row % 10 == 0 { 3.0 } else { 1.0 }).collect();
        assert_eq!(verdict(&in_order, &spread), Verdict::Drifted);
    }

    #[test]
    fn a_mismatch_in_the_number_of_classes_is_an_error() {
        let manifest = manifest(Task::Multiclass, Some(&["a", "b"]), 0.5);
        let labels = [label("a")];
        let evaluated = evaluate(
            &manifest,
            &probabilities(&[[1.0, 0.0, 0.0]]),
            labels.iter().map(Option::as_ref),
            &WatchSettings::default(),
        );
        assert!(matches!(evaluated, Err(Error::Column { .. })));
    }

    #[test]
    fn the_loss_of_a_regression_is_its_squared_error() {
        let manifest = manifest(Task::Regression, None, 1.0);
        // A text and a number out of range are invalid labels; a label is not invalid because its prediction is NaN.
        let labels = [
            Some(Label::Number(2.0)),
            label("4"),
            label("four"),
            Some(Label::Number(-1e300)),
            Some(Label::Number(3.0)),
            None,
        ];
        let quality = evaluated(&manifest, &numbers("prediction", &[1.0, 6.0, 0.0, 0.0, f32::NAN, 0.0]), &labels, 2);
        assert_eq!((quality.labelled_rows, quality.invalid_outcomes), (2, 2));
        near(quality.metrics["mae"], 1.5);
        near(quality.metrics["rmse"], 2.5f64.sqrt());
        near(quality.metrics["r2"], -1.5);
        near(quality.loss, 2.5);
    }

    #[test]
    fn only_a_loss_far_above_the_reference_is_degraded() {
        let manifest = manifest(Task::Regression, None, 1.0);
        let labels: Vec<_> = (0..300).map(|_| Some(Label::Number(0.0))).collect();
        let outputs = |size: f32| (0u8..150).flat_map(|_| [size, -size * 1.01]).collect::<Vec<_>>();
        let verdict = |size| evaluated(&manifest, &numbers("prediction", &outputs(size)), &labels, 200).verdict;
        assert_eq!(verdict(1.0), Verdict::Stable);
        assert_eq!(verdict(1.2), Verdict::Drifted);
    }

    /// The mean loss is 1.26 with a standard deviation of 1, which exceeds the margin by 2.25 standard errors: enough for the level
    /// 0.5 / 30, and not enough for 0.05 / 30.
    #[test]
    fn thirty_windows_share_the_false_alarm_budget() {
        let manifest = manifest(Task::Regression, None, 1.0);
        let labels: Vec<_> = (0..200).map(|_| Some(Label::Number(0.0))).collect();
        let outputs: Vec<f32> = (0..100).flat_map(|_| [0.26f32.sqrt(), 2.26f32.sqrt()]).collect();
        let verdict = |false_alarm_rate| {
            let settings = WatchSettings { min_rows: 2, false_alarm_rate, ..WatchSettings::default() };
            let outputs = numbers("prediction", &outputs);
            evaluate(&manifest, &outputs, labels.iter().map(Option::as_ref), &settings)
                .expect("one number per row")
                .verdict
        };
        assert_eq!((verdict(0.05), verdict(0.5)), (Verdict::Stable, Verdict::Drifted));
    }

    #[test]
    fn too_few_labels_have_metrics_and_an_inconclusive_verdict() {
        let manifest = manifest(Task::Binary, Some(&["no", "yes"]), 0.1);
        let batch = numbers("probability", &[0.9, 0.1]);
        let quality = evaluated(&manifest, &batch, &[label("no"), label("yes")], 3);
        assert_eq!((quality.verdict, quality.labelled_rows), (Verdict::Inconclusive, 2));
        near(quality.metrics["accuracy"], 0.0);
        assert_eq!(evaluated(&manifest, &batch, &[None, None], 0).metrics, BTreeMap::new());
    }
}
