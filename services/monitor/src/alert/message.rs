//! What alerts say: what happened, why, what rekindle does about it, and what a person can do. Pure.

mod words;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use humantime_serde::re::humantime::format_duration;
use rekindle_domain::{
    ModelName,
    alert::{AlertKind, Message},
    prediction_log::RowsAhead,
    report::{
        ColumnDrift, Drift, DriftCause, Estimate, EstimatedMetric, Interval, LoadAssociation, Onset, PairChange,
        Quality, SliceQuality, Verdict, VolumeSeason, WindowReport,
    },
};

use self::words::{causes, counted, names, number, time};

/// Causes that a message names at most.
const MOST_CAUSES: usize = 10;

/// Columns that a summary names at most.
const NAMED: usize = 3;

/// The message of an alert about a window.
pub(super) fn of_report(kind: AlertKind, report: &WindowReport) -> Message {
    let window = &report.window;
    let span = format!("from {} to {}", time(window.from), time(window.until));
    let of = format!("version {} of {}", window.version.version, window.model);
    let quality = report.quality.as_ref();
    match kind {
        AlertKind::DataFault => data_fault(&report.drift, &of, &span),
        AlertKind::DuplicateRows => duplicate_rows(&report.drift, &window.model, &of, &span),
        AlertKind::Degradation => degradation(report, quality, &of, &span),
        AlertKind::SliceDegradation => slice_degradation(quality, &of, &span),
        AlertKind::DependenceChange => dependence(&report.drift, &of, &span),
        AlertKind::VolumeAnomaly => volume(&report.drift, &window.model, &span),
        AlertKind::NewClass => new_class(quality, &of, &span),
        AlertKind::Drift | AlertKind::LateRows | AlertKind::RowsAhead | AlertKind::FeedStopped => {
            drift(&report.drift, &of, &span)
        }
    }
}

fn drift(drift: &Drift, of: &str, span: &str) -> Message {
    let drifted: Vec<&ColumnDrift> =
        drift.causes().into_iter().filter(|column| column.cause != Some(DriftCause::DataFault)).collect();
    let all_are = |cause| !drifted.is_empty() && drifted.iter().all(|column| column.cause == Some(cause));
    let all_began = |onset| !drifted.is_empty() && drifted.iter().all(|column| column.onset == Some(onset));
    let advice = if all_are(DriftCause::UnseenSeason) {
        "Check whether the season recurs. If so, train on data that cover it; if not, let the retraining proceed."
    } else if all_are(DriftCause::NewCategory) {
        "Check whether the new values are spelled as in the training data. If they are new, retrain the model on rows that have them."
    } else if all_began(Onset::Gradual) {
        "The change was gradual, so it probably goes on. Retrain the model on recent rows, and check whether the policy retrains often enough."
    } else if all_began(Onset::Abrupt) {
        "The change was abrupt: check what was released or happened at its start, and whether it lasts. If so, retrain the model on rows that \
         have it; wait for the quality of the window before you roll back."
    } else {
        "Check whether the change is real and whether it lasts. If so, retrain the model on rows that have it; wait for the quality of the \
         window before you roll back."
    };
    let has_fault = drift.causes().iter().any(|column| column.cause == Some(DriftCause::DataFault));
    let response = if has_fault {
        "No retraining starts on the rows of this window, since other columns of it are probably faulty."
    } else {
        "A retraining policy with the trigger DRIFT starts a workflow, unless the model is in its cooldown."
    };
    Message {
        summary: format!(
            "{} of {of} drifted from the reference data {span}: {} of {} columns.",
            names(&drifted),
            drifted.len(),
            drift.columns().count()
        ),
        causes: causes(&drifted),
        response: response.to_owned(),
        advice: advice.to_owned(),
    }
}

fn data_fault(drift: &Drift, of: &str, span: &str) -> Message {
    let faulty: Vec<&ColumnDrift> =
        drift.causes().into_iter().filter(|column| column.cause == Some(DriftCause::DataFault)).collect();
    Message {
        summary: format!("{} of {of} probably received faulty values {span}.", names(&faulty)),
        causes: causes(&faulty),
        response: "No retraining starts on the rows of this window. The model goes on answering.".to_owned(),
        advice: "Check the source of the columns: the unit, the order of the columns, and whether a join or a sensor has failed. Rows \
                 that were answered with faulty values may need to be predicted again."
            .to_owned(),
    }
}

