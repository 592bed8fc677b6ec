//! `rekindle reports`.

use std::collections::BTreeMap;

use anyhow::Result;
use rekindle_client::wire;
use rekindle_domain::{
    ModelName,
    model_version::VersionSelector,
    report::{Drift, Estimate, EstimatedMetric, Interval, Quality, SliceQuality, Verdict, Volume, WindowReport},
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
table. An estimate is the loss, estimated from the predictions alone, with its 95 % interval; it is withdrawn if too many earlier ones were wrong.")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    #[command(flatten)]
    limit: Limit,
    /// List the slices of the windows: those that the policy declares, and those that were found
    #[arg(long)]
    slices: bool,
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
    if args.slices {
        return list_slices(&reports, global);
    }
    let header =
        ["from", "until", "version", "rows", "drift", "top causes", "estimate", "quality", "labelled", "metrics"];
    global.format().list(&reports, wire::report::to_json, &header, line);
    if global.format() == Format::Table {
        reports.iter().filter_map(reason).for_each(|reason| output::emit(&reason));
    }
    capture::print_notes(&monitor, &args.model).await
}

/// The slices of reports, one line each.
fn list_slices(reports: &[WindowReport], global: &Global) -> Result<()> {
    let slices: Vec<(&WindowReport, &SliceQuality)> = reports
        .iter()
        .flat_map(|report| {
            report.quality.iter().flat_map(move |quality| quality.slices.iter().map(move |slice| (report, slice)))
        })
        .collect();
    if slices.is_empty() {
        eprintln!("note: no window has slices; `rekindle policy set --slice` declares some");
    }
    let to_json = |(report, slice): &(&WindowReport, &SliceQuality)| wire::report::slice_to_json(&report.window, slice);
    let header =
        ["from", "version", "slice", "origin", "labelled", "quality", "loss", "validation loss", "metrics", "reason"];
    global.format().list(&slices, to_json, &header, |(report, slice)| {
        let loss = |loss: f64, rows: u64| if rows == 0 { String::new() } else { number(loss) };
        vec![
            when(report.window.from),
            report.window.version.version.to_string(),
            slice.slice.clone(),
            if slice.found { "found" } else { "declared" }.to_owned(),
            slice.labelled_rows.to_string(),
            words(slice.verdict.name()),
            loss(slice.loss, slice.labelled_rows),
            loss(slice.reference_loss, slice.reference_rows),
            shown_metrics(&slice.metrics, |_| None),
            slice.reason.clone(),
        ]
    });
    Ok(())
}

/// Why a window is inconclusive, and which of its outcomes the model cannot predict, in one line.
pub(crate) fn reason(report: &WindowReport) -> Option<String> {
    let new = report.quality.as_ref().map(|quality| &quality.new_classes).filter(|new| !new.is_empty());
    let new = new.map(|new| {
        let classes = new.iter().map(|(class, rows)| format!("{class:?} ({rows})"));
        format!("outcomes of classes that the training data did not have: {}", classes.collect::<Vec<_>>().join(", "))
    });
    let given = Some(report.reason.clone()).filter(|reason| !reason.is_empty());
    let revision = (report.revision > 1).then(|| format!("revision {}: {}", report.revision, report.changes));
    let selection = report.quality.as_ref().map(|quality| quality.selection.clone());
    let selection = selection.filter(|selection| !selection.is_empty());
    let reasons: Vec<String> = given
        .into_iter()
        .chain(unlabelled(report))
        .chain(withdrawn(report))
        .chain(dependence(report))
        .chain(volume(report))
        .chain(revision)
        .chain(selection)
        .chain(report.quality.iter().flat_map(change))
        .chain(new)
        .collect();
    let window = when(report.window.from);
    (!reasons.is_empty())
        .then(|| format!("{window}, version {}: {}", report.window.version.version, reasons.join("; ")))
}

/// The pairs of features whose correlation changed.
fn dependence(report: &WindowReport) -> Option<String> {
    let changed = &report.drift.dependence.as_ref()?.changed;
    let pairs = changed.iter().take(3).map(|pair| {
        let [reference, current] = [pair.reference, pair.correlation].map(number);
        format!("{} (correlation {reference} before, {current} now)", pair.features.join(" and "))
    });
    let pairs = pairs.collect::<Vec<_>>().join(", ");
    (!changed.is_empty()).then(|| format!("changed correlations: {pairs}"))
}

/// The volume of a window with far more or fewer rows than usual.
fn volume(report: &WindowReport) -> Option<String> {
    let volume = report.drift.volume.filter(Volume::is_unusual)?;
    let [rows, lower, upper] = [volume.rows_per_hour, volume.expected.lower, volume.expected.upper].map(number);
    Some(format!("unusual volume: {rows} rows per hour, {} earlier windows suggest {lower} to {upper}", volume.windows))
}

/// Where and when the loss rose, and its association with the load.
fn change(quality: &Quality) -> Vec<String> {
    let degraded: Vec<&str> = quality.degraded_slices().map(|slice| slice.slice.as_str()).collect();
    let slices = (!degraded.is_empty()).then(|| format!("degraded slices: {}", degraded.join("; ")));
    let onset = quality.onset.map(|onset| format!("the loss rose at about {}", when(onset)));
    let load = quality.load.as_ref().map(|load| {
        let [low, high] = load.means.map(number);
        let [few, many] = load.rows_per_hour.map(number);
        format!("{} becomes worse as the load rises: {low} at {few} rows per hour, {high} at {many}", load.metric)
    });
    [onset, slices, load].into_iter().flatten().collect()
}

