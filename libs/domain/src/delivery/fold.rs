//! The metrics as a fold of the events in their order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{DeliveryMetrics, Happened, Occurrence, Spread};
use crate::{
    ModelName, RunId, Trigger, WorkflowState,
    deployment_status::{DeploymentPhase, RolloutOutcome},
};

/// The metrics of a model, or of all that `events` are about, within a span of time. `events` are in the order in which they happened; those
/// before the span tell when what ended in it began.
pub fn measure(
    events: impl IntoIterator<Item = Occurrence>,
    model: Option<&ModelName>,
    span: Range<DateTime<Utc>>,
) -> DeliveryMetrics {
    let mut fold = Fold { span, ..Fold::new() };
    for event in events {
        let is_other = model.zip(event.happened.model()).is_some_and(|(asked, named)| asked != named);
        if event.at < fold.span.end && !is_other {
            fold.take(event);
        }
    }
    fold.finish()
}

/// A rollout in progress.
struct Rollout {
    target: u32,
    /// The stable version when it began; `None` for the first version of a model.
    before: Option<u32>,
    began_at: DateTime<Utc>,
    is_rollback: bool,
}

/// One model.
#[derive(Default)]
struct Model {
    rollout: Option<Rollout>,
    /// When each version was registered.
    registered_at: BTreeMap<u32, DateTime<Utc>>,
    /// When the latest rollout of each version that became stable began.
    rolled_out_at: BTreeMap<u32, DateTime<Utc>>,
    /// The stable version now.
    stable: Option<u32>,
    /// Versions that were stable within the span.
    stable_in_span: BTreeSet<u32>,
    /// Versions whose quality degraded within the span.
    degraded: BTreeSet<u32>,
}

/// When a run started and ended.
#[derive(Default)]
struct Ran {
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
}

struct Fold {
    span: Range<DateTime<Utc>>,
    models: BTreeMap<ModelName, Model>,
    /// When drift or degradation was first detected, by correlation id.
    detected_at: HashMap<String, DateTime<Utc>>,
    /// When each workflow was queued.
    queued_at: HashMap<String, DateTime<Utc>>,
    runs: HashMap<RunId, Ran>,
    /// The runs of versions that were registered within the span.
    trained: Vec<RunId>,
    metrics: DeliveryMetrics,
    detect: Vec<TimeDelta>,
    respond: Vec<TimeDelta>,
    lead: Vec<TimeDelta>,
    cycle: Vec<TimeDelta>,
    restore: Vec<TimeDelta>,
}

impl Fold {
    fn new() -> Self {
        Self {
            span: DateTime::UNIX_EPOCH..DateTime::UNIX_EPOCH,
            models: BTreeMap::new(),
            detected_at: HashMap::new(),
            queued_at: HashMap::new(),
            runs: HashMap::new(),
            trained: Vec::new(),
            metrics: DeliveryMetrics::default(),
            detect: Vec::new(),
            respond: Vec::new(),
            lead: Vec::new(),
            cycle: Vec::new(),
            restore: Vec::new(),
        }
    }

    fn take(&mut self, event: Occurrence) {
        let Occurrence { at, correlation_id, happened } = event;
        let is_in_span = self.span.contains(&at);
        match happened {
            Happened::Detected { model, version, trigger, onset, window, closed_at } => {
                self.detected_at.entry(correlation_id).or_insert(at);
                if is_in_span {
                    self.metrics.detections += 1;
                    if is_replayed(window, closed_at) {
                        self.metrics.replayed_detections += 1;
                    } else {
                        self.detect.push(at - onset);
                    }
                    if trigger == Trigger::Degradation {
                        self.models.entry(model).or_default().degraded.insert(version);
                    }
                }
            }
            Happened::WorkflowAdvanced { workflow, state, .. } => self.workflow(at, &correlation_id, workflow, state),
            Happened::DeploymentChanged { model, phase, stable, target, outcome, is_rollback } => {
                self.deployment(at, model, Changed { phase, stable, target, outcome, is_rollback });
            }
            Happened::VersionRegistered { model, version, run } => {
                self.models.entry(model).or_default().registered_at.insert(version, at);
                self.trained.extend(run.filter(|_| is_in_span));
            }
            // A lost run that is resumed starts again.
            Happened::RunStarted(run) => self.runs.entry(run).or_default().started_at = Some(at),
            Happened::RunEnded(run) => self.runs.entry(run).or_default().ended_at = Some(at),
        }
    }

