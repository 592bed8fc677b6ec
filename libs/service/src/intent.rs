//! Intents: a creating request that has one effect, however often it arrives.

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, Namespace};
use rekindle_proto::json::{self, Named};
use rekindle_store::idempotency::{self, Seen};
use sea_orm::{ConnectionTrait, DbErr};
use serde::{Serialize, de::DeserializeOwned};

use crate::RequestError;

/// Longest idempotency key, in characters.
pub const MAX_KEY: usize = 128;

/// Longest request, in bytes, whose digest in the first release is computed: it takes hundreds of times the bytes of small elements.
const MAX_EARLIER: usize = 64 << 10;

/// Texts that messages have had since the first release.
const ADDED: [(&str, &str); 1] = [("rekindle.registry.v1.CreateRunRequest", "parent_id")];

/// A method, a key within a namespace, and the digest of the request.
#[derive(Debug, Clone)]
pub struct Intent {
    method: &'static str,
    scope: String,
    key: String,
    request: Digest,
    /// The full name and the encoding of the request, unless it is long.
    encoded: Option<(String, Vec<u8>)>,
}

impl Intent {
    /// The intent of `request`, a call of `method` with `key`.
    pub fn of<M: Named>(
        method: &'static str,
        namespace: &Namespace,
        key: &str,
        request: &M,
    ) -> Result<Self, RequestError> {
        let length = key.chars().count();
        if !(1..=MAX_KEY).contains(&length) {
            let problem = format!("has {length} characters: expected 1 to {MAX_KEY}, e.g. a new UUID per request");
            return Err(RequestError::invalid("idempotency_key", problem));
        }
        // Fields and map entries are encoded in order and without unknown ones, so that equal requests have equal digests.
        let scope = namespace.qualify(method);
        let (encoded, key) = (request.encode_to_vec(), key.to_owned());
        let request = Digest::of(&encoded);
        let encoded = (encoded.len() <= MAX_EARLIER).then(|| (M::full_name(), encoded));
        Ok(Self { method, scope, key, request, encoded })
    }

    /// What an earlier call with this key and the same request recorded; `None` if there was none.
    pub async fn earlier<T, E>(&self, db: &impl ConnectionTrait) -> Result<Option<T>, E>
    where
        T: DeserializeOwned,
        E: From<DbErr> + From<RequestError>,
    {
        let look_up = async |request| idempotency::look_up(db, &self.scope, &self.key, request).await;
        let mut seen = look_up(&self.request).await?;
        if seen == Seen::Different
            && let Some(earlier) = self.earlier_digest()
        {
            seen = look_up(&earlier).await?;
        }
        match seen {
            Seen::New => Ok(None),
            Seen::Different => Err(RequestError::KeyReused { method: self.method, key: self.key.clone() }.into()),
            Seen::Same(recorded) => {
                let unreadable = |error| DbErr::Json(format!("recorded result of {}: {error}", self.method));
                Ok(Some(serde_json::from_value(recorded).map_err(unreadable)?))
            }
        }
    }

    /// The digest of the request in the first release: that of its canonical JSON.
    fn earlier_digest(&self) -> Option<Digest> {
        let (name, encoded) = self.encoded.as_ref()?;
        let mut json = json::encoded_to_value(name, encoded)?;
        for (_, field) in ADDED.iter().filter(|(message, _)| message == name) {
            let is_unset = json.get(field).is_some_and(|value| value == "");
            if let (true, Some(fields)) = (is_unset, json.as_object_mut()) {
                fields.remove(*field);
            }
        }
        serde_json_canonicalizer::to_vec(&json).ok().map(|canonical| Digest::of(&canonical))
    }

    /// Records the result of this call, in the transaction that made it true.
    pub async fn record(
        &self,
        txn: &impl ConnectionTrait,
        result: &impl Serialize,
        now: DateTime<Utc>,
    ) -> Result<(), DbErr> {
        let result = serde_json::to_value(result).map_err(|error| DbErr::Json(error.to_string()))?;
        idempotency::record(txn, &self.scope, &self.key, &self.request, &result, now).await
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use rekindle_client::wire;
    use rekindle_domain::run::NewRun;

    use super::*;

    fn new_run() -> NewRun {
        NewRun::new("nightly".parse().expect("a name"))
    }

    #[test]
    fn the_digest_is_that_of_the_content_whatever_the_order_of_map_entries_on_the_wire() {
        // Field 4 of 6 bytes: a key of one byte and the value "v".
        let entry = |key: u8| [4 << 3 | 2, 6, 1 << 3 | 2, 1, key, 2 << 3 | 2, 1, b'v'];
        let digest = |params: Vec<u8>| {
            let mut request = wire::run::new_to_wire(&new_run(), String::new());
            request.merge(&*params).expect("entries");
            Intent::of("CreateRun", &Namespace::default(), "k", &request).expect("valid").request
        };
        let both = digest([entry(b'a'), entry(b'b')].concat());
        assert_eq!(both, digest([entry(b'b'), entry(b'a')].concat()));
        assert_ne!(both, digest(entry(b'a').to_vec()));
    }

    #[test]
    fn keys_are_bounded_and_named() {
        let request = wire::run::new_to_wire(&new_run(), String::new());
        for key in ["", &"x".repeat(129)] {
            let error = Intent::of("CreateRun", &Namespace::default(), key, &request).expect_err("out of bounds");
            assert!(error.to_string().starts_with("idempotency_key: has"), "{error}");
        }
        let tenant: Namespace = "team-a".parse().expect("a name");
        let intent = Intent::of("CreateRun", &tenant, "k", &request).expect("valid");
        assert_eq!(intent.scope, "team-a.CreateRun");
    }
}
