//! The configured limits of what a request stores.

use std::collections::BTreeMap;

use rekindle_domain::{
    run::Metric,
    text,
    validation::{Checks, Violations},
};

use crate::config::Limits;

/// Bytes of a text in a JSON object, with its quotes and the separator.
fn json_bytes(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' => 2,
        byte if byte.is_ascii_control() => 6,
        _ => 1,
    });
    escaped.sum::<usize>() + 3
}

/// The configured limits of a request, each violation with the name of its setting.
pub(crate) struct Bounds<'a> {
    limits: &'a Limits,
    pub(crate) checks: Checks,
}

impl<'a> Bounds<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self { limits, checks: Checks::new() }
    }

    pub(crate) fn at_most(&mut self, field: &str, count: usize, (setting, limit): (&str, usize)) {
        if count > limit {
            let problem = format!("has {count}: the limit registry.limits.{setting} is {limit}");
            self.checks.violation(field, problem);
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, field: &str, text: &str) {
        self.at_most(field, text.chars().count(), ("text_chars", self.limits.text_chars));
        self.without_nul(field, text);
    }

    /// The name of a param, a tag, an output or a metric.
    pub(crate) fn name(&mut self, field: &str, name: &str) {
        if name.is_empty() {
            self.checks.violation(field, "has an empty name");
        }
        self.at_most(field, name.chars().count(), ("name_chars", self.limits.name_chars));
        self.without_nul(field, name);
    }

    /// A character that PostgreSQL does not keep.
    fn without_nul(&mut self, field: &str, text: &str) {
        if text.contains('\0') {
            self.checks.violation(field, text::InvalidText::Nul);
        }
    }

    /// Texts by name.
    pub(crate) fn texts(&mut self, field: &str, texts: &BTreeMap<String, String>) {
        self.at_most(field, texts.len(), ("entries", self.limits.entries));
        let bytes = texts.iter().map(|(name, value)| json_bytes(name) + json_bytes(value)).sum();
        self.at_most(field, bytes, ("texts_bytes", self.limits.texts_bytes));
        for (name, value) in texts {
            self.name(field, name);
            self.text(&format!("{field}[{name}]"), value);
        }
    }

    pub(crate) fn finish(self) -> Result<(), Violations> {
        self.checks.finish()
    }
}

/// Checks the texts of a run, or of a part of it.
pub(crate) fn check_texts(field: &str, texts: &BTreeMap<String, String>, limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    bounds.texts(field, texts);
    bounds.finish()
}

/// Checks the points of a call.
pub(crate) fn check_metrics(metrics: &[Metric], limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    bounds.at_most("metrics", metrics.len(), ("metrics", limits.metrics));
    for (index, metric) in metrics.iter().enumerate() {
        bounds.name(&format!("metrics[{index}].name"), &metric.name);
    }
    bounds.finish()
}
