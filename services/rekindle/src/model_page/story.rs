//! A summary in sentences: what happened to the data, how good the predictions were, and what the platform did.

use std::collections::BTreeMap;

use rekindle_domain::{
    report::{PREDICTION, Verdict, WindowReport},
    workflow::{WorkflowState, WorkflowStatus},
};

use super::{Figures, Material, by_window, format::number, window_length};

/// Drifted features that a sentence names.
const NAMED: usize = 3;

/// The summary of a model.
pub(crate) fn of(material: &Material<'_>, figures: &Figures) -> [String; 3] {
    let retrainings = retrainings(material.workflows);
    let champion = match figures.champion {
        Some(version) => format!("the champion is version {version}"),
        None => "no version is the champion".to_owned(),
    };
    [data(material.reports), quality(figures), format!("The platform: {retrainings}; {champion}.")]
}

/// What happened to the data.
pub(crate) fn data(reports: &[WindowReport]) -> String {
    let windows = by_window(reports);
    let with = |verdict| windows.values().filter(|report| report.drift.verdict == verdict).count();
    let (drifted, stable, inconclusive) = (with(Verdict::Drifted), with(Verdict::Stable), with(Verdict::Inconclusive));
    let length = window_length(reports);
    let others = format!("{stable} {} stable and {inconclusive} inconclusive", is(stable));
    match (windows.len(), drifted) {
        (0, _) => "The data: no window was closed, so that nothing was compared.".to_owned(),
        (all, 0) => format!("The data: none of {all} windows{length} has drifted from the training data; {others}."),
        (all, _) => format!(
            "The data: {drifted} of {all} windows{length} {} drifted from the training data, most often in {}; {others}.",
            if drifted == 1 { "has" } else { "have" },
            most_often(reports)
        ),
    }
}

fn is(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// E.g. `temp (31 windows), dewp (30) and pressure (29)`.
fn most_often(reports: &[WindowReport]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for report in by_window(reports).values() {
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

fn quality(figures: &Figures) -> String {
    let Figures { labelled, degraded, metric, .. } = figures;
    if *labelled == 0 {
        return "The quality: unknown, because the outcomes of no window have arrived.".to_owned();
    }
    let latest = if *labelled == 1 { "it" } else { "the latest of them" };
    format!(
        "The quality: {degraded} of {labelled} {} with outcomes {} degraded; the {metric} is {} in {latest}, against {} on the \
         validation rows of its version.",
        if *labelled == 1 { "window" } else { "windows" },
        if *degraded == 1 { "has" } else { "have" },
        number(figures.score),
        number(figures.validation_score),
    )
}

/// E.g. `2 retrainings were started: 1 rolled out, 1 rejected`.
pub(crate) fn retrainings(workflows: &[WorkflowStatus]) -> String {
    let with = |state| workflows.iter().filter(|workflow| workflow.state == state).count();
    let (succeeded, rejected) = (with(WorkflowState::Succeeded), with(WorkflowState::Rejected));
    let in_progress = workflows.iter().filter(|workflow| !workflow.state.is_terminal()).count();
    let other = workflows.len() - succeeded - rejected - in_progress;
    let started = match workflows.len() {
        0 => return "no retraining was started".to_owned(),
        1 => "1 retraining was started".to_owned(),
        all => format!("{all} retrainings were started"),
    };
    let some = |count: usize, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
    format!(
        "{started}: {succeeded} rolled out, {rejected} rejected{}{}",
        some(other, "ended otherwise"),
        some(in_progress, "in progress")
    )
}

#[cfg(test)]
mod tests {
    use super::{super::tests::example, *};

    #[test]
    fn three_sentences_have_the_figures() {
        let sentences = example(|material| of(&material, &Figures::of(&material)));
        assert_eq!(
            sentences,
            [
                "The data: 12 of 40 windows of 7 days have drifted from the training data, most often in \
                 a_feature_with_a_name_that_is_much_longer_than_others_0 (12 windows), \
                 a_feature_with_a_name_that_is_much_longer_than_others_1 (12) and \
                 a_feature_with_a_name_that_is_much_longer_than_others_2 (12); 24 are stable and 4 inconclusive.",
                "The quality: 12 of 40 windows with outcomes have degraded; the log loss is 0.5000 in the latest of them, against 0.4800 on \
                 the validation rows of its version.",
                "The platform: 2 retrainings were started: 1 rolled out, 1 rejected; the champion is version 1.",
            ]
        );
    }

    #[test]
    fn nothing_is_claimed_of_a_model_without_windows() {
        let sentences = example(|material| {
            let material = Material { reports: &[], workflows: &[], versions: &[], ..material };
            of(&material, &Figures::of(&material))
        });
        assert_eq!(
            sentences,
            [
                "The data: no window was closed, so that nothing was compared.",
                "The quality: unknown, because the outcomes of no window have arrived.",
                "The platform: no retraining was started; no version is the champion.",
            ]
        );
    }
}
