//! The hashes of an audit trail that its service has published, by which removed and rewritten entries are found.

use rekindle_domain::{
    audit::{Fault, Seal, Verification},
    event::EventKind,
};
use rekindle_store::{audit, outbox, sea_orm::DatabaseConnection};
use serde::Deserialize;

use crate::{Bus, Error, read::From, streams::EVENTS, subject};

/// The data of an event, of which numbers of 64 bits are texts.
#[derive(Deserialize)]
struct Published {
    database: uuid::Uuid,
    entries: String,
    hash: String,
}

/// Reads the audit trail of a database, and compares it with all hashes that events of `kind` have of it. Hashes of another database are a fault:
/// the trail was begun again, by an operator who has accepted the loss of the former database, or by somebody who hides what it says.
pub async fn verify(bus: &Bus, db: &DatabaseConnection, kind: EventKind) -> Result<Verification, Error> {
    let database = outbox::history(db).await?.database;
    let (mut published, mut of_others, mut invalid) = (Vec::new(), 0_u64, None);
    let take = |message: crate::read::Stored| {
        let read = serde_json::from_slice::<Published>(&message.payload).ok();
        let seal =
            read.and_then(|read| Some((read.database, Seal { position: read.entries.parse().ok()?, hash: read.hash })));
        match seal {
            Some((of, seal)) if of == database => published.push(seal),
            Some(_) => of_others += 1,
            None => invalid = Some(message.sequence),
        }
        true
    };
    bus.read(EVENTS, subject::events_of(kind), From::Sequence(1), take).await?;
    if let Some(sequence) = invalid {
        tracing::warn!(stream = EVENTS, sequence, "an event of the audit trail has no hash");
    }
    let mut found = audit::verify(db, &published).await?;
    if of_others > 0 {
        let problem = format!("{of_others} hashes of another database were published before: its trail is gone");
        found.faults.insert(0, Fault { position: 0, problem });
    }
    Ok(found)
}
