//! Deletes captured data by age: chunks from the index first, and their objects later.
//!
//! A deleted chunk leaves its object behind, as a crash between the two writes of capture does. An object without a chunk is deleted once
//! two passes in succession have found it so: a reader that found the chunk just before has that long to read it.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt as _;
use rekindle_artifacts::Artifacts;
use rekindle_domain::ModelName;
use rekindle_service::chain;
use rekindle_store::{Fence, Leases, in_transaction};
use sea_orm::DatabaseConnection;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::EVERY;
use crate::{
    Error,
    chunk::Kind,
    metrics, ownership,
    store::{
        chunks,
        deletions::{self, Deleted},
    },
};

/// Chunks per transaction.
const BATCH: u64 = 200;
/// Objects whose chunks are looked up at once.
const LOOKUP: usize = 200;
/// Age of an object before it can count as left behind: capture writes it before its chunk.
const LEFT_BEHIND: TimeDelta = TimeDelta::hours(24);

/// Deletes chunks, and objects that no chunk names.
pub(crate) struct Retention {
    pub(crate) db: DatabaseConnection,
    pub(crate) artifacts: Artifacts,
    pub(crate) leases: Leases,
    /// How long chunks are kept, since their capture; `None` keeps them.
    pub(crate) keep: Option<Duration>,
    /// The keys of objects without a chunk that the last pass found.
    pub(crate) left_behind: HashSet<String>,
}

impl Retention {
    /// One pass whenever this instance becomes the one that captures, and then every hour, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let (mut changes, mut due) = (self.leases.subscribe(), Instant::now());
        loop {
            match self.leases.fence(ownership::CAPTURE) {
                Some(fence) if Instant::now() >= due => {
                    if let Err(error) = self.pass(&fence, Utc::now(), &stop).await {
                        tracing::warn!(error = chain(&error), "captured data was not deleted, retrying later");
                    }
                    due = Instant::now() + EVERY;
                }
                // The instance that captured until now may have found other objects.
                None => self.left_behind.clear(),
                Some(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = changes.changed() => {}
                () = sleep_until(due), if self.leases.is_held(ownership::CAPTURE) => {}
            }
        }
    }

    async fn pass(&mut self, fence: &Fence, now: DateTime<Utc>, stop: &CancellationToken) -> Result<(), Error> {
        let keep = self.keep.map(|keep| TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX));
        // An age that reaches back before the first representable time deletes nothing.
        if let Some(before) = keep.and_then(|keep| now.checked_sub_signed(keep)) {
            for model in deletions::models(&self.db, before).await? {
                self.delete(fence, &model, before, now, stop).await?;
            }
        }
        self.sweep(now).await
    }

    /// Deletes the chunks of a model, batch by batch.
    async fn delete(
        &self,
        fence: &Fence,
        model: &ModelName,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut total = Deleted::default();
        while !stop.is_cancelled() {
            let (fence, of) = (fence.clone(), model.clone());
            let deleted = in_transaction(&self.db, async move |txn| {
                fence.check(txn).await?;
                Ok::<_, Error>(deletions::delete(txn, &of, before, BATCH, now).await?)
            })
            .await?;
            if deleted == Deleted::default() {
                break;
            }
            metrics::deleted(model, &deleted);
            total = total.with(deleted);
        }
        if total.chunks > 0 {
            let Deleted { predictions, tests, outcomes, chunks, bytes, .. } = total;
            tracing::info!(%model, predictions, tests, outcomes, chunks, bytes, "captured data deleted by retention");
        }
        Ok(())
    }

    /// Deletes the objects without a chunk that the last pass has found too.
    pub(super) async fn sweep(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        let mut without_chunk = HashSet::new();
        for kind in Kind::ALL {
            let listed = self.artifacts.objects(kind.folder(), now - LEFT_BEHIND)?;
            let mut some = listed.try_chunks(LOOKUP);
            while let Some(keys) = some.try_next().await.map_err(|failed| failed.1)? {
                let known = chunks::known_objects(&self.db, &keys).await?;
                without_chunk.extend(keys.into_iter().filter(|key| !known.contains(key)));
            }
        }
        let mut objects = 0u64;
        for key in without_chunk.intersection(&self.left_behind) {
            self.artifacts.delete_object(key).await?;
            objects += 1;
        }
        if objects > 0 {
            tracing::info!(objects, "objects without a chunk deleted");
        }
        self.left_behind = without_chunk.difference(&self.left_behind).cloned().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_domain::Digest;
    use uuid::Uuid;

    use super::*;
    use crate::{
        chunk::{Chunk, object_key},
        ownership::tests::{database, holding},
    };

    async fn retention(folder: &std::path::Path) -> Retention {
        let db = database().await;
        let artifacts = Artifacts::open(&rekindle_artifacts::Config::local(folder)).await.expect("opens");
        let (leases, _) = holding(&db, ownership::CAPTURE).await;
        Retention { db, artifacts, leases, keep: None, left_behind: HashSet::new() }
    }

    async fn written(retention: &Retention, kind: Kind) -> (Uuid, String) {
        let (id, model) = (Uuid::now_v7(), "flights".parse().expect("a name"));
        let key = object_key(kind, &model, Utc::now(), id);
        retention.artifacts.put_object(&key, Bytes::from_static(b"rows")).await.expect("written");
        (id, key)
    }

    async fn index(retention: &Retention, kind: Kind, id: Uuid, object_key: String) {
        let digest = Digest::of(b"rows");
        let model = "flights".parse().expect("a name");
        let (bundle, events, ids) = (None, Some((1, 2)), (1, 2));
        let chunk =
            Chunk { id, kind, model, model_version: 1, bundle, object_key, digest, rows: 1, bytes: 4, events, ids };
        chunks::insert(&retention.db, &chunk, None, Utc::now()).await.expect("inserted");
    }

    async fn objects(retention: &Retention) -> HashSet<String> {
        let mut found = HashSet::new();
        for kind in Kind::ALL {
            let listed = retention.artifacts.objects(kind.folder(), Utc::now() + LEFT_BEHIND).expect("a folder");
            found.extend(listed.try_collect::<Vec<_>>().await.expect("listed"));
        }
        found
    }

    #[tokio::test]
    async fn objects_without_a_chunk_are_deleted_by_the_second_pass_and_others_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut retention = retention(folder.path()).await;
        let mut indexed = HashSet::new();
        for kind in Kind::ALL {
            let (id, key) = written(&retention, kind).await;
            index(&retention, kind, id, key.clone()).await;
            indexed.insert(key);
            written(&retention, kind).await;
        }
        // An earlier release may have named an object by another id than its chunk's.
        let (_, key) = written(&retention, Kind::Prediction).await;
        index(&retention, Kind::Prediction, Uuid::now_v7(), key.clone()).await;
        indexed.insert(key);

        let soon = Utc::now() + TimeDelta::hours(1);
        for _ in 0..3 {
            retention.sweep(soon).await.expect("swept");
        }
        assert_eq!(objects(&retention).await.len(), 7, "capture may still insert their chunks");
        let later = Utc::now() + LEFT_BEHIND + TimeDelta::hours(1);
        retention.sweep(later).await.expect("swept");
        assert_eq!(objects(&retention).await.len(), 7, "a reader may have found their chunks just before");
        retention.sweep(later).await.expect("swept");
        assert_eq!(objects(&retention).await, indexed);
    }
}
