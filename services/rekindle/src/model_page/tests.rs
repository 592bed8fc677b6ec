//! A page of a model with long names and reasons.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rekindle_domain::{
    Digest, Trigger, VersionRef,
    alert::{AlertKind, Message, Note, Severity},
    model_version::{Approval, Review, VersionStatus},
    report::{ColumnDrift, Drift, Quality as Scored, SliceQuality, WindowHeader},
};
use rekindle_testkit::Browser;

use super::*;

pub(crate) const LONG: &str = "a_feature_with_a_name_that_is_much_longer_than_others";

pub(crate) fn at(weeks: i64) -> DateTime<Utc> {
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
        cause: None,
        blocks: None,
        impact: None,
        since: None,
        onset: None,
        examples: Vec::new(),
    }
}

/// The report of one week. Ten features have the same verdict.
pub(crate) fn window(week: i64, verdict: Verdict, psi: f64, reason: &str) -> WindowReport {
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
        drift: Drift::of(verdict, features.collect(), None),
        estimate: None,
        quality: Some(Scored {
            verdict,
            labelled_rows: 4000,
            metrics: BTreeMap::from([("log_loss".to_owned(), 0.5)]),
            reference_metrics: BTreeMap::from([("log_loss".to_owned(), 0.48)]),
            loss: 0.5,
            reference_loss: 0.48,
            slices: vec![slice("carrier = 'AA'", false), slice(&format!("{LONG} > 1 AND {LONG} IS NOT NULL"), true)],
            ..Scored::inconclusive()
        }),
        quality_at: None,
        correlation_id: None,
        reason: reason.into(),
        revision: 1,
        changes: String::new(),
    }
}

fn slice(name: &str, found: bool) -> SliceQuality {
    SliceQuality {
        slice: name.to_owned(),
        found,
        verdict: if found { Verdict::Drifted } else { Verdict::Inconclusive },
        reason: if found { String::new() } else { "7 labelled rows are too few, min_rows is 200".to_owned() },
        labelled_rows: 400,
        metrics: BTreeMap::new(),
        loss: 0.7,
        reference_loss: 0.5,
        reference_rows: 300,
        rise_lower_bound: 0.1,
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
        refit_run: None,
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

/// A third of the windows have drifted.
fn windows(count: i64) -> Vec<WindowReport> {
    let report = |week: i64| match week % 10 {
        0 | 3 | 6 => window(week, Verdict::Drifted, 1.5, "the share of values from 3 to 7 changed from 1 % to 9 %"),
        9 => window(week, Verdict::Inconclusive, 0.0, "the window has 7 rows, min_rows is 200"),
        _ => window(week, Verdict::Stable, 0.15, ""),
    };
    (0..count).map(report).collect()
}

/// The moves of an alias.
fn moved(revision: u64) -> Alias {
    Alias {
        model: "flights-2013".parse().expect("a name"),
        alias: "champion".parse().expect("a name"),
        version: 1,
        bundle: Digest::of(b"bundle"),
        revision,
        by: "orchestrator".to_owned(),
        why: LONG.repeat(2),
        moved_at: at(12),
        deleted: false,
    }
}

fn alert(kind: AlertKind, resolved_by: Option<&str>) -> Alert {
    let note = |by: &str| Note { by: by.to_owned(), why: LONG.to_owned(), at: at(13) };
    Alert {
        id: "01a2207d-ec53-74c9-bb67-22f1dd8e0b04".parse().expect("an id"),
        model: "flights-2013".parse().expect("a name"),
        kind,
        severity: Severity::Warning,
        message: Message { summary: LONG.repeat(2), advice: LONG.repeat(3), ..Message::default() },
        version: Some(1),
        from: at(10),
        until: at(12),
        windows: 2,
        rows: 100,
        report: None,
        correlation_id: None,
        opened_at: at(12),
        updated_at: at(12),
        acknowledged: None,
        resolved: resolved_by.map(note),
    }
}

/// Calls `use_it` with what the page of a model with `count` windows shows.
pub(crate) fn with_windows<T>(count: i64, use_it: impl FnOnce(Material<'_>) -> T) -> T {
    use_it(Material {
        model: "flights-2013",
        reports: &windows(count),
        alerts: &[alert(AlertKind::Drift, None), alert(AlertKind::Degradation, Some("ann"))],
        workflows: &[workflow(WorkflowState::Succeeded, 2), workflow(WorkflowState::Rejected, 3)],
        versions: &(1..4).map(version).collect::<Vec<_>>(),
        moves: &[moved(1), moved(2)],
    })
}

/// Calls `use_it` with what the page of a model with forty windows shows, twelve of which have drifted.
pub(crate) fn example<T>(use_it: impl FnOnce(Material<'_>) -> T) -> T {
    with_windows(40, use_it)
}

/// Whether tables fit in their cards: side by side on a screen, and scrolled on a phone, where they never scroll the page.
pub(crate) fn assert_fits(browser: &Browser, page: &str, windows: i64) {
    for width in [1400, 2400] {
        let layout = browser.lay_out(page, width);
        assert!(layout.tables.len() > 4 && layout.page <= width, "{windows} windows at {width}: {layout:?}");
        let wider = layout.tables.iter().find(|(table, card)| table > card);
        assert_eq!(wider, None, "{windows} windows at {width}: {layout:?}");
    }
    let layout = browser.lay_out(page, 420);
    assert!(layout.page <= 420, "{windows} windows: {layout:?}");
}

fn rendered(material: Material<'_>) -> String {
    render(&material, &Figures::of(&material), "All windows.", at(40)).expect("it renders")
}

#[test]
fn the_page_fetches_nothing_and_shows_every_section() {
    let page = example(rendered);
    for fetched in ["<script", "src=\"http", "href=\"http", "@import", "url("] {
        assert!(!page.contains(fetched), "{fetched}");
    }
    for shown in [
        "12 of 40",
        "degradation",
        "✓</span> resolved",
        "Quality per window",
        "below 0.1",
        "✓",
        "flights-2013",
        "orchestrator",
        "▲ degraded",
        "All windows.",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn a_page_of_nothing_says_so() {
    let page = example(|material| {
        rendered(Material { reports: &[], alerts: &[], workflows: &[], versions: &[], moves: &[], ..material })
    });
    for shown in ["no monitoring reports", "Too few windows", "No retraining", "No version", "No alias"] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn no_table_is_wider_than_its_card_or_skipped() {
    let Some(browser) = Browser::find_or_say_skipped() else { return };
    for count in [1, 40, 500] {
        assert_fits(&browser, &with_windows(count, rendered), count);
    }
}
