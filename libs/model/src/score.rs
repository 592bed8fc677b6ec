//! Predictions against the truth: the loss of each row, and the metrics of all.

use std::collections::BTreeMap;

use rekindle_domain::Task;
use rekindle_statistics::quality;

use crate::{Error, Prediction, prediction::PROBABILITY_MARGIN, target::Targets};

/// The loss of each row. A class that the model does not know costs what the least probable one can cost at most.
pub(crate) fn losses(task: Task, prediction: &Prediction, targets: &Targets) -> Result<Vec<f64>, Error> {
    let (width, scores) = checked(prediction, targets)?;
    match targets {
        Targets::Numbers(numbers) => {
            Ok(scores.iter().zip(numbers).map(|(&score, number)| (f64::from(score) - number).powi(2)).collect())
        }
        Targets::Classes(classes) => Ok(scores
            .chunks_exact(width)
            .zip(classes)
            .map(|(row, &class)| -of_class(task, row, class).max(PROBABILITY_MARGIN).ln())
            .collect()),
    }
}

/// The probability that a row's prediction gave to its class.
fn of_class(task: Task, row: &[f32], class: Option<usize>) -> f64 {
    match (task, class) {
        (_, None) => 0.0,
        (Task::Binary, Some(0)) => 1.0 - f64::from(row[0]),
        (Task::Binary, Some(_)) => f64::from(row[0]),
        (_, Some(class)) => f64::from(row[class]),
    }
}

/// The metrics of all rows, by name.
pub(crate) fn metrics(task: Task, prediction: &Prediction, targets: &Targets) -> Result<BTreeMap<String, f64>, Error> {
    let (width, scores) = checked(prediction, targets)?;
    let scores: Vec<f64> = scores.iter().copied().map(f64::from).collect();
    let found = match targets {
        Targets::Numbers(numbers) => regression(&scores, numbers),
        Targets::Classes(classes) => {
            let losses = losses(task, prediction, targets)?;
            let log_loss = losses.iter().sum::<f64>() / losses.len() as f64;
            match task {
                Task::Binary => binary(&scores, classes, log_loss),
                _ => multiclass(&scores, width, classes, log_loss),
            }
        }
    };
    let found = found.map_err(|error| Error::invalid("prediction", error))?;
    Ok(found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

type Named = Vec<(&'static str, Option<f64>)>;

fn regression(scores: &[f64], numbers: &[f64]) -> Result<Named, rekindle_statistics::Error> {
    Ok(vec![
        ("mae", Some(quality::mae(scores, numbers)?)),
        ("rmse", Some(quality::rmse(scores, numbers)?)),
        ("r2", quality::r2(scores, numbers)?),
    ])
}

fn binary(scores: &[f64], classes: &[Option<usize>], log_loss: f64) -> Result<Named, rekindle_statistics::Error> {
    let truth: Vec<bool> = classes.iter().map(|class| *class == Some(1)).collect();
    Ok(vec![
        ("log_loss", Some(log_loss)),
        ("auc", quality::auc(scores, &truth)?),
        ("accuracy", Some(quality::accuracy(scores, &truth)?)),
        ("brier", Some(quality::brier(scores, &truth)?)),
    ])
}

fn multiclass(
    scores: &[f64],
    width: usize,
    classes: &[Option<usize>],
    log_loss: f64,
) -> Result<Named, rekindle_statistics::Error> {
    let known: Vec<usize> = classes.iter().copied().flatten().collect();
    let rows = scores.chunks_exact(width).zip(classes).filter(|(_, class)| class.is_some());
    let scores: Vec<f64> = rows.flat_map(|(row, _)| row.iter().copied()).collect();
    let right = if known.is_empty() { 0.0 } else { quality::multiclass_accuracy(&scores, width, &known)? };
    let accuracy = right * known.len() as f64 / classes.len() as f64;
    Ok(vec![("log_loss", Some(log_loss)), ("accuracy", Some(accuracy))])
}

/// The scores, if there is one row of them for each target.
fn checked<'a>(prediction: &'a Prediction, targets: &Targets) -> Result<(usize, &'a [f32]), Error> {
    let (width, scores) = prediction.scores();
    if targets.is_empty() || scores.len() != targets.len() * width {
        let problem = format!("{} rows of scores against {} truths", prediction.rows, targets.len());
        return Err(Error::invalid("prediction", problem));
    }
    Ok((width, scores))
}
