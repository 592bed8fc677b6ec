//! Whether the database of a service and the stream of events agree on what the service has published.
//!
//! Every event has its position among those of its database. A database that was emptied, or whose last transactions are lost, e.g. since
//! bytes of its write-ahead log were damaged, has published fewer events than the stream contains: its service would assign version numbers
//! and revisions a second time, so it does not start. Changes without an event, and those whose events are not yet published, are not
//! covered. A stream that contains fewer events than were published has lost some, unless it has discarded its oldest messages.

use std::time::Duration;

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use backon::{ConstantBuilder, Retryable as _};
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use rekindle_store::{outbox, sea_orm::DatabaseConnection};

use crate::{
    Bus, Error,
    cloudevent::Position,
    read::{From, Part, Stored},
    streams::EVENTS,
    subject,
};

/// Attempts while the bus does not answer, and the pause between two.
const ATTEMPTS: usize = 50;
const PAUSE: Duration = Duration::from_millis(200);
/// Events before the last one among which the highest position is searched: a relay publishes up to 256 at once, and repeats those that
/// failed.
const LAST: u64 = 1024;

/// The event with the highest position of a service on the bus.
#[derive(Debug)]
enum Highest {
    /// The stream has none; it may have had some, if it has discarded its oldest messages.
    None {
        has_discarded: bool,
    },
    /// An earlier release published the last one.
    Unnumbered,
    Numbered {
        position: Position,
        subject: String,
        stored_at: DateTime<Utc>,
    },
}

/// Compares what the database of a service has published with what the stream of events has. To be called before the service writes.
///
/// A database without events that were published is an error, unless the loss is accepted in its configuration: then it continues the
/// positions of the stream. Events that the stream has lost are logged and counted. A database in memory is not compared: it is new at every
/// start.
pub async fn verify(
    bus: &Bus,
    db: &DatabaseConnection,
    service: &'static str,
    config: &rekindle_store::Config,
) -> Result<(), Error> {
    if config.is_in_memory() {
        return Ok(());
    }
    // Other instances of the service may publish in between: what was published before must be in the stream, and what is in the stream must
    // have been claimed afterwards.
    let before = outbox::history(db).await?;
    let search = async || bus.highest_event_of(service).await;
    let pauses = ConstantBuilder::default().with_delay(PAUSE).with_max_times(ATTEMPTS);
    let highest = search.retry(pauses).when(Error::is_transient).await?;
    let after = outbox::history(db).await?;
    let (position, subject, stored_at) = match highest {
        Highest::Numbered { position, subject, stored_at } => (position, subject, stored_at),
        Highest::None { has_discarded: false } => {
            report_lost_events(service, 0, before.published.min(before.claimed));
            return Ok(());
        }
        Highest::None { has_discarded: true } => {
            tracing::warn!(
                service,
                stream = EVENTS,
                "the stream has no events of the service any more to compare with"
            );
            return Ok(());
        }
        Highest::Unnumbered => return Ok(()),
    };
    let Position { database, sequence } = position;
    let is_other = database != after.database;
    if !is_other && sequence <= after.claimed {
        report_lost_events(service, sequence, before.published.min(before.claimed));
        if config.accept_data_loss {
            tracing::warn!(service, "accept_data_loss is set although the database lacks no events: unset it");
        }
        return Ok(());
    }
    if config.accept_data_loss {
        tracing::warn!(
            service,
            published = sequence,
            found = if is_other { 0 } else { after.claimed },
            "the database lacks changes that were published, and continues without them: the data loss is accepted"
        );
        return Ok(outbox::continue_history(db, database, sequence).await?);
    }
    let found = match is_other {
        true => "the database is not the one that has published it: it was emptied or replaced".to_owned(),
        false => format!("the last event of the database is event {}: its last transactions are lost", after.claimed),
    };
    Err(Error::DataLoss {
        service,
        url: config.without_credentials(),
        published: sequence,
        found,
        last: format!("{subject} at {}", stored_at.format("%Y-%m-%dT%H:%M:%SZ")),
    })
}

/// Events that were acknowledged, and are not in the stream.
fn report_lost_events(service: &'static str, last: u64, published: u64) {
    let lost = published.saturating_sub(last);
    metrics::gauge!("rekindle_bus_lost_events", "service" => service).set(lost as f64);
    if lost > 0 {
        let first = last + 1;
        tracing::error!(service, stream = EVENTS, "events {first} to {published} of the service are lost");
    }
}

impl Bus {
    async fn highest_event_of(&self, service: &'static str) -> Result<Highest, Error> {
        let failed = |source| Error::Read { stream: EVENTS, source };
        let subjects = subject::events_of_service(service);
        let stream = self.jetstream().get_stream(EVENTS).await.map_err(|error| failed(error.into()))?;
        let first = stream.cached_info().state.first_sequence;
        let last = match stream.get_last_raw_message_by_subject(&subjects).await {
            Ok(message) => message,
            // The server gives the same answer if it cannot read the last message.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                let present = stream.info_with_subjects(&subjects).await.map_err(|error| failed(error.into()))?;
                if present.try_collect::<Vec<_>>().await.map_err(|error| failed(error.into()))?.is_empty() {
                    return Ok(Highest::None { has_discarded: first > 1 });
                }
                return self.highest_from(&subjects, first).await;
            }
            Err(error) => return Err(failed(error.into())),
        };
        if Position::of(&last.headers)?.is_none() {
            return Ok(Highest::Unnumbered);
        }
        self.highest_from(&subjects, last.sequence.saturating_sub(LAST).max(first)).await
    }

    /// The highest of the events of some subjects from a sequence on.
    async fn highest_from(&self, subjects: &str, from: u64) -> Result<Highest, Error> {
        let (mut highest, mut invalid) = (None::<(Position, u64)>, None);
        let take = |message: Stored| {
            match Position::of(&message.headers) {
                Ok(Some(position)) if highest.is_none_or(|(highest, _)| position.sequence >= highest.sequence) => {
                    highest = Some((position, message.sequence));
                }
                Ok(_) => {}
                Err(error) => invalid = Some(error),
            }
            true
        };
        self.read_part(EVENTS, subjects.to_owned(), From::Sequence(from), Part::Headers, take).await?;
        if let Some(error) = invalid {
            return Err(error);
        }
        let Some((position, sequence)) = highest else { return Ok(Highest::Unnumbered) };
        let failed = |source| Error::Read { stream: EVENTS, source };
        let stream = self.jetstream().get_stream_no_info(EVENTS).await.map_err(|error| failed(error.into()))?;
        let message = stream.get_raw_message(sequence).await.map_err(|error| failed(error.into()))?;
        let stored_at = DateTime::from_timestamp(message.time.unix_timestamp(), 0).unwrap_or_default();
        Ok(Highest::Numbered { position, subject: message.subject.to_string(), stored_at })
    }
}
