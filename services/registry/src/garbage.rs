//! Collection of blobs that nothing refers to, by mark and sweep, and the check of stored blobs.
//!
//! A blob is kept if anything in the registry's tables names its digest, deleted records included, if a referenced bundle, list of files or
//! export names it, or if a dead letter does. Others are deleted once they are older than a grace period: a client that has uploaded a blob may
//! refer to it next, and a blob that is uploaded again counts as new.
//!
//! A collection and a registration that refers to an old blob exclude each other: the sweep deletes a few blobs at a time, in a transaction that holds
//! a lock and reads the references again, and a registration looks for its blobs under the same lock, in the transaction that refers to them.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt as _;
use rekindle_artifacts::{Artifacts, StoredBlob};
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

use crate::{Error, store};

/// The grace period if a call states none.
pub(crate) const GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The shortest grace period: an upload that takes longer is written again.
pub(crate) const SHORTEST_GRACE: Duration = Duration::from_secs(60 * 60);
/// Blobs that are deleted in one transaction.
const AT_ONCE: usize = 64;
/// The largest blob that is searched for digests: manifests of bundles and exports, and lists of files.
const MAX_LIST: u64 = 16 << 20;

/// Deletes blobs that nothing refers to and that are older than `grace`; a dry run counts them.
pub(crate) async fn collect(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    bus: &Bus,
    call: &Call,
    (grace, dry_run): (Duration, bool),
) -> Result<Garbage, Error> {
    let before = call.now - TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
    let referenced = references(db, artifacts, bus).await?;
    let mut found = Garbage::default();
    let mut batch = Vec::new();
    let mut blobs = artifacts.blobs()?;
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
            sweep(db, artifacts, std::mem::take(&mut batch), (before, dry_run), &mut found).await?;
        }
    }
    sweep(db, artifacts, batch, (before, dry_run), &mut found).await?;
    if !dry_run {
        let after = json!({ "deleted": found.deleted, "deleted_bytes": found.deleted_bytes, "before": before });
        audit::append(db, Entry { after: after.to_string(), ..call.entry("garbage.collected", "blobs") }).await?;
        tracing::info!(deleted = found.deleted, bytes = found.deleted_bytes, "unreferenced blobs deleted");
    }
    Ok(found)
}

async fn sweep(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    batch: Vec<StoredBlob>,
    (before, dry_run): (DateTime<Utc>, bool),
    found: &mut Garbage,
) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let deleted = if dry_run {
        batch
    } else {
        let artifacts = artifacts.clone();
        in_read_committed(db, async move |txn| {
            store::garbage::lock(txn).await?;
            let digests: Vec<Digest> = batch.iter().map(|blob| blob.digest).collect();
            let referenced = store::garbage::referenced(txn, &digests).await?;
            let mut deleted = Vec::new();
            for blob in batch.iter().filter(|blob| !referenced.contains(&blob.digest)) {
                // It may have been uploaded again since it was listed.
                if artifacts.blob_modified(&blob.digest).await?.is_some_and(|modified| modified < before) {
                    artifacts.delete_blob(&blob.digest).await?;
                    deleted.push(*blob);
                }
            }
            Ok::<_, Error>(deleted)
        })
        .await?
    };
    found.deleted += deleted.len() as u64;
    found.deleted_bytes += deleted.iter().map(|blob| blob.size).sum::<u64>();
    Ok(())
}

/// Refuses to refer to blobs of which one was deleted, in the transaction that refers to them.
pub(crate) async fn pin(txn: &DatabaseTransaction, artifacts: &Artifacts, digests: &[Digest]) -> Result<(), Error> {
    store::garbage::share(txn).await?;
    for digest in digests {
        if !artifacts.contains(digest).await? {
            return Err(Error::NoBlob { field: "digest".to_owned(), digest: *digest });
        }
    }
    Ok(())
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
    for digest in lists {
        match artifacts.get_at_most(&digest, MAX_LIST).await {
            Ok(list) => found.extend(digests(&list)),
            // Not all of them are blobs, and the rows of a dataset are no list.
            Err(rekindle_artifacts::Error::NotFound { .. } | rekindle_artifacts::Error::Unexpected { .. }) => {}
            // What a damaged manifest names is not known: nothing is deleted.
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
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
                let key = artifacts.quarantine(digest).await?;
                tracing::error!(%digest, key, "a stored blob did not match its digest and was moved");
                found.corrupt.push(*digest);
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
