//! Whether the database of a service and the stream of events agree on what the service has published.
//!
//! Every event has its position among those of its database. A database that was emptied, or whose last transactions are lost, e.g. since
//! bytes of its write-ahead log were damaged, knows fewer events than the stream: its service would assign version numbers and revisions a
//! second time, so it does not start. A stream that knows fewer has lost events.

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use chrono::{DateTime, Utc};
use rekindle_store::{
    outbox::{self, History},
    sea_orm::DatabaseConnection,
};

use crate::{Bus, Error, cloudevent::Position, streams::EVENTS, subject};

/// The last event of a service on the bus.
#[derive(Debug)]
enum LastEvent {
    /// The stream has none; it may have had some, if it has discarded its oldest messages.
    None {
        has_discarded: bool,
    },
    /// An earlier release published it.
    Unnumbered,
    Numbered(Last),
}

#[derive(Debug)]
struct Last {
    position: Position,
    subject: String,
    stored_at: DateTime<Utc>,
}

/// Compares what the database of a service has published with what the stream of events has. To be called before the service writes.
///
/// A database without changes that were published is an error, unless the loss is accepted in its configuration: then it continues the
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
    // The stream first: other instances of the service may publish between the two.
    let last = bus.last_event_of(service).await?;
    let history = outbox::history(db).await?;
    let last = match last {
        LastEvent::Numbered(last) => last,
        LastEvent::None { has_discarded: false } => {
            report_lost_events(service, 0, history);
            return Ok(());
        }
        LastEvent::None { has_discarded: true } | LastEvent::Unnumbered => return Ok(()),
    };
    let Position { database, sequence } = last.position;
    let is_other = database != history.database;
    if !is_other && sequence <= history.claimed {
        report_lost_events(service, sequence, history);
        return Ok(());
    }
    if config.accept_data_loss {
        tracing::warn!(
            service,
            published = sequence,
            known = if is_other { 0 } else { history.claimed },
            "the database lacks changes that were published, and continues without them: the data loss is accepted"
        );
        return Ok(outbox::continue_history(db, database, sequence).await?);
    }
    let known = match is_other {
        true => "it is another one than the database that published them: it was emptied or replaced".to_owned(),
        false => format!("it knows {} of them: its last transactions are lost", history.claimed),
    };
    Err(Error::DataLoss {
        service,
        url: config.without_credentials(),
        published: sequence,
        known,
        last: last.describe(),
    })
}

/// Events that were acknowledged, and are not in the stream although it has older ones.
fn report_lost_events(service: &'static str, last: u64, history: History) {
    let lost = history.published.saturating_sub(last);
    metrics::gauge!("rekindle_bus_lost_events", "service" => service).set(lost as f64);
    if lost > 0 {
        tracing::error!(
            service,
            stream = EVENTS,
            "events {} to {} of the service are lost: the stream ends with event {last}",
            last + 1,
            history.published
        );
    }
}

impl Last {
    fn describe(&self) -> String {
        format!("{} at {}", self.subject, self.stored_at.format("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl Bus {
    async fn last_event_of(&self, service: &'static str) -> Result<LastEvent, Error> {
        let failed = |source| Error::Read { stream: EVENTS, source };
        let stream = self.jetstream().get_stream(EVENTS).await.map_err(|error| failed(error.into()))?;
        let message = match stream.get_last_raw_message_by_subject(&subject::events_of_service(service)).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(LastEvent::None { has_discarded: stream.cached_info().state.first_sequence > 1 });
            }
            Err(error) => return Err(failed(error.into())),
        };
        Ok(Position::of(&message.headers).map_or(LastEvent::Unnumbered, |position| {
            LastEvent::Numbered(Last {
                position,
                subject: message.subject.to_string(),
                stored_at: DateTime::from_timestamp(message.time.unix_timestamp(), 0).unwrap_or_default(),
            })
        }))
    }
}
