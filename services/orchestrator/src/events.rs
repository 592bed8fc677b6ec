//! Facts that the reconcilers wait for: the end of a run, above all.

use std::sync::Arc;

use rekindle_bus::{
    consumer::{self, Consumer, Outcome},
    streams::EVENTS,
};
use rekindle_domain::event::EventKind;
use tokio_util::sync::CancellationToken;

use crate::{Error, core::Core};

/// Wakes the reconcilers when a run has ended. An event that is lost costs time and nothing else: runs are asked for as well.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let spec = Consumer::new("orchestrator-wake", EVENTS, [EventKind::RUN_ENDED.subject("*")]);
    let bus = core.bus.clone();
    let wake = async move |_: rekindle_bus::Message| {
        core.wake();
        Outcome::Ack
    };
    Ok(consumer::run(bus, spec, wake, shutdown).await?)
}