/// Why the quality is inconclusive.
fn unlabelled(report: &WindowReport) -> Option<String> {
    let quality = report.quality.as_ref().filter(|quality| quality.verdict == Verdict::Inconclusive)?;
    let (labelled, rows) = (quality.labelled_rows, report.window.rows);
    Some(if labelled < rows {
        format!("the quality is inconclusive: {labelled} of {rows} rows have an outcome")
    } else {
        format!("the quality is inconclusive: {labelled} rows with an outcome are too few")
    })
}

/// Why the estimate of a window without a quality is withdrawn.
fn withdrawn(report: &WindowReport) -> Option<String> {
    let estimate = report.estimate.as_ref().filter(|_| report.quality.is_none())?;
    let why = Some(&estimate.withdrawn).filter(|why| !why.is_empty())?;
    Some(format!("the estimate is withdrawn: {why}"))
}

/// The estimated loss with its interval, e.g. `log_loss 0.493 (0.441 to 0.545)`.
fn estimated(estimate: &Estimate) -> String {
    match estimate.loss() {
        Some(_) if !estimate.withdrawn.is_empty() => "withdrawn".to_owned(),
        Some((name, EstimatedMetric { value, interval })) => {
            let [value, lower, upper] = [*value, interval.lower, interval.upper].map(number);
            format!("{name} {value} ({lower} to {upper})")
        }
        None => String::new(),
    }
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
        report.estimate.as_ref().map(estimated).unwrap_or_default(),
        quality.map(|quality| verdict(quality.verdict)).unwrap_or_default(),
        quality.map(|quality| quality.labelled_rows.to_string()).unwrap_or_default(),
        quality.map(metrics).unwrap_or_default(),
    ]
}

/// The metrics of all rows, with their intervals, e.g. `log_loss 0.493 (0.481 to 0.505)`. Those of each class are in the JSON.
fn metrics(quality: &Quality) -> String {
    shown_metrics(&quality.metrics, |name| quality.intervals.get(name))
}

fn shown_metrics<'a>(metrics: &BTreeMap<String, f64>, interval: impl Fn(&str) -> Option<&'a Interval>) -> String {
    const SHOWN: [&str; 7] = ["log_loss", "auc", "accuracy", "brier", "mae", "rmse", "r2"];
    let shown = SHOWN.into_iter().filter_map(|name| {
        let value = number(*metrics.get(name)?);
        let interval = interval(name).map(|found| format!(" ({} to {})", number(found.lower), number(found.upper)));
        Some(format!("{name} {value}{}", interval.unwrap_or_default()))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The three drifted columns with the largest shares of the shift, and the change of the mean loss that each explains, e.g.
/// `temp (psi 0.53, loss +0.021)`.
fn causes(drift: &Drift) -> String {
    let shown = drift.causes().into_iter().take(3).map(|column| {
        let loss = column.impact.map(|impact| {
            let sign = if impact.loss_change < 0.0 { "" } else { "+" };
            format!(", loss {sign}{}", number(impact.loss_change))
        });
        format!("{} (psi {}{})", column.name, number(column.psi), loss.unwrap_or_default())
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rekindle_domain::report::{ColumnDrift, Impact, PREDICTION};

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
            impact: None,
            since: None,
            onset: None,
            examples: Vec::new(),
        };
        let features = vec![
            column("many-bins", Verdict::Drifted, 0.9, 0.2),
            column("z", Verdict::Drifted, 0.5, 0.25),
            column("stable", Verdict::Stable, 0.1, 0.0),
            column("a", Verdict::Drifted, 0.5, 0.25),
        ];
        let mut drift = Drift::of(Verdict::Drifted, features, Some(column(PREDICTION, Verdict::Drifted, 0.6, 0.3)));
        for (feature, loss_change) in [(1, -0.25), (3, 0.125)] {
            drift.features[feature].impact = Some(Impact { importance: None, score_change: 0.0, loss_change });
        }
        assert_eq!(
            causes(&drift),
            "(prediction) (psi 0.6000), a (psi 0.5000, loss +0.1250), z (psi 0.5000, loss -0.2500)"
        );
    }

    #[test]
    fn an_estimate_shows_the_loss_with_its_interval_or_that_it_is_withdrawn() {
        let interval = Interval { lower: 0.45, upper: 0.55 };
        let metric = EstimatedMetric { value: 0.5, interval };
        let metrics = [("accuracy".to_owned(), metric), ("log_loss".to_owned(), metric)];
        let estimate = Estimate { metrics: metrics.into(), ..Estimate::default() };
        assert_eq!(estimated(&estimate), "log_loss 0.5000 (0.4500 to 0.5500)");
        assert_eq!(estimated(&Estimate { withdrawn: "why".into(), ..estimate }), "withdrawn");
        assert_eq!(estimated(&Estimate::default()), "");
    }
}
