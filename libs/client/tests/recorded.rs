//! Messages that earlier releases stored read back, or are refused.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rekindle_client::wire;
use rekindle_domain::{Gate, event::EventKind};
use rekindle_testkit::Fixture;
use serde_json::Value;

const PASSED: &str = "f2/f2a6a12070078ca4e4f4478fa6d6729ac166ed4e5c3b13cfc393314c3b795cec";
const REJECTED: &str = "45/4515bf81ec3f8e3ab573ad33d3e391ddcbc3de81022274a36c811e72de4c2030";

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// The kind and the data of each recorded event.
fn events() -> Vec<(EventKind, Value)> {
    let events: Vec<Value> = serde_json::from_str(&Fixture::of("0.1.0").text("messages/events.json")).expect("JSON");
    let read = |event: &Value| {
        let kind = event["headers"]["ce-type"].as_str().and_then(EventKind::from_ce_type).expect("a known type");
        (kind, event["data"].clone())
    };
    events.iter().map(read).collect()
}

#[test]
fn evaluations_read_back() {
    let stored = |path: &str| Fixture::of("0.1.0").read(format!("objects/blobs/sha256/{path}"));
    let passed = wire::evaluation::from_json(&stored(PASSED)).expect("it reads");
    let gate =
        Gate { margin: 0.02, confidence: 0.9, min_rows: 40, slices: vec!["origin".to_owned()], checks: Vec::new() };
    assert_eq!((passed.pass, passed.rows, &passed.gate), (true, 162, &gate));
    assert_eq!((passed.improvement, passed.improvement_lower_bound), (1.877_025_199_746_149_8, 1.615_912_832_256_827));
    assert_eq!((passed.from, passed.until), (Some(time("2026-01-17T14:14:24Z")), Some(time("2026-01-18T16:00:00Z"))));
    let slices: Vec<_> = passed.slices.iter().map(|slice| (slice.value.as_str(), slice.rows)).collect();
    assert_eq!(slices, [("JFK", 45), ("LGA", 92)]);
    assert_eq!(passed.champion_metrics["log_loss"], 2.618_123_611_442_592_8);

    let rejected = wire::evaluation::from_json(&stored(REJECTED)).expect("it reads");
    assert_eq!((rejected.pass, rejected.gate.margin), (false, 0.9));
    assert!(rejected.reason.contains("margin of 0.9"), "{}", rejected.reason);
}

#[test]
fn every_kind_of_event_is_recorded() {
    let recorded: BTreeSet<String> = events().into_iter().map(|(kind, _)| kind.ce_type()).collect();
    let later = [
        EventKind::RUN_PROGRESSED,
        EventKind::NEW_CLASS_DETECTED,
        EventKind::DATA_FAULT_DETECTED,
        EventKind::ALERT_OPENED,
        EventKind::ALERT_ACKNOWLEDGED,
        EventKind::ALERT_RESOLVED,
        EventKind::DATASET_VERSION_CHANGED,
        EventKind::RUN_CHANGED,
        EventKind::OPEN_LINEAGE_EMITTED,
        EventKind::ALIAS_DELETED,
        EventKind::ALIAS_PROTECTED,
        EventKind::MODEL_CHANGED,
        EventKind::MODEL_VERSION_CHANGED,
        EventKind::REGISTRY_AUDIT_SEALED,
        EventKind::MONITOR_AUDIT_SEALED,
        EventKind::ORCHESTRATOR_AUDIT_SEALED,
    ];
    let all = EventKind::ALL.iter().filter(|kind| !later.contains(kind));
    assert_eq!(recorded, all.map(|kind| kind.ce_type()).collect());
}

// The shapes of alerts and jobs changed after 0.1.0, before anybody depended on them. Messages in transit across that upgrade must be
// refused by the name of the field, for the dead-letter stream, and never be read with defaults in place of what they said.

#[test]
fn alerts_of_the_former_shape_are_refused_and_not_misread() {
    for kind in [EventKind::DRIFT_DETECTED, EventKind::DEGRADATION_DETECTED] {
        let (_, data) = events().into_iter().find(|(found, _)| *found == kind).expect("recorded");
        let refused = wire::event::detection(kind, &data).expect_err("its window is not a header").to_string();
        assert!(refused.contains("bundle_digest"), "{refused}");
    }
}

#[test]
fn jobs_of_the_former_shape_are_refused_and_not_misread() {
    let refused = wire::job::decode(&Fixture::of("0.1.0").read("messages/job.bin")).expect_err("its recipe is JSON");
    assert!(refused.to_string().contains("train.recipe"), "{refused}");
}
