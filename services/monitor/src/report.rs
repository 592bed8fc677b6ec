//! Reports as evaluation makes and stores them: one per model, version, window and slice.

use std::collections::BTreeSet;

use rekindle_domain::report::{Drift, Quality, Verdict, WindowReport};
use serde::{Deserialize, Serialize};

use crate::window::Window;

/// Inconclusive columns that the reason of a report names.
const NAMED: usize = 3;

/// A report, and what it takes to complete it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// As callers and subscribers see it. The times of its window are those of `window`, as far as a timestamp can represent them.
    ///
    /// Each of its rows counts once. If the window is sampled, a row outside of the sample that was logged twice counts twice, since its
    /// key is not kept. If the rows cannot be read, the rows of their chunks count.
    pub content: WindowReport,
    /// The window.
    pub window: Window,
    /// The smallest and the greatest prediction id among the rows.
    pub ids: (u128, u128),
    /// The position of the log after which its chunks were read.
    pub since: i64,
    /// What the events of its quality have announced.
    pub announced: Announced,
}

/// What the events of a window's quality have announced. Each is announced once, whatever later revisions find.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Degradation.
    pub degradation: bool,
    /// New classes.
    pub classes: BTreeSet<String>,
}

impl Announced {
    /// The same with what a quality has.
    pub fn with(mut self, quality: &Quality) -> Self {
        self.degradation |= quality.verdict == Verdict::Drifted;
        self.classes.extend(quality.new_classes.keys().cloned());
        self
    }
}

/// Why the drift of a window of `rows` rows is inconclusive; `None` if it is not.
pub(crate) fn inconclusive_reason(drift: &Drift, rows: u64) -> Option<String> {
    if drift.verdict != Verdict::Inconclusive {
        return None;
    }
    let columns = drift.deciding().count();
    let inconclusive = drift.deciding().filter(|column| column.verdict == Verdict::Inconclusive);
    let inconclusive: Vec<&str> = inconclusive.map(|column| column.name.as_str()).collect();
    if inconclusive.len() == columns {
        return Some(common_reason(drift).map_or_else(|| format!("{rows} rows are too few"), str::to_owned));
    }
    let named = inconclusive.len().min(NAMED);
    let more = if inconclusive.len() > named { ", ..." } else { "" };
    let names = inconclusive[..named].join(", ");
    Some(format!("inconclusive for {} of {columns} columns: {names}{more}", inconclusive.len()))
}

/// The reason that all columns have in common.
fn common_reason(drift: &Drift) -> Option<&str> {
    let mut reasons = drift.deciding().map(|column| column.reason.as_str());
    let first = reasons.next().filter(|reason| !reason.is_empty())?;
    reasons.all(|reason| reason == first).then_some(first)
}

/// A number that JSON can represent: infinities become the greatest double, NaN becomes `instead`.
pub(crate) fn finite(number: f64, instead: f64) -> f64 {
    if number.is_nan() { instead } else { number.clamp(f64::MIN, f64::MAX) }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::report::ColumnDrift;

    use super::*;

    fn column(name: &str, verdict: Verdict) -> ColumnDrift {
        ColumnDrift {
            name: name.into(),
            verdict,
            reason: String::new(),
            psi: 0.0,
            p_value: 0.0,
            minimum_detectable_psi: 0.0,
            cause_share: 0.0,
            missing_reference: 0.0,
            missing_current: 0.0,
            cause: None,
            blocks: None,
            impact: None,
            since: None,
            onset: None,
            examples: Vec::new(),
        }
    }

    fn reason(drift: &Drift) -> Option<String> {
        inconclusive_reason(drift, 7)
    }

    #[test]
    fn the_inconclusive_reason_counts_and_names_the_columns() {
        let drift = |verdicts: &[Verdict]| {
            Drift::of(
                Verdict::Inconclusive,
                verdicts.iter().zip(["a", "b", "c", "d", "e"]).map(|(v, name)| column(name, *v)).collect(),
                None,
            )
        };
        use Verdict::{Inconclusive, Stable};
        assert_eq!(reason(&drift(&[])).as_deref(), Some("7 rows are too few"));
        assert_eq!(reason(&drift(&[Inconclusive, Inconclusive])).as_deref(), Some("7 rows are too few"));
        assert_eq!(reason(&drift(&[Inconclusive, Stable])).as_deref(), Some("inconclusive for 1 of 2 columns: a"));
        let four = drift(&[Inconclusive, Inconclusive, Stable, Inconclusive, Inconclusive]);
        assert_eq!(reason(&four).as_deref(), Some("inconclusive for 4 of 5 columns: a, b, d, ..."));
        assert_eq!(reason(&Drift { verdict: Stable, ..four }), None);
    }

    #[test]
    fn a_reason_common_to_all_columns_is_the_reason_of_the_window() {
        let inconclusive = |reason: &str| ColumnDrift { reason: reason.into(), ..column("a", Verdict::Inconclusive) };
        let of = |features| Drift::of(Verdict::Inconclusive, features, None);
        assert_eq!(reason(&of(vec![inconclusive("x"), inconclusive("x")])).as_deref(), Some("x"));
        assert_eq!(reason(&of(vec![inconclusive("x"), inconclusive("y")])).as_deref(), Some("7 rows are too few"));
        let muted = vec![inconclusive("x"), inconclusive("muted by ann: a sensor")];
        assert_eq!(reason(&of(muted)).as_deref(), Some("x"));
    }

    #[test]
    fn every_number_becomes_finite() {
        assert_eq!(finite(f64::INFINITY, 0.0), f64::MAX);
        assert_eq!(finite(f64::NAN, 1.0), 1.0);
        assert_eq!(finite(0.25, 1.0), 0.25);
    }
}
