//! Which models may have something due. A fixed number of statements finds them, however many models there are.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use rekindle_bus::streams::Progress;
use rekindle_domain::ModelName;
use tokio::time::{Duration, Instant};

use super::{Evaluation, now};
use crate::{
    Error,
    capture::{Captured as _, outcomes::OutcomeMessage},
    store::{
        logs::{self, Version},
        outcome_checks, pending_outcomes, reports, watches,
    },
};

/// Time after which every model gets a turn, whatever is known of it.
const RESYNC: Duration = Duration::from_secs(300);

/// What the steps of a model depend on, but for checks of outcomes and outcomes that wait to be counted. While it is the same as when a step found nothing due, nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    log: Version,
    /// The revision of the watch.
    watch: i64,
    /// The progress of the outcomes' capture, if the quality of a report waits for it. `None` if it is unknown.
    outcomes: Option<Option<Progress>>,
}

/// What was seen of each model.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// At the last query.
    latest: HashMap<ModelName, Seen>,
    /// Before the last step that found nothing due.
    idle: HashMap<ModelName, Seen>,
    resync_at: Option<Instant>,
    /// When a model is due whose outcomes wait to be counted.
    later: HashMap<ModelName, DateTime<Utc>>,
}

impl Due {
    /// Notes that a step found nothing due.
    pub(super) fn is_idle(&mut self, model: &ModelName) {
        if let Some(seen) = self.latest.get(model) {
            self.idle.insert(model.clone(), seen.clone());
        }
    }

    /// Forgets a model, which another instance evaluates.
    pub(super) fn forget(&mut self, model: &ModelName) {
        self.idle.remove(model);
        self.later.remove(model);
    }

    /// Notes that no outcomes of a model wait to be counted.
    pub(super) fn wait_no_longer(&mut self, model: &ModelName) {
        self.later.remove(model);
    }

    /// Notes that something of a model is due at a time.
    pub(super) fn recheck_at(&mut self, model: &ModelName, at: DateTime<Utc>) {
        self.later.insert(model.clone(), at);
    }

    fn has_changed(&self, model: &ModelName) -> bool {
        // While the progress is unknown, a step may find something due.
        self.idle.get(model).is_none_or(|idle| idle.outcomes == Some(None) || self.latest.get(model) != Some(idle))
    }
}

