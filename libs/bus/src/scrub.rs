//! Reads streams from end to end, to find messages that the server can no longer read, e.g. since bytes of its files were damaged. The
//! server leaves them out without an error: readers would not notice.

use std::{ops::RangeInclusive, time::Duration};

use async_nats::jetstream::stream::RawMessageErrorKind;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    Bus, Error,
    error::Source,
    read::{From, Part, Stored},
    streams::{DEAD_LETTERS, EVENTS, OUTCOMES},
};

/// Streams from which only the oldest messages are ever deleted: a gap is a loss. Losses of logged predictions and failures are found by
/// the accounts of the replicas.
const STREAMS: [&str; 3] = [EVENTS, OUTCOMES, DEAD_LETTERS];
/// Time between two scrubs.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Time until a failed scrub is repeated.
const RETRY: Duration = Duration::from_secs(60);
/// Largest number of gaps that are named in the log.
const NAMED: usize = 20;

/// Scrubs every stream at start and then once a day, until `shutdown`. Losses are logged, and counted in `rekindle_bus_lost_messages`.
pub async fn run(bus: Bus, shutdown: CancellationToken) -> Result<(), Error> {
    let scrubs = STREAMS.map(|stream| scrub_daily(&bus, stream));
    shutdown.run_until_cancelled(join_all(scrubs)).await;
    Ok(())
}

async fn scrub_daily(bus: &Bus, stream: &'static str) {
    let mut is_failing = false;
    loop {
        let scrubbed = bus.gaps(stream).await;
        match &scrubbed {
            Ok(gaps) => report(stream, gaps),
            Err(error) if !is_failing => {
                tracing::warn!(error = error as &dyn std::error::Error, stream, "cannot scrub the stream, retrying");
            }
            Err(_) => {}
        }
        is_failing = scrubbed.is_err();
        tokio::time::sleep(if is_failing { RETRY } else { EVERY }).await;
    }
}

fn report(stream: &'static str, gaps: &[RangeInclusive<u64>]) {
    let lost: u64 = gaps.iter().map(|gap| gap.end() - gap.start() + 1).sum();
    metrics::gauge!("rekindle_bus_lost_messages", "stream" => stream).set(lost as f64);
    if lost > 0 {
        let named: Vec<_> = gaps.iter().take(NAMED).map(|gap| format!("{}-{}", gap.start(), gap.end())).collect();
        let further = if gaps.len() > NAMED { ", ..." } else { "" };
        tracing::error!(
            stream,
            lost,
            "messages {}{further} of the stream are lost: the NATS server cannot read them from its files",
            named.join(", ")
        );
    }
}

impl Bus {
    /// The sequences between the first and the last message of a stream that it has lost.
    pub async fn gaps(&self, stream: &'static str) -> Result<Vec<RangeInclusive<u64>>, Error> {
        let before = self.bounds(stream).await?;
        let (mut expected, mut gaps) = (*before.start(), Vec::new());
        while expected <= *before.end() {
            let from = expected;
            let take = |message: Stored| {
                if message.sequence > expected {
                    gaps.push(expected..=message.sequence - 1);
                }
                expected = message.sequence + 1;
                expected <= *before.end()
            };
            self.read_part(stream, String::new(), From::Sequence(from), Part::Headers, take).await?;
            if expected == from {
                // Nothing is delivered from here on.
                gaps.push(expected..=*before.end());
                break;
            }
        }
        // The stream may have been created again, and the oldest messages may have been discarded.
        let after = self.bounds(stream).await?;
        if after.end() < before.end() {
            return Ok(Vec::new());
        }
        let left = gaps.into_iter().map(|gap| *after.start().max(gap.start())..=*gap.end());
        let mut lost = Vec::new();
        for gap in left.filter(|gap| !gap.is_empty()) {
            // A message that can be read by its sequence was left out for another reason.
            if !self.has_message(stream, *gap.start()).await? {
                lost.push(gap);
            }
        }
        Ok(lost)
    }

    async fn has_message(&self, stream: &'static str, sequence: u64) -> Result<bool, Error> {
        let failed = |source: Source| Error::Read { stream, source };
        let found = self.jetstream().get_stream_no_info(stream).await.map_err(|error| failed(error.into()))?;
        match found.get_raw_message(sequence).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The sequences of the first and the last message of a stream; the range is empty if the stream is.
    async fn bounds(&self, stream: &'static str) -> Result<RangeInclusive<u64>, Error> {
        let failed = |source: Source| Error::Read { stream, source };
        let found = self.jetstream().get_stream(stream).await.map_err(|error| failed(error.into()))?;
        let state = &found.cached_info().state;
        Ok(state.first_sequence.max(1)..=state.last_sequence)
    }
}
