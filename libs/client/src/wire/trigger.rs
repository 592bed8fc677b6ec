//! Triggers that started no workflow.

use rekindle_domain::{
    trigger::{IgnoredReason, IgnoredTrigger},
    validation::Violations,
};
use rekindle_proto::{json, orchestrator as wire};
use serde_json::Value;

use super::{
    field::{enumeration, required_time},
    time,
    workflow::{trigger_from_wire, trigger_to_wire},
};

/// Ignored triggers as a message.
pub fn to_wire(ignored: &IgnoredTrigger) -> wire::IgnoredTrigger {
    wire::IgnoredTrigger {
        trigger: trigger_to_wire(ignored.trigger).into(),
        reason: reason_to_wire(ignored.reason).into(),
        explanation: ignored.explanation.clone(),
        count: ignored.count,
        first_at: Some(time::to_wire(ignored.first_at)),
        last_at: Some(time::to_wire(ignored.last_at)),
    }
}

/// Ignored triggers in proto3 JSON.
pub fn to_json(ignored: &IgnoredTrigger) -> Value {
    json::to_value(&to_wire(ignored))
}

/// The ignored triggers that a message holds.
pub fn from_wire(given: wire::IgnoredTrigger) -> Result<IgnoredTrigger, Violations> {
    Ok(IgnoredTrigger {
        trigger: trigger_from_wire("trigger", given.trigger)?,
        reason: reason_from_wire(given.reason)?,
        explanation: given.explanation,
        count: given.count,
        first_at: required_time("first_at", given.first_at)?,
        last_at: required_time("last_at", given.last_at)?,
    })
}

fn reason_to_wire(reason: IgnoredReason) -> wire::IgnoredReason {
    match reason {
        IgnoredReason::InvalidPolicy => wire::IgnoredReason::InvalidPolicy,
        IgnoredReason::OtherVersion => wire::IgnoredReason::OtherVersion,
        IgnoredReason::Active => wire::IgnoredReason::Active,
        IgnoredReason::CoolingDown => wire::IgnoredReason::CoolingDown,
        IgnoredReason::BackingOff => wire::IgnoredReason::BackingOff,
        IgnoredReason::DataFault => wire::IgnoredReason::DataFault,
        IgnoredReason::Budget => wire::IgnoredReason::Budget,
        IgnoredReason::Missed => wire::IgnoredReason::Missed,
    }
}

fn reason_from_wire(given: i32) -> Result<IgnoredReason, Violations> {
    enumeration("reason", given, "a reason why a trigger is ignored", |reason| match reason {
        wire::IgnoredReason::Unspecified => None,
        wire::IgnoredReason::InvalidPolicy => Some(IgnoredReason::InvalidPolicy),
        wire::IgnoredReason::OtherVersion => Some(IgnoredReason::OtherVersion),
        wire::IgnoredReason::Active => Some(IgnoredReason::Active),
        wire::IgnoredReason::CoolingDown => Some(IgnoredReason::CoolingDown),
        wire::IgnoredReason::BackingOff => Some(IgnoredReason::BackingOff),
        wire::IgnoredReason::DataFault => Some(IgnoredReason::DataFault),
        wire::IgnoredReason::Budget => Some(IgnoredReason::Budget),
        wire::IgnoredReason::Missed => Some(IgnoredReason::Missed),
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekindle_domain::Trigger;

    use super::*;

    #[test]
    fn every_reason_survives() {
        for reason in IgnoredReason::ALL {
            let ignored = IgnoredTrigger {
                trigger: Trigger::Schedule,
                reason,
                explanation: "a sentence".to_owned(),
                count: 3,
                first_at: DateTime::UNIX_EPOCH,
                last_at: DateTime::UNIX_EPOCH,
            };
            assert_eq!(IgnoredReason::from_name(reason.name()), Some(reason));
            assert_eq!(from_wire(to_wire(&ignored)), Ok(ignored));
        }
    }
}
