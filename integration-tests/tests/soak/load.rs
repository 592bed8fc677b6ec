//! Callers of every service. Each repeats its operation until it is stopped, and enters what is acknowledged into the ledger.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rekindle_client::registry::UploadPurpose;
use rekindle_domain::{
    AliasName, PredictionId,
    alias::AliasMove,
    outcome::{Label, Outcome},
    run::{Metric, RunReport},
};
use rekindle_integration_tests::{
    Clients, scenario,
    table::{self, Row},
};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use super::ledger::{Answered, Ledger, of};

/// Time between two operations of a caller.
const PACE: Duration = Duration::from_millis(50);
/// Time between two workflows.
const WORKFLOW_EVERY: Duration = Duration::from_secs(20);
/// How long outcomes are reported again.
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes of a blob.
const BLOB: usize = 16 << 10;

/// The alias that is moved.
pub(crate) fn alias() -> AliasName {
    "soak".parse().expect("a name")
}

/// The running callers.
pub(crate) struct Load {
    stopping: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

/// What each caller works with.
#[derive(Clone)]
struct Caller {
    clients: Clients,
    ledger: Arc<Ledger>,
    stopping: Arc<AtomicBool>,
}

/// An answered request whose outcomes are to be reported.
type ToReport = (PredictionId, Vec<Row>);

impl Load {
    /// Starts the callers; the first request has the rows of hour `hour`.
    pub(crate) async fn start(clients: &Clients, ledger: &Arc<Ledger>, hour: u64) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let caller = Caller { clients: clients.clone(), ledger: ledger.clone(), stopping: stopping.clone() };
        let run = clients.registry().create_run(&scenario::new_run(), "soak").await.expect("created");
        *of(&ledger.run) = Some(run.id);
        let (answered, to_report) = mpsc::unbounded_channel();
        let callers = vec![
            tokio::spawn(caller.clone().metrics()),
            tokio::spawn(caller.clone().aliases()),
            tokio::spawn(caller.clone().blobs()),
            tokio::spawn(caller.clone().requests(hour, answered)),
            tokio::spawn(caller.clone().outcomes(to_report)),
            tokio::spawn(caller.workflows()),
        ];
        Self { stopping, callers }
    }

    /// Stops them, each after its operation.
    pub(crate) async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("no caller panicked");
        }
    }
}

impl Caller {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn refused(&self) {
        self.ledger.refused.fetch_add(1, Ordering::Relaxed);
    }

    async fn metrics(self) {
        let (registry, run) = (self.clients.registry(), of(&self.ledger.run).expect("created"));
        for step in 0.. {
            if self.is_stopping() {
                return;
            }
            let metric = Metric { name: "soak".to_owned(), value: step as f64, step, time: None };
            match registry.log_metrics(run, &[metric]).await {
                Ok(()) => of(&self.ledger.metrics).push(step),
                Err(_) => self.refused(),
            }
            if step % 100 == 0 {
                let _ = registry.report_run(run, RunReport::Running).await;
            }
            sleep(PACE).await;
        }
    }

    async fn aliases(self) {
        let (registry, mut revision) = (self.clients.registry(), 0);
        while !self.is_stopping() {
            let version = 1 + u32::from(revision % 2 == 1);
            let target = AliasMove {
                model: scenario::model(),
                alias: alias(),
                version,
                expected_revision: revision,
                why: "soak".to_owned(),
            };
            match registry.set_alias(&target).await {
                Ok(moved) => {
                    of(&self.ledger.aliases).push((moved.revision, moved.version));
                    revision = moved.revision;
                }
                Err(_) => {
                    self.refused();
                    // It may have been moved without an answer.
                    if let Ok(found) = registry.alias(&scenario::model(), &alias()).await {
                        revision = found.revision;
                    }
                }
            }
            sleep(PACE).await;
        }
    }

    async fn blobs(self) {
        let registry = self.clients.registry();
        for number in 0u64.. {
            if self.is_stopping() {
                return;
            }
            let bytes: Bytes = number.to_le_bytes().repeat(BLOB / 8).into();
            match registry.upload_bytes(UploadPurpose::Blob, bytes).await {
                Ok((digest, _)) => of(&self.ledger.blobs).push(digest),
                Err(_) => self.refused(),
            }
            sleep(PACE).await;
        }
    }

    /// Sends the rows of one hour per request, to the replicas in turn.
    async fn requests(self, first: u64, answered: mpsc::UnboundedSender<ToReport>) {
        let replicas: Vec<_> = (0..self.clients.inference.len()).map(|index| self.clients.replica(index)).collect();
        for hour in first.. {
            if self.is_stopping() {
                return;
            }
            let (replica, rows) = (hour as usize % replicas.len(), table::rows(hour..hour + 1, u64::MAX));
            match replicas[replica].infer(scenario::request(&rows)).await {
                Ok(answer) => {
                    let answer_rows = rows.len() as u64;
                    of(&self.ledger.answers).push(Answered { at: Instant::now(), replica, rows: answer_rows });
                    let prediction = answer.prediction().expect("an id");
                    answered.send((prediction, rows)).expect("outcomes are reported until the last answer");
                }
                Err(_) => self.refused(),
            }
            sleep(PACE).await;
        }
    }

    /// Reports the outcomes of each answer, again under the same key until they are accepted.
    async fn outcomes(self, mut to_report: mpsc::UnboundedReceiver<ToReport>) {
        let monitor = self.clients.monitor();
        while let Some((prediction, rows)) = to_report.recv().await {
            let outcome = |(row, index): (&Row, u32)| Outcome::new(prediction, index, Label::Class(row.bought.into()));
            let outcomes: Vec<Outcome> = rows.iter().zip(0..).map(outcome).collect();
            let began = Instant::now();
            loop {
                match monitor.report_outcomes(&scenario::model(), &outcomes, prediction.to_string()).await {
                    Ok(accepted) => {
                        self.ledger.outcomes.fetch_add(accepted.accepted, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => {
                        assert!(began.elapsed() < PATIENCE, "outcomes are refused for {PATIENCE:?}: {error:?}")
                    }
                }
                self.refused();
                sleep(PACE).await;
            }
        }
    }

    async fn workflows(self) {
        let orchestrator = self.clients.orchestrator();
        let mut next = Instant::now();
        for number in 0.. {
            while Instant::now() < next {
                if self.is_stopping() {
                    return;
                }
                sleep(PACE).await;
            }
            match orchestrator.start_workflow(&scenario::model(), "soak", format!("soak-{number}")).await {
                Ok(started) => of(&self.ledger.workflows).push(started.id),
                Err(_) => self.refused(),
            }
            next = Instant::now() + WORKFLOW_EVERY;
        }
    }
}
