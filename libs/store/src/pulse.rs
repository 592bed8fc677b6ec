//! Whether the database answers, so that a service's health can be true.

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

/// How often the database is asked, and how long it may take to answer.
const EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

/// What the last look at a database found. Clones see the same.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<AtomicBool>);

impl Pulse {
    /// The pulse of a database that has just answered.
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether the database answered when it was last asked.
    pub fn is_beating(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks the database every two seconds until `stop`.
    pub async fn follow(self, db: DatabaseConnection, stop: impl Future<Output = ()>) -> Result<(), Infallible> {
        let mut stop = std::pin::pin!(stop);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                _ = ticks.tick() => {}
            }
            let answers = matches!(timeout(PATIENCE, db.ping()).await, Ok(Ok(())));
            if self.0.swap(answers, Ordering::Relaxed) != answers {
                tracing::warn!(answers, "database changed");
            }
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_database_has_no_pulse() {
        let config = crate::Config { url: "sqlite::memory:".into(), max_connections: 1 };
        let db = crate::connect(&config).await.expect("opens");
        let (pulse, stopped) = (Pulse::new(), tokio_util::sync::CancellationToken::new());
        let following = tokio::spawn(pulse.clone().follow(db.clone(), stopped.clone().cancelled_owned()));
        assert!(pulse.is_beating());
        db.close().await.expect("closes");
        rekindle_testkit::eventually("the pulse is gone", async || {
            if pulse.is_beating() { Err("beating".to_owned()) } else { Ok(()) }
        })
        .await;
        stopped.cancel();
        following.await.expect("ends").expect("never fails");
    }
}
