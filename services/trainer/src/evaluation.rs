//! The gate: is the challenger better than the champion on rows that neither has seen?
//!
//! Both models answer the same rows; the losses are compared row by row, so that the difficulty of a row counts for
//! neither. Ties go to the champion: where the rows cannot tell, the answer is no.

mod slices;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use rekindle_dataset::Table;
use rekindle_domain::Digest;
use rekindle_model::{Model, Prediction, target::Targets};
use rekindle_proto::{
    time,
    trainer::{Evaluation, SliceEvaluation},
};
use rekindle_statistics::paired::{Improvement, improvement_in_order};

use crate::{
    Error,
    job::{Evaluate, Gate},
    watch::Points,
};

/// Two models and the rows to judge them by.
pub(crate) struct Contest<'a> {
    pub table: &'a Table,
    pub time_column: Option<&'a str>,
    /// Content digest of the rows.
    pub dataset: Digest,
    pub champion: &'a Model,
    pub challenger: &'a Model,
    pub work: &'a Evaluate,
}

/// Judges the challenger. That it is not better, or that this cannot be told, is an answer and not an error.
pub(crate) fn evaluate(contest: &Contest<'_>) -> Result<Evaluation, Error> {
    check_comparable(contest)?;
    let from = unseen_from(contest)?;
    let rows = match (contest.time_column, from) {
        (Some(column), Some(from)) => contest.table.slice_time(column, Some(from), None)?,
        _ => contest.table.clone(),
    };
    let mut evaluation = Evaluation {
        champion_bundle: contest.work.champion.to_string(),
        challenger_bundle: contest.work.challenger.to_string(),
        dataset_digest: contest.dataset.to_string(),
        rows: rows.rows() as u64,
        from: from.map(time::to_wire),
        gate: Some(contest.work.gate.to_wire()),
        ..Evaluation::default()
    };
    if let Some(column) = contest.time_column {
        evaluation.until = rows.time_range(column)?.map(|(_, last)| time::to_wire(last));
    }
    let least = contest.work.gate.min_rows;
    if (rows.rows() as u64) < least {
        evaluation.reason =
            format!("cannot tell: {} rows that neither model has seen, the gate's min_rows is {least}", rows.rows());
        return Ok(evaluation);
    }
    compare(contest, &rows, evaluation)
}

/// One model's answers to the rows.
struct Answered {
    losses: Vec<f64>,
    metrics: HashMap<String, f64>,
}

fn answer(model: &Model, rows: &Table, targets: &Targets) -> Result<Answered, Error> {
    let prediction: Prediction = model.score(&rows.batch)?;
    Ok(Answered {
        losses: model.losses(&prediction, targets)?,
        metrics: model.metrics(&prediction, targets)?.into_iter().collect(),
    })
}

fn compare(contest: &Contest<'_>, rows: &Table, mut evaluation: Evaluation) -> Result<Evaluation, Error> {
    let gate = &contest.work.gate;
    // Each model has its own classes: one that appeared later is known to the challenger alone.
    let champion = answer(contest.champion, rows, &contest.champion.targets(&rows.batch)?)?;
    let challenger = answer(contest.challenger, rows, &contest.challenger.targets(&rows.batch)?)?;
    let found = paired(&champion.losses, &challenger.losses, gate)?;
    // The margin is taken off the champion's losses row by row, so that the bound covers its uncertainty too.
    let handicapped: Vec<f64> = champion.losses.iter().map(|loss| loss * (1.0 - gate.margin)).collect();
    let beyond_margin = paired(&handicapped, &challenger.losses, gate)?;
    let slices = slices::judge(rows, &champion.losses, &challenger.losses, gate)?;
    let worse = slices.iter().find(|slice| slice.improvement_upper_bound < 0.0);
    evaluation.pass = beyond_margin.lower > 0.0 && worse.is_none();
    evaluation.reason = reason(gate, &found, &beyond_margin, mean(&champion.losses), worse);
    evaluation.improvement = found.mean;
    evaluation.improvement_lower_bound = found.lower;
    evaluation.champion_metrics = champion.metrics;
    evaluation.challenger_metrics = challenger.metrics;
    evaluation.slices = slices;
    Ok(evaluation)
}

/// The improvement with bounds of which each holds with the gate's one-sided confidence. The rows are in the order of time, and what
/// happened to one happened to its neighbours.
fn paired(champion: &[f64], challenger: &[f64], gate: &Gate) -> Result<Improvement, Error> {
    let two_sided = 2.0 * gate.confidence - 1.0;
    improvement_in_order(champion, challenger, two_sided).map_err(|error| Error::Evaluation(error.to_string()))
}

fn reason(
    gate: &Gate,
    found: &Improvement,
    beyond_margin: &Improvement,
    champion_loss: f64,
    worse: Option<&SliceEvaluation>,
) -> String {
    let percent = 100.0 * gate.confidence;
    let numbers = format!(
        "the mean loss falls by {:.4} from {champion_loss:.4}, with {percent} % confidence by at least {:.4}",
        found.mean, found.lower
    );
    match (worse, beyond_margin.lower > 0.0) {
        (Some(slice), _) => format!("the challenger is worse where {} is {}: {numbers}", slice.column, slice.value),
        (None, true) => format!("the challenger is better: {numbers}"),
        (None, false) if gate.margin > 0.0 => {
            format!("the challenger is not shown to be better by the margin of {}: {numbers}", gate.margin)
        }
        (None, false) => format!("the challenger is not shown to be better: {numbers}"),
    }
}

fn check_comparable(contest: &Contest<'_>) -> Result<(), Error> {
    let (old, new) = (contest.champion.manifest(), contest.challenger.manifest());
    if old.target == new.target && old.task == new.task {
        return Ok(());
    }
    Err(Error::Evaluation(format!(
        "the champion predicts {} ({:?}), the challenger {} ({:?}): compare models of one target",
        old.target, old.task, new.target, new.task
    )))
}

/// The first instant of which neither model has seen a row.
fn unseen_from(contest: &Contest<'_>) -> Result<Option<DateTime<Utc>>, Error> {
    let models = [("champion", contest.champion), ("challenger", contest.challenger)];
    let mut bounds = vec![contest.work.from];
    for (name, model) in models {
        match model.manifest().provenance.trained_until {
            Some(millis) if contest.time_column.is_some() => bounds.push(DateTime::from_timestamp_millis(millis)),
            None if contest.work.from.is_some() => {}
            _ => {
                return Err(Error::Evaluation(format!(
                    "it cannot be told which rows the {name} has not seen: train on and evaluate on datasets with a time column"
                )));
            }
        }
    }
    Ok(bounds.into_iter().flatten().max())
}

/// The metrics of both models, for the run.
pub(crate) fn points(evaluation: &Evaluation) -> Points {
    let of = |prefix: &'static str, metrics: &HashMap<String, f64>| -> BTreeMap<String, f64> {
        metrics.iter().map(|(name, value)| (format!("{prefix}.{name}"), *value)).collect()
    };
    let mut values = of("champion", &evaluation.champion_metrics);
    values.extend(of("challenger", &evaluation.challenger_metrics));
    values.insert("improvement".to_owned(), evaluation.improvement);
    values.insert("rows".to_owned(), evaluation.rows as f64);
    Points { step: 0, values }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
