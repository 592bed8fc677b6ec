//! Slices: those that degraded, and the others of the latest measured window.

use rekindle_domain::report::{Quality, SliceQuality, Verdict, WindowReport};

use super::{
    by_window,
    format::{day, grouped, number},
};
use crate::client::output::words;

/// The most degraded slices of the table, and the most others.
const MOST: usize = 50;

/// One slice of one window.
pub(crate) struct SliceRow {
    pub(crate) from: String,
    pub(crate) slice: String,
    /// `declared` or `found`.
    pub(crate) origin: &'static str,
    pub(crate) rows: String,
    pub(crate) loss: String,
    pub(crate) reference: String,
    pub(crate) verdict: String,
    /// Beside the verdict, so that nothing is in the colour alone.
    pub(crate) sign: &'static str,
    /// The class of its colour.
    pub(crate) class: &'static str,
    pub(crate) reason: String,
}

/// The table: the degraded slices, the latest window first, and then the others of the latest window.
pub(super) fn of(reports: &[WindowReport]) -> Vec<SliceRow> {
    let windows = by_window(reports);
    let measured: Vec<(&WindowReport, &Quality)> =
        windows.values().rev().filter_map(|report| Some((*report, report.quality.as_ref()?))).collect();
    let of = |(report, quality): &(&'_ WindowReport, &'_ Quality), is_degraded: bool| -> Vec<SliceRow> {
        let slices = quality.slices.iter().filter(|slice| (slice.verdict == Verdict::Drifted) == is_degraded);
        slices.map(|slice| row(report, slice)).collect()
    };
    let degraded = measured.iter().flat_map(|measured| of(measured, true));
    let others = measured.first().into_iter().flat_map(|measured| of(measured, false));
    degraded.take(MOST).chain(others.take(MOST)).collect()
}

fn row(report: &WindowReport, slice: &SliceQuality) -> SliceRow {
    let (sign, class) = match slice.verdict {
        Verdict::Drifted => ("●", "bad"),
        Verdict::Stable => ("✓", "good"),
        Verdict::Inconclusive => ("–", "soft"),
    };
    let verdict = if slice.verdict == Verdict::Drifted { "degraded".to_owned() } else { words(slice.verdict.name()) };
    SliceRow {
        from: day(report.window.from),
        slice: slice.slice.clone(),
        origin: if slice.found { "found" } else { "declared" },
        rows: grouped(slice.labelled_rows),
        loss: number((slice.labelled_rows > 0).then_some(slice.loss)),
        reference: number((slice.reference_rows > 0).then_some(slice.reference_loss)),
        verdict,
        sign,
        class,
        reason: slice.reason.clone(),
    }
}
