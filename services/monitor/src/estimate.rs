//! Estimated performance: the metrics of a window, estimated from its predictions, and when the estimate is withdrawn.
//!
//! An estimate follows from the rows of the window and the bundle. Whether it is to be relied on follows from the record of the version, too:
//! how earlier estimates compare with the metrics that were measured later. The record grows as outcomes arrive, so that it is read, and
//! never stored, with a report.

use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Float32Type,
};
use rekindle_bundle::validation::greatest;
use rekindle_domain::{
    ModelName, Task, VersionRef,
    report::{Drift, DriftCause, Estimate, EstimateRecord, EstimatedMetric, Interval, RepeatedRows},
};
use rekindle_statistics::performance::{Estimated, RECORD, too_many_misses};
use sea_orm::{ConnectionTrait, DbErr};

use crate::{
    Error,
    chunk::columns::{self, OUTPUT},
    load,
    quality::scalar,
    reference::Reference,
    report::{Report, finite},
    store::reports,
};

/// The share of scores outside of those of the validation rows from which an estimate is withdrawn.
const MAX_OUTSIDE: f64 = 0.05;

/// The estimate for a window with this drift; `None` if the bundle has no metrics by score, or of fewer than `least` rows.
pub(crate) fn of_window(
    reference: &Reference,
    batch: &RecordBatch,
    drift: &Drift,
    least: u64,
) -> Result<Option<Estimate>, Error> {
    let expected = reference.profiles.validation.as_ref().and_then(|validation| validation.expected.as_ref());
    let Some(expected) = expected else { return Ok(None) };
    let counts = expected.count(scores(reference.manifest.task, batch)?.into_iter().flatten());
    if counts.rows() == 0 || counts.rows() < least {
        return Ok(None);
    }
    let metrics = expected.estimate(&counts).into_iter().map(|(name, estimated)| (name, metric(estimated)));
    let withdrawn = withdrawn(drift, counts.outside_share()).unwrap_or_default();
    Ok(Some(Estimate { metrics: metrics.collect(), withdrawn, record: EstimateRecord::default() }))
}

/// The score of each row; `None` of a row without one.
pub(crate) fn scores(task: Task, batch: &RecordBatch) -> Result<Vec<Option<f64>>, Error> {
    let name = match task {
        Task::Binary => "probability",
        Task::Regression => "prediction",
        Task::Multiclass => {
            let wrong = || Error::Column { column: format!("{OUTPUT}probabilities"), expected: "one number per class" };
            let lists = columns::column(batch, &format!("{OUTPUT}probabilities"))?;
            let lists = lists.as_fixed_size_list_opt().ok_or_else(wrong)?;
            let values = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
            let width = usize::try_from(lists.value_length()).unwrap_or_default().max(1);
            return Ok(values.values().chunks_exact(width).map(|row| Some(greatest(row))).collect());
        }
    };
    scalar(batch, name)
}

fn metric(estimated: Estimated) -> EstimatedMetric {
    let Estimated { value, lower, upper } = estimated;
    let interval = Interval { lower: finite(lower, 0.0), upper: finite(upper, f64::MAX) };
    EstimatedMetric { value: finite(value, 0.0), interval }
}

/// Why the rows of a window themselves do not allow an estimate.
fn withdrawn(drift: &Drift, outside: f64) -> Option<String> {
    let faulty: Vec<&str> = drift
        .columns()
        .filter(|column| column.cause == Some(DriftCause::DataFault))
        .map(|column| column.name.as_str())
        .collect();
    if !faulty.is_empty() {
        return Some(format!("the data of {} are probably faulty", faulty.join(", ")));
    }
    if drift.repeated.as_ref().is_some_and(RepeatedRows::is_fault) {
        return Some("rows were probably sent more than once".to_owned());
    }
    (outside > MAX_OUTSIDE).then(|| {
        let percent = (outside * 100.0).round();
        format!("{percent} % of the scores are outside the range of the validation rows")
    })
}

/// A report whose estimate has its record. It is withdrawn if too many of the estimates of the version before it were wrong.
pub(crate) async fn judged(db: &impl ConnectionTrait, report: Report) -> Result<Report, DbErr> {
    let mut report = [report];
    judge_all(db, &mut report).await?;
    let [report] = report;
    Ok(report)
}

/// A model's reports with what follows from other reports, newest window first, from after `after`.
pub(crate) async fn judged_reports(
    db: &impl ConnectionTrait,
    model: &ModelName,
    after: Option<reports::Cursor>,
    limit: u64,
) -> Result<Vec<Report>, DbErr> {
    let mut reports = reports::list(db, model, after, limit).await?;
    judge_all(db, &mut reports).await?;
    load::associate(db, &mut reports).await?;
    Ok(reports)
}

