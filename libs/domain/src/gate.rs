//! The gate: the condition under which a challenger replaces the champion.

use serde::{Deserialize, Serialize};

use crate::{
    gate_check::GateCheck,
    validation::{Checks, Violations},
};

/// When a challenger is better than the champion. The trainer evaluates it, a policy carries it; both apply [`validate`](Self::validate).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Share of the champion's mean loss by which the challenger's must be lower, in [0, 1).
    pub margin: f64,
    /// One-sided confidence of the improvement, above 0.5 and below 1: at 0.5 the bound is the estimate itself, and chance alone passes
    /// every second challenger. At the default of 0.8, every fifth challenger that is equal passes, which costs a rollout, and 3 % of those that are
    /// worse by one standard error of the comparison. Higher values reject most challengers that are better by a few percent, since the rows of
    /// a gate are few and depend on each other.
    pub confidence: f64,
    /// Rows below which the challenger is rejected; at least [`Gate::LEAST_ROWS`].
    pub min_rows: u64,
    /// Columns by whose values the rows are sliced. The challenger must not be worse on any slice with at least `min_rows` rows.
    pub slices: Vec<String>,
    /// Limits that the challenger keeps whatever its loss, at most [`Gate::MOST_CHECKS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<GateCheck>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { margin: 0.0, confidence: 0.8, min_rows: 200, slices: Vec::new(), checks: Vec::new() }
    }
}

impl Gate {
    /// The least that `min_rows` may be: the comparison forms 20 batches in order of time.
    pub const LEAST_ROWS: u64 = 20;
    /// Checks at most.
    pub const MOST_CHECKS: usize = 50;

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require((0.0..1.0).contains(&self.margin), "margin", self.margin, "at least 0 and below 1");
        let confident = self.confidence > 0.5 && self.confidence < 1.0;
        checks.require(confident, "confidence", self.confidence, "above 0.5 and below 1, e.g. 0.95");
        checks.require(self.min_rows >= Self::LEAST_ROWS, "min_rows", self.min_rows, "at least 20");
        checks.require(self.slices.iter().all(|name| !name.is_empty()), "slices", "an empty name", "column names");
        let (count, most) = (self.checks.len(), Self::MOST_CHECKS);
        checks.require(count <= most, "checks", format!("{count} checks"), &format!("at most {most}"));
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_each_bound_is_named() {
        let base = Gate::default();
        assert_eq!(base.validate(), Ok(()));
        for (field, gate) in [
            ("margin", Gate { margin: 1.0, ..base.clone() }),
            ("margin", Gate { margin: -0.1, ..base.clone() }),
            ("margin", Gate { margin: f64::NAN, ..base.clone() }),
            ("confidence", Gate { confidence: 0.5, ..base.clone() }),
            ("confidence", Gate { confidence: 1.0, ..base.clone() }),
            ("confidence", Gate { confidence: f64::NAN, ..base.clone() }),
            ("min_rows", Gate { min_rows: 19, ..base.clone() }),
            ("slices", Gate { slices: vec![String::new()], ..base }),
        ] {
            let violations = gate.validate().expect_err(field);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }
}
