//! Validation of values that come from outside: every bound is checked, and all violations are reported at once.
//!
//! The shape is that of `google.rpc.BadRequest.FieldViolation`, so that a list of violations becomes error details as it is.

use std::{fmt, time::Duration};

use humantime_serde::re::humantime::format_duration;

/// A field whose value is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field, with dots between the levels, e.g. `gate.confidence`.
    pub field: String,
    /// What was given and what is expected, e.g. `is 0.3: expected above 0.5 and below 1`.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl ToString) -> Self {
        Self { field: field.into(), description: description.to_string() }
    }
}

impl fmt::Display for FieldViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

/// All violations of one value; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// A single violation.
    pub fn of(field: impl Into<String>, description: impl ToString) -> Self {
        Self(vec![FieldViolation::new(field, description)])
    }

    /// The violations, in the order in which the fields were checked.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldViolation> {
        self.0.iter()
    }

    /// The same violations with `parent.` before each field.
    #[must_use]
    pub fn within(self, parent: &str) -> Self {
        let nested = |violation: FieldViolation| FieldViolation {
            field: if violation.field.is_empty() { parent.to_owned() } else { format!("{parent}.{}", violation.field) },
            ..violation
        };
        Self(self.0.into_iter().map(nested).collect())
    }
}

impl From<FieldViolation> for Violations {
    fn from(violation: FieldViolation) -> Self {
        Self(vec![violation])
    }
}

impl IntoIterator for Violations {
    type Item = FieldViolation;
    type IntoIter = std::vec::IntoIter<FieldViolation>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{violation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// Collects violations while the fields of a value are checked or parsed.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldViolation>);

impl Checks {
    /// No violations so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a violation of `field` unless `holds`.
    pub fn require(&mut self, holds: bool, field: &str, given: impl fmt::Display, expected: &str) {
        if !holds {
            self.violation(field, format!("is {given}: expected {expected}"));
        }
    }

    /// Records a violation of `field` unless the value is at least `least`.
    pub fn at_least<T: PartialOrd + fmt::Display>(&mut self, field: &str, given: T, least: T) {
        self.require(given >= least, field, &given, &format!("at least {least}"));
    }

    /// Records a violation of `field` unless the duration is greater than zero.
    pub fn positive(&mut self, field: &str, given: Duration) {
        self.require(!given.is_zero(), field, format_duration(given), "greater than 0s");
    }

    /// Records a violation.
    pub fn violation(&mut self, field: impl Into<String>, description: impl ToString) {
        self.0.push(FieldViolation::new(field, description));
    }

    /// Records the violations of a nested value, its fields named below `parent`.
    pub fn nested(&mut self, parent: &str, result: Result<(), Violations>) {
        self.taken(parent, result);
    }

    /// The parsed value of `field`, or `None` and a violation.
    pub fn parsed<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.violation(field, error)).ok()
    }

    /// The nested value below `parent`, or `None` and its violations.
    pub fn taken<T>(&mut self, parent: &str, result: Result<T, Violations>) -> Option<T> {
        result.map_err(|violations| self.0.extend(violations.within(parent))).ok()
    }

    /// A value whose violations name their fields in full, or `None` and its violations.
    pub fn taken_here<T>(&mut self, result: Result<T, Violations>) -> Option<T> {
        result.map_err(|violations| self.0.extend(violations)).ok()
    }

    /// Fails with every violation that was recorded.
    pub fn finish(self) -> Result<(), Violations> {
        if self.0.is_empty() { Ok(()) } else { Err(Violations(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_violations_are_reported_at_once_and_nested_fields_are_named_by_path() {
        let mut inner = Checks::new();
        inner.require(false, "confidence", 0.3, "above 0.5 and below 1");
        inner.require(true, "margin", 0.0, "at least 0");
        let mut outer = Checks::new();
        outer.nested("gate", inner.finish());
        assert_eq!(outer.parsed("port", "x".parse::<u16>()), None);
        assert_eq!(outer.parsed("size", "7".parse::<u16>()), Some(7));
        let violations = outer.finish().expect_err("two fields are not valid");
        assert_eq!(
            violations.to_string(),
            "gate.confidence: is 0.3: expected above 0.5 and below 1; port: invalid digit found in string"
        );
        let fields: Vec<_> = violations.within("policy").into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["policy.gate.confidence", "policy.port"]);
    }

    #[test]
    fn bounds_name_what_was_given_and_what_is_expected() {
        let mut checks = Checks::new();
        checks.at_least("workers", 0, 1);
        checks.at_least("share", f64::NAN, 0.0);
        checks.positive("lease", Duration::ZERO);
        checks.at_least("readers", 1, 1);
        checks.positive("tick", Duration::from_nanos(1));
        let violations = checks.finish().expect_err("three bounds are violated");
        assert_eq!(
            violations.to_string(),
            "workers: is 0: expected at least 1; share: is NaN: expected at least 0; lease: is 0s: expected greater than 0s"
        );
    }

    #[test]
    fn nothing_to_report_is_success() {
        assert_eq!(Checks::new().finish(), Ok(()));
    }
}
