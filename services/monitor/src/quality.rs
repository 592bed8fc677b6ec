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
    watch::{LOOKS, Settings},
};

/// Squared errors above this are slips of whoever told the truth; their variance would be beyond a double.
const MAX_SQUARED_ERROR: f64 = 1e100;

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
/// one less the window's part of the false-alarm budget. Fewer than `min_rows` usable truths cannot tell.
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
        let found = rise(&scored.losses, &reference, 1.0 - settings.false_alarm_rate / f64::from(LOOKS))?;
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

/// Answers that are none, such as not-a-number, are left out like those that are missing.
fn is_probability(answer: &f64) -> bool {
    (0.0..=1.0).contains(answer)
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
        if let Some(probability) = answers[place].filter(is_probability) {
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
        let row = values.values()[place * width..(place + 1) * width].iter().copied().map(f64::from);
        if row.clone().all(|probability| is_probability(&probability)) {
            probabilities.extend(row);
            truth.push(class);
        }
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
    let (mut predictions, mut numbers, mut losses, mut invalid) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (answer, truth) in answers.into_iter().zip(truths) {
        let Some(truth) = truth else { continue };
        let number = match Targets::from_truths([wire(truth)], None) {
            Ok(Targets::Numbers(numbers)) => numbers.first().copied(),
            _ => None,
        };
        let answer = answer.filter(|answer| answer.is_finite());
        let loss = number.map(|number| answer.map_or(0.0, |answer| (answer - number).powi(2)));
        match (number, answer, loss.filter(|&loss| loss <= MAX_SQUARED_ERROR)) {
            (Some(number), Some(answer), Some(loss)) => {
                predictions.push(answer);
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
    use rekindle_domain::{Architecture, Recipe};
    use rekindle_model::{
        Signature,
        manifest::{Provenance, ReferenceLoss},
    };

    use super::*;

    pub(crate) fn manifest(task: Task, classes: Option<&[&str]>, loss_mean: f64) -> Manifest {
        let recipe = Recipe::for_target("y");
        Manifest {
            format_version: 1,
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
        batch("probabilities", Arc::new(FixedSizeListArray::try_new(item, 3, values, None).expect("three to a row")))
    }

    fn numbers(output: &str, values: &[f32]) -> RecordBatch {
        batch(output, Arc::new(Float32Array::from(values.to_vec())))
    }

    fn label(label: &str) -> Option<Truth> {
        Some(Truth::Label(label.to_owned()))
    }

    fn judged(manifest: &Manifest, batch: &RecordBatch, truths: &[Option<Truth>], min_rows: u64) -> Quality {
        let settings = Settings { min_rows, ..Settings::default() };
        judge(manifest, batch, truths.iter().map(Option::as_ref), &settings).expect("columns of the task")
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }

    #[test]
    fn several_classes_are_scored_over_the_rows_with_a_known_class() {
        let manifest = manifest(Task::Multiclass, Some(&["a", "b", "c"]), 0.5);
        let rows = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [f32::NAN; 3]];
        let truths = [label("a"), label("c"), None, label("d"), label("a")];
        let quality = judged(&manifest, &probabilities(&rows), &truths, 2);
        assert_eq!((quality.labelled_rows, quality.invalid_outcomes), (2, 1));
        near(quality.metrics["log_loss"], (0.5f64.ln() + 0.25f64.ln()) / -2.0);
        near(quality.metrics["accuracy"], 0.5);
        near(quality.loss, quality.metrics["log_loss"]);
        assert_eq!(quality.reference_metrics["reference"], 1.0);
    }

    #[test]
    fn another_number_of_classes_is_an_error_and_no_verdict() {
        let manifest = manifest(Task::Multiclass, Some(&["a", "b"]), 0.5);
        let truths = [label("a")];
        let judged = judge(
            &manifest,
            &probabilities(&[[1.0, 0.0, 0.0]]),
            truths.iter().map(Option::as_ref),
            &Settings::default(),
        );
        assert!(matches!(judged, Err(Error::Column { .. })));
    }

    #[test]
    fn a_regression_is_scored_by_its_squared_error() {
        let manifest = manifest(Task::Regression, None, 1.0);
        // A word and a number beyond all measure are no truths; an answer that is not a number says nothing of the truth.
        let truths = [
            Some(Truth::Number(2.0)),
            label("4"),
            label("four"),
            Some(Truth::Number(-1e300)),
            Some(Truth::Number(3.0)),
            None,
        ];
        let quality = judged(&manifest, &numbers("prediction", &[1.0, 6.0, 0.0, 0.0, f32::NAN, 0.0]), &truths, 2);
        assert_eq!((quality.labelled_rows, quality.invalid_outcomes), (2, 2));
        near(quality.metrics["mae"], 1.5);
        near(quality.metrics["rmse"], 2.5f64.sqrt());
        near(quality.metrics["r2"], -1.5);
        near(quality.loss, 2.5);
    }

    #[test]
    fn a_loss_far_above_the_reference_is_degraded_and_one_like_it_is_not() {
        let manifest = manifest(Task::Regression, None, 1.0);
        let truths: Vec<_> = (0..300).map(|_| Some(Truth::Number(0.0))).collect();
        let answers = |size: f32| (0u8..150).flat_map(|_| [size, -size * 1.01]).collect::<Vec<_>>();
        let verdict = |size| judged(&manifest, &numbers("prediction", &answers(size)), &truths, 200).verdict;
        assert_eq!(verdict(1.0), Verdict::Stable);
        assert_eq!(verdict(1.2), Verdict::Drifted);
    }

    /// The mean loss is 1.26 with a deviation of 1: above the margin by 2.25 standard errors, which a thirtieth of one half asks for
    /// and a thirtieth of a twentieth does not give.
    #[test]
    fn a_month_of_windows_shares_the_budget_of_false_alarms() {
        let manifest = manifest(Task::Regression, None, 1.0);
        let truths: Vec<_> = (0..200).map(|_| Some(Truth::Number(0.0))).collect();
        let answers: Vec<f32> = (0..100).flat_map(|_| [0.26f32.sqrt(), 2.26f32.sqrt()]).collect();
        let verdict = |false_alarm_rate| {
            let settings = Settings { min_rows: 2, false_alarm_rate, ..Settings::default() };
            let answers = numbers("prediction", &answers);
            judge(&manifest, &answers, truths.iter().map(Option::as_ref), &settings).expect("a number a row").verdict
        };
        assert_eq!((verdict(0.05), verdict(0.5)), (Verdict::Stable, Verdict::Drifted));
    }

    #[test]
    fn too_few_truths_are_scored_but_cannot_tell() {
        let manifest = manifest(Task::Binary, Some(&["no", "yes"]), 0.1);
        let batch = numbers("probability", &[0.9, 0.1]);
        let quality = judged(&manifest, &batch, &[label("no"), label("yes")], 3);
        assert_eq!((quality.verdict, quality.labelled_rows), (Verdict::Unknown, 2));
        near(quality.metrics["accuracy"], 0.0);
        assert_eq!(judged(&manifest, &batch, &[None, None], 0).metrics, BTreeMap::new());
    }
}
