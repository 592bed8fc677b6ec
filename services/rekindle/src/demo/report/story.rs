//! The summary in three sentences: what happened to the data, what the platform did, and what it brought.

use std::collections::BTreeMap;

use rekindle_domain::{
    report::{PREDICTION, Verdict},
    workflow::WorkflowState,
};

use super::{Material, grouped, heat_map::by_window, number, words};

/// Drifted features that a sentence names.
const NAMED: usize = 3;

/// The three sentences.
pub(super) fn of(material: &Material<'_>) -> [String; 3] {
    [data(material), platform(material), effect(material)]
}

fn data(material: &Material<'_>) -> String {
    let windows = by_window(material.reports);
    let with = |verdict| windows.values().filter(|report| report.drift.verdict == verdict).count();
    let (drifted, stable, inconclusive) = (with(Verdict::Drifted), with(Verdict::Stable), with(Verdict::Inconclusive));
    let length = words(material.window);
    let others = format!("{stable} {} stable and {inconclusive} inconclusive", if stable == 1 { "is" } else { "are" });
    match (windows.len(), drifted) {
        (0, _) => format!("The data: no window of {length} was closed, so that nothing was compared."),
        (all, 0) => {
            format!("The data: none of {all} windows of {length} has drifted from the training data; {others}.")
        }
        (all, _) => format!(
            "The data: {drifted} of {all} windows of {length} have drifted from the training data, most often in {}; {others}.",
            most_often(material)
        ),
    }
}

/// E.g. `temp (31 windows), dewp (30) and pressure (29)`.
fn most_often(material: &Material<'_>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for report in by_window(material.reports).values() {
        let drifted = report.drift.columns().filter(|column| column.verdict == Verdict::Drifted);
        drifted.for_each(|column| *counts.entry(&column.name).or_default() += 1);
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    counts.truncate(NAMED);
    let name = |name| if name == PREDICTION { "the prediction" } else { name };
    let unit = |index, count| match (index, count) {
        (0, 1) => " window",
        (0, _) => " windows",
        _ => "",
    };
    let named = counts
        .iter()
        .enumerate()
        .map(|(index, &(column, count))| format!("{} ({count}{})", name(column), unit(index, count)));
    listed(&named.collect::<Vec<_>>())
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[String]) -> String {
    match names {
        [] => "no single column".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn platform(material: &Material<'_>) -> String {
    let summary = material.summary;
    let failed = match summary.failed_requests {
        0 => "none of which failed".to_owned(),
        1 => "1 of which failed".to_owned(),
        failed => format!("{} of which failed", grouped(failed)),
    };
    let requests = format!(
        "The platform: {} replicas answered {} requests, {failed}",
        material.replicas,
        grouped(summary.requests)
    );
    let with = |state| material.workflows.iter().filter(|workflow| workflow.state == state).count();
    let succeeded = with(WorkflowState::Succeeded);
    match material.workflows.len() {
        0 => format!("{requests}; no model was retrained."),
        all => {
            let times = match all {
                1 => "once".to_owned(),
                2 => "twice".to_owned(),
                all => format!("{all} times"),
            };
            let rejected = with(WorkflowState::Rejected);
            let other = all - succeeded - rejected;
            let other = if other == 0 { String::new() } else { format!(", {other} ended otherwise") };
            format!("{requests}; it retrained {times}: {succeeded} rolled out, {rejected} rejected{other}.")
        }
    }
}

fn effect(material: &Material<'_>) -> String {
    let summary = material.summary;
    let scores =
        (summary.unchanged.as_ref().and_then(|s| s.headline()), summary.live.as_ref().and_then(|s| s.headline()));
    let (Some(unchanged), Some(live)) = scores else {
        let reason = material.unchanged_because.unwrap_or("there are no scores to compare");
        return format!("The result: no other model was deployed: {reason}.");
    };
    let change = match (live - unchanged) / unchanged {
        change if !change.is_finite() || change == 0.0 => String::new(),
        change => format!(", {:.1} % {}", 100.0 * change.abs(), if change < 0.0 { "better" } else { "worse" }),
    };
    let respond = summary.time_to_respond_s.map(|seconds| {
        format!(
            "; a new version served on every replica within {seconds:.1} s of the end of the window that had drifted"
        )
    });
    format!(
        "The result: {} of {} with the retrained models against {} with the first model on the same rows{change}{}.",
        material.metric,
        number(Some(live)),
        number(Some(unchanged)),
        respond.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::{super::tests::example, *};

    #[test]
    fn three_sentences_have_the_figures() {
        let sentences = example(|material| of(&material));
        assert_eq!(
            sentences,
            [
                "The data: 12 of 40 windows of 7 days have drifted from the training data, most often in \
                 a_feature_with_a_name_that_is_much_longer_than_others_0 (12 windows), \
                 a_feature_with_a_name_that_is_much_longer_than_others_1 (12) and \
                 a_feature_with_a_name_that_is_much_longer_than_others_2 (12); 24 are stable and 4 inconclusive.",
                "The platform: 3 replicas answered 221,950 requests, none of which failed; it retrained twice: 1 rolled out, 1 rejected.",
                "The result: log loss of 0.4800 with the retrained models against 0.5000 with the first model on the same rows, 4.0 % \
                 better; a new version served on every replica within 9.1 s of the end of the window that had drifted.",
            ]
        );
    }

    #[test]
    fn without_a_redeployment_the_reason_is_the_result() {
        let [data, platform, result] = example(|material| {
            let mut summary = material.summary.clone();
            (summary.unchanged, summary.live, summary.failed_requests) = (None, None, 1);
            let unchanged_because = Some("of 0 windows none has drifted or degraded");
            of(&Material { summary: &summary, unchanged_because, reports: &[], workflows: &[], ..material })
        });
        assert_eq!(data, "The data: no window of 7 days was closed, so that nothing was compared.");
        assert!(platform.ends_with("221,950 requests, 1 of which failed; no model was retrained."), "{platform}");
        assert_eq!(result, "The result: no other model was deployed: of 0 windows none has drifted or degraded.");
    }
}
