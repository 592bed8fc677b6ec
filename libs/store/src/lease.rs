//! Named leases with a fencing epoch: of several instances on one database, at most one at a time acts under a name.
//!
//! No two clocks are compared. As in Kubernetes' leader election, a candidate observes a lease (its holder, epoch and renewals) and
//! takes it over, by compare-and-set on exactly that observation, after it has seen it unchanged for the lease's length on its own monotonic
//! clock. The holder renews in time, and regards itself as the holder for 90 % of the length from the moment before it
//! sent the last renewal; the remaining 10 % allow for clocks that run at different speeds.
//!
//! ```text
//! absent ----(insert)-----------------------------------> held (epoch 1)
//! held ------(renew: renewals + 1)----------------------> held (same epoch)
//! held ------(release)----------------------------------> free (same epoch, no holder)
//! free ------(compare-and-set, at once)-----------------> held (epoch + 1)
//! held ------(compare-and-set, after silence)-----------> held by another (epoch + 1)
//! ```
//!
//! A clock cannot protect a write: a process may be stopped between looking at its clock and committing. Therefore every write under a lease is
//! fenced: [`Fence::check`] runs inside of the writing transaction, where it fails if the epoch has passed, and delays a take-over
//! until the transaction has ended.

mod keeper;
mod row;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::keeper::Keeper;

/// The leases that this instance claims, and those of them that it holds. Clones share them.
///
/// Nothing is claimed in the database before [`run`](Self::run) runs, and everything is released when it ends.
#[derive(Debug, Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: DatabaseConnection,
    holder: Arc<str>,
    length: Duration,
    claims: watch::Sender<BTreeSet<String>>,
    holdings: watch::Sender<Holdings>,
    changes: watch::Sender<()>,
}

/// The leases that are held, by name.
type Holdings = BTreeMap<String, Holding>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holding {
    epoch: i64,
    /// On this instance's clock.
    until: Instant,
}

/// The right to write under a lease, as long as the lease's epoch lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    name: String,
    holder: Arc<str>,
    epoch: i64,
}

/// Why a write under a lease is refused.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lease was released or taken over since: another instance may act.
    #[error("the lease {name:?} is no longer held under epoch {epoch}")]
    Lost {
        /// The lease's name.
        name: String,
        /// The epoch that has passed.
        epoch: i64,
    },
    /// The database cannot be read.
    #[error("cannot check the lease")]
    Database(#[from] DbErr),
}

impl Leases {
    /// Claims nothing yet. `instance` names this instance in the table and the log; it is completed by a unique id, so that an instance that
    /// restarts is another holder than before. `length` is how long a holder may be silent before another takes over; it must be
    /// greater than zero, and much longer than a transaction takes.
    pub fn new(db: DatabaseConnection, instance: String, length: Duration) -> Self {
        let holder = format!("{instance}/{}", uuid::Uuid::now_v7());
        let shared = Shared {
            db,
            holder: holder.into(),
            length,
            claims: watch::Sender::default(),
            holdings: watch::Sender::default(),
            changes: watch::Sender::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Adds a name to those that are claimed.
    pub fn claim(&self, name: impl Into<String>) {
        let name = name.into();
        self.shared.claims.send_if_modified(|claims| claims.insert(name));
    }

    /// Claims exactly these names; others that are held are released, as by [`release`](Self::release).
    pub fn claim_only(&self, names: impl IntoIterator<Item = String>) {
        let names: BTreeSet<String> = names.into_iter().collect();
        self.shared.claims.send_if_modified(|claims| {
            let differs = *claims != names;
            *claims = names;
            differs
        });
        self.shared.drop_unclaimed();
    }

    /// Claims the name no longer. [`fence`](Self::fence) gives it no longer, and [`run`](Self::run) releases it in the database, so that
    /// another instance takes it over without delay.
    pub fn release(&self, name: &str) {
        self.shared.claims.send_if_modified(|claims| claims.remove(name));
        self.shared.drop_unclaimed();
    }

    /// The right to write under the name, if it is held now by this instance's own clock.
    pub fn fence(&self, name: &str) -> Option<Fence> {
        self.shared.fence(name, Instant::now())
    }

    /// Whether the name is held now by this instance's own clock.
    pub fn is_held(&self, name: &str) -> bool {
        self.fence(name).is_some()
    }

    /// Reports whenever a lease is acquired or lost. Renewals are not reported.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }

    /// Acquires and renews what is claimed until `stop`, then releases everything.
    ///
    /// Stop it after the work under the leases: what is written after the release is refused.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut keeper = Keeper::new(&self.shared, Instant::now);
        tokio::select! {
            () = keeper.run(&stop) => {}
            never = self.shared.expire() => match never {},
        }
        self.claim_only([]);
        if let Err(error) = keeper.release().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot release the leases; they expire");
        }
        Ok(())
    }
}

impl Fence {
    /// The lease's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Grows with every change of holder.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Fails with [`LeaseError::Lost`] unless the lease is held under this epoch. Call it inside of the transaction that writes, before the first
    /// write: until the transaction ends, no instance can take the lease over, so a new holder sees everything that was written under earlier epochs.
    pub async fn check(&self, txn: &DatabaseTransaction) -> Result<(), LeaseError> {
        if row::is_held(txn, self).await? {
            return Ok(());
        }
        tracing::warn!(name = self.name, epoch = self.epoch, "write refused: the epoch of the lease has passed");
        Err(LeaseError::Lost { name: self.name.clone(), epoch: self.epoch })
    }
}

impl Shared {
    fn fence(&self, name: &str, now: Instant) -> Option<Fence> {
        let holding = self.holdings.borrow().get(name).copied().filter(|holding| now < holding.until)?;
        Some(Fence { name: name.to_owned(), holder: Arc::clone(&self.holder), epoch: holding.epoch })
    }

    /// Changes what is held. Names that are claimed no longer are left out, whatever the change adds.
    fn change(&self, change: impl FnOnce(&mut Holdings)) {
        let mut before = Holdings::new();
        let mut after = Holdings::new();
        self.holdings.send_modify(|holdings| {
            before.clone_from(holdings);
            change(holdings);
            let claims = self.claims.borrow();
            holdings.retain(|name, _| claims.contains(name));
            after.clone_from(holdings);
        });
        let lost =
            before.iter().filter(|(name, holding)| after.get(*name).is_none_or(|now| now.epoch != holding.epoch));
        let acquired =
            after.iter().filter(|(name, holding)| before.get(*name).is_none_or(|was| was.epoch != holding.epoch));
        let mut changed = false;
        for (name, holding) in lost {
            tracing::info!(name, epoch = holding.epoch, "lease lost or released");
            changed = true;
        }
        for (name, holding) in acquired {
            tracing::info!(name, epoch = holding.epoch, "lease acquired");
            changed = true;
        }
        if changed {
            self.changes.send_replace(());
        }
    }

    fn drop_unclaimed(&self) {
        self.change(|_| {});
    }

    /// Drops holdings that have expired, which happens when the database does not answer the renewals.
    async fn expire(&self) -> Infallible {
        let mut changes = self.changes.subscribe();
        loop {
            let next = self.holdings.borrow().values().map(|holding| holding.until).min();
            match next {
                Some(until) => sleep_until(until).await,
                // The sender lives as long as `self`.
                None => changes.changed().await.unwrap_or(()),
            }
            let now = Instant::now();
            if self.holdings.borrow().values().any(|holding| holding.until <= now) {
                self.change(|holdings| holdings.retain(|_, holding| now < holding.until));
            }
        }
    }
}
