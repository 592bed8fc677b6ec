//! Keeps the ids of captured messages and the lives of replicas bounded by age; the log itself is kept.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rekindle_store::retention;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use crate::{Error, error::chain, store::lives};

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Forgets ids older than `remember`, at once and then every hour, until `stop`.
pub(crate) async fn run(db: DatabaseConnection, remember: Duration, stop: CancellationToken) -> Result<(), Error> {
    let age = TimeDelta::from_std(remember).unwrap_or(TimeDelta::MAX);
    loop {
        // An age that reaches back before the calendar begins forgets nothing.
        if let Some(before) = Utc::now().checked_sub_signed(age) {
            let forgotten = async {
                Ok::<_, sea_orm::DbErr>((retention::forget(&db, before).await?, lives::forget(&db, before).await?))
            };
            match forgotten.await {
                Ok((0, 0)) => {}
                Ok((ids, lives)) => tracing::info!(ids, lives, "ids of old messages and silent replicas forgotten"),
                Err(error) => tracing::warn!(error = chain(&error), "old ids were not forgotten, trying again later"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
