//! Scores of predictions against labels: the loss of each row and the metrics of all rows.

use std::collections::BTreeMap;

use rekindle_domain::Task;
use rekindle_statistics::quality;

use crate::{Error, Prediction, prediction::PROBABILITY_MARGIN, target::Targets};

/// The loss of each row: log loss in nats, or squared error in the target's units squared. A class that is unknown to the
/// model has the maximum loss.
///
/// # Errors
/// No rows, or not one prediction per label.
pub fn losses(task: Task, prediction: &Prediction, targets: &Targets) -> Result<Vec<f64>, Error> {
    let (width, scores) = checked(prediction, targets)?;
    match targets {
        Targets::Numbers(numbers) => {
            Ok(scores.iter().zip(numbers).map(|(&score, number)| (f64::from(score) - number).powi(2)).collect())
        }
        Targets::Classes(classes) => Ok(scores
            .chunks_exact(width)
            .zip(classes)
            .map(|(row, &class)| -class_probability(task, row, class).max(PROBABILITY_MARGIN).ln())
            .collect()),
    }
}

/// The predicted probability of the row's class.
fn class_probability(task: Task, row: &[f32], class: Option<usize>) -> f64 {
    match (task, class) {
        (_, None) => 0.0,
        (Task::Binary, Some(0)) => 1.0 - f64::from(row[0]),
        (Task::Binary, Some(_)) => f64::from(row[0]),
        (_, Some(class)) => f64::from(row[class]),
    }
}

/// The metrics of all rows, by name: `log_loss`, `accuracy`, and for two classes `auc` and `brier`; `mae`, `rmse` and `r2`
/// for numbers. Metrics that are undefined for the rows, such as the AUC of a single class, are omitted.
///
/// # Errors
/// As [`losses`].
pub fn metrics(task: Task, prediction: &Prediction, targets: &Targets) -> Result<BTreeMap<String, f64>, Error> {
    let (width, scores) = checked(prediction, targets)?;
    let scores: Vec<f64> = scores.iter().copied().map(f64::from).collect();
    let metrics = match targets {
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
    let metrics = metrics.map_err(|error| Error::invalid("prediction", error))?;
    Ok(metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
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
    let labels: Vec<bool> = classes.iter().map(|class| *class == Some(1)).collect();
    Ok(vec![
        ("log_loss", Some(log_loss)),
        ("auc", quality::auc(scores, &labels)?),
        ("accuracy", Some(quality::accuracy(scores, &labels)?)),
        ("brier", Some(quality::brier(scores, &labels)?)),
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
    let share = if known.is_empty() { 0.0 } else { quality::multiclass_accuracy(&scores, width, &known)? };
    let accuracy = share * known.len() as f64 / classes.len() as f64;
    Ok(vec![("log_loss", Some(log_loss)), ("accuracy", Some(accuracy))])
}

/// The scores, if they have one row per target.
fn checked<'a>(prediction: &'a Prediction, targets: &Targets) -> Result<(usize, &'a [f32]), Error> {
    let (width, scores) = prediction.scores();
    if targets.is_empty() || scores.len() != targets.len() * width {
        let problem = format!("{} predictions for {} labels", prediction.rows, targets.len());
        return Err(Error::invalid("prediction", problem));
    }
    Ok((width, scores))
}

/// The score that is explained, of each row: the log odds for two classes, the logarithm of the probability of `class` for several, and the
/// number for regression.
pub(crate) fn explained(task: Task, prediction: &Prediction, class: usize) -> Vec<f64> {
    let (width, scores) = prediction.scores();
    let of_row = |row: &[f32]| match task {
        Task::Binary => {
            let probability = f64::from(row[0]);
            (probability / (1.0 - probability)).ln()
        }
        Task::Multiclass => f64::from(row[class]).ln(),
        Task::Regression => f64::from(row[0]),
    };
    scores.chunks(width.max(1)).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn prediction(task: Task, raw: &[f32], classes: &[&str]) -> Prediction {
        let classes: Vec<Arc<str>> = classes.iter().map(|&class| Arc::from(class)).collect();
        Prediction::from_raw(task, &classes, raw.to_vec())
    }

    #[test]
    fn unknown_class_has_the_maximum_loss_and_is_inaccurate() {
        let prediction = prediction(Task::Multiclass, &[9.0, 0.0, 0.0, 9.0], &["a", "b"]);
        let targets = Targets::Classes(vec![Some(0), None]);
        let losses = losses(Task::Multiclass, &prediction, &targets).expect("losses");
        assert!(losses[0] < 0.01, "{losses:?}");
        assert_eq!(losses[1], -PROBABILITY_MARGIN.ln());
        assert_eq!(metrics(Task::Multiclass, &prediction, &targets).expect("metrics")["accuracy"], 0.5);
    }

    #[test]
    fn undefined_metrics_are_omitted() {
        let prediction = prediction(Task::Binary, &[0.0, 1.0], &["0", "1"]);
        let metrics = metrics(Task::Binary, &prediction, &Targets::Classes(vec![Some(1), Some(1)])).expect("metrics");
        assert_eq!(metrics.keys().collect::<Vec<_>>(), ["accuracy", "brier", "log_loss"]);
    }

    #[test]
    fn regression_loss_is_the_squared_error() {
        let prediction = prediction(Task::Regression, &[1.0, 5.0], &[]);
        let targets = Targets::Numbers(vec![3.0, 5.0]);
        assert_eq!(losses(Task::Regression, &prediction, &targets).expect("losses"), [4.0, 0.0]);
        assert_eq!(metrics(Task::Regression, &prediction, &targets).expect("metrics")["mae"], 1.0);
    }

    #[test]
    fn row_counts_must_match() {
        let prediction = prediction(Task::Regression, &[1.0, 5.0], &[]);
        let error = losses(Task::Regression, &prediction, &Targets::Numbers(vec![3.0])).expect_err("one label");
        assert!(error.to_string().contains("2 predictions for 1 labels"), "{error}");
    }
}
