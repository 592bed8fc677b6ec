//! Collection of blobs that nothing refers to, by mark and sweep, and the check of stored blobs.
//!
//! A blob is kept if anything in the registry's tables names its digest, deleted records included, if a referenced bundle, list of files or
//! export names it, or if a dead letter does. Others are deleted once they are older than a grace period: a client that has uploaded a blob may
//! refer to it next, and a blob that is uploaded again counts as new.
//!
//! ```text
//! mark: read every reference
//! sweep, some blobs at a time: condemn those without a reference, in a transaction that reads the references again
//!     -> delete them from the object store, unless they were uploaded again since -> absolve
//! ```
//! A registration finds its blobs in the object store, and then refers to them in a transaction that excludes those that condemn: it refuses a condemned
//! blob, and looks again if some were condemned or absolved since it has found its own. So neither holds its transaction while it waits for the object store.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rekindle_artifacts::{Artifacts, BlobWriter, StoredBlob};
use rekindle_bus::{Bus, read::From, streams::DEAD_LETTERS};
use rekindle_domain::{
    Digest,
    audit::Entry,
    blob::{Garbage, Scrubbed},
};
use rekindle_service::Call;
use rekindle_store::{audit, in_read_committed};
use sea_orm::{DatabaseConnection, DatabaseTransaction};
use serde_json::json;
use uuid::Uuid;

use crate::{Error, store};

/// The grace period if a call states none.
pub(crate) const GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The shortest grace period: an upload that takes longer is written again.
pub(crate) const SHORTEST_GRACE: Duration = Duration::from_secs(60 * 60);
/// Blobs that are condemned in one transaction.
const AT_ONCE: usize = 64;
/// Blobs that are deleted, and that are read, at the same time.
const DELETED_AT_ONCE: usize = 8;
const READ_AT_ONCE: usize = 8;
/// Time in which the condemned blobs are deleted.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The age of a condemnation from which its collection is not in progress any more.
const ABANDONED: TimeDelta = TimeDelta::minutes(10);
/// How long an upload waits while its blob is condemned, which is a moment as a rule.
const WAIT: Duration = Duration::from_secs(30);
/// Time between two looks whether a blob is still condemned.
const POLL: Duration = Duration::from_millis(50);
/// The largest blob that is searched for digests: manifests of bundles and exports, and lists of files.
const MAX_LIST: u64 = 16 << 20;

/// Deletes blobs that nothing refers to and that are older than a grace period, or counts them.
pub(crate) struct Collection {
    pub(crate) db: DatabaseConnection,
    pub(crate) artifacts: Artifacts,
    pub(crate) bus: Bus,
    pub(crate) call: Call,
    pub(crate) grace: Duration,
    pub(crate) dry_run: bool,
}

impl Collection {
    /// Runs to its end.
    pub(crate) async fn run(self) -> Result<Garbage, Error> {
        let before = self.call.now - TimeDelta::from_std(self.grace).unwrap_or(TimeDelta::MAX);
        if !self.dry_run {
            absolve_abandoned(self.db.clone(), self.call.now).await?;
        }
        let referenced = references(&self.db, &self.artifacts, &self.bus).await?;
        let mut found = Garbage::default();
        let mut batch = Vec::new();
        let mut blobs = self.artifacts.blobs()?;
        while let Some(blob) = blobs.try_next().await? {
            found.blobs += 1;
            found.bytes += blob.size;
            if referenced.contains(&blob.digest) {
                found.referenced += 1;
            } else if blob.modified >= before {
                found.recent += 1;
            } else {
                batch.push(blob);
            }
            if batch.len() >= AT_ONCE {
                self.sweep(std::mem::take(&mut batch), before, &mut found).await?;
            }
        }
        self.sweep(batch, before, &mut found).await?;
        if !self.dry_run {
            tracing::info!(deleted = found.deleted, bytes = found.deleted_bytes, "unreferenced blobs deleted");
        }
        Ok(found)
    }

    async fn sweep(&self, batch: Vec<StoredBlob>, before: DateTime<Utc>, found: &mut Garbage) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut deleted = batch;
        if !self.dry_run {
            let digests = deleted.iter().map(|blob| blob.digest).collect();
            let condemned = condemn(self.db.clone(), self.call.clone(), digests).await?;
            deleted.retain(|blob| condemned.contains(&blob.digest));
            let artifacts = self.artifacts.clone();
            let delete = move |blob: StoredBlob| {
                let artifacts = artifacts.clone();
                async move { Ok((blob, delete(artifacts, blob.digest, before).await?)) }
            };
            let ends = stream::iter(deleted).map(delete).buffer_unordered(DELETED_AT_ONCE).collect();
            // Deletions that are still on their way keep their marks.
            let ends: Vec<Result<(StoredBlob, bool), Error>> =
                tokio::time::timeout(PATIENCE, ends).await.map_err(|_| slow())?;
            absolve(self.db.clone(), self.call.id).await?;
            let ends: Vec<(StoredBlob, bool)> = ends.into_iter().collect::<Result<_, _>>()?;
            deleted = ends.into_iter().filter(|(_, is_deleted)| *is_deleted).map(|(blob, _)| blob).collect();
        }
        found.deleted += deleted.len() as u64;
        found.deleted_bytes += deleted.iter().map(|blob| blob.size).sum::<u64>();
        Ok(())
    }
}

