//! Group commit on SQLite, which has one writer: transactions of one process take turns, and those that wait for each other share one commit, so
//! one write to the disk.
//!
//! ```text
//! turn (in the order of arrival) -> savepoint -> work -> release of the savepoint, or rollback to it
//!      -> others wait and the group is young: leave the transaction to the next, and wait for its commit
//!      -> otherwise: commit, and tell everyone in the group
//! ```
//! A member sees what earlier members of its group have written, as if these had committed before it; if the group is not committed, no
//! member is, and each is repeated, also one whose error may come from what it has seen. Without this order, writers wait for the file by
//! polling, and some of them for seconds.
//!
//! A caller may be dropped at any time. The driver counts the levels of a transaction, and rolls back the innermost one of what is dropped: while
//! a level begins or ends, that may be another than was meant. So what begins and ends one is a task of its own, which runs to its end.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait as _};
use tokio::{
    sync::{OwnedMutexGuard, oneshot},
    time::Instant,
};
use tracing::Instrument as _;

use crate::transaction::begin;

/// Members of a group at most.
const MEMBERS: usize = 64;
/// The age from which a group is committed although others wait.
const AGE: Duration = Duration::from_millis(5);

/// The writers of one database.
#[derive(Debug, Default)]
struct Queue {
    /// Held by the writer whose turn it is.
    group: Arc<tokio::sync::Mutex<Slot>>,
    /// Those who wait for their turn.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Slot {
    open: Option<Group>,
    /// Counts the groups.
    number: u64,
}

/// A transaction that is not committed yet.
#[derive(Debug)]
struct Group {
    txn: DatabaseTransaction,
    begun: Instant,
    /// Those whose work is done.
    members: Vec<oneshot::Sender<()>>,
}

/// The turn of a writer.
pub(crate) struct Turn(Option<Part>);

/// The part of a writer in a transaction. Fields are dropped in this order: the turn passes on after the savepoint.
struct Part {
    savepoint: DatabaseTransaction,
    slot: OwnedMutexGuard<Slot>,
    queue: Arc<Queue>,
}

/// If a turn is given up, its savepoint is rolled back before the turn passes on.
impl Drop for Turn {
    fn drop(&mut self) {
        let Some(part) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(part.give_up());
        }
    }
}

impl Part {
    /// SQLite may have undone the whole transaction after an error of the last statement, of which nobody knows: then the savepoint is gone.
    async fn give_up(self) {
        let Self { savepoint, mut slot, .. } = self;
        if let Err(error) = savepoint.rollback().await {
            tracing::debug!(%error, "a transaction of several was undone; they are repeated");
            slot.open = None;
        }
    }
}

/// How a turn ended that was to be committed.
pub(crate) enum Ended {
    Committed,
    /// The group was not committed: nothing was written, and what was read may never have been.
    NotCommitted,
}

/// One queue for each pool of connections, found by the address of its options, which lives as long as the pool.
static QUEUES: LazyLock<Mutex<HashMap<usize, Arc<Queue>>>> = LazyLock::new(Mutex::default);

fn queue_of(db: &DatabaseConnection) -> Arc<Queue> {
    let pool = Arc::as_ptr(&db.get_sqlite_connection_pool().connect_options()) as usize;
    let mut queues = QUEUES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Arc::clone(queues.entry(pool).or_default())
}

/// A writer that waits. It is counted until it has its turn, or is given up.
struct Waiting<'a>(&'a Queue);

