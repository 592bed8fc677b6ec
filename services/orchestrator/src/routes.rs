//! The routes that are in their bucket, which replicas carry out. The record of a deployment decides, and not what the bucket contains: routes
//! that another writer put there, that were deleted, or that are of a record before it was restored from a backup are replaced.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rekindle_bus::bucket::{Change, Entry};
use rekindle_domain::Routes;
use rekindle_service::chain;
use rekindle_store::{Fence, in_transaction};
use tokio_util::sync::CancellationToken;

use crate::{Error, core::Core};

/// How often routes are read again because another writer came first.
const RACES: usize = 8;

/// Writes routes, unless the bucket has them. Only for the leader.
pub(crate) async fn publish(core: &Core, fence: &Fence, routes: &Routes) -> Result<(), Error> {
    if core.routes.has(routes) {
        return Ok(());
    }
    let (bucket, key) = (core.bus.routes().await?, routes.model.as_str());
    for _ in 0..RACES {
        let present = bucket.present(key).await?;
        if present.value.as_ref() == Some(routes) {
            core.routes.record(key, present.revision, Some(routes.clone()));
            return Ok(());
        }
        // After the read: if another instance has become the leader and has written since, the replacement fails.
        let held = fence.clone();
        in_transaction(&core.db, async move |txn| Ok::<_, Error>(held.check(txn).await?)).await?;
        if let Some(found) = present.value.as_ref().filter(|found| found.generation >= routes.generation) {
            let (model, generation, found) = (&routes.model, routes.generation, found.generation);
            tracing::warn!(%model, generation, found, "routes in the bucket are not those of the deployment, replacing them");
            metrics::counter!("rekindle_routes_replaced_total").increment(1);
        }
        if let Some(revision) = bucket.replace(key, &present, routes).await? {
            core.routes.record(key, revision, Some(routes.clone()));
            return Ok(());
        }
    }
    Err(Error::Raced { what: format!("the routes of {}", routes.model) })
}

/// What the bucket contains, as far as this instance knows.
#[derive(Debug, Default)]
pub(crate) struct PublishedRoutes(Mutex<BTreeMap<String, Seen>>);

#[derive(Debug)]
struct Seen {
    revision: u64,
    /// `None` for what cannot be read.
    routes: Option<Routes>,
}

impl PublishedRoutes {
    fn has(&self, routes: &Routes) -> bool {
        self.seen().get(routes.model.as_str()).is_some_and(|seen| seen.routes.as_ref() == Some(routes))
    }

    /// Records what is present under a key. Returns whether it differs from what was known.
    fn record(&self, key: &str, revision: u64, routes: Option<Routes>) -> bool {
        let mut seen = self.seen();
        let known = seen.get(key);
        if known.is_some_and(|known| known.revision > revision) {
            return false;
        }
        let differs = known.is_none_or(|known| known.routes != routes);
        seen.insert(key.to_owned(), Seen { revision, routes });
        differs
    }

    fn forget(&self, key: &str) -> bool {
        self.seen().remove(key).is_some()
    }

    fn forget_all(&self) {
        self.seen().clear();
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the bucket until `shutdown`, and wakes the reconciler when it does not contain what was written. While the bus is unreachable,
/// retries.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Err(error) = watch(&core) => tracing::warn!(error = chain(&error), "routes watch failed, retrying"),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(core.config.retry_first) => {}
        }
    }
    Ok(())
}

async fn watch(core: &Core) -> Result<Infallible, Error> {
    let mut changes = core.bus.routes().await?.watch().await?;
    // Revisions of a bucket that was created again are smaller.
    core.routes.forget_all();
    core.wake();
    loop {
        let differs = match changes.next().await? {
            Change::Put(Entry { key, value, revision }) => core.routes.record(&key, revision, Some(value)),
            Change::Unreadable { key, revision } => core.routes.record(&key, revision, None),
            Change::Deleted { key } => core.routes.forget(&key),
            Change::Complete => false,
        };
        if differs {
            core.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{Digest, VersionRef};

    use super::*;

    fn routes(generation: u64) -> Routes {
        let primary = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        Routes::to("flights".parse().expect("a name"), generation, primary)
    }

    #[test]
    fn the_latest_revision_is_what_the_bucket_has() {
        let published = PublishedRoutes::default();
        assert!(!published.has(&routes(2)));
        assert!(published.record("flights", 5, Some(routes(2))));
        assert!(published.has(&routes(2)) && !published.has(&routes(1)));
        assert!(!published.record("flights", 5, Some(routes(2))), "the watch reports what was written here");
        assert!(!published.record("flights", 4, Some(routes(9))), "the watch is late");
        assert!(published.has(&routes(2)));
        assert!(published.record("flights", 6, None), "another writer");
        assert!(!published.has(&routes(2)));
        assert!(published.record("flights", 7, Some(routes(2))));
        assert!(published.forget("flights") && !published.forget("flights"));
        assert!(!published.has(&routes(2)));
    }
}
