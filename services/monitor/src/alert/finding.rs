//! What a report finds, by kind of alert. Pure.

use std::collections::BTreeMap;

use rekindle_domain::{
    alert::AlertKind,
    report::{Drift, DriftCause, Quality, RepeatedRows, SliceQuality, Verdict, WindowReport},
};
use serde::{Deserialize, Serialize};

/// By kind, whether a report has the finding. Kinds without a verdict are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Findings(BTreeMap<AlertKind, bool>);

impl Findings {
    /// Whether there is the finding; `None` without a verdict.
    pub(crate) fn of(&self, kind: AlertKind) -> Option<bool> {
        self.0.get(&kind).copied()
    }

    /// Both: there is a finding if one of them has it.
    #[must_use]
    pub(crate) fn with(mut self, other: Self) -> Self {
        for (kind, is_found) in other.0 {
            *self.0.entry(kind).or_default() |= is_found;
        }
        self
    }

    /// Those of a whole report.
    pub(crate) fn of_report(report: &WindowReport) -> Self {
        let quality = report.quality.as_ref().map(Self::of_quality).unwrap_or_default();
        Self::of_drift(&report.drift).with(quality)
    }

    /// Those of the inputs and the prediction.
    pub(crate) fn of_drift(drift: &Drift) -> Self {
        let mut found = BTreeMap::new();
        let is_fault = |cause: Option<DriftCause>| cause == Some(DriftCause::DataFault);
        let drifted = || drift.columns().filter(|column| column.verdict == Verdict::Drifted);
        let has_fault = drifted().any(|column| is_fault(column.cause));
        // A window in which no column has a verdict neither continues nor ends an alert.
        if drift.verdict == Verdict::Drifted || drift.columns().any(|column| column.verdict == Verdict::Stable) {
            found.insert(AlertKind::Drift, drifted().any(|column| !is_fault(column.cause)));
            found.insert(AlertKind::DataFault, has_fault);
        }
        if let Some(dependence) = &drift.dependence {
            found.insert(AlertKind::DependenceChange, !dependence.changed.is_empty());
        }
        if let Some(volume) = &drift.volume {
            found.insert(AlertKind::VolumeAnomaly, volume.is_unusual());
        }
        if let Some(repeated) = &drift.repeated {
            found.insert(AlertKind::DuplicateRows, RepeatedRows::is_fault(repeated));
        }
        Self(found)
    }

