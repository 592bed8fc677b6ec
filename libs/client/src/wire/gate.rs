//! The gate.

use rekindle_domain::{Gate, gate_check::GateCheck, validation::Violations};
use rekindle_proto::trainer as wire;

use super::field::parse_all;

/// The gate as a message, every default filled in.
pub fn to_wire(gate: &Gate) -> wire::Gate {
    wire::Gate {
        margin: Some(gate.margin),
        confidence: Some(gate.confidence),
        min_rows: Some(gate.min_rows),
        slices: gate.slices.clone(),
        checks: gate.checks.iter().map(GateCheck::to_string).collect(),
    }
}

/// The gate that a message holds; unset fields take their defaults.
pub fn from_wire(given: wire::Gate) -> Result<Gate, Violations> {
    let checks = parse_all("checks", &given.checks)?;
    let gate = Gate { checks, ..recorded(given) };
    gate.validate().map(|()| gate)
}

/// The gate of a stored evaluation. Its bounds were those of the release that stored it, so they are not checked again.
pub fn recorded(given: wire::Gate) -> Gate {
    let base = Gate::default();
    Gate {
        margin: given.margin.unwrap_or(base.margin),
        confidence: given.confidence.unwrap_or(base.confidence),
        min_rows: given.min_rows.unwrap_or(base.min_rows),
        slices: given.slices,
        // One of a later release is left out.
        checks: given.checks.iter().filter_map(|check| check.parse().ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_fields_take_defaults_and_zero_is_a_value() {
        assert_eq!(from_wire(wire::Gate::default()), Ok(Gate::default()));
        let zero = wire::Gate { confidence: Some(0.0), min_rows: Some(0), ..Default::default() };
        let fields: Vec<_> = from_wire(zero).expect_err("zero").into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["confidence", "min_rows"]);
        let checks = ["invariant:origin<=0.02", "monotonic_increasing:distance"];
        let checks = checks.map(|check| check.parse().expect("a check")).to_vec();
        let gate = Gate { margin: 0.1, confidence: 0.9, min_rows: 20, slices: vec!["carrier".into()], checks };
        assert_eq!(from_wire(to_wire(&gate)), Ok(gate));
        let unknown = wire::Gate { checks: vec!["invariant:origin<=1".into(), "fair".into()], ..Default::default() };
        let violations = from_wire(unknown).expect_err("no check");
        assert!(violations.to_string().starts_with("checks[1]: is \"fair\""), "{violations}");
    }
}
