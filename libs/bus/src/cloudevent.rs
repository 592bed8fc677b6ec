//! Events as CloudEvents 1.0 in the binary mode of the NATS binding: attributes are `ce-` headers, the body is the data.
//!
//! The crate `cloudevents-sdk` (0.9) does not fit: its NATS binding has the structured mode only, and is bound to another client version.

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};
use chrono::{DateTime, SecondsFormat, Utc};
use rekindle_domain::event::{EventContext, EventKind};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, read::Stored, subject};

/// An event on the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    /// Unique together with the source; a UUIDv7.
    pub id: Uuid,
    /// Who published it: `/rekindle/<service>/<instance>`.
    pub source: String,
    /// What happened.
    pub kind: EventKind,
    /// To which thing: its name, qualified by its namespace.
    pub name: String,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// When it was enqueued.
    pub recorded_time: DateTime<Utc>,
    /// On whose behalf.
    pub context: EventContext,
    /// Events with the same key are ordered.
    pub partition_key: String,
    /// The W3C trace context in which it happened.
    pub traceparent: Option<String>,
    /// Where it stands among the events of its database. Events of earlier releases have none.
    pub position: Option<Position>,
    /// The proto3 JSON form of the kind's message.
    pub data: Value,
}

/// Where an event stands among those that a database has published. The instances of a service share a database, so the positions of one
/// source have gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The identity of the database.
    pub database: Uuid,
    /// Greater by one than that of the event before.
    pub sequence: u64,
}

impl Position {
    /// Of a message's headers, if it has one.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let headers = Headers(Some(headers));
        let (Some(database), Some(sequence)) = (headers.optional("ce-database"), headers.optional("ce-sequence"))
        else {
            return Ok(None);
        };
        let parsed = database.parse().map_err(|_| headers.wrong("ce-database", &database, "a UUID"));
        let database = parsed?;
        let parsed = sequence.parse().map_err(|_| headers.wrong("ce-sequence", &sequence, "a number"));
        Ok(Some(Self { database, sequence: parsed? }))
    }
}

impl CloudEvent {
    /// Where it is published.
    pub fn subject(&self) -> String {
        subject::event(self.kind, &self.name)
    }

    /// Identifies the event across redeliveries: source and id. It is the `Nats-Msg-Id`, and the id for an inbox.
    pub fn identity(&self) -> String {
        format!("{}{}", self.source, self.id)
    }

    /// The headers of the message; empty attributes are omitted, as the specification requires.
    pub fn to_headers(&self) -> HeaderMap {
        let traceparent = self.traceparent.clone().unwrap_or_default();
        let attributes = [
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", self.id.to_string()),
            ("ce-type", self.kind.ce_type()),
            ("ce-source", self.source.clone()),
            ("ce-subject", self.kind.ce_subject(&self.name)),
            ("ce-time", rfc3339(self.time)),
            ("ce-datacontenttype", "application/json".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("ce-correlationid", self.context.correlation_id.clone()),
            ("ce-causationid", self.context.causation_id.clone()),
            ("ce-partitionkey", self.partition_key.clone()),
            ("ce-recordedtime", rfc3339(self.recorded_time)),
            // As in the extension `sequence` of CloudEvents, texts that sort as the numbers do.
            ("ce-sequence", self.position.map(|position| format!("{:020}", position.sequence)).unwrap_or_default()),
            ("ce-database", self.position.map(|position| position.database.to_string()).unwrap_or_default()),
            ("ce-traceparent", traceparent.clone()),
            ("traceparent", traceparent),
        ];
        let mut headers = HeaderMap::new();
        for (key, value) in attributes {
            if !value.is_empty() {
                headers.insert(key, encode(&value).as_str());
            }
        }
        headers.insert(NATS_MESSAGE_ID, encode(&self.identity()).as_str());
        headers
    }
}

/// Parses an event; an error names the invalid header, or describes what is wrong with the body.
pub fn from_message(message: &async_nats::Message) -> Result<CloudEvent, Error> {
    from_parts(message.headers.as_ref(), &message.payload)
}

/// Parses an event that a stream stores; errors are as those of [`from_message`].
pub fn from_stored(stored: &Stored) -> Result<CloudEvent, Error> {
    from_parts(Some(&stored.headers), &stored.payload)
}

fn from_parts(given: Option<&HeaderMap>, payload: &[u8]) -> Result<CloudEvent, Error> {
    let headers = Headers(given);
    let version = headers.required("ce-specversion")?;
    if version != "1.0" {
        return Err(headers.wrong("ce-specversion", &version, "1.0"));
    }
    let ce_type = headers.required("ce-type")?;
    let kind =
        EventKind::from_ce_type(&ce_type).ok_or_else(|| headers.wrong("ce-type", &ce_type, "a type of rekindle"))?;
    let id = headers.required("ce-id")?;
    let subject = headers.required("ce-subject")?;
    let name = subject
        .split_once('/')
        .filter(|(noun, _)| *noun == kind.noun)
        .map(|(_, name)| name.to_owned())
        .ok_or_else(|| headers.wrong("ce-subject", &subject, "<noun of the type>/<name>"))?;
    let time = headers.time("ce-time")?;
    Ok(CloudEvent {
        id: id.parse().map_err(|_| headers.wrong("ce-id", &id, "a UUID"))?,
        source: headers.required("ce-source")?,
        kind,
        name,
        time,
        recorded_time: headers.optional("ce-recordedtime").map_or(Ok(time), |_| headers.time("ce-recordedtime"))?,
        context: EventContext {
            correlation_id: headers.optional("ce-correlationid").unwrap_or_default(),
            causation_id: headers.optional("ce-causationid").unwrap_or_default(),
        },
        partition_key: headers.optional("ce-partitionkey").unwrap_or_default(),
        traceparent: headers.optional("ce-traceparent"),
        position: given.map(Position::of).transpose()?.flatten(),
        data: serde_json::from_slice(payload)
            .map_err(|error| Error::InvalidEvent { problem: format!("the data is not JSON: {error}") })?,
    })
}

struct Headers<'a>(Option<&'a HeaderMap>);