fn duplicate_rows(drift: &Drift, model: &ModelName, of: &str, span: &str) -> Message {
    let causes = drift.repeated.iter().map(|repeated| {
        format!(
            "{} rows, {:.1} % of the window, have the inputs and the event time of an earlier row; in the reference data it is {:.1} %.",
            repeated.rows,
            100.0 * repeated.share,
            100.0 * repeated.reference_share
        )
    });
    Message {
        summary: format!("Rows were sent to {of} more than once {span}."),
        causes: causes.collect(),
        response: "The rows count as often as they were sent, in drift, quality and exports. No retraining starts on the rows of this window."
            .to_owned(),
        advice: format!("Check whether a client repeats requests that were answered, or a file was replayed twice. If a whole span was sent \
                 twice, run `rekindle watch reset {model}` before you send it again."),
    }
}

fn degradation(report: &WindowReport, quality: Option<&Quality>, of: &str, span: &str) -> Message {
    let loss = quality.map(|quality| {
        let rise = 100.0 * (quality.loss / quality.reference_loss - 1.0);
        let rise = if rise.is_finite() { format!(", {rise:.0} % more") } else { String::new() };
        format!(
            "The mean loss of {} is {}; of the validation rows, it was {}{rise}.",
            counted(quality.labelled_rows, "labelled row"),
            number(quality.loss),
            number(quality.reference_loss)
        )
    });
    let expected = report.estimate.as_ref().zip(quality).and_then(|(estimate, quality)| expected(estimate, quality));
    let selection = quality.map(|quality| &quality.selection).filter(|selection| !selection.is_empty());
    let selection = selection.map(|selection| format!("Note that {selection}."));
    let onset =
        quality.and_then(|quality| quality.onset).map(|onset| format!("The loss rose at about {}.", time(onset)));
    let slices = quality.into_iter().flat_map(slices);
    let load = quality.and_then(|quality| quality.load.as_ref()).map(of_load);
    let drifted = report.drift.causes();
    let advice = if report.drift.verdict == Verdict::Drifted {
        "The columns below drifted in the same window. Retrain the model on rows that have the change, or roll back if the version is new."
    } else {
        "No column drifted with it, so the relation between inputs and outcomes has probably changed. Retrain the model on recent rows, or \
         roll back if the version is new."
    };
    Message {
        summary: format!("The quality of {of} degraded {span}."),
        causes: loss
            .into_iter()
            .chain(onset)
            .chain(expected)
            .chain(selection)
            .chain(slices)
            .chain(load)
            .chain(causes(&drifted))
            .collect(),
        response:
            "A retraining policy with the trigger DEGRADATION starts a workflow, unless the model is in its cooldown."
                .to_owned(),
        advice: advice.to_owned(),
    }
}

/// The degraded slices, those with the most rows first.
fn slices(quality: &Quality) -> Vec<String> {
    let mut degraded: Vec<&SliceQuality> = quality.degraded_slices().collect();
    degraded.sort_by_key(|slice| std::cmp::Reverse(slice.labelled_rows));
    let described = degraded.iter().take(MOST_CAUSES).map(|slice| {
        format!(
            "Slice {}: the mean loss of {} is {}; of {} of the slice, it was {}.",
            slice.slice,
            counted(slice.labelled_rows, "labelled row"),
            number(slice.loss),
            counted(slice.reference_rows, "validation row"),
            number(slice.reference_loss)
        )
    });
    let more = degraded.len().saturating_sub(MOST_CAUSES);
    described.chain((more > 0).then(|| format!("and {}", counted(more as u64, "more slice")))).collect()
}

/// A quality that is associated with the load.
fn of_load(load: &LoadAssociation) -> String {
    let LoadAssociation { metric, correlation, p_value, windows, means: [low, high], rows_per_hour: [few, many] } =
        load;
    format!(
        "Over {windows} windows, {metric} becomes worse as the load rises: {} at {} rows per hour and {} at {} (Spearman's correlation {}, p \
         {}). Check whether the pipeline of the inputs delivers late or default values under load.",
        number(*low),
        number(*few),
        number(*high),
        number(*many),
        number(*correlation),
        number(*p_value)
    )
}

