//! Which instance runs the reconcilers: the holder of a lease in the database.

use std::{convert::Infallible, sync::Arc};

use rekindle_store::{Fence, LeaseError, Leases};
use sea_orm::{DatabaseConnection, DatabaseTransaction};
use tokio_util::sync::CancellationToken;

use crate::{Config, core::Core};

const LEASE: &str = "reconciler";

/// Whether this instance runs the reconcilers.
#[derive(Debug)]
pub(crate) struct Leadership {
    leases: Leases,
}

impl Leadership {
    pub(crate) fn new(db: DatabaseConnection, config: &Config) -> Self {
        let leases = Leases::new(db, config.instance.clone(), config.lease);
        leases.claim(LEASE);
        Self { leases }
    }

    /// The right to write as the leader, if this instance is the leader now. Take it before reading what a decision depends on.
    pub(crate) fn fence(&self) -> Option<Fence> {
        self.leases.fence(LEASE)
    }
}

/// Who writes a record.
#[derive(Debug, Clone)]
pub(crate) enum Writer {
    /// A call: any instance serves it, and compare-and-set on the record is all that guards it.
    Caller,
    /// A reconciler: refused once another instance has become the leader.
    Leader(Fence),
}

impl Writer {
    /// Call it first in the transaction that writes.
    pub(crate) async fn check(&self, txn: &DatabaseTransaction) -> Result<(), LeaseError> {
        match self {
            Self::Caller => Ok(()),
            Self::Leader(fence) => fence.check(txn).await,
        }
    }
}

/// Holds or waits for the lease until `stop`, and wakes the reconcilers when this instance becomes or ceases to be the leader.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), Infallible> {
    let leases = core.leadership.leases.clone();
    let mut changes = leases.subscribe();
    let wake = async {
        while changes.changed().await.is_ok() {
            core.wake();
        }
    };
    tokio::select! {
        result = leases.run(stop) => result,
        () = wake => Ok(()),
    }
}
