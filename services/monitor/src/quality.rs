//! The quality of a window's predictions against their labels.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float32Type,
};
use rekindle_bundle::{Manifest, target::Targets};
use rekindle_domain::{
    Task, WatchSettings,
    outcome::Label,
    report::{Quality, Verdict},
};
use rekindle_statistics::{
    quality,
    rise::{Reference, rise},
};

use crate::{
    Error,
    chunk::columns::{self, OUTPUT},
    report::finite,
};

/// Labels with a greater squared error are invalid: the variance of such errors exceeds the range of a double.
const MAX_SQUARED_ERROR: f64 = 1e100;

/// Losses and metrics of the rows with a valid label.
struct Scored {
    losses: Vec<f64>,
    metrics: BTreeMap<String, f64>,
    /// Labels that are no class of the model, or no number.
    invalid: u64,
}

/// Evaluates the predictions in `batch` against `labels`, one per row.
///
/// Degraded means that the mean loss rose by more than the margin, relative to the reference, at the confidence level
/// 1 - (the window's share of the false-alarm budget). With fewer than `min_rows` valid labels the verdict is inconclusive.
pub(crate) fn evaluate<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
    settings: &WatchSettings,
) -> Result<Quality, Error> {
    let scored = match manifest.task {
        Task::Binary => binary(manifest, batch, labels)?,
        Task::Multiclass => multiclass(manifest, batch, labels)?,
        Task::Regression => regression(batch, labels)?,
    };
    let reference = Reference {
        mean: manifest.reference.loss_mean,
        std: manifest.reference.loss_std,
        rows: manifest.reference.rows,
    };
    let labelled = scored.losses.len() as u64;
    let mut quality = Quality {
        verdict: Verdict::Inconclusive,
        labelled_rows: labelled,
        invalid_outcomes: scored.invalid,
        metrics: scored.metrics,
        reference_metrics: manifest.metrics.clone(),
        loss: mean(&scored.losses),
        reference_loss: finite(reference.mean, 0.0),
        rise_lower_bound: 0.0,
    };
    if labelled >= settings.min_rows && labelled >= 2 && reference.rows >= 2 {
        let found =
            rise(&scored.losses, &reference, 1.0 - settings.false_alarm_rate / f64::from(WatchSettings::WINDOWS))?;
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

/// The label as the bundle's target encoding takes it.
pub(crate) fn as_target(label: &Label) -> rekindle_bundle::Label<'_> {
    match label {
        Label::Class(class) => rekindle_bundle::Label::Class(class),
        Label::Number(number) => rekindle_bundle::Label::Number(*number),
    }
}

/// Row indices and classes of the labels that are a class of the model, and the number of labels that are not.
fn classes<'a>(
    manifest: &Manifest,
    labels: impl Iterator<Item = Option<&'a Label>>,
) -> Result<(Vec<(usize, usize)>, u64), Error> {
    let labelled: Vec<(usize, &Label)> =
        labels.enumerate().filter_map(|(index, label)| label.map(|label| (index, label))).collect();
    let names = manifest.classes.as_deref().unwrap_or_default();
    let targets = Targets::from_labels(labelled.iter().map(|(_, label)| as_target(label)), Some(names))?;
    let Targets::Classes(classes) = targets else { return Ok((Vec::new(), labelled.len() as u64)) };
    let invalid = classes.iter().filter(|class| class.is_none()).count() as u64;
    let known = labelled.iter().zip(classes).filter_map(|((index, _), class)| class.map(|class| (*index, class)));
    Ok((known.collect(), invalid))
}