fn slice_degradation(quality: Option<&Quality>, of: &str, span: &str) -> Message {
    let degraded: Vec<&str> = quality
        .map(|quality| quality.degraded_slices().map(|slice| slice.slice.as_str()).collect())
        .unwrap_or_default();
    let named: Vec<&str> = degraded.iter().copied().take(NAMED).collect();
    let more = degraded.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Message {
        summary: format!("The quality of {of} degraded in a slice of the rows {span}: {}{more}.", named.join("; ")),
        causes: quality.map(slices).unwrap_or_default(),
        response: "No retraining starts, since the quality of all rows has not degraded.".to_owned(),
        advice: "Check whether the inputs or the outcomes of these rows have another source. If the change is real, retrain the model on recent \
                 rows of the slice."
            .to_owned(),
    }
}

fn dependence(drift: &Drift, of: &str, span: &str) -> Message {
    let changed = drift.dependence.as_ref().map(|dependence| dependence.changed.as_slice()).unwrap_or_default();
    let named: Vec<String> = changed.iter().take(NAMED).map(|pair| pair.features.join(" and ")).collect();
    let more = changed.len() - named.len();
    let more = if more > 0 { format!("; and {more} more pairs") } else { String::new() };
    let cause = |pair: &PairChange| {
        let Interval { lower, upper } = pair.expected;
        format!(
            "{}: the correlation is {}; it was {} in the reference data, and {} to {} was expected.",
            pair.features.join(" and "),
            number(pair.correlation),
            number(pair.reference),
            number(lower),
            number(upper)
        )
    };
    Message {
        summary: format!("Correlations between features of {of} changed from the reference data {span}: {}{more}.", named.join("; ")),
        causes: changed.iter().take(MOST_CAUSES).map(cause).collect(),
        response: "No retraining starts because of it. Drift of single columns and degradation have alerts of their own.".to_owned(),
        advice: "Check whether a join or a pipeline gives rows the values of other rows, or a feature is computed in another way. If the change is \
                 real, watch the quality, and retrain the model if it degrades."
            .to_owned(),
    }
}

fn volume(drift: &Drift, model: &ModelName, span: &str) -> Message {
    let found = drift.volume.as_ref();
    let is_less = found.is_some_and(|volume| volume.rows_per_hour < volume.expected.lower);
    let cause = found.map(|volume| {
        let season = match volume.season {
            VolumeSeason::None => "earlier windows",
            VolumeSeason::HourOfDay => "earlier windows of the same hours of the day",
            VolumeSeason::HourOfWeek => "earlier windows of the same time of the week",
        };
        let Interval { lower, upper } = volume.expected;
        format!(
            "{} rows per hour; {} {season} suggest {} to {}.",
            number(volume.rows_per_hour),
            volume.windows,
            number(lower),
            number(upper)
        )
    });
    Message {
        summary: format!("{model} answered far {} rows than usual {span}.", if is_less { "fewer" } else { "more" }),
        causes: cause.into_iter().collect(),
        response: "Nothing else: the rows are compared with the reference data as those of any window.".to_owned(),
        advice: if is_less {
            format!("Check whether clients have stopped, or are refused (`rekindle failures {model}`).")
        } else {
            format!(
                "Check whether a client repeats requests or a new one was added, and whether the replicas keep up (`rekindle status`). Set \
                 `--alert volume-anomaly=off` with `rekindle policy set {model}` if the volume says nothing."
            )
        },
    }
}

/// The loss that is estimated from the predictions beside the measured one: whether the rows of the window are harder to predict, or the
/// relation between inputs and outcomes has changed. `None` if the outcomes cannot show it.
fn expected(estimate: &Estimate, quality: &Quality) -> Option<String> {
    estimate.is_missed(quality)?;
    let (name, EstimatedMetric { value, interval }) = estimate.loss()?;
    let measured = *quality.metrics.get(name)?;
    let meaning = if measured > interval.upper {
        "This suggests concept drift: the relation between inputs and outcomes has changed."
    } else if measured < interval.lower {
        "The estimate is too high, and says nothing about the cause."
    } else {
        "The rows are harder to predict; nothing suggests that the relation between inputs and outcomes has changed."
    };
    let [value, lower, upper, measured] = [*value, interval.lower, interval.upper, measured].map(number);
    Some(format!(
        "Estimated {name} from the predictions: {value} ({lower} to {upper}); measured: {measured}. {meaning}"
    ))
}