// These own what they use, so that the compiler can prove that a task with them can move between threads.

/// Removes the marks of collections that have ended in between.
async fn absolve_abandoned(db: DatabaseConnection, now: DateTime<Utc>) -> Result<(), Error> {
    // Each lock makes registrations in progress begin again on PostgreSQL.
    if !store::garbage::is_any_before(&db, now - ABANDONED).await? {
        return Ok(());
    }
    let absolved = async move |txn: &DatabaseTransaction| {
        store::garbage::lock(txn).await?;
        Ok::<_, Error>(store::garbage::absolve_before(txn, now - ABANDONED).await?)
    };
    in_read_committed(&db, absolved).await
}

/// Marks those of the blobs to which nothing refers, with an entry in the audit trail. Returns them.
async fn condemn(db: DatabaseConnection, call: Call, digests: Vec<Digest>) -> Result<Vec<Digest>, Error> {
    let condemned = async move |txn: &DatabaseTransaction| {
        store::garbage::lock(txn).await?;
        let referenced = store::garbage::referenced(txn, &digests).await?;
        let unreferenced: Vec<Digest> = digests.iter().filter(|digest| !referenced.contains(digest)).copied().collect();
        // The collection may have begun long ago.
        store::garbage::condemn(txn, unreferenced, call.id, Utc::now()).await?;
        let condemned = store::garbage::condemned_by(txn, call.id).await?;
        if !condemned.is_empty() {
            let named: Vec<String> = condemned.iter().map(Digest::to_string).collect();
            let entry = call.entry("garbage.collected", "blobs");
            audit::append(txn, Entry { after: json!({ "condemned": named }).to_string(), ..entry }).await?;
        }
        Ok::<_, Error>(condemned)
    };
    in_read_committed(&db, condemned).await
}

/// Removes the marks of a collection. It counts as a deletion: who has found a blob before it was deleted looks again.
async fn absolve(db: DatabaseConnection, collection: Uuid) -> Result<(), Error> {
    let absolved = async move |txn: &DatabaseTransaction| {
        store::garbage::lock(txn).await?;
        Ok::<_, Error>(store::garbage::absolve(txn, collection).await?)
    };
    in_read_committed(&db, absolved).await
}

/// Deletes a condemned blob, unless it was uploaded again.
async fn delete(artifacts: Artifacts, digest: Digest, before: DateTime<Utc>) -> Result<bool, Error> {
    let is_old = artifacts.blob_modified(&digest).await?.is_some_and(|modified| modified < before);
    if is_old {
        artifacts.delete_blob(&digest).await?;
    }
    Ok(is_old)
}

/// Blobs in the object store, to which a transaction is going to refer.
pub(crate) struct Present {
    digests: Vec<Digest>,
    /// The deletions before they were found.
    deletions: i64,
}

impl Present {
    /// Finds blobs, before the transaction.
    pub(crate) async fn find(
        db: &DatabaseConnection,
        artifacts: &Artifacts,
        digests: Vec<Digest>,
    ) -> Result<Self, Error> {
        let deletions = store::garbage::deletions(db).await?;
        must_exist(artifacts, &digests).await?;
        Ok(Self { digests, deletions })
    }

    /// Refuses to refer to blobs of which one was deleted since, in the transaction that refers to them. None is until it ends.
    pub(crate) async fn hold(&self, txn: &DatabaseTransaction, artifacts: &Artifacts) -> Result<(), Error> {
        let deletions = store::garbage::share(txn).await?;
        let condemned = store::garbage::condemned_of(txn, &self.digests, Utc::now() - ABANDONED).await?;
        if let Some(&digest) = condemned.first() {
            return Err(Error::NoBlob { field: "digest".to_owned(), digest });
        }
        if deletions == self.deletions { Ok(()) } else { must_exist(artifacts, &self.digests).await }
    }
}

async fn must_exist(artifacts: &Artifacts, digests: &[Digest]) -> Result<(), Error> {
    for digest in digests {
        if !artifacts.contains(digest).await? {
            return Err(Error::NoBlob { field: "digest".to_owned(), digest: *digest });
        }
    }
    Ok(())
}

/// Stores a blob while no collection deletes it.
pub(crate) async fn store(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    writer: BlobWriter,
) -> Result<(Digest, u64), Error> {
    let deletions = store::garbage::deletions(db).await?;
    until_absolved(db, writer.digest()).await?;
    let (digest, size) = writer.finish().await?;
    // An old copy may have been condemned before it was stored again, and deleted after.
    if until_absolved(db, digest).await? || store::garbage::deletions(db).await? != deletions {
        must_exist(artifacts, &[digest]).await?;
    }
    Ok((digest, size))
}

