//! Assignments that could not be carried out, and how long each of them rests before it is tried again.

use std::{collections::BTreeMap, future::pending, time::Duration};

use rekindle_domain::{Assignment, ModelName};
use tokio::time::{Instant, sleep_until};

use crate::desired::States;

/// The latest refusal of each model.
pub(crate) struct Refusals {
    rest: Duration,
    until: BTreeMap<ModelName, (Assignment, Instant)>,
}

impl Refusals {
    /// None yet. Each will rest for `rest`.
    pub(crate) fn new(rest: Duration) -> Self {
        Self { rest, until: BTreeMap::new() }
    }

    /// `assignment` could not be carried out.
    pub(crate) fn note(&mut self, model: ModelName, assignment: Assignment, now: Instant) {
        self.until.insert(model, (assignment, now + self.rest));
    }

    /// The model's assignment was carried out, or another one came.
    pub(crate) fn forget(&mut self, model: &ModelName) {
        self.until.remove(model);
    }

    /// What stood in the way of all of them may be gone.
    pub(crate) fn forget_all(&mut self) {
        self.until.clear();
    }

    /// Keeps those that still rest, of models that are still wanted.
    pub(crate) fn keep(&mut self, wanted: &States, now: Instant) {
        self.until.retain(|model, (_, until)| now < *until && wanted.contains_key(model));
    }

    /// Whether exactly this assignment was refused and rests.
    pub(crate) fn rests(&self, model: &ModelName, assignment: Assignment) -> bool {
        self.until.get(model).is_some_and(|(refused, _)| *refused == assignment)
    }

    /// Waits until one may be tried again; for ever if there is none.
    pub(crate) async fn next_due(&self) {
        match self.until.values().map(|(_, until)| *until).min() {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{DesiredState, Digest, VersionRef};

    use super::*;

    const REST: Duration = Duration::from_secs(10);

    #[test]
    fn an_assignment_rests_once_and_only_that_assignment() {
        let stable = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        let model: ModelName = "flight-delay".parse().expect("a name");
        let state = DesiredState { model: model.clone(), generation: 3, stable, rollout: None };
        let wanted = States::from([(model.clone(), state)]);
        let refused = Assignment { version: stable, generation: 3 };
        let (mut refusals, now) = (Refusals::new(REST), Instant::now());
        refusals.note(model.clone(), refused, now);

        refusals.keep(&wanted, now + REST - Duration::from_millis(1));
        assert!(refusals.rests(&model, refused));
        assert!(
            !refusals.rests(&model, Assignment { generation: 4, ..refused }),
            "another desired state is tried at once"
        );
        refusals.keep(&wanted, now + REST);
        assert!(!refusals.rests(&model, refused));

        refusals.note(model.clone(), refused, now);
        refusals.keep(&States::new(), now);
        assert!(!refusals.rests(&model, refused), "a deployment that is made anew is tried at once");
    }
}
