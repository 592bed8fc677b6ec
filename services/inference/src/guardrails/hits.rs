//! What guardrails have found in one request.

use arrow::array::{StringArray, StringBuilder};
use metrics::Counter;
use rekindle_domain::ModelName;
use serde::Serialize;

use crate::config::Action;

/// Most hits that an answer lists; the prediction log has all.
const LISTED: usize = 100;

/// One rule for one input or output.
#[derive(Clone)]
pub(super) struct Rule {
    /// The name of the input or output.
    pub(super) subject: String,
    /// The part of the request or answer, e.g. `inputs[distance]`.
    name: String,
    /// `range`, `missing` or `unseen`.
    kind: &'static str,
    pub(super) action: Action,
    counter: Counter,
}

impl Rule {
    /// The rule of one input or output, which is among `part`: `inputs` or `outputs`.
    pub(super) fn new(model: &ModelName, part: &str, subject: &str, kind: &'static str, action: Action) -> Self {
        let name = format!("{part}[{subject}]");
        let labels = [
            ("model", model.to_string()),
            ("name", name.clone()),
            ("rule", kind.to_owned()),
            ("action", action.as_str().to_owned()),
        ];
        Self {
            counter: metrics::counter!("rekindle_inference_guardrail_hits_total", &labels),
            subject: subject.to_owned(),
            name,
            kind,
            action,
        }
    }

    /// Counts so many values.
    pub(super) fn count(&self, values: usize) {
        self.counter.increment(values as u64);
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.name, self.kind, self.action.as_str())
    }
}

/// The values of one request that were clipped or flagged.
#[derive(Debug, Default)]
pub(crate) struct Hits(Vec<Found>);

/// The rows that hit one rule.
#[derive(Debug)]
struct Found {
    name: String,
    kind: &'static str,
    action: Action,
    /// Ascending.
    rows: Vec<usize>,
}

#[derive(Serialize)]
struct Summary<'a> {
    hits: usize,
    first: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    row: usize,
    name: &'a str,
    rule: &'a str,
    action: &'a str,
}

impl Found {
    fn listed(&self) -> impl Iterator<Item = Listed<'_>> {
        let Self { name, kind, action, rows } = self;
        rows.iter().map(|&row| Listed { row, name, rule: kind, action: action.as_str() })
    }
}

impl Hits {
    /// Whether a guardrail has acted.
    pub(crate) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn add(&mut self, rule: &Rule, rows: Vec<usize>) {
        self.0.push(Found { name: rule.name.clone(), kind: rule.kind, action: rule.action, rows });
    }

    /// The hits as the answer's parameter `guardrails`: JSON with their number and the first 100. `None` without hits.
    pub(crate) fn summary(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let first = self.0.iter().flat_map(Found::listed).take(LISTED).collect();
        let summary = Summary { hits: self.0.iter().map(|found| found.rows.len()).sum(), first };
        Some(serde_json::to_string(&summary).expect("texts and numbers have a JSON form"))
    }

    /// The hits of each of `rows` rows as the column of the prediction log, e.g. `inputs[distance] range clip, inputs[carrier] unseen flag`.
    /// `None` without hits.
    pub(crate) fn column(&self, rows: usize) -> Option<StringArray> {
        if self.0.is_empty() {
            return None;
        }
        let mut texts = vec![String::new(); rows];
        for Found { name, kind, action, rows } in &self.0 {
            for &row in rows {
                let Some(text) = texts.get_mut(row) else { continue };
                let separator = if text.is_empty() { "" } else { ", " };
                text.push_str(&format!("{separator}{name} {kind} {}", action.as_str()));
            }
        }
        let mut column = StringBuilder::new();
        texts.iter().for_each(|text| column.append_option(Some(text).filter(|text| !text.is_empty())));
        Some(column.finish())
    }
}