fn new_class(quality: Option<&Quality>, of: &str, span: &str) -> Message {
    let classes = quality.map(|quality| {
        let mut classes: Vec<(&String, &u64)> = quality.new_classes.iter().collect();
        classes.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        classes
    });
    let classes = classes.unwrap_or_default();
    let names: Vec<&str> = classes.iter().take(MOST_CAUSES).map(|(class, _)| class.as_str()).collect();
    Message {
        summary: format!("Outcomes of {of} have classes that the training data did not have {span}: {}.", names.join(", ")),
        causes: classes.iter().take(MOST_CAUSES).map(|(class, rows)| format!("{class}: {}.", counted(**rows, "labelled row"))).collect(),
        response: "The rows count with the maximum loss. A retraining learns the new classes once the exported rows have them.".to_owned(),
        advice: "Check whether the classes are spelled as in the training data. If they are new, retrain the model.".to_owned(),
    }
}

/// The message of late rows.
pub(super) fn late_rows(model: &ModelName, late: u64, rows: u64) -> Message {
    Message {
        summary: format!("{late} of the last {rows} rows of {model} arrived after their window was closed."),
        causes: vec![
            "Their event times lie behind the watermark, which follows the event times of the other rows.".to_owned(),
        ],
        response: "The rows are logged, and no report counts them.".to_owned(),
        advice: format!(
            "Check the clocks of the clients. If the rows are right and only slow, set a greater --lateness with `rekindle policy set`. \
                 If earlier rows had event times in the future, run `rekindle watch reset {model}`."
        ),
    }
}

/// The message of rows ahead of the clock.
pub(super) fn rows_ahead(model: &ModelName, ahead: &RowsAhead, latest: DateTime<Utc>) -> Message {
    let RowsAhead { rows, requests, from } = ahead;
    Message {
        summary: format!("At least {rows} rows of {model} have event times more than a window ahead of the others."),
        causes: vec![format!(
            "{} event times from {} on; the other rows reach {}.",
            if *requests == 1 { "1 request has".to_owned() } else { format!("{requests} requests have") },
            time(*from),
            time(latest)
        )],
        response: "The rows wait: windows are closed by them only if further requests agree.".to_owned(),
        advice:
            "Check the clocks of the clients and the unit of the event times, which are milliseconds since 1970 UTC."
                .to_owned(),
    }
}

/// The message of a feed that has stopped.
pub(super) fn feed_stopped(model: &ModelName, last: DateTime<Utc>, timeout: TimeDelta) -> Message {
    let timeout = format_duration(timeout.to_std().unwrap_or(Duration::MAX)).to_string();
    Message {
        summary: format!("No row of {model} has been captured since {}.", time(last)),
        causes: vec![format!("The feed timeout of the model is {timeout}.")],
        response: "Windows without rows are not reported.".to_owned(),
        advice: format!(
            "Check whether the clients still send requests, whether they are refused (`rekindle failures {model}`), and whether the \
                 replicas are ready (`rekindle status`)."
        ),
    }
}

