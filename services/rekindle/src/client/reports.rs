//! `rekindle reports`: what the monitor saw in each window.

use anyhow::Result;
use rekindle_proto::monitor::{ListReportsRequest, Verdict, WindowReport};

use super::{
    Global,
    output::{number, numbers, when, word},
    page::Limit,
};

/// Whose reports.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
drift compares a window's inputs and predictions with the rows the model was trained on; quality compares its loss with
the validation rows', once outcomes are in. 'unknown' means that a change that matters could have gone unseen: in so few rows, in the
part of the window in which the version answered, or in rows that cannot be read; --json tells the reason.")]
pub(crate) struct Args {
    /// The model
    model: String,
    #[command(flatten)]
    limit: Limit,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    let mut client = global.connect()?.monitor();
    let reports = args
        .limit
        .fetch(async |page_size, page_token| {
            let request = ListReportsRequest { model: args.model.clone(), page_size, page_token };
            let page = client.list_reports(request).await?.into_inner();
            Ok((page.reports, page.next_page_token))
        })
        .await?;
    let header = ["from", "until", "version", "rows", "drift", "moved most", "quality", "labelled", "metrics"];
    global.format().list(&reports, &header, line);
    Ok(())
}

fn line(report: &WindowReport) -> Vec<String> {
    let quality = report.quality.clone();
    vec![
        when(report.from),
        when(report.until),
        report.model_version.to_string(),
        report.rows.to_string(),
        verdict(report.drift()),
        causes(report),
        quality.as_ref().map(|quality| verdict(quality.verdict())).unwrap_or_default(),
        quality.as_ref().map(|quality| quality.labelled_rows.to_string()).unwrap_or_default(),
        quality.map(|quality| numbers(&quality.metrics)).unwrap_or_default(),
    ]
}

fn verdict(verdict: Verdict) -> String {
    word(verdict.as_str_name(), "VERDICT_")
}

/// The drifted columns, those with the largest share of the cause first.
fn causes(report: &WindowReport) -> String {
    let columns = report.features.iter().chain(&report.prediction);
    let mut drifted: Vec<_> = columns.filter(|column| column.verdict() == Verdict::Drifted).collect();
    drifted.sort_by(|a, b| b.cause_share.total_cmp(&a.cause_share).then_with(|| a.name.cmp(&b.name)));
    let told = drifted.iter().take(3).map(|column| format!("{} (psi {})", column.name, number(column.psi)));
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rekindle_proto::monitor::FeatureDrift;

    use super::*;

    #[test]
    fn the_cause_is_told_by_its_share_and_not_by_the_index() {
        let column = |name: &str, verdict: Verdict, psi, cause_share| FeatureDrift {
            name: name.into(),
            verdict: verdict.into(),
            psi,
            cause_share,
            ..Default::default()
        };
        let report = WindowReport {
            features: vec![
                column("many-bins", Verdict::Drifted, 0.9, 0.2),
                column("z", Verdict::Drifted, 0.5, 0.25),
                column("stable", Verdict::Stable, 0.1, 0.0),
                column("a", Verdict::Drifted, 0.5, 0.25),
            ],
            prediction: Some(column("(prediction)", Verdict::Drifted, 0.6, 0.3)),
            ..Default::default()
        };
        assert_eq!(causes(&report), "(prediction) (psi 0.6000), a (psi 0.5000), z (psi 0.5000)");
    }
}
