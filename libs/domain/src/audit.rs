//! The audit trail: who changed what, when and why, in a chain of hashes.

use chrono::{DateTime, Utc};

use crate::Digest;

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The call or the step that made the change.
    pub request_id: uuid::Uuid,
    /// The principal that made it.
    pub actor: String,
    /// Noun and verb, e.g. `alias.moved`.
    pub action: String,
    /// Noun and name, e.g. `alias/flight-delay`.
    pub object: String,
    /// JSON of the object, or of what changed of it; empty if there was none.
    pub before: String,
    /// The same afterwards; empty if there is none.
    pub after: String,
    /// The reason given.
    pub reason: String,
    /// The workflow, or another id by which the caller groups.
    pub correlation_id: String,
    /// When, in microseconds.
    pub time: DateTime<Utc>,
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The entry.
    pub entry: Entry,
    /// Its position, from 1, and its hash; `None` until it is sealed.
    pub seal: Option<Seal>,
}

/// The position of an entry and its hash, which covers all entries up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// From 1, without gaps.
    pub position: u64,
    /// 64 hexadecimal digits.
    pub hash: String,
}

/// Which entries are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The actor; empty: any.
    pub actor: String,
    /// A noun and a verb, or a noun; empty: any.
    pub action: String,
    /// The beginning of the object; empty: any.
    pub object: String,
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// Oldest first.
    pub ascending: bool,
}

/// What a check of a whole trail has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Sealed entries that were read.
    pub entries: u64,
    /// The hash of the last one; empty if there is none.
    pub hash: String,
    /// By position, at most 100.
    pub faults: Vec<Fault>,
    /// Position of the last entry whose hash is on the bus; 0 if none is.
    pub published: u64,
    /// Entries without a hash yet, which cannot be checked.
    pub unsealed: u64,
}

/// An entry that is not as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The position of the entry.
    pub position: u64,
    /// What is wrong.
    pub problem: String,
}

impl Entry {
    /// The hash of the entry at a position, after the entry with a hash (of the first one: the empty text).
    pub fn hash(&self, position: u64, previous: &str) -> String {
        let Self { request_id, actor, action, object, before, after, reason, correlation_id, time } = self;
        let request_id = request_id.to_string();
        let texts = [previous, &request_id, actor, action, object, before, after, reason, correlation_id];
        let mut json = format!("[{position}");
        for text in texts {
            json.push(',');
            json.push_str(&serde_json::Value::from(text).to_string());
        }
        json.push_str(&format!(",{}]", time.timestamp_micros()));
        Digest::of(json.as_bytes()).hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_covers_every_field_the_position_and_the_entry_before() {
        let entry = Entry {
            request_id: uuid::Uuid::from_u128(7),
            actor: "alice".into(),
            action: "alias.moved".into(),
            object: "alias/churn".into(),
            before: String::new(),
            after: "{\"version\":2}".into(),
            reason: "better".into(),
            correlation_id: "w".into(),
            time: DateTime::from_timestamp_micros(1_700_000_000_000_001).expect("a time"),
        };
        // echo -n '[1,"","00000000-0000-0000-0000-000000000007","alice",...]' | sha256sum
        assert_eq!(entry.hash(1, ""), Digest::of(
            br#"[1,"","00000000-0000-0000-0000-000000000007","alice","alias.moved","alias/churn","","{\"version\":2}","better","w",1700000000000001]"#
        ).hex());
        let other = |change: fn(&mut Entry)| {
            let mut entry = entry.clone();
            change(&mut entry);
            entry.hash(1, "")
        };
        let mut hashes = vec![
            entry.hash(1, ""),
            entry.hash(2, ""),
            entry.hash(1, "0"),
            other(|entry| entry.request_id = uuid::Uuid::nil()),
            other(|entry| entry.actor.push('x')),
            other(|entry| entry.action.push('x')),
            other(|entry| entry.object.push('x')),
            other(|entry| entry.before.push('x')),
            other(|entry| entry.after.push('x')),
            other(|entry| entry.reason.push('x')),
            other(|entry| entry.correlation_id.push('x')),
            other(|entry| entry.time += chrono::TimeDelta::microseconds(1)),
            // From one field to the next.
            other(|entry| (entry.actor, entry.action) = ("alic".into(), "ealias.moved".into())),
        ];
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 13);
    }
}
