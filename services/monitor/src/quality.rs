//! The quality of a window's predictions against their labels.

mod metrics;
mod onset;
mod scored;
mod selection;
mod slices;

use arrow::array::{Array, RecordBatch};
use rekindle_bundle::{LossSample, Manifest, manifest::ReferenceLoss, target::Targets};
use rekindle_domain::{
    WatchSettings, event_time,
    outcome::Label,
    report::{Quality, Verdict},
};
use rekindle_statistics::{
    paired::{BATCHES, batch_means},
    rise::{self, rise},
};

pub(crate) use self::slices::inputs;
use self::{metrics::Intervals, scored::Scored};
use crate::{
    Error,
    chunk::columns::{self, OUTPUT, event_times},
    estimate,
    reference::Reference,
    report::finite,
};

/// Evaluates the predictions in `batch`, in order of event time, against `labels`, one per row: of all rows, and of slices, whose loss is
/// compared with that of a sample of the validation rows.
pub(crate) fn evaluate(
    reference: &Reference,
    sample: Option<&LossSample>,
    batch: &RecordBatch,
    labels: &[Option<&Label>],
    settings: &WatchSettings,
) -> Result<Quality, Error> {
    let (mut quality, scored) = of_all_rows(&reference.manifest, batch, labels, settings)?;
    let rows = slices::Rows { reference, sample, batch, labels, scored: &scored };
    quality.slices_searched = sample.is_some() && quality.verdict != Verdict::Inconclusive;
    quality.slices = slices::measure(&rows, quality.slices_searched, settings)?;
    if quality.verdict == Verdict::Drifted {
        let row = onset::of(&scored.losses)?.and_then(|at| scored.rows.get(at));
        let times = event_times(batch)?.values();
        quality.onset = row.and_then(|&row| times.get(row)).map(|&time| event_time::clamped(time));
    }
    Ok(quality)
}

/// The quality of all rows, and their scores.
///
/// Degraded means that the mean loss rose by more than the margin, relative to the reference, at the confidence level
/// 1 - (the window's share of the false-alarm budget). With fewer than `min_rows` valid labels the verdict is inconclusive.
fn of_all_rows(
    manifest: &Manifest,
    batch: &RecordBatch,
    labels: &[Option<&Label>],
    settings: &WatchSettings,
) -> Result<(Quality, Scored), Error> {
    let is_labelled: Vec<bool> = labels.iter().map(Option::is_some).collect();
    let selection = selection::statement(|| estimate::scores(manifest.task, batch), &is_labelled, settings)?;
    let scored = Scored::of(manifest, batch, labels.iter().copied(), Intervals::Computed)?;
    let of_rows = &manifest.reference;
    let reference = rise::Reference { mean: of_rows.loss_mean, std: of_rows.loss_std, rows: of_rows.rows };
    let labelled = scored.losses.len() as u64;
    let mut quality = Quality {
        verdict: Verdict::Inconclusive,
        rows: batch.num_rows() as u64,
        labelled_rows: labelled,
        invalid_outcomes: scored.invalid,
        new_classes: scored.new_classes.clone(),
        metrics: scored.measured.metrics.clone(),
        intervals: scored.measured.intervals.clone(),
        reference_metrics: manifest.metrics.clone(),
        loss: mean(&scored.losses),
        reference_loss: finite(reference.mean, 0.0),
        rise_lower_bound: 0.0,
        selection: selection.unwrap_or_default(),
        ..Quality::inconclusive()
    };
    if labelled >= settings.min_rows && labelled >= 2 && reference.rows >= 2 {
        let confidence = 1.0 - settings.false_alarm_rate / f64::from(WatchSettings::WINDOWS);
        let found = match of_rows.batch_std.filter(|_| scored.losses.len() >= ReferenceLoss::LEAST_ROWS_IN_BATCHES) {
            // Neighbouring rows depend on each other, on both sides.
            Some(std) => {
                let reference = rise::Reference { std, rows: BATCHES as u64, ..reference };
                rise(&batch_means(&scored.losses)?, &reference, confidence)?
            }
            None => rise(&scored.losses, &reference, confidence)?,
        };
        let degraded = found.lower_bound > settings.degradation_margin * reference.mean.abs();
        quality.verdict = if degraded { Verdict::Drifted } else { Verdict::Stable };
        quality.rise_lower_bound = finite(found.lower_bound, 0.0);
    }
    Ok((quality, scored))
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

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow::{
        array::{ArrayRef, FixedSizeListArray, Float32Array},
        datatypes::{DataType, Field},
    };
    use rekindle_bundle::{
        Signature,
        manifest::{Provenance, ReferenceLoss},
        prediction::PROBABILITY_MARGIN,
    };
    use rekindle_domain::{Architecture, Recipe, Task};

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
        let labels: Vec<Option<&Label>> = labels.iter().map(Option::as_ref).collect();
        of_all_rows(manifest, batch, &labels, &settings).expect("columns of the task").0
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
        let (label, batch) = (label("a"), probabilities(&[[1.0, 0.0, 0.0]]));
        let evaluated = of_all_rows(&manifest, &batch, &[label.as_ref()], &WatchSettings::default());
        assert!(matches!(evaluated.map(|(quality, _)| quality), Err(Error::Column { .. })));
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
            let labels: Vec<Option<&Label>> = labels.iter().map(Option::as_ref).collect();
            let (quality, _) = of_all_rows(&manifest, &numbers("prediction", &outputs), &labels, &settings)
                .expect("one number per row");
            quality.verdict
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
