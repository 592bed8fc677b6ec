//! Keeps the ids of captured messages bounded by age; the log itself is kept.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rekindle_store::retention;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use crate::{Error, error::chain};

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Forgets ids older than `remember`, at once and then every hour, until `stop`.
pub(crate) async fn run(db: DatabaseConnection, remember: Duration, stop: CancellationToken) -> Result<(), Error> {
    let age = TimeDelta::from_std(remember).unwrap_or(TimeDelta::MAX);
    loop {
        // An age that reaches back before the calendar begins forgets nothing.
        if let Some(before) = Utc::now().checked_sub_signed(age) {
            match retention::forget(&db, before).await {
                Ok(0) => {}
                Ok(forgotten) => tracing::info!(forgotten, "ids of old messages forgotten"),
                Err(error) => tracing::warn!(error = chain(&error), "old ids were not forgotten, trying again later"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
