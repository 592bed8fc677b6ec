//! A page of a demonstration with long names and reasons.

use rekindle_testkit::Browser;

use super::*;
use crate::{
    demo::summary::WorkflowSummary,
    model_page::tests::{LONG, assert_fits, at},
};

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
    let report = |page: model_page::Material<'_>| {
        use_it(Material {
            page,
            file: &format!("{}.parquet", LONG.repeat(3)),
            replicas: 3,
            train_until: at(0),
            from: at(0),
            until: at(count),
            label_delay: Duration::from_secs(86_400),
            metric: "log loss",
            summary: &summary(),
            unchanged_because: None,
            windows: &(0..count).map(scores).collect::<Vec<_>>(),
            takeovers: &takeovers,
            timeline: &(0..30).map(entry).collect::<Vec<_>>(),
        })
    };
    model_page::tests::with_windows(count, report)
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
        assert_fits(&browser, &with_windows(count, |material| render(&material).expect("it renders")), count);
    }
}
