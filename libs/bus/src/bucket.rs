//! Key-value buckets whose values are JSON.
//!
//! An entry that cannot be parsed is logged with its key and reported as such, so that an entry of a newer or faulty writer does not stop the
//! readers.

use std::{fmt, marker::PhantomData, time::Duration};

use async_nats::jetstream::{
    kv::{self, Operation, UpdateErrorKind},
    stream::Stream,
};
use futures::StreamExt as _;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{Error, error::Source};

/// How long a watch may follow a bucket that no longer exists.
const CHECK: Duration = Duration::from_secs(5);

/// A bucket with values of type `T`. Keys are names, qualified where they belong to a namespace ([`rekindle_domain::Qualified`]).
pub struct Bucket<T> {
    store: kv::Store,
    value: PhantomData<fn() -> T>,
}

/// A value as it is in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// The key.
    pub key: String,
    /// The value.
    pub value: T,
    /// Grows with every write to the bucket.
    pub revision: u64,
}

/// What a watch reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// A value was present at the beginning, or was written since.
    Put(Entry<T>),
    /// A value was deleted. Values that expire are not reported.
    Deleted {
        /// Its key.
        key: String,
    },
    /// What was written is no value of this type: a newer or faulty writer wrote it.
    Unreadable {
        /// Its key.
        key: String,
        /// Its revision.
        revision: u64,
    },
    /// Everything that was present at the beginning has been reported. Comes once.
    Complete,
}

/// What is present under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present<T> {
    /// The value; `None` if there is none that can be parsed.
    pub value: Option<T>,
    /// The revision of the key; 0 if it was never written.
    pub revision: u64,
}

impl<T: Serialize + DeserializeOwned> Bucket<T> {
    pub(crate) fn new(store: kv::Store) -> Self {
        Self { store, value: PhantomData }
    }

    /// The value of a key; `None` if there is none that can be parsed.
    pub async fn get(&self, key: &str) -> Result<Option<Entry<T>>, Error> {
        let entry = self.store.entry(key).await.map_err(|error| self.failed("read", key, error))?;
        let present = entry.filter(|entry| entry.operation == Operation::Put);
        Ok(present.and_then(parse))
    }

    /// Writes a value, whatever is present. Returns its revision.
    pub async fn put(&self, key: &str, value: &T) -> Result<u64, Error> {
        let json = self.encode(key, value)?;
        self.store.put(key, json.into()).await.map_err(|error| self.failed("write", key, error))
    }

    /// What is present under a key, to be [replaced](Self::replace).
    pub async fn present(&self, key: &str) -> Result<Present<T>, Error> {
        let entry = self.store.entry(key).await.map_err(|error| self.failed("read", key, error))?;
        // A deleted value has a revision as well; zero is that of a key which was never written.
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let value = entry.filter(|entry| entry.operation == Operation::Put).and_then(parse::<T>);
        Ok(Present { value: value.map(|entry| entry.value), revision })
    }

    /// Writes a value over what is present. Returns its revision; `None`, having written nothing, if another writer came first.
    pub async fn replace(&self, key: &str, present: &Present<T>, value: &T) -> Result<Option<u64>, Error> {
        let json = self.encode(key, value)?;
        match self.store.update(key, json.into(), present.revision).await {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(error) => Err(self.failed("replace", key, error)),
        }
    }

    /// Deletes a value. A key without one stays without.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.store.delete(key).await.map_err(|error| self.failed("delete", key, error))
    }

    /// Reports what is present, then every change, until the connection is lost, the bucket is deleted and created again, or the returned
    /// watch is dropped.
    pub async fn watch(&self) -> Result<Watch<T>, Error> {
        let entries = self.store.watch_with_history(">").await.map_err(|error| self.failed("watch", ">", error))?;
        // Fresh: the status of the store is that of the moment when it was opened.
        let info = self.store.stream.get_info().await.map_err(|error| self.failed("count", ">", error))?;
        let progress = if info.state.messages == 0 { Progress::CompleteNext } else { Progress::Initial };
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stream, created) = (self.store.stream.clone(), info.created.unix_timestamp_nanos());
        let bucket = self.store.name.clone();
        Ok(Watch { entries, bucket, stream, created, check, progress, value: PhantomData })
    }

    fn encode(&self, key: &str, value: &T) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(value).map_err(|error| self.failed("encode", key, error))
    }

    fn failed(&self, operation: &'static str, key: &str, source: impl Into<Source>) -> Error {
        Error::Bucket { operation, bucket: self.store.name.clone(), key: key.to_owned(), source: source.into() }
    }
}

/// The changes of a bucket.
pub struct Watch<T> {
    entries: kv::Watch,
    bucket: String,
    stream: Stream,
    /// When the bucket was created, in nanoseconds since 1970.
    created: i128,
    check: Interval,
    progress: Progress,
    value: PhantomData<fn() -> T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Reporting what was present.
    Initial,
    /// The next report is [`Change::Complete`].
    CompleteNext,
    /// Reporting changes.
    Following,
}

impl<T: DeserializeOwned> Watch<T> {
    /// The next change, however long it takes. After an error, watch again.
    pub async fn next(&mut self) -> Result<Change<T>, Error> {
        loop {
            if self.progress == Progress::CompleteNext {
                self.progress = Progress::Following;
                return Ok(Change::Complete);
            }
            let entry = tokio::select! {
                biased;
                entry = self.entries.next() => entry,
                _ = self.check.tick() => match was_created_again(&self.stream, self.created).await {
                    true => return Err(self.failed("the bucket was deleted and created again")),
                    false => continue,
                },
            };
            let entry = match entry {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => return Err(self.failed(error)),
                None => return Err(self.failed("the subscription has ended")),
            };
            if entry.seen_current && self.progress == Progress::Initial {
                self.progress = Progress::CompleteNext;
            }
            match entry.operation {
                Operation::Delete | Operation::Purge => return Ok(Change::Deleted { key: entry.key }),
                Operation::Put => {
                    let (key, revision) = (entry.key.clone(), entry.revision);
                    return Ok(parse(entry).map_or(Change::Unreadable { key, revision }, Change::Put));
                }
            }
        }
    }

    fn failed(&self, source: impl Into<Source>) -> Error {
        Error::Bucket { operation: "watch", bucket: self.bucket.clone(), key: ">".to_owned(), source: source.into() }
    }
}

/// Whether the stream of a bucket was deleted and created again. The client then waits for revisions after those of the former one.
async fn was_created_again(stream: &Stream, created: i128) -> bool {
    stream.get_info().await.is_ok_and(|info| info.created.unix_timestamp_nanos() != created)
}

fn parse<T: DeserializeOwned>(entry: kv::Entry) -> Option<Entry<T>> {
    match serde_json::from_slice(&entry.value) {
        Ok(value) => Some(Entry { key: entry.key, value, revision: entry.revision }),
        Err(error) => {
            tracing::error!(bucket = entry.bucket, key = entry.key, %error, "entry cannot be parsed, skipping it");
            None
        }
    }
}

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Bucket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.store.name).finish()
    }
}
