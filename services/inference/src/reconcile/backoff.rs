//! Assignments that failed, and how long each of them is delayed before a retry.

use std::{collections::BTreeMap, future::pending, time::Duration};

use rekindle_domain::{Assignment, ModelName};
use tokio::time::{Instant, sleep_until};

use crate::routes::RoutesByModel;

/// The latest failed assignment of each model.
pub(super) struct Backoff {
    interval: Duration,
    until: BTreeMap<ModelName, (Assignment, Instant)>,
}

impl Backoff {
    /// Delays each failed assignment for `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, until: BTreeMap::new() }
    }

    /// Delays an assignment that has failed.
    pub(super) fn delay(&mut self, model: ModelName, assignment: Assignment, now: Instant) {
        self.until.insert(model, (assignment, now + self.interval));
    }

    /// Ends the delay of a model.
    pub(super) fn clear(&mut self, model: &ModelName) {
        self.until.remove(model);
    }

    /// Ends every delay.
    pub(super) fn clear_all(&mut self) {
        self.until.clear();
    }

    /// Keeps only the delays that have not passed, of models that still have routes.
    pub(super) fn retain(&mut self, routes: &RoutesByModel, now: Instant) {
        self.until.retain(|model, (_, until)| now < *until && routes.contains_key(model));
    }

    /// Whether exactly this assignment is delayed.
    pub(super) fn is_delayed(&self, model: &ModelName, assignment: Assignment) -> bool {
        self.until.get(model).is_some_and(|(failed, _)| *failed == assignment)
    }

    /// Waits until the first delay has passed; for ever if there is none.
    pub(super) async fn next_due(&self) {
        match self.until.values().map(|(_, until)| *until).min() {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{Digest, Routes, VersionRef};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn only_the_assignment_that_failed_is_delayed_and_only_once() {
        let version = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        let model: ModelName = "flight-delay".parse().expect("a name");
        let routes = RoutesByModel::from([(model.clone(), Routes::to(model.clone(), 3, version))]);
        let failed = Assignment { version, generation: 3 };
        let (mut backoff, now) = (Backoff::new(INTERVAL), Instant::now());
        backoff.delay(model.clone(), failed, now);

        backoff.retain(&routes, now + INTERVAL - Duration::from_millis(1));
        assert!(backoff.is_delayed(&model, failed));
        let next = Assignment { generation: 4, ..failed };
        assert!(!backoff.is_delayed(&model, next), "other routes are tried at once");
        backoff.retain(&routes, now + INTERVAL);
        assert!(!backoff.is_delayed(&model, failed));

        backoff.delay(model.clone(), failed, now);
        backoff.retain(&RoutesByModel::new(), now);
        assert!(!backoff.is_delayed(&model, failed), "a deployment that is created again is tried at once");
    }
}
