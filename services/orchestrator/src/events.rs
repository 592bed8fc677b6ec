//! Events that wake the reconcilers: the ends of runs.

use std::sync::Arc;

use rekindle_bus::{
    consumer::{self, Consumer, Disposition},
    streams::EVENTS,
    subject,
};
use rekindle_domain::event::EventKind;
use tokio_util::sync::CancellationToken;

use crate::{Error, core::Core};

/// Wakes the reconcilers when a run has ended. Runs are polled as well, so a lost event is a delay.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let spec = Consumer::new("orchestrator-wake", EVENTS, [subject::events_of(EventKind::RUN_ENDED)]);
    let bus = core.bus.clone();
    let wake = async move |_: rekindle_bus::Message| {
        core.wake();
        Disposition::Ack
    };
    Ok(consumer::run(bus, spec, wake, shutdown).await?)
}
