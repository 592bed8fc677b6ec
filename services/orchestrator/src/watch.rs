//! The changes of one workflow as a stream, until it ends.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use rekindle_domain::{WorkflowId, workflow::WorkflowStatus};
use rekindle_service::RequestError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, core::Core, store::workflows};

/// How often a workflow is read without a notification: another instance may have changed it.
const POLL: Duration = Duration::from_millis(500);

/// A permit for one more watcher.
pub(crate) fn admit(watchers: &Arc<Semaphore>, limit: usize) -> Result<OwnedSemaphorePermit, RequestError> {
    watchers.clone().try_acquire_owned().map_err(|_| RequestError::Exhausted {
        reason: "TOO_MANY_WATCHERS",
        message: format!("the limit of {limit} watchers (orchestrator.watchers) is reached: retry later"),
        metadata: vec![("limit", limit.to_string())],
    })
}

/// The workflow now, and after each change until it has ended.
pub(crate) fn changes(
    core: Arc<Core>,
    id: WorkflowId,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<WorkflowStatus, Error>> + Send {
    let start = Some((core, 0, permit));
    stream::try_unfold(start, move |state| async move {
        let Some((core, seen, permit)) = state else { return Ok(None) };
        let status = next(&core, id, seen).await?;
        let (epoch, ended) = (status.epoch, status.state.is_terminal());
        Ok(Some((status, (!ended).then_some((core, epoch, permit)))))
    })
}

async fn next(core: &Core, id: WorkflowId, seen: u64) -> Result<WorkflowStatus, Error> {
    let mut happened = core.happened.subscribe();
    loop {
        let workflow = workflows::get(&core.db, id).await?.ok_or_else(|| Error::not_found("workflow", id))?;
        if workflow.epoch > seen {
            return Ok(workflow.status(workflows::steps(&core.db, id).await?));
        }
        // Either way the workflow is read again.
        tokio::time::timeout(POLL, happened.changed()).await.ok();
    }
}