    fn workflow(&mut self, at: DateTime<Utc>, correlation: &str, workflow: String, state: WorkflowState) {
        let is_in_span = self.span.contains(&at);
        match state {
            WorkflowState::Queued => {
                self.queued_at.insert(workflow, at);
            }
            WorkflowState::Observing if is_in_span => {
                self.respond.extend(self.detected_at.get(correlation).map(|detected| at - *detected));
            }
            _ if state.is_terminal() && is_in_span => {
                *self.metrics.workflows.entry(state).or_default() += 1;
                let queued = self.queued_at.get(&workflow).filter(|_| state == WorkflowState::Succeeded);
                self.lead.extend(queued.map(|queued| at - *queued));
            }
            _ => {}
        }
    }

    fn deployment(&mut self, at: DateTime<Utc>, model: ModelName, changed: Changed) {
        let is_in_span = self.span.contains(&at);
        let model = self.models.entry(model).or_default();
        // What was stable when the span began, too.
        if changed.target.is_some() {
            // The first event that is read may be of a model that has been deployed for long.
            model.stable.get_or_insert(changed.stable);
        }
        let before = model.stable.filter(|_| at >= self.span.start);
        model.stable_in_span.extend(before);
        if changed.phase != DeploymentPhase::Stable {
            let target = changed.target.unwrap_or(changed.stable);
            let rollout = Rollout { target, before: model.stable, began_at: at, is_rollback: changed.is_rollback };
            // A first version that is not complete is replaced at once.
            model.rollout.get_or_insert(rollout).target = target;
            return;
        }
        let Some(rollout) = model.rollout.take() else {
            model.stable = Some(changed.stable);
            return;
        };
        let is_returned = match changed.outcome {
            Some(outcome) => outcome != RolloutOutcome::Completed,
            // Releases before the field said so by the versions alone.
            None => changed.stable != rollout.target,
        };
        model.stable = Some(changed.stable);
        if is_returned {
            if is_in_span && !rollout.is_rollback {
                self.metrics.returned += 1;
                self.restore.extend(rollout.before.map(|_| at - rollout.began_at));
            }
            return;
        }
        let (registered, target) = (model.registered_at.get(&rollout.target).copied(), rollout.target);
        let replaced = rollout.before.filter(|_| rollout.is_rollback);
        let replaced_since = replaced.and_then(|version| model.rolled_out_at.remove(&version));
        model.rolled_out_at.entry(target).and_modify(|began| *began = rollout.began_at).or_insert(rollout.began_at);
        if !is_in_span {
            return;
        }
        model.stable_in_span.insert(target);
        if rollout.is_rollback {
            self.metrics.rolled_back += 1;
            self.restore.extend(replaced_since.map(|since| at - since));
        } else {
            self.metrics.deployments += 1;
            self.cycle.extend(registered.map(|registered| at - registered));
        }
    }