fn binary<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
) -> Result<Scored, Error> {
    let (known, invalid) = classes(manifest, labels)?;
    let outputs = scalar(batch, "probability")?;
    let (mut probabilities, mut positive) = (Vec::new(), Vec::new());
    for (index, class) in known {
        if let Some(probability) = outputs[index].filter(is_probability) {
            probabilities.push(probability);
            positive.push(class == 1);
        }
    }
    let mut metrics = BTreeMap::new();
    if probabilities.is_empty() {
        return Ok(Scored { losses: Vec::new(), metrics, invalid });
    }
    let losses = quality::log_loss_rows(&probabilities, &positive)?;
    metrics.insert("log_loss".to_owned(), mean(&losses));
    metrics.insert("accuracy".to_owned(), quality::accuracy(&probabilities, &positive)?);
    metrics.insert("brier".to_owned(), quality::brier(&probabilities, &positive)?);
    metrics.extend(quality::auc(&probabilities, &positive)?.map(|auc| ("auc".to_owned(), auc)));
    Ok(Scored { losses, metrics, invalid })
}

fn multiclass<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: impl Iterator<Item = Option<&'a Label>>,
) -> Result<Scored, Error> {
    let width = manifest.classes.as_ref().map_or(0, Vec::len);
    let (known, invalid) = classes(manifest, labels)?;
    let wrong = || Error::Column { column: format!("{OUTPUT}probabilities"), expected: "one number per class" };
    let lists = output(batch, "probabilities")?.as_fixed_size_list_opt().ok_or_else(wrong)?;
    let values = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
    if usize::try_from(lists.value_length()).ok() != Some(width) {
        return Err(wrong());
    }
    let (mut probabilities, mut actual) = (Vec::new(), Vec::new());
    for (index, class) in known.into_iter().filter(|&(index, _)| lists.is_valid(index)) {
        let row = values.values()[index * width..(index + 1) * width].iter().copied().map(f64::from);
        if row.clone().all(|probability| is_probability(&probability)) {
            probabilities.extend(row);
            actual.push(class);
        }
    }
    let mut metrics = BTreeMap::new();
    if actual.is_empty() {
        return Ok(Scored { losses: Vec::new(), metrics, invalid });
    }
    let losses = quality::multiclass_log_loss_rows(&probabilities, width, &actual)?;
    metrics.insert("log_loss".to_owned(), mean(&losses));
    metrics.insert("accuracy".to_owned(), quality::multiclass_accuracy(&probabilities, width, &actual)?);
    Ok(Scored { losses, metrics, invalid })
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
    let mut metrics = BTreeMap::new();
    if numbers.is_empty() {
        return Ok(Scored { losses: Vec::new(), metrics, invalid });
    }
    metrics.insert("mae".to_owned(), finite(quality::mae(&predictions, &numbers)?, 0.0));
    metrics.insert("rmse".to_owned(), finite(quality::rmse(&predictions, &numbers)?, 0.0));
    metrics.extend(quality::r2(&predictions, &numbers)?.map(|r2| ("r2".to_owned(), finite(r2, 0.0))));
    Ok(Scored { losses, metrics, invalid })
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
            architecture: Architecture::Linear,
            signature: Signature { inputs: Vec::new(), outputs: Vec::new(), time_input: None },
            blobs: BTreeMap::new(),
            metrics: BTreeMap::from([("reference".to_owned(), 1.0)]),
            reference: ReferenceLoss { loss_mean, loss_std: 0.1, rows: 1000 },
            provenance: Provenance {
                run_id: String::new(),
                dataset_digests: Vec::new(),
                code_revision: String::new(),
                seed: recipe.seed,
                toolchain: String::new(),
                trained_until: None,
                recipe,
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
    fn multiclass_metrics_cover_the_rows_with_a_known_class() {
        let manifest = manifest(Task::Multiclass, Some(&["a", "b", "c"]), 0.5);
        let rows = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [f32::NAN; 3]];
        let labels = [label("a"), label("c"), None, label("d"), label("a")];
        let quality = evaluated(&manifest, &probabilities(&rows), &labels, 2);
        assert_eq!((quality.labelled_rows, quality.invalid_outcomes), (2, 1));
        near(quality.metrics["log_loss"], (0.5f64.ln() + 0.25f64.ln()) / -2.0);
        near(quality.metrics["accuracy"], 0.5);
        near(quality.loss, quality.metrics["log_loss"]);
        assert_eq!(quality.reference_metrics["reference"], 1.0);
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
