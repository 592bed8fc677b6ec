//! Which instance does what: one captures, one evaluates each model, and one sends alerts. Each is the holder of a lease.

use rekindle_domain::ModelName;
use rekindle_store::{Fence, Leases};

/// The lease of the instance that captures.
pub(crate) const CAPTURE: &str = "capture";

/// The lease of the instance that raises alerts about the arrival of rows, and sends notifications.
pub(crate) const ALERTS: &str = "alerts";

/// The lease of the instance that evaluates a model.
pub(crate) fn evaluation(model: &ModelName) -> String {
    format!("evaluate/{model}")
}

/// Gives a lease up after a write under it was refused, without waiting for the next renewal to find out, and claims it again.
pub(crate) fn give_up(leases: &Leases, refused: &Fence) {
    // The lease may have been acquired again in between.
    if leases.fence(refused.name()).as_ref() == Some(refused) {
        leases.release(refused.name());
        leases.claim(refused.name());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use sea_orm::{ConnectionTrait as _, DatabaseConnection};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::store::Migrator;

    /// An empty database in memory.
    pub(crate) async fn database() -> DatabaseConnection {
        let config = rekindle_store::Config { max_connections: 1, ..rekindle_store::Config::at("sqlite::memory:") };
        let db = rekindle_store::connect(&config).await.expect("opens");
        rekindle_store::migrate::<Migrator>(&db).await.expect("an empty database");
        db
    }

    /// The leases of an instance that holds `name`.
    pub(crate) async fn holding(db: &DatabaseConnection, name: &str) -> (Leases, Fence) {
        let leases = Leases::new(db.clone(), "test".to_owned(), Duration::from_secs(60));
        let mut changes = leases.subscribe();
        leases.claim(name);
        tokio::spawn(leases.clone().run(CancellationToken::new()));
        changes.changed().await.expect("the sender is shared");
        let fence = leases.fence(name).expect("just acquired");
        (leases, fence)
    }

    /// Makes another instance the holder of every lease.
    pub(crate) async fn take_over(db: &DatabaseConnection) {
        db.execute_unprepared("UPDATE leases SET holder = 'another', epoch = epoch + 1").await.expect("updates");
    }

    #[tokio::test]
    async fn a_lease_that_was_refused_is_given_up_at_once_and_claimed_again() {
        let db = database().await;
        let (leases, fence) = holding(&db, CAPTURE).await;
        assert!(leases.is_held(CAPTURE));
        give_up(&leases, &fence);
        assert_eq!(leases.fence(CAPTURE), None);
        // No other instance has taken the lease, so this one reacquires it.
        let mut changes = leases.subscribe();
        while leases.fence(CAPTURE).is_none() {
            changes.changed().await.expect("the sender is shared");
        }
    }
}
