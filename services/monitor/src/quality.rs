//! How good the answers of a window were, once their truth is known.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float32Type,
};
use rekindle_domain::Task;
use rekindle_model::{Manifest, target::Targets};
use rekindle_statistics::{
    quality,
    rise::{Reference, rise},
};

use crate::{
    Error,
    outcome::Truth,
    report::{Quality, Verdict, finite},
    segment::{self, OUTPUT},
    watch::Settings,
};

/// Answers and truths of the rows that have a usable truth.
struct Scored {
    losses: Vec<f64>,
    metrics: BTreeMap<String, f64>,
    /// Truths that are no class of the model, or no number.
    invalid: u64,
}

/// Judges the answers in `batch` by `truths`, one per row.
///
/// Degraded means that the mean loss rose by more than the margin, relative to the reference, with confidence
/// `1 - false_alarm_rate`. Fewer than `min_rows` usable truths cannot tell.
pub(crate) fn judge<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    truths: impl Iterator<Item = Option<&'a Truth>>,
    settings: &Settings,
) -> Result<Quality, Error> {
    let scored = match manifest.task {
        Task::Binary => binary(manifest, batch, truths)?,
        Task::Multiclass => multiclass(manifest, batch, truths)?,
        Task::Regression => regression(batch, truths)?,
    };
    let reference = Reference {
        mean: manifest.reference.loss_mean,
        std: manifest.reference.loss_std,
        rows: manifest.reference.rows,
    };
    let labelled = scored.losses.len() as u64;
    let mut quality = Quality {
        verdict: Verdict::Unknown,
        labelled_rows: labelled,
        invalid_outcomes: scored.invalid,
        metrics: scored.metrics,
        reference_metrics: manifest.metrics.clone(),
        loss: mean(&scored.losses),
        reference_loss: finite(reference.mean, 0.0),
        rise_lower_bound: 0.0,
    };
    if labelled >= settings.min_rows && labelled >= 2 && reference.rows >= 2 {
        let found = rise(&scored.losses, &reference, 1.0 - settings.false_alarm_rate)?;
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
    segment::column(batch, &format!("{OUTPUT}{name}"))
}

/// The numbers that an answer of one number per row holds.
pub(crate) fn scalar(batch: &RecordBatch, name: &str) -> Result<Vec<Option<f64>>, Error> {
    segment::numbers(output(batch, name)?)
        .ok_or_else(|| Error::Column { column: format!("{OUTPUT}{name}"), expected: "numbers" })
}

fn wire(truth: &Truth) -> rekindle_model::Truth<'_> {
    match truth {
        Truth::Label(label) => rekindle_model::Truth::Label(label),
        Truth::Number(number) => rekindle_model::Truth::Number(*number),
    }
}

/// Places of the rows with a known class, the classes, and how many truths were none.
fn classes<'a>(
    manifest: &Manifest,
    truths: impl Iterator<Item = Option<&'a Truth>>,
) -> Result<(Vec<(usize, usize)>, u64), Error> {
    let told: Vec<(usize, &Truth)> =
        truths.enumerate().filter_map(|(place, truth)| truth.map(|truth| (place, truth))).collect();
    let names = manifest.classes.as_deref().unwrap_or_default();
    let targets = Targets::from_truths(told.iter().map(|(_, truth)| wire(truth)), Some(names))?;
    let Targets::Classes(classes) = targets else { return Ok((Vec::new(), told.len() as u64)) };
    let invalid = classes.iter().filter(|class| class.is_none()).count() as u64;
    let known = told.iter().zip(classes).filter_map(|((place, _), class)| class.map(|class| (*place, class)));
    Ok((known.collect(), invalid))
}

fn binary<'a>(
    manifest: &Manifest,
    batch: &RecordBatch,
    truths: impl Iterator<Item = Option<&'a Truth>>,
) -> Result<Scored, Error> {
    let (known, invalid) = classes(manifest, truths)?;
    let answers = scalar(batch, "probability")?;
    let (mut probabilities, mut positive) = (Vec::new(), Vec::new());
    for (place, class) in known {
        if let Some(probability) = answers[place].filter(|p| p.is_finite()) {
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
    truths: impl Iterator<Item = Option<&'a Truth>>,
) -> Result<Scored, Error> {
    let width = manifest.classes.as_ref().map_or(0, Vec::len);
    let (known, invalid) = classes(manifest, truths)?;
    let wrong = || Error::Column { column: format!("{OUTPUT}probabilities"), expected: "one number per class" };
    let lists = output(batch, "probabilities")?.as_fixed_size_list_opt().ok_or_else(wrong)?;
    let values = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
    if usize::try_from(lists.value_length()).ok() != Some(width) {
        return Err(wrong());
    }
    let (mut probabilities, mut truth) = (Vec::new(), Vec::new());
    for (place, class) in known.into_iter().filter(|&(place, _)| lists.is_valid(place)) {
        let begin = place * width;
        probabilities.extend((begin..begin + width).map(|at| f64::from(values.value(at))));
        truth.push(class);
    }
    let mut metrics = BTreeMap::new();
    if truth.is_empty() {
        return Ok(Scored { losses: Vec::new(), metrics, invalid });
    }
    let losses = quality::multiclass_log_loss_rows(&probabilities, width, &truth)?;
    metrics.insert("log_loss".to_owned(), mean(&losses));
    metrics.insert("accuracy".to_owned(), quality::multiclass_accuracy(&probabilities, width, &truth)?);
    Ok(Scored { losses, metrics, invalid })
}

fn regression<'a>(batch: &RecordBatch, truths: impl Iterator<Item = Option<&'a Truth>>) -> Result<Scored, Error> {
    let answers = scalar(batch, "prediction")?;
    let (mut predictions, mut numbers, mut invalid) = (Vec::new(), Vec::new(), 0);
    for (answer, truth) in answers.into_iter().zip(truths) {
        let Some(truth) = truth else { continue };
        let number = match Targets::from_truths([wire(truth)], None) {
            Ok(Targets::Numbers(numbers)) => numbers.first().copied(),
            _ => None,
        };
        let Some(number) = number else {
            invalid += 1;
            continue;
        };
        if let Some(answer) = answer.filter(|answer| answer.is_finite()) {
            predictions.push(answer);
            numbers.push(number);
        }
    }
    let mut metrics = BTreeMap::new();
    if numbers.is_empty() {
        return Ok(Scored { losses: Vec::new(), metrics, invalid });
    }
    let losses: Vec<f64> = predictions.iter().zip(&numbers).map(|(answer, truth)| (answer - truth).powi(2)).collect();
    metrics.insert("mae".to_owned(), finite(quality::mae(&predictions, &numbers)?, 0.0));
    metrics.insert("rmse".to_owned(), finite(quality::rmse(&predictions, &numbers)?, 0.0));
    metrics.extend(quality::r2(&predictions, &numbers)?.map(|r2| ("r2".to_owned(), finite(r2, 0.0))));
    Ok(Scored { losses, metrics, invalid })
}