    fn finish(self) -> DeliveryMetrics {
        let span = self.span;
        let days = (span.end - span.start).num_milliseconds() as f64 / 86_400_000.0;
        let stable = |model: &Model| {
            let mut versions = model.stable_in_span.clone();
            versions.extend(model.stable);
            (versions.len() as u64, versions.intersection(&model.degraded).count() as u64)
        };
        let (stable_versions, degraded_versions) =
            self.models.values().map(stable).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        let trained = self.trained.iter().filter_map(|run| {
            let Ran { started_at, ended_at } = self.runs.get(run)?;
            Some((*ended_at)? - (*started_at)?)
        });
        let metrics = self.metrics;
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        DeliveryMetrics {
            time_to_detect: Spread::of(self.detect),
            time_to_respond: Spread::of(self.respond),
            lead_time: Spread::of(self.lead),
            cycle_time: Spread::of(self.cycle),
            training_time: Spread::of(trained.collect()),
            time_to_restore: Spread::of(self.restore),
            deployments_per_day: if days > 0.0 { metrics.deployments as f64 / days } else { 0.0 },
            // A deployment before the span may be rolled back in it.
            change_failure_rate: share(metrics.returned + metrics.rolled_back, metrics.deployments + metrics.returned)
                .map(|rate| rate.min(1.0)),
            stable_versions,
            degraded_versions,
            defect_rate: share(degraded_versions, stable_versions),
            ..metrics
        }
    }
}

/// A change of a deployment.
struct Changed {
    phase: DeploymentPhase,
    stable: u32,
    target: Option<u32>,
    outcome: Option<RolloutOutcome>,
    is_rollback: bool,
}

