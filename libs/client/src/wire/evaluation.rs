//! Evaluations, stored as proto3 JSON under their digest.

use rekindle_domain::{
    evaluation::{CheckEvaluation, Evaluation, SliceEvaluation},
    job::Requirement,
    validation::Violations,
};
use rekindle_proto::{json, trainer as wire};

use super::{
    field::{optional_time, parse},
    gate,
    job::{requirement_from_wire, requirement_to_wire},
    time,
};

/// An evaluation as a message.
pub fn to_wire(evaluation: &Evaluation) -> wire::Evaluation {
    wire::Evaluation {
        champion_bundle: evaluation.champion.to_string(),
        challenger_bundle: evaluation.challenger.to_string(),
        dataset_digest: evaluation.dataset.to_string(),
        rows: evaluation.rows,
        from: evaluation.from.map(time::to_wire),
        until: evaluation.until.map(time::to_wire),
        gate: Some(gate::to_wire(&evaluation.gate)),
        requirement: requirement(evaluation.requirement).into(),
        pass: evaluation.pass,
        reason: evaluation.reason.clone(),
        champion_metrics: evaluation.champion_metrics.clone().into_iter().collect(),
        challenger_metrics: evaluation.challenger_metrics.clone().into_iter().collect(),
        improvement: evaluation.improvement,
        improvement_lower_bound: evaluation.improvement_lower_bound,
        slices: evaluation.slices.iter().map(slice_to_wire).collect(),
        checks: evaluation.checks.iter().map(check_to_wire).collect(),
    }
}

/// A job leaves the default out, and a record does not.
fn requirement(shown: Requirement) -> wire::Requirement {
    if shown == Requirement::Better { wire::Requirement::Better } else { requirement_to_wire(shown) }
}

/// The evaluation that a message holds.
pub fn from_wire(given: wire::Evaluation) -> Result<Evaluation, Violations> {
    Ok(Evaluation {
        champion: parse("champion_bundle", &given.champion_bundle)?,
        challenger: parse("challenger_bundle", &given.challenger_bundle)?,
        dataset: parse("dataset_digest", &given.dataset_digest)?,
        rows: given.rows,
        from: optional_time("from", given.from)?,
        until: optional_time("until", given.until)?,
        gate: gate::recorded(given.gate.unwrap_or_default()),
        requirement: requirement_from_wire(given.requirement)?,
        pass: given.pass,
        reason: given.reason,
        champion_metrics: given.champion_metrics.into_iter().collect(),
        challenger_metrics: given.challenger_metrics.into_iter().collect(),
        improvement: given.improvement,
        improvement_lower_bound: given.improvement_lower_bound,
        slices: given.slices.into_iter().map(slice_from_wire).collect(),
        checks: given.checks.into_iter().map(check_from_wire).collect(),
    })
}

/// The stored form.
pub fn to_json(evaluation: &Evaluation) -> serde_json::Value {
    json::to_value(&to_wire(evaluation))
}

/// Reads the stored form.
pub fn from_json(stored: &[u8]) -> Result<Evaluation, Violations> {
    from_wire(json::from_slice(stored).map_err(|error| Violations::of("evaluation", error))?)
}

fn check_to_wire(check: &CheckEvaluation) -> wire::CheckEvaluation {
    let CheckEvaluation { check, value, pass, explanation } = check.clone();
    wire::CheckEvaluation { check, value, pass, explanation }
}

fn check_from_wire(given: wire::CheckEvaluation) -> CheckEvaluation {
    let wire::CheckEvaluation { check, value, pass, explanation } = given;
    CheckEvaluation { check, value, pass, explanation }
}

fn slice_to_wire(slice: &SliceEvaluation) -> wire::SliceEvaluation {
    wire::SliceEvaluation {
        column: slice.column.clone(),
        value: slice.value.clone(),
        rows: slice.rows,
        improvement: slice.improvement,
        improvement_upper_bound: slice.improvement_upper_bound,
    }
}

fn slice_from_wire(given: wire::SliceEvaluation) -> SliceEvaluation {
    let wire::SliceEvaluation { column, value, rows, improvement, improvement_upper_bound } = given;
    SliceEvaluation { column, value, rows, improvement, improvement_upper_bound }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use rekindle_domain::{Digest, Gate};

    use super::*;

    #[test]
    fn evaluations_survive_their_stored_form() {
        let slice = SliceEvaluation {
            column: "carrier".into(),
            value: "UA".into(),
            rows: 5,
            improvement: 0.1,
            improvement_upper_bound: 0.2,
        };
        let evaluation = Evaluation {
            champion: Digest::of(b"champion"),
            challenger: Digest::of(b"challenger"),
            dataset: Digest::of(b"rows"),
            rows: 10,
            from: Some(DateTime::UNIX_EPOCH),
            until: None,
            gate: Gate::default(),
            requirement: Requirement::NotWorse,
            pass: true,
            reason: "better".into(),
            champion_metrics: BTreeMap::from([("auc".into(), 0.6)]),
            challenger_metrics: BTreeMap::from([("auc".into(), 0.7)]),
            improvement: 0.1,
            improvement_lower_bound: 0.05,
            slices: vec![slice],
            checks: vec![CheckEvaluation {
                check: "invariant:origin<=0.02".into(),
                value: Some(0.01),
                pass: true,
                explanation: "it moves".into(),
            }],
        };
        assert_eq!(from_json(to_json(&evaluation).to_string().as_bytes()), Ok(evaluation));
        assert!(from_json(b"{").is_err());
    }
}
