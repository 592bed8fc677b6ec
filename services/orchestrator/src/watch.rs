//! Following one workflow until it ends.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use rekindle_domain::WorkflowId;
use rekindle_proto::{error::refusal, orchestrator as wire};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use crate::{Error, core::Core, store::workflows, wire::workflow_to_wire};

/// How often a workflow is looked at when nothing is known to have happened: another instance may have moved it.
const LOOK: Duration = Duration::from_millis(500);

/// A place among the watchers.
pub(crate) fn admit(watchers: &Arc<Semaphore>, limit: usize) -> Result<OwnedSemaphorePermit, Status> {
    watchers.clone().try_acquire_owned().map_err(|_| {
        let message =
            format!("{limit} watchers are being served, orchestrator.watchers allows no more: try again later");
        refusal(Code::ResourceExhausted, "TOO_MANY_WATCHERS", message, [("limit", limit.to_string())])
    })
}

/// The workflow now, and after each change until it has ended.
pub(crate) fn follow(
    core: Arc<Core>,
    id: WorkflowId,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<wire::Workflow, Status>> + Send {
    let start = Some((core, 0, permit));
    stream::try_unfold(start, move |state| async move {
        let Some((core, seen, permit)) = state else { return Ok(None) };
        let (workflow, ended) = next(&core, id, seen).await?;
        let epoch = workflow.epoch;
        Ok(Some((workflow, (!ended).then_some((core, epoch, permit)))))
    })
}

async fn next(core: &Core, id: WorkflowId, seen: u64) -> Result<(wire::Workflow, bool), Error> {
    let mut happened = core.happened.subscribe();
    loop {
        let workflow = workflows::get(&core.db, id).await?.ok_or_else(|| Error::not_found("workflow", id))?;
        if workflow.epoch > seen {
            let steps = workflows::steps(&core.db, id).await?;
            return Ok((workflow_to_wire(&workflow, &steps), workflow.state.is_terminal()));
        }
        // Either way the workflow is read again.
        tokio::time::timeout(LOOK, happened.changed()).await.ok();
    }
}
