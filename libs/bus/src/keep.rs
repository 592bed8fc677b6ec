//! Streams and buckets that were deleted while the services run are created again. What they contained is lost; publishers, consumers and
//! watches continue with the new ones.

use std::time::Duration;

use async_nats::Subscriber;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error};

/// Where the server reports deleted streams.
const DELETIONS: &str = "$JS.EVENT.ADVISORY.STREAM.DELETED.*";
/// Time between two checks, in case that a report was lost or the account may not subscribe to reports.
const CHECK: Duration = Duration::from_secs(10);
/// Time until a failed check is repeated.
const RETRY: Duration = Duration::from_secs(1);

/// Creates missing streams and buckets until `shutdown`. Run it once in each process: one is enough for a bus, and more do no harm.
pub async fn run(bus: Bus, shutdown: CancellationToken) -> Result<(), Error> {
    let mut deletions = bus.client().subscribe(DELETIONS).await.ok();
    let mut is_failing = false;
    while !shutdown.is_cancelled() {
        let checked = create_missing(&bus).await;
        if let (Err(error), false) = (&checked, is_failing) {
            tracing::warn!(error = error as &dyn std::error::Error, "cannot check the streams of the bus, retrying");
        }
        is_failing = checked.is_err();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = reported(&mut deletions) => {}
            () = sleep(if is_failing { RETRY } else { CHECK }) => {}
        }
    }
    Ok(())
}

async fn reported(deletions: &mut Option<Subscriber>) {
    match deletions {
        Some(subscriber) => match subscriber.next().await {
            Some(_) => {}
            None => *deletions = None,
        },
        None => std::future::pending().await,
    }
}

async fn create_missing(bus: &Bus) -> Result<(), Error> {
    // While the connection is lost, a check would only wait for its deadline.
    if !bus.is_connected() {
        return Ok(());
    }
    let listed: Result<Vec<String>, _> = bus.jetstream().stream_names().try_collect().await;
    let present = listed.map_err(|error| Error::Unavailable {
        operation: "list the streams".to_owned(),
        waited: bus.publish_timeout(),
        source: Some(error.into()),
    })?;
    let missing: Vec<String> = bus.stream_names().into_iter().filter(|name| !present.contains(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    tracing::error!(streams = missing.join(", "), "streams of the bus were deleted, creating them again");
    metrics::counter!("rekindle_bus_streams_recreated_total").increment(missing.len() as u64);
    bus.set_up_once().await
}
