//! A page of a demonstration with long names and reasons.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rekindle_domain::{
    Digest, Trigger, VersionRef,
    model_version::{Approval, Review, VersionStatus},
    report::{ColumnDrift, Drift, Verdict, WindowHeader},
};
use rekindle_testkit::Browser;

use super::*;
use crate::demo::summary::WorkflowSummary;

const LONG: &str = "a_feature_with_a_name_that_is_much_longer_than_others";

fn at(weeks: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::weeks(weeks)
}

fn column(name: String, verdict: Verdict, psi: f64, reason: &str) -> ColumnDrift {
    ColumnDrift {
        name,
        verdict,
        reason: reason.into(),
        psi,
        p_value: 0.25,
        minimum_detectable_psi: 0.1,
        cause_share: 0.0,
        missing_reference: 0.0,
        missing_current: 0.0,
    }
}

/// The report of one week. Ten features have the same verdict.
pub(super) fn window(week: i64, verdict: Verdict, psi: f64, reason: &str) -> WindowReport {
    let features = (0..10).map(|index| column(format!("{LONG}_{index}"), verdict, psi / f64::from(1 + index), reason));
    WindowReport {
        window: WindowHeader {
            report: "01a2207d-ec53-74c9-bb67-22f1dd8e0b03".parse().expect("an id"),
            model: "flights-2013".parse().expect("a name"),
            version: version_ref(),
            slice: String::new(),
            from: at(week),
            until: at(week + 1),
            rows: 5000,
            closed_at: at(week + 1),
        },
        drift: Drift { verdict, features: features.collect(), prediction: None },
        quality: None,
        quality_at: None,
        correlation_id: None,
        reason: reason.into(),
    }
}

fn version_ref() -> VersionRef {
    VersionRef { version: 1, bundle: Digest::of(b"bundle") }
}

fn workflow(state: WorkflowState, to_version: u32) -> WorkflowStatus {
    WorkflowStatus {
        id: "01a2207d-ec53-74c9-bb67-22f1dd8e0b03".parse().expect("an id"),
        model: "flights-2013".parse().expect("a name"),
        trigger: Trigger::Drift,
        cause: format!("drift in the window until 2013-05-09T00:00:00Z: {LONG}_1 28%, {LONG}_2 26%, {LONG}_3 7%"),
        state,
        paused: false,
        reason: format!("the challenger is not shown to be better in the slice {}", LONG.repeat(3)),
        from_version: Some(1),
        to_version: Some(to_version),
        dataset_version: "flights-2013/2".to_owned(),
        train_run: None,
        evaluate_run: None,
        steps: Vec::new(),
        window_closed_at: Some(at(12)),
        queued_at: at(12),
        serving_everywhere_at: None,
        ended_at: None,
        epoch: 7,
        evaluation: None,
    }
}

fn version(version: u32) -> ModelVersion {
    let metrics = ["log_loss", "auc", "accuracy"].map(|name| (name.to_owned(), 0.512_345));
    ModelVersion {
        model: "flights-2013".parse().expect("a name"),
        version,
        status: VersionStatus::Ready,
        status_reason: String::new(),
        bundle: Digest::of(b"bundle"),
        run: Some("01a2207d-ca04-7183-b850-fd4cde3d85fb".parse().expect("an id")),
        description: String::new(),
        tags: BTreeMap::new(),
        author: "trainer".into(),
        review: Review {
            approval: Approval::Rejected,
            by: "gate".into(),
            why: LONG.repeat(2),
            at: None,
            evidence: BTreeMap::new(),
        },
        metrics: BTreeMap::from(metrics),
        aliases: vec!["champion".to_owned()],
        created_at: at(12),
        deleted_at: None,
        revision: 1,
    }
}

fn summary() -> Summary {
    let scores = |loss| Some(Scores { log_loss: Some(loss), ..Scores::default() });
    Summary {
        requests: 221_950,
        failed_requests: 0,
        rows: 221_950,
        workflows: Vec::<WorkflowSummary>::new(),
        unchanged: scores(0.5),
        live: scores(0.48),
        events_published: 215,
        time_to_respond_s: Some(9.1),
        seconds: 184.0,
    }
}

