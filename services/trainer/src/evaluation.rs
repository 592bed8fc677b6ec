//! The gate: whether the challenger is better than the champion on rows that neither was trained on.
//!
//! Both models predict the same rows, and the losses are compared in pairs, so that the difficulty of a row cancels out. Ties go to the
//! champion: an inconclusive comparison rejects the challenger. [`Requirement`] says what else can be asked of it.

mod checks;
mod slices;
mod verdict;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_bundle::{Model, Prediction, target::Targets};
use rekindle_dataset::Table;
use rekindle_domain::{
    Digest, Task,
    evaluation::Evaluation,
    gate_check::GateCheck,
    job::{Evaluate, Requirement},
};

use self::{
    checks::Challenger,
    verdict::{Losses, Shown},
};
use crate::{Error, watch::Points};

/// Reads the rows that a check names; `None` if it names none.
pub(crate) type Cases<'a> = dyn Fn(&GateCheck) -> Result<Option<Table>, Error> + 'a;

/// Two models and the rows to compare them on.
pub(crate) struct Comparison<'a> {
    pub table: &'a Table,
    pub time_column: Option<&'a str>,
    /// Content digest of the dataset version.
    pub dataset: Digest,
    pub champion: &'a Model,
    pub challenger: &'a Model,
    /// Bytes of the files of the challenger.
    pub challenger_bytes: u64,
    /// Reads the rows that it must predict.
    pub cases: &'a Cases<'a>,
    pub work: &'a Evaluate,
}

/// Evaluates the challenger. A challenger that is not better, and an inconclusive comparison, are results and not errors.
pub(crate) fn evaluate(comparison: &Comparison<'_>) -> Result<Evaluation, Error> {
    check_comparable(comparison)?;
    let from = match comparison.work.requirement {
        Requirement::Better | Requirement::NotWorse => unseen_from(comparison)?,
        Requirement::Consistent => comparison.work.from,
    };
    // Neighbouring rows are compared as such.
    let rows = match comparison.time_column {
        Some(column) => comparison.table.slice_time(column, from, None)?.sort_by_time(column)?,
        None => comparison.table.clone(),
    };
    let until = match comparison.time_column {
        Some(column) => rows.time_range(column)?.map(|(_, last)| last),
        None => None,
    };
    let mut evaluation = Evaluation {
        champion: comparison.work.champion,
        challenger: comparison.work.challenger,
        dataset: comparison.dataset,
        rows: rows.rows() as u64,
        from,
        until,
        gate: comparison.work.gate.clone(),
        requirement: comparison.work.requirement,
        pass: false,
        reason: String::new(),
        champion_metrics: BTreeMap::new(),
        challenger_metrics: BTreeMap::new(),
        improvement: 0.0,
        improvement_lower_bound: 0.0,
        slices: Vec::new(),
        checks: Vec::new(),
    };
    let least = comparison.work.gate.min_rows;
    if (rows.rows() as u64) < least {
        evaluation.reason = format!(
            "inconclusive: {} rows{}, min_rows of the gate is {least}",
            rows.rows(),
            if comparison.work.requirement == Requirement::Consistent {
                ""
            } else {
                " that neither model was trained on"
            }
        );
        return Ok(evaluation);
    }
    compare(comparison, &rows, evaluation)
}

/// The scores, losses and metrics of one model on the rows.
struct Scored {
    prediction: Prediction,
    losses: Vec<f64>,
    metrics: BTreeMap<String, f64>,
}

fn score(model: &Model, rows: &Table, targets: &Targets) -> Result<Scored, Error> {
    let prediction: Prediction = model.score(&rows.batch)?;
    Ok(Scored {
        losses: model.losses(&prediction, targets)?,
        metrics: model.metrics(&prediction, targets)?.into_iter().collect(),
        prediction,
    })
}

