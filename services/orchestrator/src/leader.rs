//! Which instance acts: the holder of a lease in the database.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    core::{Core, now},
    error::chain,
    store::lease,
};

/// Until when this instance may act.
#[derive(Debug)]
pub(crate) struct Leadership {
    until: watch::Sender<Option<Instant>>,
}

impl Leadership {
    pub(crate) fn new() -> Self {
        Self { until: watch::Sender::new(None) }
    }

    /// Whether this instance may act now.
    pub(crate) fn is_held(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }
}

/// Takes or renews the lease until `shutdown`, and then gives it up.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    let length = core.config.lease;
    // Two lives of an instance are two holders: the earlier one may still be finishing a step.
    let holder = format!("{}/{}", core.config.instance, uuid::Uuid::now_v7());
    loop {
        let asked = Instant::now();
        match lease::hold(&core.db, &holder, now(), length).await {
            Ok(held) => set(&core, held.then(|| asked + length * 9 / 10)),
            Err(error) => tracing::warn!(error = chain(&error), "cannot renew the lease"),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause(length, core.leadership.is_held())) => {}
        }
    }
    set(&core, None);
    lease::release(&core.db, &holder, now()).await
}

fn set(core: &Core, until: Option<Instant>) {
    let before = core.leadership.until.send_replace(until);
    if before.is_some() != until.is_some() {
        tracing::info!(acting = until.is_some(), "leadership changed");
        core.wake();
    }
}

/// The holder renews in good time; the others look often, so that little time is lost when it falls silent.
fn pause(length: Duration, held: bool) -> Duration {
    if held { length / 4 } else { (length / 10).min(Duration::from_secs(1)) }
}
