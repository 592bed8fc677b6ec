//! Creates and updates the streams in sizes that the server's disk has room for.

use std::collections::HashMap;

use async_nats::jetstream::{
    ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    stream::{Config as StreamConfig, DiscardPolicy},
};

use crate::{Bus, Error, streams::Limits};

/// The least size of a stream in bytes.
const LEAST: i64 = 1 << 20;

impl Limits {
    fn sizes(&mut self) -> [&mut i64; 6] {
        [
            &mut self.events_bytes,
            &mut self.jobs_bytes,
            &mut self.predictions_bytes,
            &mut self.failures_bytes,
            &mut self.outcomes_bytes,
            &mut self.dead_letters_bytes,
        ]
    }

    /// These limits with streams of at most `total` bytes together, reduced in proportion, but none below 1 MiB.
    fn scaled_to(&self, total: i64) -> Self {
        let mut scaled = self.clone();
        let configured: i128 = scaled.sizes().iter().map(|size| i128::from(**size)).sum();
        for size in scaled.sizes() {
            let share = i128::from(*size) * i128::from(total) / configured.max(1);
            *size = i64::try_from(share).unwrap_or(i64::MAX).max(LEAST).min(*size);
        }
        scaled
    }

    fn total(&self) -> i64 {
        self.clone().sizes().into_iter().fold(0, |total, size| total.saturating_add(*size))
    }
}

impl Bus {
    /// Creates or updates every stream and bucket. The streams take at most half of the disk, of which `free` bytes are free, if that is
    /// known: the other half is for databases and objects. A server that cannot reserve their sizes gets smaller streams.
    pub(crate) async fn create_streams(&self, limits: &Limits, free: Option<u64>) -> Result<(), Error> {
        // Before the streams, which take what the server has left.
        for bucket in limits.buckets() {
            let what = format!("the bucket {}", bucket.bucket);
            let created = self.jetstream().create_or_update_key_value(bucket).await;
            created.map_err(|error| Error::Setup { what, source: error.into() })?;
        }
        let stored = self.stored(limits).await?;
        let mut total = limits.total();
        if let Some(free) = free {
            let disk =
                stored.values().fold(i64::try_from(free).unwrap_or(i64::MAX), |sum, &one| sum.saturating_add(one));
            total = total.min(disk / 2);
        }
        loop {
            let scaled = limits.scaled_to(total);
            match self.create_in_sizes(limits, &scaled, &stored).await {
                Ok(()) if scaled == *limits => return Ok(()),
                Ok(()) => {
                    let (bytes, configured) = (scaled.total(), limits.total());
                    tracing::warn!(
                        bytes,
                        configured,
                        "the streams are smaller than configured: the server's disk has too little room"
                    );
                    return Ok(());
                }
                // Half the size, until each stream has its least.
                Err((error, _)) if is_out_of_storage(&error) && scaled != limits.scaled_to(0) => total /= 2,
                Err((error, name)) => {
                    return Err(Error::Setup { what: format!("the stream {name}"), source: error.into() });
                }
            }
        }
    }

    async fn create_in_sizes(
        &self,
        configured: &Limits,
        scaled: &Limits,
        stored: &HashMap<String, i64>,
    ) -> Result<(), (CreateStreamError, String)> {
        for (configured, scaled) in configured.streams().into_iter().zip(scaled.streams()) {
            let stored = stored.get(&configured.name).copied().unwrap_or_default();
            let stream = StreamConfig { max_bytes: size(&configured, scaled.max_bytes, stored), ..configured };
            let name = stream.name.clone();
            self.jetstream().create_or_update_stream(stream).await.map_err(|error| (error, name))?;
        }
        Ok(())
    }

    /// Bytes that each existing stream stores.
    async fn stored(&self, limits: &Limits) -> Result<HashMap<String, i64>, Error> {
        let mut stored = HashMap::new();
        for stream in limits.streams() {
            let bytes = match self.jetstream().get_stream(&stream.name).await {
                Ok(found) => i64::try_from(found.cached_info().state.bytes).unwrap_or(i64::MAX),
                Err(error) if is_absent(&error) => 0,
                Err(error) => {
                    return Err(Error::Setup { what: format!("the stream {}", stream.name), source: error.into() });
                }
            };
            stored.insert(stream.name, bytes);
        }
        Ok(stored)
    }
}

/// The size of a stream that stores `stored` bytes. Too small a disk deletes nothing. The configured size deletes the oldest messages of a
/// stream that discards them, but none of a stream that holds what is yet to be processed.
fn size(configured: &StreamConfig, scaled: i64, stored: i64) -> i64 {
    match configured.discard {
        DiscardPolicy::New => scaled.max(stored),
        DiscardPolicy::Old => scaled.max(stored.min(configured.max_bytes)),
    }
}

fn is_absent(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn is_out_of_storage(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => {
            [ErrorCode::STORAGE_RESOURCES_EXCEEDED, ErrorCode::INSUFFICIENT_RESOURCES].contains(&error.error_code())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_reduced_in_proportion_but_not_below_the_least() {
        let limits = Limits::default();
        assert_eq!(limits.scaled_to(limits.total()), limits);
        assert_eq!(limits.scaled_to(i64::MAX), limits);
        let half = limits.scaled_to(limits.total() / 2);
        assert_eq!(half.predictions_bytes, limits.predictions_bytes / 2);
        assert_eq!(half.jobs_bytes, limits.jobs_bytes / 2);
        let mut least = limits.scaled_to(0);
        assert!(least.sizes().into_iter().all(|size| *size == LEAST));
        let tiny = Limits { jobs_bytes: 7, ..Limits::default() };
        assert_eq!(tiny.scaled_to(0).jobs_bytes, 7, "a size is never increased");
    }

    #[test]
    fn a_stream_keeps_what_it_stores_unless_it_discards_by_its_configuration() {
        let stream = |discard| StreamConfig { max_bytes: 100, discard, ..StreamConfig::default() };
        let (old, new) = (stream(DiscardPolicy::Old), stream(DiscardPolicy::New));
        assert_eq!([0, 40, 400].map(|stored| size(&old, 10, stored)), [10, 40, 100]);
        assert_eq!([0, 40, 400].map(|stored| size(&new, 10, stored)), [10, 40, 400]);
    }
}
