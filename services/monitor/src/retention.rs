//! Deletes the incarnations of replicas, the join keys of outcomes, ended silences and notifications and, if a retention is set, captured data by age. The relay deletes the
//! ids of captured messages.

pub(crate) mod captured;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_service::chain;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::{incarnations, join_keys, notifications, silences},
};

/// Time between two runs.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How long rows are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    /// Incarnations, since they were last seen; silences and notifications, since they ended.
    pub(crate) remember: Duration,
    /// Join keys, since they were captured.
    pub(crate) join_keys: Duration,
}

/// The time so long ago. An age that reaches back before the first representable time has none, and deletes nothing.
fn ago(age: Duration) -> Option<DateTime<Utc>> {
    Utc::now().checked_sub_signed(TimeDelta::from_std(age).ok()?)
}

/// Deletes what is older, at once and then every hour, until `stop`.
pub(crate) async fn run(db: DatabaseConnection, ages: Ages, stop: CancellationToken) -> Result<(), Error> {
    loop {
        if let Some(before) = ago(ages.join_keys) {
            match join_keys::forget(&db, before).await {
                Ok(0) => {}
                Ok(keys) => tracing::info!(keys, "old join keys deleted"),
                Err(error) => tracing::warn!(error = chain(&error), "old join keys were not deleted, retrying later"),
            }
        }
        if let Some(before) = ago(ages.remember) {
            match incarnations::forget(&db, before).await {
                Ok(0) => {}
                Ok(incarnations) => tracing::info!(incarnations, "old incarnations deleted"),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "old incarnations were not deleted, retrying later")
                }
            }
            let forgotten =
                async { Ok(notifications::forget(&db, before).await? + silences::forget(&db, before).await?) };
            if let Err(error) = forgotten.await as Result<u64, sea_orm::DbErr> {
                tracing::warn!(
                    error = chain(&error),
                    "old notifications and silences were not deleted, retrying later"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
