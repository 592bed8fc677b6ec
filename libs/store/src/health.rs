//! Whether the database answers, for a service's readiness.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::DatabaseConnection;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Time between two checks, and the longest that the database may take to answer one.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(2);

/// The result of the last check of a database. Clones share it.
#[derive(Debug, Clone)]
pub struct DatabaseHealth(Arc<AtomicBool>);

impl DatabaseHealth {
    /// The health of a database that has just answered.
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether the database answered the last check.
    pub fn is_healthy(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Checks the database every two seconds until `stop`.
    pub async fn run(self, db: DatabaseConnection, stop: impl Future<Output = ()>) -> Result<(), Infallible> {
        let mut stop = std::pin::pin!(stop);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                _ = ticks.tick() => {}
            }
            let healthy = matches!(timeout(TIMEOUT, db.ping()).await, Ok(Ok(())));
            if self.0.swap(healthy, Ordering::Relaxed) != healthy {
                tracing::warn!(healthy, "database health changed");
            }
        }
    }
}

impl Default for DatabaseHealth {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_database_is_unhealthy() {
        let config = crate::Config { max_connections: 1, ..crate::Config::at("sqlite::memory:") };
        let db = crate::connect(&config).await.expect("opens");
        let (health, stopped) = (DatabaseHealth::new(), tokio_util::sync::CancellationToken::new());
        let running = tokio::spawn(health.clone().run(db.clone(), stopped.clone().cancelled_owned()));
        assert!(health.is_healthy());
        db.close().await.expect("closes");
        rekindle_testkit::eventually("the database to be unhealthy", async || {
            if health.is_healthy() { Err("healthy".to_owned()) } else { Ok(()) }
        })
        .await;
        stopped.cancel();
        running.await.expect("ends").expect("never fails");
    }
}