impl Evaluation {
    /// Every model with a log, and those of them that may have something due.
    pub(super) async fn find_due(&mut self) -> Result<(Vec<ModelName>, Vec<ModelName>), Error> {
        let (logs, watches) = (logs::versions(&self.db).await?, watches::revisions(&self.db).await?);
        let unmeasured = reports::unmeasured(&self.db).await?;
        let at = now();
        let mut to_check: HashSet<ModelName> = outcome_checks::due_models(&self.db, at).await?.into_iter().collect();
        let is_due = |(model, due_at): (&ModelName, &DateTime<Utc>)| (*due_at <= at).then(|| model.clone());
        to_check.extend(self.due.later.iter().filter_map(is_due));
        if let Some(before) = at.checked_sub_signed(self.outcome_wait) {
            to_check.extend(pending_outcomes::overdue_models(&self.db, before).await?);
        }
        let progress = match unmeasured.is_empty() {
            true => None,
            false => self.bus.progress(OutcomeMessage::STREAM, OutcomeMessage::CONSUMER).await.ok(),
        };
        self.due.latest = logs
            .into_iter()
            .map(|(model, log)| {
                let watch = watches.get(model.as_str()).copied().unwrap_or_default();
                let outcomes = unmeasured.contains(model.as_str()).then_some(progress);
                (model, Seen { log, watch, outcomes })
            })
            .collect();
        let resyncs = self.due.resync_at.is_none_or(|at| at <= Instant::now());
        if resyncs {
            self.due.resync_at = Some(Instant::now() + RESYNC);
        }
        let all: Vec<ModelName> = self.due.latest.keys().cloned().collect();
        let may_be_due = |model: &&ModelName| resyncs || to_check.contains(*model) || self.due.has_changed(model);
        let due = all.iter().filter(may_be_due).cloned().collect();
        Ok((all, due))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use chrono::TimeDelta;
    use rekindle_artifacts::Artifacts;
    use rekindle_bus::Bus;
    use rekindle_store::Leases;
    use rekindle_testkit::NatsServer;
    use tokio::sync::Notify;

    use super::*;
    use crate::{
        evaluate::turns::Turns,
        event_clock::EventClock,
        ownership,
        reference::References,
        store::logs::{Log, LogDelta},
    };

    struct World {
        evaluation: Evaluation,
        /// Statements on other tables than that of the leases.
        statements: Arc<AtomicUsize>,
        turns: Turns,
        _nats: NatsServer,
        _folder: tempfile::TempDir,
    }

    fn name(index: usize) -> ModelName {
        format!("model-{index}").parse().expect("a name")
    }

    impl World {
        /// An evaluation that holds the leases of so many models, each with a log.
        async fn with_models(models: usize) -> Self {
            let (nats, folder) = (NatsServer::start().await, tempfile::tempdir().expect("a folder"));
            let mut db = ownership::tests::database().await;
            let statements = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&statements);
            db.set_metric_callback(move |info| {
                if !info.statement.sql.contains("leases") {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
            let bus = Bus::connect(&rekindle_bus::Config::at(nats.url())).await.expect("connects");
            let artifacts = Artifacts::open(&rekindle_artifacts::Config::local(folder.path())).await.expect("opens");
            for index in 0..models {
                let delta = LogDelta { predictions: 5, ..LogDelta::default() };
                let clock = EventClock::default();
                logs::apply(&db, &name(index), &Log::default(), &delta, &clock).await.expect("applied");
            }
            let (leases, _) = ownership::tests::holding(&db, "another").await;
            let evaluation = Evaluation {
                db,
                bus,
                references: References::new(artifacts.clone(), 1),
                artifacts,
                leases,
                captured: Arc::new(Notify::new()),
                every: Duration::from_secs(1),
                window_rows: 1,
                labelled_share: 1.0,
                outcome_wait: TimeDelta::hours(1),
                revise_after: TimeDelta::hours(1),
                memory: HashMap::new(),
                due: Due::default(),
            };
            let mut world = Self { evaluation, statements, turns: Turns::default(), _nats: nats, _folder: folder };
            let mut changes = world.evaluation.leases.subscribe();
            world.evaluation.refresh(&mut world.turns).await;
            while !holds_all(&world.evaluation.leases, models) {
                changes.changed().await.expect("the sender is shared");
            }
            world
        }

        /// The models that get a turn after a refresh, and the number of statements that both take.
        async fn round(&mut self) -> (usize, usize) {
            let before = self.statements.load(Ordering::Relaxed);
            self.evaluation.refresh(&mut self.turns).await;
            let mut turns = 0;
            while let Some(model) = self.turns.next() {
                self.evaluation.try_step(&model).await;
                turns += 1;
            }
            (turns, self.statements.load(Ordering::Relaxed) - before)
        }
    }

    fn holds_all(leases: &Leases, models: usize) -> bool {
        (0..models).all(|index| leases.is_held(&ownership::evaluation(&name(index))))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_idle_round_takes_as_many_statements_for_many_models_as_for_one() {
        let (mut one, mut many) = (World::with_models(1).await, World::with_models(200).await);
        assert_eq!((one.round().await.0, many.round().await.0), (1, 200), "nothing is known of them yet");
        let idle = one.round().await;
        assert_eq!(idle.0, 0);
        assert_eq!(many.round().await, idle);
        assert!(idle.1 > 0, "statements are counted");

        let delta = LogDelta { predictions: 1, ..LogDelta::default() };
        let before = logs::get(&many.evaluation.db, &name(7)).await.expect("read");
        logs::apply(&many.evaluation.db, &name(7), &before, &delta, &before.clock).await.expect("applied");
        assert_eq!(many.round().await.0, 1, "only the model that has changed");
        assert_eq!(many.round().await, idle);
        let settings = rekindle_domain::WatchSettings::default();
        assert!(watches::set(&many.evaluation.db, &name(9), &settings, 0).await.expect("set"));
        assert_eq!(many.round().await.0, 1, "only the model whose settings have changed");
    }
}