/// Sets the records of consecutive reports of one model, with one query for each version.
async fn judge_all(db: &impl ConnectionTrait, reports: &mut [Report]) -> Result<(), DbErr> {
    let mut versions: Vec<(VersionRef, i64)> = Vec::new();
    for report in reports.iter().filter(|report| report.content.estimate.is_some()) {
        let version = (report.content.window.version, report.since);
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    // No more windows of a version lie between its first and its last report.
    let windows = (reports.len() + RECORD) as u64;
    for version in versions {
        let mut of_version: Vec<&mut Report> =
            reports.iter_mut().filter(|report| (report.content.window.version, report.since) == version).collect();
        let Some(latest) = of_version.iter().map(|report| report.window.from).max() else { continue };
        let model = of_version[0].content.window.model.clone();
        let missed = reports::missed(db, &model, version, latest, windows).await?;
        for report in &mut of_version {
            let from = report.window.from;
            let before = missed.iter().filter(|(until, _)| *until <= from).take(RECORD);
            let record = before.fold(EstimateRecord::default(), |record, (_, is_missed)| EstimateRecord {
                measured: record.measured + 1,
                missed: record.missed + u32::from(*is_missed),
            });
            report.content.estimate.iter_mut().for_each(|estimate| judge(estimate, record));
        }
    }
    Ok(())
}

fn judge(estimate: &mut Estimate, record: EstimateRecord) {
    estimate.record = record;
    let EstimateRecord { measured, missed } = record;
    if estimate.withdrawn.is_empty() && too_many_misses(missed as usize) {
        estimate.withdrawn = format!(
            "the measured loss of {missed} of the last {measured} measured windows was outside of its interval, which suggests concept drift"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, FixedSizeListArray, Float32Array},
        datatypes::{DataType, Field},
    };
    use rekindle_bundle::{Targets, Validation, ValidationRows, Values};
    use rekindle_domain::{
        ReportId,
        report::{Quality, Verdict},
    };
    use uuid::Uuid;

    use super::*;
    use crate::{
        alert::finding::tests::column, evaluate::contents::tests::report, ownership::tests::database,
        quality::tests::manifest, window::Window,
    };

    /// A model whose probabilities are right: of rows with the probability p, the share p is positive.
    fn reference() -> Reference {
        let rows = 2_000_usize;
        let probability = |row: usize| [0.2_f32, 0.6][row % 2];
        let label = |row: usize| usize::from((row / 2) % 10 < [2, 6][row % 2]);
        let values = (0..rows).map(probability).collect();
        let prediction = rekindle_bundle::Prediction { rows, outputs: vec![Values::Fp32 { width: 1, values }] };
        let validated = ValidationRows {
            task: Task::Binary,
            rows: &RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
            prediction: &prediction,
            targets: &Targets::Classes((0..rows).map(|row| Some(label(row))).collect()),
            importances: &[],
        };
        let validation = Some(Validation::of(&validated, &[]).expect("valid rows"));
        let manifest = manifest(Task::Binary, Some(&["no", "yes"]), 0.5);
        let profiles = rekindle_bundle::Reference::empty(Task::Binary, &manifest.signature);
        Reference { manifest, profiles: rekindle_bundle::Reference { validation, ..profiles } }
    }

    fn window(probabilities: &[f32]) -> RecordBatch {
        let values = Arc::new(Float32Array::from(probabilities.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter([(format!("{OUTPUT}probability"), values)]).expect("one column")
    }

    fn stable() -> Drift {
        Drift::of(Verdict::Stable, Vec::new(), None)
    }

    #[test]
    fn an_estimate_follows_the_predictions_of_the_window() {
        let reference = reference();
        let of = |probabilities: &[f32]| of_window(&reference, &window(probabilities), &stable(), 10);
        let estimate = of(&[0.2; 100]).expect("probabilities").expect("enough rows");
        let accuracy = estimate.metrics["accuracy"];
        assert!((accuracy.value - 0.8).abs() < 1e-9 && estimate.withdrawn.is_empty(), "{estimate:?}");
        assert!(accuracy.interval.lower < 0.8 && accuracy.interval.upper > 0.8, "{estimate:?}");
        let mixed = of(&[[0.2; 50], [0.6; 50]].concat()).expect("probabilities").expect("enough rows");
        assert!((mixed.metrics["accuracy"].value - 0.7).abs() < 1e-9, "{mixed:?}");
        assert_eq!(mixed.loss().map(|(name, _)| name), Some("log_loss"));
        assert_eq!(of(&[0.2; 9]).expect("probabilities"), None, "too few rows");
        let without = Reference {
            profiles: rekindle_bundle::Reference { correlations: None, validation: None, ..reference.profiles.clone() },
            manifest: reference.manifest.clone(),
        };
        assert_eq!(of_window(&without, &window(&[0.2; 100]), &stable(), 10).expect("probabilities"), None);
    }

    #[test]
    fn faulty_data_and_unknown_scores_withdraw_an_estimate() {
        let reference = reference();
        let withdrawn = |probabilities: &[f32], drift: &Drift| {
            let estimate = of_window(&reference, &window(probabilities), drift, 10);
            estimate.expect("probabilities").expect("enough rows").withdrawn
        };
        assert_eq!(withdrawn(&[[0.2; 90], [0.5; 90]].concat(), &stable()), "");
        assert_eq!(
            withdrawn(&[0.9; 100], &stable()),
            "100 % of the scores are outside the range of the validation rows"
        );
        let columns = vec![column("depth", Verdict::Drifted, Some(DriftCause::DataFault))];
        let faulty = Drift::of(Verdict::Drifted, columns, None);
        assert_eq!(withdrawn(&[0.2; 100], &faulty), "the data of depth are probably faulty");
        let repeated = RepeatedRows { rows: 50, share: 0.5, reference_share: 0.0 };
        let repeated = Drift { repeated: Some(repeated), ..stable() };
        assert_eq!(withdrawn(&[0.2; 100], &repeated), "rows were probably sent more than once");
    }

    #[test]
    fn the_score_of_several_classes_is_the_greatest_probability() {
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let values = Arc::new(Float32Array::from(vec![0.2_f32, 0.5, 0.3, 0.9, 0.05, 0.05]));
        let lists = FixedSizeListArray::try_new(item, 3, values, None).expect("three values per row");
        let batch = RecordBatch::try_from_iter([(format!("{OUTPUT}probabilities"), Arc::new(lists) as ArrayRef)]);
        let found = scores(Task::Multiclass, &batch.expect("one column")).expect("probabilities");
        assert_eq!(found, [0.5_f32, 0.9].map(|score| Some(f64::from(score))));
    }

    #[tokio::test]
    async fn two_misses_among_the_last_eight_measured_windows_of_the_version_withdraw_an_estimate() {
        let db = database().await;
        let estimate = Estimate {
            metrics: [("log_loss".to_owned(), metric(Estimated { value: 0.5, lower: 0.4, upper: 0.6 }))].into(),
            ..Estimate::default()
        };
        let closed = async |number: i64, version: u32, measured: Option<f64>| {
            let mut report = report(Window { from: number * 100, until: (number + 1) * 100 }, 40);
            report.content.window.report = ReportId::new(Uuid::now_v7());
            report.content.window.version = VersionRef { version, ..report.content.window.version };
            report.content.estimate = Some(estimate.clone());
            reports::insert(&db, &report).await.expect("inserts");
            if let Some(log_loss) = measured {
                let metrics = [("log_loss".to_owned(), log_loss)].into();
                let quality = Quality {
                    verdict: Verdict::Stable,
                    rows: 40,
                    labelled_rows: 40,
                    metrics,
                    ..Quality::inconclusive()
                };
                let at = chrono::DateTime::UNIX_EPOCH;
                assert!(reports::complete(&db, &report.content, &quality, 0, at).await.expect("completes"));
            }
            report
        };
        let judged = async |report: Report| {
            let judged = judged(&db, report).await.expect("readable").content.estimate.expect("an estimate");
            ((judged.record.measured, judged.record.missed), judged.withdrawn)
        };
        closed(0, 1, Some(0.9)).await;
        let first = closed(1, 1, None).await;
        assert_eq!(judged(first.clone()).await, ((1, 1), String::new()), "one miss is chance");
        closed(2, 1, Some(0.1)).await;
        closed(2, 2, Some(0.1)).await;
        let second = closed(3, 1, None).await;
        let (record, withdrawn) = judged(second).await;
        assert_eq!(record, (2, 2));
        assert!(
            withdrawn.starts_with("the measured loss of 2 of the last 2 measured windows was outside"),
            "{withdrawn}"
        );
        assert_eq!(judged(first).await.0, (1, 1), "later windows are not its record");
        for number in 4..12 {
            closed(number, 1, Some(0.5)).await;
        }
        let last = closed(12, 1, None).await;
        assert_eq!(judged(last).await, ((8, 0), String::new()), "the estimate stands again");
    }
}
