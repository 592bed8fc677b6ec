//! Subjects of the bus: the only place that builds or parses them.
//!
//! | subject | message |
//! |---|---|
//! | `rekindle.events.<service>.<noun>.<past-verb>.<name>` | an event |
//! | `rekindle.jobs.<pool>` | a job |
//! | `rekindle.predictions.<model>` | logged predictions |
//! | `rekindle.failures.<model>` | prediction requests that have no answer |
//! | `rekindle.outcomes.<model>` | reported outcomes |
//! | `rekindle.dead.<consumer>` | a dead letter |
//!
//! Names are qualified ([`rekindle_domain::Qualified`]): `<name>` in the default namespace, `<namespace>.<name>` in another. Wildcards: `*` is
//! one token, so it covers names of the default namespace; `*.*` covers those of the others, and `>` all.

use rekindle_domain::{ModelName, event::EventKind};

use crate::Error;

/// Every event.
pub const ALL_EVENTS: &str = "rekindle.events.>";

const JOBS: &str = "rekindle.jobs";
const PREDICTIONS: &str = "rekindle.predictions";
const FAILURES: &str = "rekindle.failures";
const OUTCOMES: &str = "rekindle.outcomes";
const DEAD_LETTERS: &str = "rekindle.dead";

/// The subject of an event about the thing of this qualified name.
pub fn event(kind: EventKind, qualified_name: &str) -> String {
    format!("{}.{qualified_name}", events_prefix(kind))
}

/// The filter for every event of a kind, in all namespaces.
pub fn events_of(kind: EventKind) -> String {
    format!("{}.>", events_prefix(kind))
}

/// The filter for every event of a service, in all namespaces.
pub(crate) fn events_of_service(service: &str) -> String {
    format!("rekindle.events.{service}.>")
}

/// The filter for events by `<service>.<noun>.<past-verb>` and qualified name, each of which may contain wildcards.
pub fn events_matching(kind: &str, qualified_name: &str) -> String {
    format!("rekindle.events.{kind}.{qualified_name}")
}

/// Where jobs for a pool of workers go.
pub fn jobs(pool: &str) -> String {
    format!("{JOBS}.{pool}")
}

/// Where a model's predictions are logged.
pub fn predictions(model: &ModelName) -> String {
    format!("{PREDICTIONS}.{model}")
}

/// The model of a subject of logged predictions.
pub fn parse_predictions(subject: &str) -> Result<ModelName, Error> {
    parse_model(PREDICTIONS, subject)
}

/// Where the requests for a model that have no answer are logged.
pub fn failures(model: &ModelName) -> String {
    format!("{FAILURES}.{model}")
}

/// Where a model's outcomes are reported.
pub fn outcomes(model: &ModelName) -> String {
    format!("{OUTCOMES}.{model}")
}

/// The model of a subject of reported outcomes.
pub fn parse_outcomes(subject: &str) -> Result<ModelName, Error> {
    parse_model(OUTCOMES, subject)
}

/// Where the dead letters of a consumer go.
pub fn dead_letters(consumer: &str) -> String {
    format!("{DEAD_LETTERS}.{consumer}")
}

/// The subjects of each stream.
pub(crate) mod of_stream {
    pub(crate) const EVENTS: &[&str] = &[super::ALL_EVENTS];
    pub(crate) const JOBS: &[&str] = &["rekindle.jobs.>"];
    pub(crate) const PREDICTIONS: &[&str] = &["rekindle.predictions.*", "rekindle.predictions.*.*"];
    pub(crate) const FAILURES: &[&str] = &["rekindle.failures.*", "rekindle.failures.*.*"];
    pub(crate) const OUTCOMES: &[&str] = &["rekindle.outcomes.*", "rekindle.outcomes.*.*"];
    pub(crate) const DEAD_LETTERS: &[&str] = &["rekindle.dead.*"];
}

/// Whether a subject matches a pattern with wildcards.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some(expected), Some(token)) if expected == "*" || expected == token => {}
            _ => return false,
        }
    }
}

fn events_prefix(kind: EventKind) -> String {
    format!("rekindle.events.{}.{}.{}", kind.service, kind.noun, kind.verb)
}

fn parse_model(prefix: &str, subject: &str) -> Result<ModelName, Error> {
    let name = subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    name.and_then(|name| name.parse().ok()).ok_or_else(|| Error::InvalidSubject {
        subject: subject.chars().take(200).collect(),
        expected: format!("{prefix}.<model> or {prefix}.<namespace>.<model>"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_an_event_ends_with_the_name() {
        let kind = EventKind::MODEL_VERSION_REGISTERED;
        let prefix = "rekindle.events.registry.model-version.registered";
        assert_eq!(event(kind, "churn"), format!("{prefix}.churn"));
        assert_eq!(event(kind, "team-a.churn"), format!("{prefix}.team-a.churn"));
        assert_eq!(events_of(kind), format!("{prefix}.>"));
        assert_eq!(events_matching("monitor.*.*", "*"), "rekindle.events.monitor.*.*.*");
    }

    #[test]
    fn what_is_built_is_parsed() {
        for name in ["flight-delay", "team-a.flight-delay"] {
            let model: ModelName = name.parse().expect("a name");
            let subject = predictions(&model);
            assert_eq!(parse_predictions(&subject).expect(&subject), model);
            assert!(parse_outcomes(&subject).is_err());
            let subject = outcomes(&model);
            assert_eq!(subject, format!("rekindle.outcomes.{name}"));
            assert_eq!(parse_outcomes(&subject).expect(&subject), model);
        }
    }

    #[test]
    fn a_pattern_matches_whole_tokens() {
        for (pattern, subject, expected) in [
            ("rekindle.outcomes.*", "rekindle.outcomes.a", true),
            ("rekindle.outcomes.*", "rekindle.outcomes.a.b", false),
            ("rekindle.outcomes.*", "rekindle.outcomes", false),
            ("rekindle.events.>", "rekindle.events.a.b.c", true),
            ("rekindle.events.>", "rekindle.events", false),
            ("rekindle.events.>", "rekindle.eventsx.a", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn other_subjects_are_refused() {
        for subject in [
            "rekindle.outcomes",
            "rekindle.outcomes.",
            "rekindle.outcomes.Flight",
            "rekindle.outcomes.a.b.c",
            "rekindle.outcomesx.a",
            "rekindle.predictions.a",
        ] {
            let error = parse_outcomes(subject).expect_err(subject).to_string();
            assert!(error.contains(subject) && error.contains("rekindle.outcomes.<model>"), "{error}");
        }
    }
}
