//! The hashes of an audit trail that its service has published, by which removed and rewritten entries are found.

use rekindle_domain::{
    audit::{Seal, Verification},
    event::EventKind,
};
use rekindle_store::{audit, outbox, sea_orm::DatabaseConnection};
use serde::Deserialize;

use crate::{Bus, Error, read::From, streams::EVENTS, subject};

/// The data of an event, of which numbers of 64 bits are texts.
#[derive(Deserialize)]
struct Published {
    entries: String,
    hash: String,
}

/// Reads the audit trail of a database, and compares it with all hashes that events of `kind` have of it.
pub async fn verify(bus: &Bus, db: &DatabaseConnection, kind: EventKind) -> Result<Verification, Error> {
    let database = outbox::history(db).await?.database;
    let (mut published, mut invalid) = (Vec::new(), None);
    let take = |message: crate::read::Stored| {
        let read = serde_json::from_slice::<Published>(&message.payload).ok();
        let seal = read.and_then(|read| Some(Seal { position: read.entries.parse().ok()?, hash: read.hash }));
        match seal {
            Some(seal) => published.push(seal),
            None => invalid = Some(message.sequence),
        }
        true
    };
    bus.read(EVENTS, subject::event(kind, &database.to_string()), From::Sequence(1), take).await?;
    if let Some(sequence) = invalid {
        tracing::warn!(stream = EVENTS, sequence, "an event of the audit trail has no hash");
    }
    Ok(audit::verify(db, &published).await?)
}