/// Waits until a blob is not about to be deleted. Returns whether it was.
async fn until_absolved(db: &DatabaseConnection, digest: Digest) -> Result<bool, Error> {
    let began = tokio::time::Instant::now();
    let mut was_condemned = false;
    while !store::garbage::condemned_of(db, &[digest], Utc::now() - ABANDONED).await?.is_empty() {
        if began.elapsed() > WAIT {
            let message = format!("blob {digest} is about to be deleted by a collection: try again later");
            return Err(Error::refused("BLOB_CONDEMNED", message, [("digest", digest.to_string())]));
        }
        was_condemned = true;
        tokio::time::sleep(POLL).await;
    }
    Ok(was_condemned)
}

fn slow() -> Error {
    let message =
        format!("the object store has not deleted {AT_ONCE} blobs in {} s: try again later", PATIENCE.as_secs());
    Error::refused("OBJECT_STORE_SLOW", message, [])
}

/// Every digest that something names; it need not be that of a blob.
async fn references(db: &DatabaseConnection, artifacts: &Artifacts, bus: &Bus) -> Result<BTreeSet<Digest>, Error> {
    let mut found = BTreeSet::new();
    // Before the tables: a dead letter may be resolved by a registration in between.
    let of_message = |message: rekindle_bus::read::Stored| {
        found.extend(digests(&message.payload));
        for (_, values) in message.headers.iter() {
            values.iter().for_each(|value| found.extend(digests(value.as_str().as_bytes())));
        }
        true
    };
    bus.read(DEAD_LETTERS, String::new(), From::Sequence(1), of_message).await?;
    let mut lists = BTreeSet::new();
    store::garbage::each_text(db, |text, has_list| {
        let named = digests(text.as_bytes());
        if has_list {
            lists.extend(named.clone());
        }
        found.extend(named);
    })
    .await?;
    let artifacts = artifacts.clone();
    let read = move |digest| named_in(artifacts.clone(), digest);
    let mut named = stream::iter(lists).map(read).buffer_unordered(READ_AT_ONCE);
    while let Some(digests) = named.try_next().await? {
        found.extend(digests);
    }
    Ok(found)
}

/// The digests in a list.
async fn named_in(artifacts: Artifacts, digest: Digest) -> Result<Vec<Digest>, Error> {
    match artifacts.get_at_most(&digest, MAX_LIST).await {
        Ok(list) => Ok(digests(&list)),
        // Not all of them are blobs, and the rows of a dataset are no list.
        Err(rekindle_artifacts::Error::NotFound { .. } | rekindle_artifacts::Error::Unexpected { .. }) => {
            Ok(Vec::new())
        }
        // What a damaged manifest names is not known: nothing is deleted.
        Err(error) => Err(error.into()),
    }
}

/// The digests in a text: `sha256:` and 64 hexadecimal digits.
fn digests(text: &[u8]) -> Vec<Digest> {
    const PREFIX: &[u8] = b"sha256:";
    const DIGITS: usize = 64;
    let starts = text.windows(PREFIX.len()).enumerate().filter(|(_, window)| *window == PREFIX).map(|(at, _)| at);
    starts.filter_map(|at| std::str::from_utf8(text.get(at..at + PREFIX.len() + DIGITS)?).ok()?.parse().ok()).collect()
}

/// Reads blobs after a key of the list, at most `limit`, and moves those that do not match their digests to the quarantine. Returns the key of the
/// last one if there are more.
pub(crate) async fn scrub(
    artifacts: &Artifacts,
    after: Option<Digest>,
    limit: usize,
) -> Result<(Scrubbed, Option<Digest>), Error> {
    // The store lists in no order: the digests after the key, as many as a page has.
    let mut page = BTreeSet::new();
    let mut blobs = artifacts.blobs()?;
    while let Some(blob) = blobs.try_next().await? {
        if after.is_none_or(|after| blob.digest > after) {
            page.insert(blob.digest);
            if page.len() > limit {
                page.pop_last();
            }
        }
    }
    let mut found = Scrubbed::default();
    for digest in &page {
        match artifacts.verify(digest).await {
            Ok(size) => found.bytes += size,
            Err(rekindle_artifacts::Error::Corrupt { .. }) => {
                if let Some(key) = artifacts.quarantine(digest).await? {
                    tracing::error!(%digest, key, "a stored blob did not match its digest and was moved");
                    found.corrupt.push(*digest);
                }
            }
            // It was stored under a larger limit than now.
            Err(error @ rekindle_artifacts::Error::TooLarge { .. }) => {
                tracing::warn!(%digest, error = &error as &dyn std::error::Error, "a stored blob is not checked");
            }
            // It was deleted meanwhile.
            Err(rekindle_artifacts::Error::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        }
        found.blobs += 1;
    }
    let next = page.last().copied().filter(|_| page.len() >= limit);
    Ok((found, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_any_text() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let text = format!("{{\"a\":\"{one}\",\"b\":[\"{two}\"],\"c\":\"sha256:short\"}} {one}sha256:");
        assert_eq!(digests(text.as_bytes()), [one, two, one]);
        assert_eq!(digests(b"sha256:"), []);
        assert_eq!(digests(&[b"sha256:".as_slice(), &[0xff; 64]].concat()), []);
    }
}
