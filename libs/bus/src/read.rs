//! Reads what a stream stores, without consuming it.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::consumer::{AckPolicy, DeliverPolicy, pull},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use tokio::time::timeout;

use crate::{Bus, Error, error::Source, streams::EVENTS};

/// Messages that are fetched at a time, so that few are in memory.
const FETCHED: usize = 8;
/// Events that are fetched at a time: nearly all are small.
const FETCHED_EVENTS: usize = 64;
/// Messages without their payloads that are fetched at a time.
const FETCHED_HEADERS: usize = 512;
/// Time that a fetch takes at most: the consumer of a server that restarts is gone, and nothing answers.
const DEADLINE: Duration = Duration::from_secs(10);
/// After this time without a request, the server forgets where a reader is.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first message that was stored at this time or later.
    Time(DateTime<Utc>),
    /// At this position in the stream.
    Sequence(u64),
}

/// What of the messages is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything.
    All,
    /// The headers; payloads are empty.
    Headers,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its position in the stream.
    pub sequence: u64,
    /// Its payload.
    pub payload: Bytes,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Bus {
    /// Calls `take` with the stored messages of a subject, in their order, until it returns `false` or there are no more.
    pub async fn read(
        &self,
        stream: &'static str,
        subject: String,
        from: From,
        take: impl FnMut(Stored) -> bool,
    ) -> Result<(), Error> {
        self.read_part(stream, subject, from, Part::All, take).await
    }

    /// As [`read`](Self::read). An empty subject is all of the stream.
    pub(crate) async fn read_part(
        &self,
        stream: &'static str,
        subject: String,
        from: From,
        part: Part,
        mut take: impl FnMut(Stored) -> bool,
    ) -> Result<(), Error> {
        let fetched = match part {
            Part::Headers => FETCHED_HEADERS,
            Part::All if stream == EVENTS => FETCHED_EVENTS,
            Part::All => FETCHED,
        };
        let failed = |source: Source| Error::Read { stream, source };
        let config = pull::Config {
            deliver_policy: policy(from).map_err(failed)?,
            ack_policy: AckPolicy::None,
            filter_subject: subject,
            headers_only: part == Part::Headers,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = self.jetstream().create_consumer_on_stream(config, stream).await;
        let consumer = consumer.map_err(|error| failed(error.into()))?;
        loop {
            let batch = async {
                let batch = consumer.fetch().max_messages(fetched).messages().await;
                batch.map_err(|error| failed(error.into()))?.try_collect::<Vec<_>>().await.map_err(failed)
            };
            let batch = timeout(DEADLINE, batch).await.map_err(|elapsed| failed(elapsed.into()))??;
            for message in &batch {
                let sequence = message.info().map_err(failed)?.stream_sequence;
                let headers = message.headers.clone().unwrap_or_default();
                if !take(Stored { sequence, payload: message.payload.clone(), headers }) {
                    return Ok(());
                }
            }
            if batch.len() < fetched {
                return Ok(());
            }
        }
    }
}

fn policy(from: From) -> Result<DeliverPolicy, Source> {
    Ok(match from {
        From::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
        From::Time(time) => {
            // Before 1970 nothing was stored, and until 2262 nothing will be.
            let nanos = time.timestamp_nanos_opt().unwrap_or(if time.timestamp() < 0 { 0 } else { i64::MAX });
            DeliverPolicy::ByStartTime { start_time: async_nats::datetime::from_nanos(nanos.max(0).into())? }
        }
    })
}
