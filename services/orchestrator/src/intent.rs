//! A request to create something, which has one effect however often it comes.

use chrono::{DateTime, Utc};
use rekindle_domain::Digest;
use rekindle_proto::json;
use rekindle_store::idempotency::{self, Seen};
use sea_orm::ConnectionTrait;

use crate::Error;

/// Longest idempotency key, in characters.
const MAX_KEY: usize = 128;

/// A method, a key, and what was asked with it.
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
            let problem = format!("needs 1 to {MAX_KEY} characters, has {length}: take e.g. a fresh UUID per request");
            return Err(Error::invalid("idempotency_key", problem));
        }
        let canonical = serde_json_canonicalizer::to_vec(&json::to_value(request))
            .map_err(|error| Error::invalid("request", error))?;
        Ok(Self { scope, key: key.to_owned(), request: Digest::of(&canonical) })
    }

    /// What an earlier call with this key and the same request was answered.
    pub(crate) async fn earlier<M: json::Named>(&self, db: &impl ConnectionTrait) -> Result<Option<M>, Error> {
        match idempotency::look_up(db, self.scope, &self.key, &self.request).await? {
            Seen::New => Ok(None),
            Seen::Different => Err(Error::KeyReused { scope: self.scope, key: self.key.clone() }),
            Seen::Same(answer) => json::from_slice(answer.to_string().as_bytes())
                .map(Some)
                .map_err(|error| sea_orm::DbErr::Json(format!("a remembered answer: {error}")).into()),
        }
    }

    /// Remembers the answer, in the transaction that made it true.
    pub(crate) async fn remember<M: json::Named>(
        &self,
        txn: &impl ConnectionTrait,
        answer: &M,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        Ok(idempotency::record(txn, self.scope, &self.key, &self.request, &json::to_value(answer), now).await?)
    }
}