impl<'a> Waiting<'a> {
    fn new(queue: &'a Queue) -> Self {
        queue.waiting.fetch_add(1, Ordering::Relaxed);
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turn {
    /// Waits for the turn of this writer, and begins its part of a transaction: of one with others if `alone` is false.
    pub(crate) async fn begin(db: &DatabaseConnection, alone: bool) -> Result<Self, DbErr> {
        let queue = queue_of(db);
        let slot = {
            let _waiting = Waiting::new(&queue);
            Arc::clone(&queue.group).lock_owned().await
        };
        let db = db.clone();
        to_its_end(async move { Self::begin_in(slot, queue, &db, alone).await }).await
    }

    async fn begin_in(
        mut slot: OwnedMutexGuard<Slot>,
        queue: Arc<Queue>,
        db: &DatabaseConnection,
        alone: bool,
    ) -> Result<Self, DbErr> {
        if alone && let Err(error) = commit(&mut slot).await {
            tracing::debug!(%error, "a transaction of several was not committed; they are repeated");
        }
        let group = match &mut slot.open {
            Some(group) => group,
            none => {
                let txn = begin(db).await?;
                none.insert(Group { txn, begun: Instant::now(), members: Vec::new() })
            }
        };
        let begun = group.txn.begin().await;
        let savepoint = match begun {
            Ok(savepoint) => savepoint,
            Err(error) => {
                // The transaction is unusable; its members are repeated.
                slot.open = None;
                return Err(error);
            }
        };
        if slot.open.as_ref().is_some_and(|group| group.members.is_empty()) {
            slot.number += 1;
            tokio::spawn(commit_later(Arc::clone(&queue), slot.number));
        }
        Ok(Self(Some(Part { savepoint, slot, queue })))
    }

    /// The part of this writer.
    pub(crate) fn txn(&self) -> &DatabaseTransaction {
        &self.part().savepoint
    }

    fn part(&self) -> &Part {
        self.0.as_ref().unwrap_or_else(|| unreachable!("a turn has its part until it ends"))
    }

    fn into_part(mut self) -> Part {
        self.0.take().unwrap_or_else(|| unreachable!("a turn has its part until it ends"))
    }

    /// Keeps what was written. Returns once it is committed, with the transactions of others if `alone` is false.
    pub(crate) async fn commit(self, alone: bool) -> Result<Ended, DbErr> {
        let Part { savepoint, mut slot, queue } = self.into_part();
        to_its_end(async move {
            if let Err(error) = savepoint.commit().await {
                slot.open = None;
                return Err(error);
            }
            end(slot, &queue, alone).await
        })
        .await
    }

    /// Undoes what was written; of the whole group if SQLite has undone the transaction. Returns once what it has read is committed, if others have
    /// written before it.
    pub(crate) async fn roll_back(self, ends_transaction: bool, alone: bool) -> Result<Ended, DbErr> {
        let Part { savepoint, mut slot, queue } = self.into_part();
        to_its_end(async move {
            let undone = savepoint.rollback().await;
            let has_members = slot.open.as_ref().is_some_and(|group| !group.members.is_empty());
            if has_members && undone.is_ok() && !ends_transaction {
                return end(slot, &queue, alone).await;
            }
            // Its members, if it has any, find their senders gone, and are repeated.
            if let Some(Group { txn, .. }) = slot.open.take()
                && let Err(error) = txn.rollback().await
            {
                tracing::debug!(%error, "rollback failed; the connection is discarded");
            }
            Ok(if has_members { Ended::NotCommitted } else { Ended::Committed })
        })
        .await
    }
}

/// Runs to its end also if the caller is dropped.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, DbErr>> + Send + 'static,
) -> Result<T, DbErr> {
    let done = tokio::spawn(work.in_current_span()).await;
    done.unwrap_or_else(|error| Err(DbErr::Custom(format!("a part of a transaction did not end: {error}"))))
}

/// Ends the turn of a member whose work is done: leaves the group to the next if it waits, or else commits it. Returns once it is committed.
async fn end(mut slot: OwnedMutexGuard<Slot>, queue: &Queue, alone: bool) -> Result<Ended, DbErr> {
    let waits = queue.waiting.load(Ordering::Relaxed) > 0;
    let Some(group) = &mut slot.open else { return Ok(Ended::NotCommitted) };
    if !alone && waits && group.members.len() < MEMBERS && group.begun.elapsed() < AGE {
        let (sender, committed) = oneshot::channel();
        group.members.push(sender);
        drop(slot);
        return Ok(if committed.await.is_ok() { Ended::Committed } else { Ended::NotCommitted });
    }
    commit(&mut slot).await?;
    Ok(Ended::Committed)
}

/// Commits the group and tells its members. If that fails, they find their senders gone.
async fn commit(slot: &mut Slot) -> Result<(), DbErr> {
    let Some(Group { txn, members, .. }) = slot.open.take() else { return Ok(()) };
    txn.commit().await?;
    // A member that was given up meanwhile needs no answer.
    members.into_iter().for_each(|member| _ = member.send(()));
    Ok(())
}

/// Commits a group that nobody has committed after some time: the writer that was to do it was given up.
async fn commit_later(queue: Arc<Queue>, number: u64) {
    tokio::time::sleep(AGE).await;
    let mut slot = Arc::clone(&queue.group).lock_owned().await;
    if slot.number == number
        && let Err(error) = commit(&mut slot).await
    {
        tracing::debug!(%error, "a transaction of several was not committed; they are repeated");
    }
}
