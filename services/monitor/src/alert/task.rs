//! The task of the instance that raises alerts about arrivals and sends notifications.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use futures::FutureExt as _;
use rekindle_service::chain;
use rekindle_store::{Fence, Leases, in_transaction};
use sea_orm::DatabaseConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    arrivals,
    config::Format,
    notify,
    send::{Receivers, Sender},
};
use crate::{
    Error, ownership,
    store::{alerts, notifications},
};

/// Time between two messages to an Alertmanager.
const REPEAT_EVERY: Duration = Duration::from_secs(60);

/// What the turns share.
pub(crate) struct Alerting {
    pub(crate) db: DatabaseConnection,
    pub(crate) leases: Leases,
    pub(crate) receivers: Arc<Receivers>,
    pub(crate) every: Duration,
    pub(crate) retry_for: Duration,
}

impl Alerting {
    /// Runs until `stop`. Each receiver has its own turns, so that one that is slow delays no other.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        self.leases.claim(ownership::ALERTS);
        let mut turns = vec![self.raise(&stop).boxed()];
        for sender in self.receivers.of(Format::Webhook) {
            turns.push(self.deliver(sender, &stop).boxed());
        }
        for sender in self.receivers.of(Format::Alertmanager) {
            turns.push(self.repeat(sender, &stop).boxed());
        }
        futures::future::join_all(turns).await;
        Ok(())
    }

    async fn raise(&self, stop: &CancellationToken) {
        let mut fails = false;
        let mut is_first = true;
        while self.next_turn(stop).await {
            let Some(fence) = self.leases.fence(ownership::ALERTS) else { continue };
            let raised = async {
                if is_first {
                    self.give_up_removed(&fence).await?;
                    is_first = false;
                }
                let now = Utc::now();
                arrivals::check(&self.db, &fence, now).await?;
                notify::create(&self.db, &fence, &self.receivers, now).await
            };
            note(&mut fails, "raising alerts", raised.await);
        }
    }

    /// Gives up the notifications of receivers that were removed from the configuration.
    async fn give_up_removed(&self, fence: &Fence) -> Result<(), Error> {
        let (fence, names) = (fence.clone(), self.receivers.names().map(str::to_owned).collect::<Vec<_>>());
        in_transaction(&self.db, async move |txn| {
            fence.check(txn).await?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Ok::<_, Error>(notifications::give_up_others(txn, &names, Utc::now()).await?)
        })
        .await?;
        Ok(())
    }

    async fn deliver(&self, sender: &Sender, stop: &CancellationToken) {
        let mut fails = false;
        while self.next_turn(stop).await {
            let Some(fence) = self.leases.fence(ownership::ALERTS) else { continue };
            let delivered = tokio::select! {
                () = stop.cancelled() => return,
                delivered = notify::deliver(&self.db, &fence, sender, self.retry_for, Utc::now) => delivered,
            };
            note(&mut fails, "sending notifications", delivered);
        }
    }

    async fn repeat(&self, sender: &Sender, stop: &CancellationToken) {
        let (mut fails, mut sent_at, mut sent_state) = (false, None::<Instant>, None);
        while self.next_turn(stop).await {
            if self.leases.fence(ownership::ALERTS).is_none() {
                continue;
            }
            let repeated = async {
                let state = alerts::last_update(&self.db).await?;
                let is_due = sent_at.is_none_or(|at| at.elapsed() >= REPEAT_EVERY) || sent_state != Some(state);
                if is_due {
                    notify::repeat(&self.db, sender, Utc::now()).await?;
                    (sent_at, sent_state) = (Some(Instant::now()), Some(state));
                }
                Ok(())
            };
            let repeated = tokio::select! {
                () = stop.cancelled() => return,
                repeated = repeated => repeated,
            };
            note(&mut fails, "sending alerts to an Alertmanager", repeated);
        }
    }

    /// Waits for the next turn; `false` at the end.
    async fn next_turn(&self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(self.every) => true,
        }
    }
}

/// Logs the first failure and the end of failures.
fn note(fails: &mut bool, what: &str, result: Result<(), Error>) {
    match result {
        Ok(()) if std::mem::take(fails) => tracing::info!("{what} succeeds again"),
        Ok(()) => {}
        Err(error) => {
            if !std::mem::replace(fails, true) {
                tracing::warn!(error = chain(&error), "{what} failed, retrying");
            }
        }
    }
}
