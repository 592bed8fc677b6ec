//! Shadow versions: they get copies of requests that the primary version has answered, off the path of these requests. Their answers are
//! compared row by row, summarised in the replica's state, and never returned.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arrow::array::RecordBatch;
use rekindle_bundle::Prediction;
use rekindle_domain::ShadowComparison;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    execution::{Executor, Failure},
    serving::{LoadedVersion, Slot},
};

/// Requests that wait for a shadow version. Further ones are skipped and counted, so that shadows take no memory from requests.
const WAITING: usize = 1024;

/// A request that the primary version has answered.
struct Copy {
    shadow: Arc<LoadedVersion>,
    rows: RecordBatch,
    returned: Arc<Prediction>,
    /// The time that the primary version took.
    took: Duration,
}

/// Sends copies of requests to the shadow versions of one replica.
pub(crate) struct Shadows {
    sender: mpsc::Sender<Copy>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Copy>>,
    executor: Arc<Executor>,
}

impl Shadows {
    /// Shadow versions are executed by `executor`.
    pub(crate) fn new(executor: Arc<Executor>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: receiver.into(), executor }
    }

    /// Offers an answered request to the model's shadow version, if it has one. Does not wait.
    pub(crate) fn offer(&self, slot: &Slot, rows: &RecordBatch, returned: &Arc<Prediction>, took: Duration) {
        let snapshot = slot.snapshot();
        let Some(shadow) = snapshot.shadow() else { return };
        let copy = Copy { shadow: Arc::clone(shadow), rows: rows.clone(), returned: Arc::clone(returned), took };
        if self.sender.try_send(copy).is_err() {
            shadow.comparison.skip(rows.num_rows());
        }
    }

    /// Predicts and compares, until `closing`.
    pub(crate) async fn run(&self, closing: CancellationToken) -> Result<(), Error> {
        let mut receiver = self.receiver.lock().await;
        loop {
            let copy = tokio::select! {
                copy = receiver.recv() => copy,
                () = closing.cancelled() => None,
            };
            let Some(Copy { shadow, rows, returned, took }) = copy else { return Ok(()) };
            match self.executor.predict(&shadow, &rows).await {
                Ok(executed) => shadow.comparison.compare(&returned, &executed.prediction, took, executed.computed),
                // A full queue says nothing about the version.
                Err(Failure::QueueFull(_)) => shadow.comparison.skip(rows.num_rows()),
                Err(_) => shadow.comparison.fail(rows.num_rows()),
            }
        }
    }
}

/// The comparison of one shadow version.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    sums: Mutex<Sums>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    requests: u64,
    rows: u64,
    identical: u64,
    disagreeing: u64,
    scores: u64,
    difference: f64,
    max_difference: f64,
    primary: Duration,
    shadow: Duration,
    skipped: u64,
    failed: u64,
}

impl Comparison {
    fn skip(&self, rows: usize) {
        self.update(|sums| sums.skipped += rows as u64);
    }

    fn fail(&self, rows: usize) {
        self.update(|sums| sums.failed += rows as u64);
    }

    fn compare(&self, returned: &Prediction, shadow: &Prediction, primary_took: Duration, shadow_took: Duration) {
        let ((width, scores), (shadow_width, shadow_scores)) = (returned.scores(), shadow.scores());
        if width == 0 || width != shadow_width || scores.len() != shadow_scores.len() {
            // Models of different classes: a retraining may have found a new one.
            return self.skip(returned.rows);
        }
        let identical = scores.chunks(width).zip(shadow_scores.chunks(width));
        let identical =
            identical.filter(|(one, other)| one.iter().zip(*other).all(|(a, b)| a.to_bits() == b.to_bits()));
        let identical = identical.count() as u64;
        let disagreeing = match (returned.labels(), shadow.labels()) {
            (Some(one), Some(other)) => one.iter().zip(other).filter(|(one, other)| one != other).count() as u64,
            _ => 0,
        };
        let differences = scores.iter().zip(shadow_scores).map(|(one, other)| f64::from((one - other).abs()));
        self.update(|sums| {
            sums.requests += 1;
            sums.rows += returned.rows as u64;
            sums.identical += identical;
            sums.disagreeing += disagreeing;
            sums.scores += scores.len() as u64;
            for difference in differences {
                sums.difference += difference;
                sums.max_difference = sums.max_difference.max(difference);
            }
            sums.primary += primary_took;
            sums.shadow += shadow_took;
        });
    }

