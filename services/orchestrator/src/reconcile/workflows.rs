//! Every active workflow, one step at a time each, several at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_domain::WorkflowId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    core::{Core, now},
    error::chain,
    store,
    workflow::{Workflow, steps},
};

/// Steps carried out at the same time.
const CONCURRENCY: usize = 32;

/// What is known of a workflow between two looks; all of it may be forgotten.
#[derive(Debug, Clone, Copy)]
enum Note {
    /// A step is being carried out.
    Running,
    /// Waiting for something to happen; look again then, and at that moment at the latest.
    Waiting(Instant),
    /// The step failed; try again at that moment, after a pause of that length.
    Failed(Instant, Duration),
}

type Notes = HashMap<WorkflowId, Note>;

/// Advances workflows until `shutdown`; steps in hand are finished.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let mut happened = core.happened.subscribe();
    let mut notes = Notes::new();
    let mut running = FuturesUnordered::new();
    loop {
        if core.leadership.is_held() {
            match store::workflows::active(&core.db).await {
                Ok(active) => {
                    notes.retain(|id, _| active.iter().any(|workflow| workflow.id == *id));
                    for workflow in active {
                        if running.len() < CONCURRENCY && is_due(&notes, &workflow) {
                            notes.insert(workflow.id, Note::Running);
                            running.push(step(&core, workflow));
                        }
                    }
                }
                Err(error) => tracing::warn!(error = chain(&error), "cannot look after the workflows"),
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

async fn step(core: &Core, workflow: Workflow) -> (WorkflowId, Result<bool, Error>) {
    (workflow.id, steps::advance(core, &workflow, now()).await)
}

fn note(core: &Core, notes: &mut Notes, id: WorkflowId, result: Result<bool, Error>) {
    let pause = match notes.get(&id) {
        Some(Note::Failed(_, pause)) => (*pause * 2).min(core.config.retry_longest),
        _ => core.config.retry_first,
    };
    match result {
        Ok(true) | Err(Error::Raced { .. }) => {
            notes.remove(&id);
        }
        Ok(false) => {
            notes.insert(id, Note::Waiting(Instant::now() + core.config.poll));
        }
        Err(error) => {
            tracing::warn!(workflow = %id, error = chain(&error), ?pause, "step will be tried again");
            notes.insert(id, Note::Failed(Instant::now() + pause, pause));
        }
    }
}
