//! The event that publishes the last hash of an audit trail.

use rekindle_client::wire::event;
use rekindle_domain::{audit::Seal, event::Fact};
use serde_json::Value;
use uuid::Uuid;

/// Makes the event of a service, for a database and its last seal.
pub fn audit_sealed(service: &'static str) -> impl Fn(Uuid, &Seal) -> Fact<Value> {
    move |database, seal| {
        let fact = event::audit_sealed(service, database, seal.position, &seal.hash);
        fact.unwrap_or_else(|| unreachable!("{service} has an audit trail"))
    }
}
