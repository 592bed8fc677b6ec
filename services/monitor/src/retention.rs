//! Deletes the incarnations of replicas and, if a retention is set, captured data by age. The relay deletes the ids of captured messages.

pub(crate) mod captured;

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rekindle_service::chain;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use crate::{Error, store::incarnations};

/// Time between two runs.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Deletes incarnations last seen longer than `remember` ago, at once and then every hour, until `stop`.
pub(crate) async fn run(db: DatabaseConnection, remember: Duration, stop: CancellationToken) -> Result<(), Error> {
    let age = TimeDelta::from_std(remember).unwrap_or(TimeDelta::MAX);
    loop {
        // An age that reaches back before the first representable time deletes nothing.
        if let Some(before) = Utc::now().checked_sub_signed(age) {
            match incarnations::forget(&db, before).await {
                Ok(0) => {}
                Ok(incarnations) => tracing::info!(incarnations, "old incarnations deleted"),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "old incarnations were not deleted, retrying later")
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
