//! Every active workflow, one step at a time each, several at once.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_domain::WorkflowId;
use rekindle_service::chain;
use rekindle_store::Fence;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    core::{Core, now},
    store,
    workflow::{Workflow, steps},
};

/// Concurrent steps.
const CONCURRENCY: usize = 32;

/// The state of a workflow between two rounds. It may be lost without harm.
#[derive(Debug, Clone, Copy)]
enum Note {
    /// A step is running.
    Running,
    /// Waiting for a notification, and until that moment at the latest.
    Waiting(Instant),
    /// The step failed; it is retried at that moment, after a pause of that length.
    Failed(Instant, Duration),
}

type Notes = HashMap<WorkflowId, Note>;

/// Advances workflows until `shutdown`; running steps are finished.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let mut happened = core.happened.subscribe();
    let mut notes = Notes::new();
    let mut running = FuturesUnordered::new();
    loop {
        if let Some(fence) = core.leadership.fence() {
            let mut reading = pin!(store::workflows::active(&core.db));
            // Steps in progress do not wait for the database. One that ends meanwhile may be repeated with what was read before its end: its
            // write is then refused.
            let read = loop {
                tokio::select! {
                    read = &mut reading => break read,
                    Some((id, result)) = running.next(), if !running.is_empty() => note(&core, &mut notes, id, result),
                }
            };
            match read {
                Ok(active) => {
                    notes.retain(|id, _| active.iter().any(|workflow| workflow.id == *id));
                    for workflow in active {
                        if running.len() < CONCURRENCY && is_due(&notes, &workflow) {
                            notes.insert(workflow.id, Note::Running);
                            running.push(step(&core, fence.clone(), workflow));
                        }
                    }
                }
                Err(error) => tracing::warn!(error = chain(&error), "workflow reconciliation failed"),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = happened.changed() => notes.retain(|_, note| !matches!(note, Note::Waiting(_))),
            Some((id, result)) = running.next(), if !running.is_empty() => note(&core, &mut notes, id, result),
            () = tokio::time::sleep(core.config.tick) => {}
        }
    }
    while running.next().await.is_some() {}
    Ok(())
}

fn is_due(notes: &Notes, workflow: &Workflow) -> bool {
    match notes.get(&workflow.id) {
        None => true,
        Some(Note::Running) => false,
        Some(Note::Waiting(until) | Note::Failed(until, _)) => *until <= Instant::now(),
    }
}

async fn step(core: &Core, fence: Fence, workflow: Workflow) -> (WorkflowId, Result<bool, Error>) {
    (workflow.id, Box::pin(steps::advance(core, fence, &workflow, now())).await)
}

fn note(core: &Core, notes: &mut Notes, id: WorkflowId, result: Result<bool, Error>) {
    let pause = match notes.get(&id) {
        Some(Note::Failed(_, pause)) => (*pause * 2).min(core.config.retry_longest),
        _ => core.config.retry_first,
    };
    match result {
        Ok(true) => {
            notes.remove(&id);
        }
        Err(error) if error.is_overtaken() => {
            notes.remove(&id);
        }
        Ok(false) => {
            notes.insert(id, Note::Waiting(Instant::now() + core.config.poll));
        }
        Err(error) => {
            tracing::warn!(workflow = %id, error = chain(&error), ?pause, "step failed, retrying");
            notes.insert(id, Note::Failed(Instant::now() + pause, pause));
        }
    }
}
