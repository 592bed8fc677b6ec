//! Streams that the server cannot write.
//!
//! A nats-server that could not write a message, as on a full disk, refuses every further one to the same stream, even when there is room
//! again, until it is restarted. Publishers see no answer.

use std::fmt;

use async_nats::jetstream::{ErrorCode, response::Response};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;

use crate::Bus;

/// A subject that no message has.
const NO_SUBJECT: &str = "rekindle.none";

/// A stream that takes no messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Its name; that of a bucket begins with `KV_`.
    pub stream: String,
    /// The error of the server's last write.
    pub reason: String,
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the NATS server cannot write the stream {} until it is restarted: {}", self.stream, self.reason)
    }
}

#[derive(Deserialize)]
struct Purged {}

impl Bus {
    /// The streams and buckets that the server cannot write. Those about which it does not answer are not among them.
    pub async fn frozen_streams(&self) -> Vec<Frozen> {
        let probes = self.stream_names().into_iter().map(|name| self.frozen(name));
        let found: Vec<Frozen> = join_all(probes).await.into_iter().flatten().collect();
        self.note_frozen(&found);
        found
    }

    /// Purges the messages of a subject without messages: that deletes nothing, and fails with the error of the stream's last write.
    async fn frozen(&self, stream: String) -> Option<Frozen> {
        let request = json!({ "filter": NO_SUBJECT });
        let answer = self.jetstream().request(format!("STREAM.PURGE.{stream}"), &request).await;
        match answer {
            Ok(Response::<Purged>::Err { error }) if error.error_code() == ErrorCode::STREAM_GENERALOR => {
                Some(Frozen { stream, reason: error.to_string() })
            }
            _ => None,
        }
    }
}
