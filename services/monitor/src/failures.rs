//! Reads the log of failed prediction requests, which replicas publish and the bus retains.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use rekindle_bus::{
    Bus,
    read::{From, Stored},
    streams, subject,
};
use rekindle_client::wire;
use rekindle_domain::{ModelName, failure::FailedRequests};

use crate::Error;

/// A position in the log: the message, and the entry within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailurePosition {
    sequence: u64,
    index: usize,
}

/// A text that is no [`FailurePosition`].
#[derive(Debug)]
pub(crate) struct InvalidPosition;

impl fmt::Display for FailurePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sequence, self.index)
    }
}

impl FromStr for FailurePosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (sequence, index) = text.split_once('/').ok_or(InvalidPosition)?;
        let (sequence, index) = (sequence.parse().ok(), index.parse().ok());
        let (sequence, index) = sequence.zip(index).filter(|&(sequence, _)| sequence > 0).ok_or(InvalidPosition)?;
        Ok(Self { sequence, index })
    }
}

/// The failed requests for a model after a position, or else since a time, at most `limit`. Messages that are no reports are left out.
pub(crate) async fn list(
    bus: &Bus,
    model: &ModelName,
    since: Option<DateTime<Utc>>,
    after: Option<FailurePosition>,
    limit: usize,
) -> Result<Vec<(FailurePosition, FailedRequests)>, Error> {
    let from = match after {
        Some(after) => From::Sequence(after.sequence),
        None => From::Time(since.unwrap_or(DateTime::UNIX_EPOCH)),
    };
    let mut found = Vec::new();
    let take = |Stored { sequence, payload, .. }: Stored| {
        let report = wire::failure::report_from_json(&payload).ok().filter(|report| report.model == *model);
        let failures = report.map(|report| report.failures).unwrap_or_default();
        let failures = failures.into_iter().enumerate();
        let failures = failures.map(|(index, failed)| (FailurePosition { sequence, index }, failed));
        let is_after = |position: &FailurePosition| {
            after.is_none_or(|after| (position.sequence, position.index) > (after.sequence, after.index))
        };
        let missing = limit - found.len();
        found.extend(failures.filter(|(position, _)| is_after(position)).take(missing));
        found.len() < limit
    };
    bus.read(streams::FAILURES, subject::failures(model), from, take).await?;
    Ok(found)
}
