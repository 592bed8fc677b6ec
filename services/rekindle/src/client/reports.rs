//! `rekindle reports`.

use anyhow::Result;
use rekindle_client::wire;
use rekindle_domain::{
    ModelName,
    model_version::VersionSelector,
    report::{Drift, Quality, Verdict, WindowReport},
};

use super::{
    Global, capture,
    output::{self, Format, number, when, words},
    page::Limit,
};

/// The reports of a model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Drift compares the inputs and predictions of a window with the training data of the version. Quality compares the loss of the window
with that on the validation data, once outcomes are reported. A verdict is inconclusive if a change that matters could have gone
undetected: too few rows, a version that answered during part of the window only, or rows that could not be read. The reason is below the
table.")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    #[command(flatten)]
    limit: Limit,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    let platform = global.platform()?;
    let monitor = platform.monitor();
    let reports = args.limit.fetch(async |page| monitor.reports(&args.model, page).await).await?;
    if reports.is_empty() {
        // The monitor knows the models that were deployed only: the registry decides whether the name exists.
        platform.registry().model_version(&args.model, &VersionSelector::Latest).await?;
        eprintln!("note: no window of {} has ended yet", args.model);
    }
    let header = ["from", "until", "version", "rows", "drift", "top causes", "quality", "labelled", "metrics"];
    global.format().list(&reports, wire::report::to_json, &header, line);
    if global.format() == Format::Table {
        reports.iter().filter_map(reason).for_each(|reason| output::emit(&reason));
    }
    capture::print_notes(&monitor, &args.model).await
}

/// Why a window is inconclusive, and which of its outcomes the model cannot predict, in one line.
pub(crate) fn reason(report: &WindowReport) -> Option<String> {
    let new = report.quality.as_ref().map(|quality| &quality.new_classes).filter(|new| !new.is_empty());
    let new = new.map(|new| {
        let classes = new.iter().map(|(class, rows)| format!("{class:?} ({rows})"));
        format!("outcomes of classes that the training data did not have: {}", classes.collect::<Vec<_>>().join(", "))
    });
    let given = Some(report.reason.clone()).filter(|reason| !reason.is_empty());
    let reasons: Vec<String> = given.into_iter().chain(unlabelled(report)).chain(new).collect();
    let window = when(report.window.from);
    (!reasons.is_empty())
        .then(|| format!("{window}, version {}: {}", report.window.version.version, reasons.join("; ")))
}

/// Why the quality is inconclusive.
fn unlabelled(report: &WindowReport) -> Option<String> {
    let quality = report.quality.as_ref().filter(|quality| quality.verdict == Verdict::Inconclusive)?;
    let (labelled, rows) = (quality.labelled_rows, report.window.rows);
    Some(format!("the quality is inconclusive: {labelled} of {rows} rows have an outcome"))
}

fn line(report: &WindowReport) -> Vec<String> {
    let (window, quality) = (&report.window, report.quality.as_ref());
    let verdict = |verdict: Verdict| words(verdict.name());
    vec![
        when(window.from),
        when(window.until),
        window.version.version.to_string(),
        window.rows.to_string(),
        verdict(report.drift.verdict),
        causes(&report.drift),
        quality.map(|quality| verdict(quality.verdict)).unwrap_or_default(),
        quality.map(|quality| quality.labelled_rows.to_string()).unwrap_or_default(),
        quality.map(metrics).unwrap_or_default(),
    ]
}

/// The metrics of all rows, with their intervals, e.g. `log_loss 0.493 (0.481 to 0.505)`. Those of each class are in the JSON.
fn metrics(quality: &Quality) -> String {
    const SHOWN: [&str; 7] = ["log_loss", "auc", "accuracy", "brier", "mae", "rmse", "r2"];
    let shown = SHOWN.into_iter().filter_map(|name| {
        let value = number(*quality.metrics.get(name)?);
        let interval = quality.intervals.get(name);
        let interval = interval.map(|found| format!(" ({} to {})", number(found.lower), number(found.upper)));
        Some(format!("{name} {value}{}", interval.unwrap_or_default()))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The three drifted columns with the largest shares of the shift.
fn causes(drift: &Drift) -> String {
    let shown =
        drift.causes().into_iter().take(3).map(|column| format!("{} (psi {})", column.name, number(column.psi)));
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rekindle_domain::report::{ColumnDrift, PREDICTION};

    use super::*;

    #[test]
    fn causes_are_ordered_by_their_share_and_not_by_the_index() {
        let column = |name: &str, verdict: Verdict, psi, cause_share| ColumnDrift {
            name: name.into(),
            verdict,
            reason: String::new(),
            psi,
            p_value: 0.0,
            minimum_detectable_psi: 0.0,
            cause_share,
            missing_reference: 0.0,
            missing_current: 0.0,
            cause: None,
            blocks: None,
        };
        let features = vec![
            column("many-bins", Verdict::Drifted, 0.9, 0.2),
            column("z", Verdict::Drifted, 0.5, 0.25),
            column("stable", Verdict::Stable, 0.1, 0.0),
            column("a", Verdict::Drifted, 0.5, 0.25),
        ];
        let drift = Drift::of(Verdict::Drifted, features, Some(column(PREDICTION, Verdict::Drifted, 0.6, 0.3)));
        assert_eq!(causes(&drift), "(prediction) (psi 0.6000), a (psi 0.5000), z (psi 0.5000)");
    }
}
