//! The summary in three sentences: what happened to the data, what the platform did, and what it brought.

use super::{Material, grouped, number};
use crate::model_page::story;

/// The three sentences.
pub(super) fn of(material: &Material<'_>) -> [String; 3] {
    [story::data(material.page.reports), platform(material), effect(material)]
}

fn platform(material: &Material<'_>) -> String {
    let summary = material.summary;
    let failed = match summary.failed_requests {
        0 => "none of which failed".to_owned(),
        1 => "1 of which failed".to_owned(),
        failed => format!("{} of which failed", grouped(failed)),
    };
    format!(
        "The platform: {} replicas answered {} requests, {failed}; {}.",
        material.replicas,
        grouped(summary.requests),
        story::retrainings(material.page.workflows)
    )
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
    use crate::model_page;

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
                "The platform: 3 replicas answered 221,950 requests, none of which failed; 2 retrainings were started: 1 rolled out, 1 rejected.",
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
            let page = model_page::Material { reports: &[], workflows: &[], ..material.page };
            of(&Material { summary: &summary, unchanged_because, page, ..material })
        });
        assert_eq!(data, "The data: no window was closed, so that nothing was compared.");
        assert!(platform.ends_with("221,950 requests, 1 of which failed; no retraining was started."), "{platform}");
        assert_eq!(result, "The result: no other model was deployed: of 0 windows none has drifted or degraded.");
    }
}
