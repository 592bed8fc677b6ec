//! Whether the return to the stable version helps when the version that replaces it has degraded. The data may have changed for both: then the
//! stable version is as bad, or worse.
//!
//! Each version is measured on the rows that it has answered itself, which are not the same ones. So the stable version counts as better only
//! where the intervals of their losses in the same window do not overlap. Verdicts do not compare versions: each has a reference of its own.

use rekindle_domain::report::{Interval, Quality, Verdict, WindowReport};

/// The metrics that are the loss, or increase with it.
const LOSSES: [&str; 2] = ["log_loss", "rmse"];

/// Why the return of `target` to the version `stable` does not help, in words. `None` if it does, or if too little is known. `reports` are
/// those of the model, the newest first.
pub(super) fn refuted(reports: &[WindowReport], target: &WindowReport, stable: u32) -> Option<String> {
    let of_stable =
        |report: &&WindowReport| report.window.version.version == stable && report.window.slice == target.window.slice;
    let earlier = |report: &&WindowReport| report.window.until <= target.window.until && report.quality.is_some();
    let latest = reports.iter().filter(of_stable).filter(earlier).max_by_key(|report| report.window.until)?;
    let (own, other) = (target.quality.as_ref()?, latest.quality.as_ref()?);
    let ((own_loss, name), (other_loss, _)) = (loss(own)?, loss(other)?);
    let is_same_window = latest.window.until == target.window.until;
    let is_good_elsewhere = !is_same_window && other.verdict != Verdict::Drifted;
    let is_better = is_good_elsewhere || other_loss.upper < own_loss.lower;
    (!is_better).then(|| {
        let version = target.window.version.version;
        format!(
            "version {version} stays, because version {stable} is not shown to be better: {name} {} and {} in the window until {}",
            words(own_loss),
            words(other_loss),
            latest.window.until.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
        )
    })
}

/// The interval of the loss, and the name of the metric.
fn loss(quality: &Quality) -> Option<(Interval, &'static str)> {
    LOSSES.into_iter().find_map(|name| Some((*quality.intervals.get(name)?, name)))
}

fn words(Interval { lower, upper }: Interval) -> String {
    format!("{lower:.4} to {upper:.4}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, TimeDelta, Utc};
    use rekindle_domain::{
        Digest, ReportId, VersionRef,
        report::{Drift, WindowHeader},
    };
    use uuid::Uuid;

    use super::*;

    /// The report of a version on a day.
    fn report(version: u32, day: i64, verdict: Verdict, loss: Option<(f64, f64)>) -> WindowReport {
        let until = DateTime::UNIX_EPOCH + TimeDelta::days(day);
        let intervals = loss.map(|(lower, upper)| ("rmse".to_owned(), Interval { lower, upper }));
        WindowReport {
            window: WindowHeader {
                report: ReportId::new(Uuid::now_v7()),
                model: "bikes".parse().expect("a name"),
                version: VersionRef { version, bundle: Digest::of(b"") },
                slice: String::new(),
                from: until - TimeDelta::days(1),
                until,
                rows: 1_000,
                closed_at: Utc::now(),
            },
            drift: Drift::of(Verdict::Stable, Vec::new(), None),
            estimate: None,
            quality: Some(Quality { verdict, intervals: BTreeMap::from_iter(intervals), ..Quality::inconclusive() }),
            quality_at: None,
            correlation_id: None,
            reason: String::new(),
            revision: 1,
            changes: String::new(),
        }
    }

    #[test]
    fn a_stable_version_must_be_shown_to_be_better_in_the_same_window() {
        use Verdict::{Drifted, Stable};
        let target = report(2, 10, Drifted, Some((100.0, 120.0)));
        let refuted = |reports: &[WindowReport]| refuted(reports, &target, 1);
        let worse = report(1, 10, Drifted, Some((140.0, 160.0)));
        assert_eq!(
            refuted(std::slice::from_ref(&worse)).expect("words"),
            "version 2 stays, because version 1 is not shown to be better: rmse 100.0000 to 120.0000 and 140.0000 to 160.0000 in the window until 1970-01-11T00:00:00Z"
        );
        assert!(refuted(&[report(1, 10, Drifted, Some((90.0, 101.0)))]).is_some(), "the intervals overlap");
        assert_eq!(refuted(&[report(1, 10, Drifted, Some((80.0, 99.0)))]), None);
        assert!(refuted(&[report(1, 10, Stable, Some((140.0, 160.0)))]).is_some(), "its reference is another one");
        assert!(refuted(&[report(1, 9, Drifted, Some((140.0, 160.0)))]).is_some(), "its latest window");
        let good_before = report(1, 9, Stable, Some((50.0, 60.0)));
        assert!(refuted(&[worse, good_before.clone()]).is_some(), "the latest window counts");
        let later = report(1, 11, Drifted, Some((140.0, 160.0)));
        assert_eq!(refuted(&[later, good_before]), None, "no window after that of the version counts");
        assert_eq!(refuted(&[report(1, 10, Drifted, None)]), None);
        assert_eq!(refuted(&[]), None);
    }
}
