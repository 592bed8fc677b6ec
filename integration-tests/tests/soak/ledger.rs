//! What the platform has acknowledged, and the check that it still has all of it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rekindle_client::PageRequest;
use rekindle_domain::{Digest, RunId, WorkflowId};
use rekindle_integration_tests::{
    Clients,
    scenario::{self, described},
};
use rekindle_testkit::eventually;

/// Answers of a replica that may not be logged yet when it is killed: those of this time before, which includes the fault before.
const UNLOGGED: Duration = Duration::from_secs(15);

/// An answered request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) at: Instant,
    pub(crate) replica: usize,
    pub(crate) rows: u64,
}

/// Acknowledged operations of each kind.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) run: Mutex<Option<RunId>>,
    /// Steps of the metric.
    pub(crate) metrics: Mutex<Vec<i64>>,
    /// Revisions of the alias, with the version that each points at.
    pub(crate) aliases: Mutex<Vec<(u64, u32)>>,
    pub(crate) blobs: Mutex<Vec<Digest>>,
    pub(crate) answers: Mutex<Vec<Answered>>,
    /// Rows of outcomes.
    pub(crate) outcomes: AtomicU64,
    pub(crate) workflows: Mutex<Vec<WorkflowId>>,
    /// When a replica was killed.
    pub(crate) kills: Mutex<Vec<(Instant, usize)>>,
    /// Operations that failed.
    pub(crate) refused: AtomicU64,
}

/// A guard; no task panics while it holds one.
pub(crate) fn of<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no task panicked")
}

impl Ledger {
    /// Everything acknowledged is there.
    pub(crate) async fn verify(&self, clients: &Clients) {
        self.verify_metrics(clients).await;
        self.verify_aliases(clients).await;
        let (blobs, workflows) = (of(&self.blobs).clone(), of(&self.workflows).clone());
        for digest in blobs {
            let blob = scenario::download(clients, digest).await;
            assert_eq!(Digest::of(&blob), digest, "an acknowledged blob");
        }
        self.verify_log(clients).await;
        for id in workflows {
            scenario::ended(clients, id).await;
        }
    }

    async fn verify_metrics(&self, clients: &Clients) {
        let (registry, run) = (clients.registry(), of(&self.run).expect("a run"));
        let (mut found, mut page) = (BTreeSet::new(), PageRequest::first(1000));
        loop {
            let history = registry.metric_history(run, "soak", page).await.expect("the run");
            found.extend(history.items.iter().map(|metric| metric.step));
            if history.next_page_token.is_empty() {
                break;
            }
            page = PageRequest { size: 1000, token: history.next_page_token };
        }
        let missing: Vec<i64> = of(&self.metrics).iter().copied().filter(|step| !found.contains(step)).collect();
        assert!(missing.is_empty(), "{} acknowledged metrics are missing: {missing:?}", missing.len());
    }

    async fn verify_aliases(&self, clients: &Clients) {
        let (registry, mut found) = (clients.registry(), BTreeSet::new());
        let (alias, mut page) = (super::load::alias(), PageRequest::first(500));
        loop {
            let moves = registry.alias_history(&scenario::model(), &alias, page).await.expect("the alias");
            found.extend(moves.items.iter().map(|entry| (entry.revision, entry.version)));
            if moves.next_page_token.is_empty() {
                break;
            }
            page = PageRequest { size: 500, token: moves.next_page_token };
        }
        let missing: Vec<_> = of(&self.aliases).iter().copied().filter(|entry| !found.contains(entry)).collect();
        assert!(missing.is_empty(), "acknowledged moves of the alias are missing: {missing:?}");
    }

    /// Every answered row is logged or declared lost, but for the last ones of a killed replica; every outcome is captured once.
    async fn verify_log(&self, clients: &Clients) {
        let answers = of(&self.answers).clone();
        let rows: u64 = answers.iter().map(|answer| answer.rows).sum();
        let kills = of(&self.kills).clone();
        let was_killed = |answer: &&Answered| {
            let is_recent = |&(at, replica): &(Instant, usize)| {
                replica == answer.replica && answer.at <= at && answer.at + UNLOGGED >= at
            };
            kills.iter().any(is_recent)
        };
        let unlogged: u64 = answers.iter().filter(was_killed).map(|answer| answer.rows).sum();
        let (monitor, outcomes) = (clients.monitor(), self.outcomes.load(Ordering::Relaxed));
        eventually("every answered row and outcome to be captured", async || {
            let status = monitor.capture_status(&scenario::model()).await.map_err(described)?;
            let logged = status.predictions + status.lost;
            assert!(status.outcomes <= outcomes, "{} outcomes of {outcomes}", status.outcomes);
            let is_complete = logged + unlogged >= rows && status.outcomes == outcomes;
            if is_complete {
                Ok(())
            } else {
                Err(format!("{logged} of {rows} rows, {unlogged} may be missing: {status:?}"))
            }
        })
        .await;
    }

    /// The platform was not merely refusing.
    pub(crate) fn assert_progress(&self, length: Duration) {
        let (seconds, workflows) = (length.as_secs(), of(&self.workflows).len() as u64);
        let counts = self.counts();
        let [metrics, aliases, blobs, answers, outcomes] = counts.map(|(_, count)| count);
        let least = [metrics, aliases, blobs, answers].into_iter().min().unwrap_or_default();
        assert!(least >= seconds && outcomes >= 60 * seconds && workflows > 0, "too few operations: {self}");
    }

    fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("metrics", of(&self.metrics).len() as u64),
            ("moves of an alias", of(&self.aliases).len() as u64),
            ("blobs", of(&self.blobs).len() as u64),
            ("answers", of(&self.answers).len() as u64),
            ("outcomes", self.outcomes.load(Ordering::Relaxed)),
        ]
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in self.counts() {
            write!(f, "{count} {what}, ")?;
        }
        let (workflows, refused) = (of(&self.workflows).len(), self.refused.load(Ordering::Relaxed));
        write!(f, "{workflows} workflows acknowledged; {refused} operations failed")
    }
}
