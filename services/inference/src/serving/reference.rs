//! What the reference data of a version say about its inputs.

use std::collections::BTreeSet;

use rekindle_bundle::{OutlierScorer, Reference, Signature};
use serde_json::Value;

/// The reference data of one version, as far as answers need it.
#[derive(Debug)]
pub(crate) struct ReferenceData {
    /// One per input, in the order of the signature.
    pub(crate) inputs: Vec<Seen>,
    /// Scores how unlike these data a row is; `None` if there are none.
    pub(crate) outliers: Option<OutlierScorer>,
}

/// The values of one input.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// The smallest and the largest number.
    pub(crate) range: Option<(f64, f64)>,
    /// A usual value.
    pub(crate) example: Option<Value>,
}

impl ReferenceData {
    /// The reference data of a version, without the values of inputs that are redacted.
    pub(crate) fn of(signature: &Signature, reference: &Reference, redacted: &BTreeSet<String>) -> Self {
        let seen = signature.inputs.iter().map(|input| {
            if redacted.contains(&input.name) {
                return Seen { range: None, example: None };
            }
            Seen { range: reference.range(&input.name), example: reference.example(input) }
        });
        Self { inputs: seen.collect(), outliers: OutlierScorer::new(reference) }
    }
}
