//! The expected values of a case, and a record of the comparisons.

use std::{cell::RefCell, collections::BTreeSet};

use serde_json::Value;

use crate::inputs;

/// The `expected` object of a case.
pub(crate) struct Expected<'a> {
    values: &'a Value,
    tolerance: f64,
    visited: RefCell<BTreeSet<String>>,
    compared: RefCell<usize>,
    failures: RefCell<Vec<String>>,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(values: &'a Value, tolerance: f64) -> Self {
        let (visited, compared, failures) = Default::default();
        Self { values, tolerance, visited, compared, failures }
    }

    /// A number, or `None` for a NaN, where our function must return an error.
    pub(crate) fn number(&self, key: &str, got: impl Into<Option<f64>>) {
        self.visit(key);
        self.compare(key, &self.values[key], got.into());
    }

    /// A list of numbers.
    pub(crate) fn numbers(&self, key: &str, got: &[Option<f64>]) {
        self.visit(key);
        let expected = self.values[key].as_array().expect("a list");
        if expected.len() != got.len() {
            return self.fail(format!("{key} has {} values, expected {}: {got:?}", got.len(), expected.len()));
        }
        for (at, (expected, got)) in expected.iter().zip(got).enumerate() {
            self.compare(&format!("{key}[{at}]"), expected, *got);
        }
    }

    /// A list of positions.
    pub(crate) fn positions(&self, key: &str, got: &[usize]) {
        self.numbers(key, &got.iter().map(|&at| Some(at as f64)).collect::<Vec<_>>());
    }

    /// A flag, given as a boolean or as 0 or 1.
    pub(crate) fn flag(&self, key: &str, got: bool) {
        self.visit(key);
        let expected = &self.values[key];
        if expected.as_bool().or(expected.as_i64().map(|bit| bit == 1)) != Some(got) {
            self.fail(format!("{key} is {got}, expected {expected}"));
        }
    }

    /// A word.
    pub(crate) fn text(&self, key: &str, got: &str) {
        self.visit(key);
        if self.values[key] != got {
            self.fail(format!("{key} is {got}, expected {}", self.values[key]));
        }
    }

    /// An error of the library, and one of ours.
    pub(crate) fn error<T>(&self, got: &Result<T, rekindle_statistics::Error>) {
        self.visit("error");
        if got.is_ok() {
            self.fail("ours gives an answer".to_owned());
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.get(key).is_some()
    }

    /// A field that is not a statistic, such as a setting of the tool.
    pub(crate) fn no_statistic(&self, key: &str) {
        self.visited.borrow_mut().insert(key.to_owned());
    }

    /// A nested object, which is compared completely.
    pub(crate) fn within(&self, key: &str, values: &'a Value, compare: impl FnOnce(&Expected<'a>)) {
        self.no_statistic(key);
        let inner = Expected::new(values, self.tolerance);
        compare(&inner);
        let (compared, failures) = inner.finish();
        *self.compared.borrow_mut() += compared;
        self.failures.borrow_mut().extend(failures.into_iter().map(|what| format!("{key}: {what}")));
    }

    pub(crate) fn value(&self, key: &str) -> &'a Value {
        &self.values[key]
    }

    /// The number of compared values, and all that differ or are not compared.
    pub(crate) fn finish(self) -> (usize, Vec<String>) {
        let mut failures = self.failures.into_inner();
        let visited = self.visited.into_inner();
        let keys = self.values.as_object().expect("expected values are an object").keys();
        failures.extend(keys.filter(|key| !visited.contains(*key)).map(|key| format!("{key} was not compared")));
        (self.compared.into_inner(), failures)
    }

    fn compare(&self, key: &str, expected: &Value, got: Option<f64>) {
        let expected = Some(inputs::number(expected)).filter(|number| !number.is_nan());
        let agrees = match (expected, got) {
            (Some(expected), Some(got)) => {
                expected == got || (got - expected).abs() <= self.tolerance * expected.abs().max(1.0)
            }
            (expected, got) => expected.is_none() && got.is_none(),
        };
        if !agrees {
            self.fail(format!("{key} is {got:?}, expected {expected:?}"));
        }
    }

    fn visit(&self, key: &str) {
        *self.compared.borrow_mut() += 1;
        if self.values.get(key).is_none() {
            self.fail(format!("{key} is not expected"));
        }
        self.no_statistic(key);
    }

    fn fail(&self, what: String) {
        self.failures.borrow_mut().push(what);
    }
}