impl Headers<'_> {
    fn optional(&self, key: &'static str) -> Option<String> {
        self.0?.get(key).map(|value| decode(value.as_str())).filter(|value| !value.is_empty())
    }

    fn required(&self, key: &'static str) -> Result<String, Error> {
        self.optional(key).ok_or_else(|| Error::InvalidEvent { problem: format!("the header {key} is missing") })
    }

    fn time(&self, key: &'static str) -> Result<DateTime<Utc>, Error> {
        let text = self.required(key)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| self.wrong(key, &text, "a time as in RFC 3339"))?;
        Ok(time.to_utc())
    }

    fn wrong(&self, key: &str, got: &str, expected: &str) -> Error {
        let got: String = got.chars().take(80).collect();
        Error::InvalidEvent { problem: format!("the header {key} is {got:?}: expected {expected}") }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Percent-encodes what a header must not contain: space, double quote, percent, and everything but printable ASCII (CloudEvents
/// HTTP binding 1.0.2, section 3.1.3.2, which the NATS binding follows).
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            0x21..=0x7e if byte != b'"' && byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The reverse of [`encode`]; what is not an encoded byte stays as it is.
pub(crate) fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> CloudEvent {
        CloudEvent {
            id: Uuid::from_u128(0x018f_6e1a_5f2b_7c31_9a52_0c8e_4f6b_1d20),
            source: "/rekindle/registry/a 1".into(),
            kind: EventKind::ALIAS_MOVED,
            name: "flight-delay".into(),
            time: "2026-03-01T12:00:00.250Z".parse().expect("a time"),
            recorded_time: "2026-03-01T12:00:01Z".parse().expect("a time"),
            context: EventContext { correlation_id: "trip-é".into(), causation_id: String::new() },
            partition_key: "flight-delay".into(),
            traceparent: None,
            position: Some(Position { database: Uuid::from_u128(7), sequence: 12 }),
            data: json!({"model": "flight-delay", "alias": "champion", "revision": "3"}),
        }
    }

    fn message(headers: HeaderMap, payload: &str) -> async_nats::Message {
        async_nats::Message {
            subject: "rekindle.events.x".into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn headers_follow_the_contract() {
        let headers = event().to_headers();
        let get = |key: &str| headers.get(key).map(|value| value.as_str().to_owned());
        assert_eq!(get("ce-specversion").as_deref(), Some("1.0"));
        assert_eq!(get("ce-type").as_deref(), Some("dev.rekindle.registry.alias.moved.v1"));
        assert_eq!(get("ce-subject").as_deref(), Some("alias/flight-delay"));
        assert_eq!(get("ce-time").as_deref(), Some("2026-03-01T12:00:00.250Z"));
        assert_eq!(get("ce-source").as_deref(), Some("/rekindle/registry/a%201"));
        assert_eq!(get("ce-correlationid").as_deref(), Some("trip-%C3%A9"));
        assert_eq!(get("ce-causationid"), None);
        assert_eq!(get("ce-sequence").as_deref(), Some("00000000000000000012"));
        assert_eq!(get("ce-database").as_deref(), Some("00000000-0000-0000-0000-000000000007"));
        assert_eq!(get("Nats-Msg-Id").as_deref(), Some("/rekindle/registry/a%201018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20"));
    }

    #[test]
    fn what_was_sent_is_received() {
        let sent = event();
        let received = from_message(&message(sent.to_headers(), &sent.data.to_string())).expect("valid");
        assert_eq!(received, sent);
    }

    #[test]
    fn each_fault_is_named() {
        for (key, value, named) in [
            ("ce-specversion", "0.3", "ce-specversion"),
            ("ce-type", "dev.rekindle.registry.alias.moved.v9", "ce-type"),
            ("ce-id", "17", "ce-id"),
            ("ce-subject", "run/x", "ce-subject"),
            ("ce-time", "yesterday", "ce-time"),
            ("ce-source", "", "ce-source"),
        ] {
            let mut headers = event().to_headers();
            headers.insert(key, value);
            let error = from_message(&message(headers, "{}")).expect_err(key).to_string();
            assert!(error.contains(named), "{error}");
        }
        let error = from_message(&message(event().to_headers(), "{")).expect_err("cut").to_string();
        assert!(error.contains("not JSON"), "{error}");
    }
}
