//! Validation errors that name flags in place of fields.

use rekindle_domain::validation::{Checks, FieldViolation, Violations};

/// The fields that have a flag, by their path in a recipe or a policy.
const FLAGS: [(&str, &str); 64] = [
    ("why", "--why"),
    ("time_column", "--time"),
    ("kinds", "--kind"),
    ("until", "--until"),
    ("target", "--target"),
    ("ignore", "--ignore"),
    ("seed", "--seed"),
    ("task", "--task"),
    ("classes", "--classes"),
    ("features", "--features"),
    ("nullable", "--nullable"),
    ("output", "--output"),
    ("scores", "--scores"),
    ("mlp.optimizer.max_epochs", "--epochs"),
    ("linear.optimizer.max_epochs", "--epochs"),
    ("tabm.optimizer.max_epochs", "--epochs"),
    ("cnn.optimizer.max_epochs", "--epochs"),
    ("cnn.image", "--image"),
    ("lookback", "--lookback"),
    ("time_limit", "--time-limit"),
    ("weights.column", "--weight"),
    ("weights.half_life", "--half-life"),
    ("trials", "--trials"),
    ("budget", "--budget"),
    ("search.trials", "--trials"),
    ("search.budget", "--budget"),
    ("recipe.target", "--target"),
    ("recipe.ignore", "--ignore"),
    ("dataset", "--dataset"),
    ("watch.window", "--window"),
    ("watch.lateness", "--lateness"),
    ("watch.label_wait", "--label-wait"),
    ("watch.min_rows", "--min-rows"),
    ("watch.drift_margin", "--drift-margin"),
    ("watch.slices", "--slice"),
    ("watch.degradation_margin", "--degradation-margin"),
    ("watch.feed_timeout", "--feed-timeout"),
    ("gate.margin", "--gate-margin"),
    ("gate.confidence", "--gate-confidence"),
    ("gate.slices", "--gate-slices"),
    ("gate.checks", "--gate-checks"),
    ("holdout_share", "--holdout"),
    ("min_new_rows", "--min-new-rows"),
    ("cooldown", "--cooldown"),
    ("deadline", "--deadline"),
    ("rollout.bake", "--bake"),
    ("rollout.observe", "--observe"),
    ("rollout.max_error_rate", "--max-error-rate"),
    ("rollout.max_latency", "--max-latency"),
    ("rollout.max_guardrail_rate", "--max-guardrail-rate"),
    ("rollout.canary", "--canary"),
    ("triggers", "--on"),
    ("schedule.cron", "--schedule"),
    ("schedule.time_zone", "--schedule-zone"),
    ("schedule.jitter", "--schedule-jitter"),
    ("quiet_hours.until", "--quiet-hours"),
    ("quiet_hours.time_zone", "--quiet-zone"),
    ("backoff_after", "--backoff-after"),
    ("max_trainings_per_day", "--max-trainings-per-day"),
    ("refit", "--refit"),
    ("external.pool", "--pool"),
    ("external.parameters", "--parameter"),
    ("register_as", "--model"),
    ("search", "--search"),
];

/// The same violations, each named by its flag if it has one, else by its path.
pub(crate) fn violations(given: Violations) -> Violations {
    let mut checks = Checks::new();
    for FieldViolation { field, description } in given.clone() {
        let flag = FLAGS.into_iter().find(|(path, _)| *path == plain(&field)).map(|(_, flag)| flag.to_owned());
        checks.violation(flag.unwrap_or(field), description);
    }
    checks.finish().err().unwrap_or(given)
}

/// The path of a field within its recipe or policy, without the position in a list.
fn plain(field: &str) -> &str {
    let within = ["job.train.", "job.", "policy."].into_iter().find_map(|prefix| field.strip_prefix(prefix));
    let path = within.unwrap_or(field);
    path.split_once('[').map_or(path, |(list, _)| list)
}

#[cfg(test)]
mod tests {
    use rekindle_domain::Gate;

    use super::*;

    #[test]
    fn fields_are_named_by_their_flags() {
        let gate = Gate { margin: 1.0, confidence: 0.5, min_rows: 1, ..Gate::default() };
        let refused = violations(gate.validate().expect_err("three").within("gate"));
        let fields: Vec<_> = refused.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["--gate-margin", "--gate-confidence", "gate.min_rows"]);
        let refused = violations(Violations::of("job.train.recipe.ignore[3]", "\"no\" is not a column"));
        assert_eq!(refused.to_string(), "--ignore: \"no\" is not a column");
    }
}