    /// Those of the outcomes.
    pub(crate) fn of_quality(quality: &Quality) -> Self {
        let mut found = BTreeMap::new();
        if quality.verdict != Verdict::Inconclusive {
            found.insert(AlertKind::Degradation, quality.verdict == Verdict::Drifted);
        }
        // Of a degraded window, the slices are causes of the degradation.
        let is_stable = |slice: &SliceQuality| slice.verdict == Verdict::Stable;
        let is_found = quality.degraded_slices().next().is_some();
        let has_verdict = is_found || quality.slices_searched || quality.slices.iter().any(is_stable);
        if quality.verdict != Verdict::Drifted && has_verdict {
            found.insert(AlertKind::SliceDegradation, is_found);
        }
        if quality.labelled_rows > 0 {
            found.insert(AlertKind::NewClass, !quality.new_classes.is_empty());
        }
        Self(found)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rekindle_domain::report::ColumnDrift;

    use super::*;

    pub(crate) fn column(name: &str, verdict: Verdict, cause: Option<DriftCause>) -> ColumnDrift {
        ColumnDrift {
            name: name.to_owned(),
            verdict,
            reason: format!("{name} has changed"),
            psi: 0.5,
            p_value: 0.0,
            minimum_detectable_psi: 0.1,
            cause_share: 0.5,
            missing_reference: 0.0,
            missing_current: 0.0,
            cause,
            blocks: None,
            impact: None,
            since: None,
            onset: None,
            examples: Vec::new(),
        }
    }

    fn slice() -> SliceQuality {
        SliceQuality {
            slice: "a = 1".to_owned(),
            found: false,
            verdict: Verdict::Inconclusive,
            reason: String::new(),
            labelled_rows: 0,
            metrics: BTreeMap::new(),
            loss: 0.0,
            reference_loss: 0.0,
            reference_rows: 0,
            rise_lower_bound: 0.0,
        }
    }

    fn found(verdict: Verdict, columns: Vec<ColumnDrift>) -> [Option<bool>; 3] {
        let findings = Findings::of_drift(&Drift::of(verdict, columns, None));
        [AlertKind::Drift, AlertKind::DataFault, AlertKind::DuplicateRows].map(|kind| findings.of(kind))
    }

    #[test]
    fn faults_and_other_drift_are_told_apart_and_a_window_without_a_verdict_finds_nothing() {
        use Verdict::{Drifted, Inconclusive, Stable};
        let (season, fault) = (Some(DriftCause::UnseenSeason), Some(DriftCause::DataFault));
        assert_eq!(found(Drifted, vec![column("a", Drifted, season)]), [Some(true), Some(false), None]);
        assert_eq!(found(Drifted, vec![column("a", Drifted, fault)]), [Some(false), Some(true), None]);
        let both = vec![column("a", Drifted, fault), column("b", Drifted, None)];
        assert_eq!(found(Drifted, both), [Some(true), Some(true), None]);
        assert_eq!(found(Stable, vec![column("a", Stable, None)]), [Some(false), Some(false), None]);
        let some = vec![column("a", Stable, None), column("b", Inconclusive, None)];
        assert_eq!(found(Inconclusive, some), [Some(false), Some(false), None]);
        assert_eq!(found(Inconclusive, vec![column("a", Inconclusive, None)]), [None, None, None]);
        assert_eq!(found(Inconclusive, Vec::new()), [None, None, None]);
    }

    #[test]
    fn slices_have_a_verdict_if_one_was_measured_or_they_were_searched() {
        let of = |verdict, slices_searched, slices: &[Verdict]| {
            let slice = |verdict: &Verdict| SliceQuality { verdict: *verdict, ..slice() };
            let slices = slices.iter().map(slice).collect();
            let quality = Quality { verdict, slices, slices_searched, ..Quality::inconclusive() };
            Findings::of_quality(&quality).of(AlertKind::SliceDegradation)
        };
        use Verdict::{Drifted, Inconclusive, Stable};
        assert_eq!(of(Stable, true, &[]), Some(false));
        assert_eq!(of(Stable, false, &[Inconclusive]), None, "too few rows, as at night, end no alert");
        assert_eq!(of(Inconclusive, false, &[Inconclusive, Stable]), Some(false));
        assert_eq!(of(Stable, false, &[Inconclusive, Drifted]), Some(true));
        assert_eq!(of(Drifted, true, &[Drifted]), None, "a cause of the degradation");
    }

    #[test]
    fn repeated_rows_have_a_verdict_if_the_reference_has_a_share() {
        let of = |share| {
            let repeated = Some(RepeatedRows { rows: 100, share, reference_share: 0.0 });
            let drift = Drift { repeated, ..Drift::of(Verdict::Inconclusive, Vec::new(), None) };
            Findings::of_drift(&drift).of(AlertKind::DuplicateRows)
        };
        assert_eq!([of(0.5), of(0.01)], [Some(true), Some(false)]);
    }

    #[test]
    fn several_versions_of_a_window_have_the_findings_of_any() {
        let of = |verdict| Findings::of_drift(&Drift::of(verdict, vec![column("a", verdict, None)], None));
        let both = of(Verdict::Stable).with(of(Verdict::Drifted));
        assert_eq!(both.of(AlertKind::Drift), Some(true));
        let with_none = of(Verdict::Inconclusive).with(of(Verdict::Stable));
        assert_eq!(with_none.of(AlertKind::Drift), Some(false));
    }
}