    /// The comparison of `version` so far.
    pub(crate) fn read(&self, version: u32) -> ShadowComparison {
        let sums = *self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / count as f64 };
        ShadowComparison {
            version,
            requests: sums.requests,
            rows: sums.rows,
            identical: sums.identical,
            disagreeing: sums.disagreeing,
            mean_difference: mean(sums.difference, sums.scores),
            max_difference: sums.max_difference,
            primary_micros: mean(sums.primary.as_secs_f64() * 1e6, sums.requests),
            shadow_micros: mean(sums.shadow.as_secs_f64() * 1e6, sums.requests),
            skipped: sums.skipped,
            failed: sums.failed,
        }
    }

    fn update(&self, change: impl FnOnce(&mut Sums)) {
        change(&mut self.sums.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use rekindle_bundle::Values;

    use super::*;
    use crate::serving::{
        Catalog, Progress, Versions,
        fixture::{loaded, model, rows},
    };

    fn prediction(scores: &[f32], labels: &[&str]) -> Prediction {
        let labels = labels.iter().map(|label| Arc::from(*label)).collect();
        let scores = Values::Fp32 { width: 1, values: scores.to_vec() };
        Prediction { rows: 2, outputs: vec![scores, Values::Text(labels)] }
    }

    #[test]
    fn scores_and_classes_are_compared_row_by_row() {
        let comparison = Comparison::default();
        let (one, other) = (prediction(&[0.25, 0.5], &["no", "yes"]), prediction(&[0.25, 0.25], &["no", "no"]));
        let micros = Duration::from_micros;
        comparison.compare(&one, &one, micros(10), micros(30));
        comparison.compare(&one, &other, micros(20), micros(50));
        comparison.skip(5);
        comparison.fail(2);
        comparison.compare(&one, &Prediction { rows: 2, outputs: Vec::new() }, micros(1), micros(1));
        let expected = ShadowComparison {
            version: 7,
            requests: 2,
            rows: 4,
            identical: 3,
            disagreeing: 1,
            mean_difference: 0.0625,
            max_difference: 0.25,
            primary_micros: 15.0,
            shadow_micros: 40.0,
            skipped: 5 + one.rows as u64,
            failed: 2,
        };
        assert_eq!(comparison.read(7), expected);
    }

    #[tokio::test]
    async fn requests_beyond_those_that_wait_are_skipped_and_counted() {
        let slot = Catalog::default().slot(&model());
        let shadow = loaded(2);
        let versions = Versions { shadow: Some(Arc::clone(&shadow)), ..Versions::only(&loaded(1)) };
        slot.serve(&versions, &Progress::default());
        let executor = Arc::new(Executor::new(crate::config::Limits::for_tests()));
        let shadows = Shadows::new(executor);
        let (rows, returned) = (rows(3), Arc::new(shadow.model.predict(&rows(3)).expect("predicts")));
        for _ in 0..WAITING + 2 {
            shadows.offer(&slot, &rows, &returned, Duration::ZERO);
        }
        assert_eq!(shadow.comparison.read(2).skipped, 6);
        let closing = CancellationToken::new();
        let all_compared = async {
            while shadow.comparison.read(2).requests < WAITING as u64 {
                tokio::task::yield_now().await;
            }
            closing.cancel();
        };
        let (ran, ()) = tokio::join!(shadows.run(closing.clone()), all_compared);
        ran.expect("ends");
        let compared = shadow.comparison.read(2);
        assert_eq!((compared.rows, compared.identical, compared.failed), (3 * WAITING as u64, 3 * WAITING as u64, 0));
    }
}