/// Whether the rows of a window are of the past: it closed later than a window of the present does, by its own length and a day.
fn is_replayed((from, until): (DateTime<Utc>, DateTime<Utc>), closed_at: DateTime<Utc>) -> bool {
    closed_at - until > (until - from) + TimeDelta::days(1)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::prop, prop_assert, prop_assert_eq, proptest};
    use uuid::Uuid;

    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_760_000_000 + 60 * minute, 0).expect("in range")
    }

    fn minutes(minutes: i64) -> TimeDelta {
        TimeDelta::minutes(minutes)
    }

    fn model() -> ModelName {
        "tips".parse().expect("a name")
    }

    fn run(number: u128) -> RunId {
        RunId::new(Uuid::from_u128(number))
    }

    fn event(minute: i64, correlation: &str, happened: Happened) -> Occurrence {
        Occurrence { at: at(minute), correlation_id: correlation.to_owned(), happened }
    }

    fn advanced(minute: i64, workflow: &str, state: WorkflowState) -> Occurrence {
        let happened = Happened::WorkflowAdvanced { workflow: workflow.to_owned(), model: model(), state };
        event(minute, workflow, happened)
    }

    fn detected(minute: i64, correlation: &str, version: u32, trigger: Trigger, onset: i64) -> Occurrence {
        let (window, closed_at) = ((at(onset), at(onset + 60)), at(minute - 1));
        let happened = Happened::Detected { model: model(), version, trigger, onset: at(onset), window, closed_at };
        event(minute, correlation, happened)
    }

    fn changed(
        minute: i64,
        phase: DeploymentPhase,
        (stable, target): (u32, Option<u32>),
        outcome: Option<RolloutOutcome>,
        is_rollback: bool,
    ) -> Occurrence {
        let happened = Happened::DeploymentChanged { model: model(), phase, stable, target, outcome, is_rollback };
        event(minute, "", happened)
    }

    /// A rollout from `stable` to `target` that ends `took` minutes after its start.
    fn rollout(minute: i64, took: i64, stable: u32, target: u32, outcome: RolloutOutcome) -> [Occurrence; 3] {
        let end = if outcome == RolloutOutcome::Completed { target } else { stable };
        [
            changed(minute, DeploymentPhase::RollingOut, (stable, Some(target)), None, false),
            changed(minute + 1, DeploymentPhase::Observing, (stable, Some(target)), None, false),
            changed(minute + took, DeploymentPhase::Stable, (end, None), Some(outcome), false),
        ]
    }

    fn registered(minute: i64, version: u32, by: u128) -> Occurrence {
        event(minute, "", Happened::VersionRegistered { model: model(), version, run: Some(run(by)) })
    }

    /// Three incidents whose times are known: drift that a retraining answers, a version that fails in its rollout, and one that is rolled back
    /// after its quality degraded.
    fn incidents() -> Vec<Occurrence> {
        let mut events = vec![
            registered(-500, 1, 1),
            changed(-400, DeploymentPhase::Observing, (1, None), None, false),
            changed(-399, DeploymentPhase::Stable, (1, None), Some(RolloutOutcome::Completed), false),
            // The first row shifted at 0; detected at 70, everywhere at 100.
            detected(70, "w1", 1, Trigger::Drift, 0),
            advanced(71, "w1", WorkflowState::Queued),
            event(75, "w1", Happened::RunStarted(run(2))),
            registered(84, 2, 2),
            event(85, "w1", Happened::RunEnded(run(2))),
        ];
        events.extend(rollout(90, 12, 1, 2, RolloutOutcome::Completed));
        events.extend([advanced(100, "w1", WorkflowState::Observing), advanced(103, "w1", WorkflowState::Succeeded)]);
        // Version 3 fails in its rollout.
        events.push(registered(200, 3, 3));
        events.extend(rollout(210, 5, 2, 3, RolloutOutcome::Returned));
        // Version 4 is deployed at 306, degrades, and is rolled back by 350.
        events.push(registered(290, 4, 4));
        events.extend(rollout(300, 6, 2, 4, RolloutOutcome::Completed));
        events.push(detected(340, "w2", 4, Trigger::Degradation, 310));
        events.extend([
            advanced(340, "w2", WorkflowState::Queued),
            advanced(341, "w2", WorkflowState::Rejected),
            changed(345, DeploymentPhase::RollingOut, (4, Some(2)), None, true),
            changed(350, DeploymentPhase::Stable, (2, None), Some(RolloutOutcome::Completed), true),
        ]);
        events
    }

    fn only(duration: i64) -> Spread {
        Spread::of(vec![minutes(duration)])
    }

    #[test]
    fn the_metrics_of_scripted_incidents_are_those_of_their_times() {
        let metrics = measure(incidents(), Some(&model()), at(0)..at(1440));
        let expected = DeliveryMetrics {
            detections: 2,
            replayed_detections: 0,
            time_to_detect: Spread::of(vec![minutes(30), minutes(70)]),
            time_to_respond: only(30),
            lead_time: only(32),
            cycle_time: Spread::of(vec![minutes(18), minutes(16)]),
            training_time: only(10),
            workflows: BTreeMap::from([(WorkflowState::Succeeded, 1), (WorkflowState::Rejected, 1)]),
            deployments: 2,
            deployments_per_day: 2.0,
            returned: 1,
            rolled_back: 1,
            change_failure_rate: Some(2.0 / 3.0),
            time_to_restore: Spread::of(vec![minutes(5), minutes(50)]),
            stable_versions: 3,
            degraded_versions: 1,
            defect_rate: Some(1.0 / 3.0),
        };
        assert_eq!(metrics, expected);
        assert_eq!(measure(incidents(), None, at(0)..at(1440)), expected, "the only model");
    }

    #[test]
    fn what_ends_before_or_after_the_span_does_not_count_and_another_model_neither() {
        let empty = measure(incidents(), Some(&model()), at(400)..at(500));
        assert_eq!((empty.deployments, empty.time_to_restore.count, empty.change_failure_rate), (0, 0, None));
        assert_eq!((empty.stable_versions, empty.defect_rate), (1, Some(0.0)), "version 2 is still stable");
        let other = "other".parse().expect("a name");
        let none = measure(incidents(), Some(&other), at(0)..at(1440));
        assert_eq!(none, DeliveryMetrics::default());
        let early = measure(incidents(), None, at(-450)..at(0));
        assert_eq!((early.deployments, early.cycle_time), (1, only(101)));
    }

    #[test]
    fn a_model_that_was_deployed_before_the_first_event_has_a_stable_version() {
        let events = [
            detected(70, "w", 1, Trigger::Degradation, 0),
            changed(80, DeploymentPhase::RollingOut, (1, Some(2)), None, false),
        ];
        let metrics = measure(events, None, at(0)..at(1440));
        assert_eq!((metrics.stable_versions, metrics.defect_rate), (1, Some(1.0)));
    }

    #[test]
    fn rows_of_the_past_do_not_count_as_slow_detection() {
        let mut replayed = detected(5_000, "w", 1, Trigger::Drift, 0);
        let metrics = measure([replayed.clone()], None, at(0)..at(9_000));
        assert_eq!((metrics.replayed_detections, metrics.time_to_detect.count), (1, 0));
        replayed.at = at(60 + 60 + 1440);
        if let Happened::Detected { closed_at, .. } = &mut replayed.happened {
            *closed_at = at(60 + 60 + 1440);
        }
        let metrics = measure([replayed], None, at(0)..at(9_000));
        assert_eq!((metrics.replayed_detections, metrics.time_to_detect.count), (0, 1));
    }

    #[test]
    fn a_first_version_that_failed_and_events_of_earlier_releases_are_understood() {
        let failed = [
            changed(0, DeploymentPhase::Observing, (1, None), None, false),
            changed(9, DeploymentPhase::Stable, (1, None), Some(RolloutOutcome::Failed), false),
        ];
        let metrics = measure(failed, None, at(0)..at(1440));
        assert_eq!((metrics.deployments, metrics.returned, metrics.time_to_restore.count), (0, 1, 0));
        let replaced = [
            changed(0, DeploymentPhase::Observing, (1, None), None, false),
            changed(5, DeploymentPhase::Observing, (2, None), None, false),
            changed(9, DeploymentPhase::Stable, (2, None), Some(RolloutOutcome::Completed), false),
        ];
        let metrics = measure([registered(0, 2, 1)].into_iter().chain(replaced), None, at(0)..at(1440));
        assert_eq!((metrics.deployments, metrics.cycle_time), (1, only(9)));
        let mut unspecified = rollout(10, 5, 1, 2, RolloutOutcome::Returned);
        for event in &mut unspecified {
            if let Happened::DeploymentChanged { outcome, .. } = &mut event.happened {
                *outcome = None;
            }
        }
        let metrics = measure(unspecified, None, at(0)..at(1440));
        assert_eq!((metrics.deployments, metrics.returned), (0, 1));
    }

    #[test]
    fn quantiles_are_durations_of_the_sample() {
        let spread = Spread::of((1..=10).rev().map(minutes).collect());
        assert_eq!((spread.count, spread.median, spread.p90, spread.max), (10, minutes(5), minutes(9), minutes(10)));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    proptest! {
        /// Two spans that meet have the counts of both.
        #[test]
        fn counts_of_adjacent_spans_add_up(cut in 1_i64..400, order in prop::collection::vec(0_usize..30, 0..60)) {
            let known = incidents();
            // Any order and any repetition: a stream may begin anywhere.
            let mut events: Vec<Occurrence> = order.iter().map(|&index| known[index % known.len()].clone()).collect();
            events.sort_by_key(|event| event.at);
            let of = |span: Range<DateTime<Utc>>| measure(events.clone(), None, span);
            let (all, first, second) = (of(at(0)..at(400)), of(at(0)..at(cut)), of(at(cut)..at(400)));
            for count in [
                |metrics: &DeliveryMetrics| metrics.detections,
                |metrics: &DeliveryMetrics| metrics.deployments,
                |metrics: &DeliveryMetrics| metrics.returned,
                |metrics: &DeliveryMetrics| metrics.rolled_back,
                |metrics: &DeliveryMetrics| metrics.time_to_restore.count,
                |metrics: &DeliveryMetrics| metrics.lead_time.count,
            ] {
                prop_assert_eq!(count(&all), count(&first) + count(&second));
            }
            for rate in [all.change_failure_rate, all.defect_rate].into_iter().flatten() {
                prop_assert!(rate >= 0.0);
            }
        }
    }
}