fn compare(comparison: &Comparison<'_>, rows: &Table, mut evaluation: Evaluation) -> Result<Evaluation, Error> {
    let gate = &comparison.work.gate;
    // Each model has its own classes: a class that appeared later is known to the challenger only.
    let champion = score(comparison.champion, rows, &comparison.champion.targets(&rows.batch)?)?;
    let targets = comparison.challenger.targets(&rows.batch)?;
    let challenger = score(comparison.challenger, rows, &targets)?;
    let losses = Losses { champion: &champion.losses, challenger: &challenger.losses };
    let agreement = match comparison.work.requirement {
        Requirement::Better => Shown::Better,
        Requirement::NotWorse => Shown::NotWorse,
        Requirement::Consistent => Shown::Consistent(disagreement(&champion.prediction, &challenger.prediction)),
    };
    let verdict = verdict::of(&losses, &slices::of(rows, gate)?, gate, agreement)?;
    let checked = checks::of(
        &Challenger {
            model: comparison.challenger,
            rows,
            targets: &targets,
            prediction: &challenger.prediction,
            losses: &challenger.losses,
            least_rows: gate.min_rows,
            bytes: comparison.challenger_bytes,
            cases: comparison.cases,
        },
        &gate.checks,
    )?;
    let failed = checked.iter().find(|check| !check.pass);
    evaluation.pass = verdict.pass && failed.is_none();
    evaluation.reason = match failed {
        Some(check) => format!("the challenger fails {}: {}; {}", check.check, check.explanation, verdict.reason),
        None => verdict.reason,
    };
    evaluation.checks = checked;
    evaluation.improvement = verdict.improvement.mean;
    evaluation.improvement_lower_bound = verdict.improvement.lower;
    evaluation.champion_metrics = champion.metrics;
    evaluation.challenger_metrics = challenger.metrics;
    evaluation.slices = verdict.slices;
    Ok(evaluation)
}

/// The mean total variation distance of the predicted probabilities; of numbers, the mean absolute difference, in standard deviations of
/// the champion's. Classes are compared by position only if both models have as many.
fn disagreement(champion: &Prediction, challenger: &Prediction) -> f64 {
    let ((width, own), (other_width, others)) = (champion.scores(), challenger.scores());
    if width != other_width || own.is_empty() {
        return f64::INFINITY;
    }
    let differences = own.iter().zip(others).map(|(own, other)| f64::from(own - other).abs());
    let sum: f64 = differences.sum();
    if champion.labels().is_some() {
        // Total variation: half the sum over the classes; one probability stands for two classes.
        let rows = (own.len() / width) as f64;
        return if width == 1 { sum / rows } else { sum / (2.0 * rows) };
    }
    let mean_difference = sum / own.len() as f64;
    let values: Vec<f64> = own.iter().copied().map(f64::from).collect();
    if mean_difference == 0.0 { 0.0 } else { mean_difference / std(&values) }
}

fn check_comparable(comparison: &Comparison<'_>) -> Result<(), Error> {
    let (old, new) = (comparison.champion.manifest(), comparison.challenger.manifest());
    // Models of different classes have one loss: a class that a model does not know has the maximum loss.
    let is_regression = |task: Task| task == Task::Regression;
    if old.target == new.target && is_regression(old.task) == is_regression(new.task) {
        return Ok(());
    }
    Err(Error::Evaluation(format!(
        "the champion predicts {} ({:?}), the challenger {} ({:?}): compare models of one target",
        old.target, old.task, new.target, new.task
    )))
}

/// The first instant after the training rows of both models.
fn unseen_from(comparison: &Comparison<'_>) -> Result<Option<DateTime<Utc>>, Error> {
    let models = [("champion", comparison.champion), ("challenger", comparison.challenger)];
    let mut bounds = vec![comparison.work.from];
    for (name, model) in models {
        match model.manifest().provenance.trained_until {
            Some(millis) if comparison.time_column.is_some() => bounds.push(DateTime::from_timestamp_millis(millis)),
            None if comparison.work.from.is_some() => {}
            _ => {
                return Err(Error::Evaluation(format!(
                    "the rows that the {name} was not trained on are unknown: train and evaluate on datasets with a time column"
                )));
            }
        }
    }
    Ok(bounds.into_iter().flatten().max())
}

/// The metrics of both models, for the run.
pub(crate) fn points(evaluation: &Evaluation) -> Points {
    let of = |prefix: &'static str, metrics: &BTreeMap<String, f64>| -> BTreeMap<String, f64> {
        metrics.iter().map(|(name, value)| (format!("{prefix}.{name}"), *value)).collect()
    };
    let mut values = of("champion", &evaluation.champion_metrics);
    values.extend(of("challenger", &evaluation.challenger_metrics));
    values.insert("improvement".to_owned(), evaluation.improvement);
    values.insert("rows".to_owned(), evaluation.rows as f64);
    Points { step: 0, values }
}

/// The standard deviation of values that are all there are (divisor n).
fn std(values: &[f64]) -> f64 {
    let center = mean(values);
    (values.iter().map(|value| (value - center).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