/// The message of a test notification.
pub(super) fn test(receiver: &str) -> Message {
    Message {
        summary: format!("This is a test of the receiver {receiver}."),
        causes: vec!["Somebody has called TestReceiver.".to_owned()],
        response: "Alerts of this receiver arrive like this one.".to_owned(),
        advice: "Nothing needs to be done.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rekindle_domain::report::{Impact, RepeatedRows};

    use super::*;
    use crate::{alert::finding::tests::column, evaluate::contents::tests::report, window::Window};

    fn reported(columns: Vec<ColumnDrift>) -> WindowReport {
        let mut report = report(Window { from: 0, until: 3_600_000 }, 40).content;
        report.window.until = DateTime::UNIX_EPOCH + TimeDelta::hours(1);
        report.drift = Drift::of(Verdict::Drifted, columns, None);
        report
    }

    #[test]
    fn each_kind_names_its_own_columns() {
        let season = column("temp", Verdict::Drifted, Some(DriftCause::UnseenSeason));
        let fault = column("depth", Verdict::Drifted, Some(DriftCause::DataFault));
        let report = reported(vec![season, fault]);
        let drift = of_report(AlertKind::Drift, &report);
        assert!(drift.summary.starts_with("temp of version 1 of flights drifted"), "{}", drift.summary);
        assert!(drift.summary.contains("from 1970-01-01T00:00:00Z to 1970-01-01T01:00:00Z"), "{}", drift.summary);
        assert_eq!(drift.causes, ["temp (PSI 0.500, 50 % of the shift): temp has changed"]);
        assert!(drift.advice.contains("season"), "{}", drift.advice);
        let mut known = report.clone();
        let temp = &mut known.drift.features[0];
        temp.since = Some(DateTime::UNIX_EPOCH);
        temp.impact = Some(Impact { importance: Some(0.1), score_change: -0.02, loss_change: 0.012 });
        assert_eq!(
            of_report(AlertKind::Drift, &known).causes,
            [
                "temp (PSI 0.500, 50 % of the shift, since 1970-01-01T00:00:00Z): temp has changed; alone, it changes the mean loss by \
              +0.012 and the mean score by -0.020"
            ]
        );
        let fault = of_report(AlertKind::DataFault, &report);
        assert!(fault.summary.starts_with("depth of version 1 of flights"), "{}", fault.summary);
        assert!(fault.response.starts_with("No retraining"), "{}", fault.response);
    }

    #[test]
    fn long_lists_of_columns_are_cut_and_counted() {
        let columns = (0..13).map(|n| column(&format!("c{n:02}"), Verdict::Drifted, None)).collect();
        let message = of_report(AlertKind::Drift, &reported(columns));
        assert_eq!((message.causes.len(), message.causes[10].as_str()), (11, "and 3 more columns"));
        assert!(message.summary.starts_with("c00, c01, c02 and 10 more of version 1"), "{}", message.summary);
        assert!(message.summary.ends_with(": 13 of 13 columns."), "{}", message.summary);
    }

    #[test]
    fn the_loss_and_the_new_classes_are_in_the_causes() {
        let quality = Quality {
            verdict: Verdict::Drifted,
            labelled_rows: 100,
            new_classes: BTreeMap::from([("cat".to_owned(), 2), ("dog".to_owned(), 30)]),
            loss: 0.6,
            reference_loss: 0.4,
            rise_lower_bound: 0.1,
            ..Quality::inconclusive()
        };
        let report = WindowReport { quality: Some(quality), ..reported(Vec::new()) };
        let degraded = of_report(AlertKind::Degradation, &report);
        let loss = "The mean loss of 100 labelled rows is 0.600; of the validation rows, it was 0.400, 50 % more.";
        assert_eq!(degraded.causes, [loss]);
        let with = |log_loss: f64| {
            let mut known = report.clone();
            let interval = Interval { lower: 0.45, upper: 0.55 };
            let metrics = [("log_loss".to_owned(), EstimatedMetric { value: 0.5, interval })];
            known.estimate = Some(Estimate { metrics: metrics.into(), ..Estimate::default() });
            let quality = known.quality.as_mut().expect("a quality");
            quality.metrics.insert("log_loss".to_owned(), log_loss);
            quality.rows = 150;
            known
        };
        let causes = |report: &WindowReport| of_report(AlertKind::Degradation, report).causes;
        let expected = "Estimated log_loss from the predictions: 0.500 (0.450 to 0.550); measured: 0.600. This suggests concept drift";
        assert!(causes(&with(0.6))[1].starts_with(expected), "{:?}", causes(&with(0.6)));
        assert!(causes(&with(0.52))[1].contains("harder to predict"), "{:?}", causes(&with(0.52)));
        assert!(causes(&with(0.4))[1].contains("too high"), "{:?}", causes(&with(0.4)));
        let mut selected = with(0.6);
        let quality = selected.quality.as_mut().expect("a quality");
        quality.selection = "the rows with an outcome are not a random sample of the window".to_owned();
        let noted = "Note that the rows with an outcome are not a random sample of the window.";
        assert_eq!(causes(&selected), [loss, noted], "outcomes of chosen rows show nothing");
        let new = of_report(AlertKind::NewClass, &report);
        assert!(new.summary.ends_with(": dog, cat."), "{}", new.summary);
        assert_eq!(new.causes, ["dog: 30 labelled rows.", "cat: 2 labelled rows."]);
    }

    #[test]
    fn repeated_rows_are_stated_with_the_usual_share() {
        let mut report = reported(Vec::new());
        report.drift.repeated = Some(RepeatedRows { rows: 50, share: 0.5, reference_share: 0.01 });
        let message = of_report(AlertKind::DuplicateRows, &report);
        assert!(message.causes[0].starts_with("50 rows, 50.0 % of the window"), "{:?}", message.causes);
        assert!(message.causes[0].ends_with("it is 1.0 %."), "{:?}", message.causes);
    }
}
