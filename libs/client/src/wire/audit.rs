//! Entries of the audit trail.

use rekindle_domain::{
    audit::Entry,
    audit::{Fault, Filter, Seal, Sealed, Verification},
    validation::Violations,
};
use rekindle_proto::{audit as wire, json};
use serde_json::Value;

use super::{
    field::{optional_time, parse, required_time},
    time,
};

/// An entry as a message.
pub fn to_wire(sealed: &Sealed) -> wire::Entry {
    let Entry { request_id, actor, action, object, before, after, reason, correlation_id, time } = sealed.entry.clone();
    let (position, hash) = sealed.seal.clone().map(|seal| (seal.position, seal.hash)).unwrap_or_default();
    wire::Entry {
        position,
        actor,
        action,
        object,
        before,
        after,
        reason,
        correlation_id,
        request_id: request_id.to_string(),
        time: Some(time::to_wire(time)),
        hash,
    }
}

/// The entry in proto3 JSON.
pub fn to_json(sealed: &Sealed) -> Value {
    json::to_value(&to_wire(sealed))
}

/// The entry that a message holds.
pub fn from_wire(given: wire::Entry) -> Result<Sealed, Violations> {
    let entry = Entry {
        request_id: parse("request_id", &given.request_id)?,
        actor: given.actor,
        action: given.action,
        object: given.object,
        before: given.before,
        after: given.after,
        reason: given.reason,
        correlation_id: given.correlation_id,
        time: required_time("time", given.time)?,
    };
    let seal = (given.position > 0).then_some(Seal { position: given.position, hash: given.hash });
    Ok(Sealed { entry, seal })
}

/// Which entries are listed, as a request.
pub fn filter_to_wire(filter: &Filter, page_size: u32, page_token: String) -> wire::ListEntriesRequest {
    let Filter { actor, action, object, since, until, ascending } = filter.clone();
    let (since, until) = (since.map(time::to_wire), until.map(time::to_wire));
    wire::ListEntriesRequest { actor, action, object, since, until, page_size, page_token, ascending }
}

/// Which entries a request asks for.
pub fn filter_from_wire(given: wire::ListEntriesRequest) -> Result<Filter, Violations> {
    let wire::ListEntriesRequest { actor, action, object, since, until, ascending, .. } = given;
    let (since, until) = (optional_time("since", since)?, optional_time("until", until)?);
    Ok(Filter { actor, action, object, since, until, ascending })
}

/// What a check has found, as a message.
pub fn verification_to_wire(found: &Verification) -> wire::VerifyResponse {
    let Verification { entries, hash, faults, published, unsealed } = found.clone();
    let faults = faults.into_iter().map(|Fault { position, problem }| wire::Fault { position, problem }).collect();
    wire::VerifyResponse { entries, hash, faults, published, unsealed }
}

/// What a check has found, in proto3 JSON.
pub fn verification_to_json(found: &Verification) -> Value {
    json::to_value(&verification_to_wire(found))
}

/// What a check has found.
pub fn verification_from_wire(given: wire::VerifyResponse) -> Verification {
    let wire::VerifyResponse { entries, hash, faults, published, unsealed } = given;
    let faults = faults.into_iter().map(|wire::Fault { position, problem }| Fault { position, problem }).collect();
    Verification { entries, hash, faults, published, unsealed }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn entries_filters_and_verifications_survive() {
        let entry = Entry {
            request_id: uuid::Uuid::from_u128(7),
            actor: "alice".into(),
            action: "alias.moved".into(),
            object: "alias/churn".into(),
            before: "{}".into(),
            after: "{\"version\":2}".into(),
            reason: "better".into(),
            correlation_id: "w".into(),
            time: DateTime::UNIX_EPOCH,
        };
        for seal in [None, Some(Seal { position: 3, hash: "ab".into() })] {
            let sealed = Sealed { entry: entry.clone(), seal };
            assert_eq!(to_json(&sealed)["object"], "alias/churn");
            assert_eq!(from_wire(to_wire(&sealed)), Ok(sealed));
        }
        let filter = Filter {
            actor: "alice".into(),
            action: "alias".into(),
            object: "alias/c".into(),
            since: Some(DateTime::UNIX_EPOCH),
            until: None,
            ascending: true,
        };
        assert_eq!(filter_from_wire(filter_to_wire(&filter, 5, String::new())), Ok(filter));
        let faults = vec![Fault { position: 2, problem: "is missing".into() }];
        let found = Verification { entries: 3, hash: "ab".into(), faults, published: 2, unsealed: 1 };
        assert_eq!(verification_from_wire(verification_to_wire(&found)), found);
    }
}
