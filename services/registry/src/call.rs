//! What surrounds a piece of work: when it is done, on whose behalf, and under which idempotency key.

use chrono::{DateTime, SubsecRound as _, Utc};
use rekindle_domain::{Digest, event::EventKind};
use rekindle_proto::{client::Context, json};
use rekindle_store::{
    idempotency::{self, Seen},
    outbox::NewEvent,
};
use sea_orm::ConnectionTrait;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::Error;

/// Longest idempotency key, in characters.
const MAX_KEY: usize = 128;

/// The time, the fresh id and the context of one call; made at the edge.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Microseconds precise, as every database keeps it.
    pub now: DateTime<Utc>,
    /// Becomes the id of the event that the call causes.
    pub id: Uuid,
    /// On whose behalf.
    pub context: Context,
}

impl Call {
    /// A call that arrives now.
    pub(crate) fn arriving(context: Context) -> Self {
        Self { now: Utc::now().trunc_subsecs(6), id: Uuid::now_v7(), context }
    }

    /// The fact that this call brings about.
    pub(crate) fn event<M: json::Named>(
        &self,
        kind: EventKind,
        name: impl ToString,
        partition_key: impl ToString,
        data: &M,
    ) -> NewEvent {
        NewEvent {
            id: self.id,
            kind,
            name: name.to_string(),
            data: json::to_value(data),
            context: self.context.clone(),
            partition_key: partition_key.to_string(),
            time: self.now,
        }
    }
}

/// A request to create something, which has one effect however often it comes.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    scope: &'static str,
    key: String,
    request: Digest,
}

impl Intent {
    /// Reads the key of `request`, a call of the method `scope`.
    pub(crate) fn of<M: json::Named>(scope: &'static str, key: &str, request: &M) -> Result<Self, Error> {
        let length = key.chars().count();
        if !(1..=MAX_KEY).contains(&length) {
            let problem =
                format!("needs 1 to {MAX_KEY} characters, has {length}: take e.g. a fresh UUID per thing to create");
            return Err(Error::invalid("idempotency_key", problem));
        }
        // Map fields have no order on the wire, so the digest is of the canonical JSON.
        let canonical = serde_json_canonicalizer::to_vec(&json::to_value(request))
            .map_err(|error| Error::invalid("request", error))?;
        Ok(Self { scope, key: key.to_owned(), request: Digest::of(&canonical) })
    }

    /// What an earlier call with this key and the same request made.
    pub(crate) async fn earlier<T: DeserializeOwned>(&self, db: &impl ConnectionTrait) -> Result<Option<T>, Error> {
        match idempotency::look_up(db, self.scope, &self.key, &self.request).await? {
            Seen::New => Ok(None),
            Seen::Different => Err(Error::KeyReused { scope: self.scope, key: self.key.clone() }),
            Seen::Same(made) => serde_json::from_value(made)
                .map(Some)
                .map_err(|error| sea_orm::DbErr::Type(format!("remembered answer: {error}")).into()),
        }
    }

    /// Remembers what this call made, in the transaction that made it.
    pub(crate) async fn remember(
        &self,
        txn: &impl ConnectionTrait,
        made: &impl Serialize,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let made = serde_json::to_value(made).map_err(|error| sea_orm::DbErr::Type(error.to_string()))?;
        Ok(idempotency::record(txn, self.scope, &self.key, &self.request, &made, now).await?)
    }
}