/// A third of the windows have drifted.
fn windows(count: i64) -> Vec<WindowReport> {
    let report = |week: i64| match week % 10 {
        0 | 3 | 6 => window(week, Verdict::Drifted, 1.5, "the share of values from 3 to 7 changed from 1 % to 9 %"),
        9 => window(week, Verdict::Inconclusive, 0.0, "the window has 7 rows, min_rows is 200"),
        _ => window(week, Verdict::Stable, 0.15, ""),
    };
    (0..count).map(report).collect()
}

fn scores(week: i64) -> WindowScores {
    let scored = |loss: f64| Scores { log_loss: Some(loss + (week % 7) as f64 / 50.0), ..Scores::default() };
    let versions = (1..12).map(|version| (version, 400)).collect();
    WindowScores { from: at(week), rows: 5000, unchanged: scored(0.5), live: scored(0.47), versions }
}

fn entry(second: usize) -> Entry {
    Entry {
        second: format!("{second}.0"),
        event_time: "2013-05-09".to_owned(),
        text: format!("drift: {LONG}_{second}"),
    }
}

/// Calls `use_it` with a page of `count` windows.
fn with_windows<T>(count: i64, use_it: impl FnOnce(Material<'_>) -> T) -> T {
    let takeovers: Vec<(u32, DateTime<Utc>)> =
        (2..6).map(|version| (version, at(count - 8 + i64::from(version)))).collect();
    use_it(Material {
        model: "flights-2013",
        file: &format!("{}.parquet", LONG.repeat(3)),
        replicas: 3,
        train_until: at(0),
        from: at(0),
        until: at(count),
        label_delay: Duration::from_secs(86_400),
        window: Duration::from_secs(7 * 86_400),
        metric: "log loss",
        summary: &summary(),
        unchanged_because: None,
        windows: &(0..count).map(scores).collect::<Vec<_>>(),
        takeovers: &takeovers,
        reports: &windows(count),
        workflows: &[workflow(WorkflowState::Succeeded, 2), workflow(WorkflowState::Rejected, 3)],
        versions: &(1..4).map(version).collect::<Vec<_>>(),
        timeline: &(0..30).map(entry).collect::<Vec<_>>(),
    })
}

/// Calls `use_it` with a page of forty windows, twelve of which have drifted.
pub(super) fn example<T>(use_it: impl FnOnce(Material<'_>) -> T) -> T {
    with_windows(40, use_it)
}

#[test]
fn the_page_fetches_nothing_and_folds_the_timeline() {
    let page = example(|material| render(&material).expect("it renders"));
    for fetched in ["<script", "src=\"http", "href=\"http", "@import", "url("] {
        assert!(!page.contains(fetched), "{fetched}");
    }
    let (_, timeline) = page.split_once("<h2>Timeline</h2>").expect("a timeline");
    assert!(timeline.contains(&format!("drift: {LONG}_29")));
    assert!(page.contains("<details><summary><h2>Timeline</h2>"));
    for limit in ["below 0.1", "0.1 to 0.2", "0.2 to 0.5", "0.5 to 1", "1 or more"] {
        assert!(page.contains(limit), "the scale of the heat map: {limit}");
    }
}

#[test]
fn no_table_is_wider_than_its_card_or_skipped() {
    let Some(browser) = Browser::find_or_say_skipped() else { return };
    for count in [1, 40, 500] {
        let page = with_windows(count, |material| render(&material).expect("it renders"));
        for width in [1400, 2400] {
            let layout = browser.lay_out(&page, width);
            assert!(layout.tables.len() > 4 && layout.page <= width, "{count} windows at {width}: {layout:?}");
            let wider = layout.tables.iter().find(|(table, card)| table > card);
            assert_eq!(wider, None, "{count} windows at {width}: {layout:?}");
        }
        // On a phone the heat map and the chart are scrolled in their cards, but never the page.
        let layout = browser.lay_out(&page, 420);
        assert!(layout.page <= 420, "{count} windows: {layout:?}");
    }
}

#[test]
fn counts_have_thousands_separators() {
    assert_eq!([0, 999, 1000, 221_950, 1_234_567].map(grouped), ["0", "999", "1,000", "221,950", "1,234,567"]);
}
