//! What the dataset of a policy says about its settings.

use humantime::format_duration;
use rekindle_domain::{
    Policy, Slice,
    dataset::DatasetVersion,
    gate_check::GateCheck,
    report::PREDICTION,
    validation::{Checks, Violations},
};

/// Every column that the policy names is one of the dataset.
pub(super) fn check_columns(policy: &Policy, dataset: &DatasetVersion) -> Result<(), Violations> {
    let names: Vec<&str> = dataset.columns.iter().map(|column| column.name.as_str()).collect();
    let mut checks = Checks::new();
    let ignored = policy.recipe.ignore.iter().map(|name| ("--ignore", name));
    let slices = policy.gate.slices.iter().map(|name| ("--gate-slices", name));
    let limits = policy.gate.checks.iter().filter_map(GateCheck::column).map(|name| ("--gate-checks", name));
    let rules = policy.watch.iter().flat_map(|watch| watch.columns.keys()).filter(|name| *name != PREDICTION);
    let rules = rules.map(|name| ("--column", name));
    let watched = policy.watch.iter().flat_map(|watch| &watch.slices).flat_map(Slice::features);
    let watched = watched.map(|name| ("--slice", name));
    let named =
        std::iter::once(("--target", &policy.recipe.target)).chain(ignored).chain(slices).chain(limits).chain(rules);
    for (flag, name) in named.map(|(flag, name)| (flag, name.as_str())).chain(watched) {
        if !names.contains(&name) {
            let (reference, names) = (dataset.reference(), names.join(", "));
            checks.violation(flag, format!("{name:?} is not a column of {reference}: expected one of {names}"));
        }
    }
    checks.finish()
}

/// Whether windows will hold fewer rows than a verdict takes, at the rate of the rows of the dataset.
pub(super) fn too_few_rows(policy: &Policy, dataset: &DatasetVersion) -> Option<String> {
    let watch = policy.watch.as_ref()?;
    let (first, last) = dataset.time_range?;
    let seconds = (last - first).as_seconds_f64();
    let rows = dataset.rows as f64 / seconds.max(1.0) * watch.window.as_secs_f64();
    (seconds > 0.0 && rows < watch.min_rows as f64).then(|| {
        let window = format_duration(watch.window);
        format!(
            "a window of {window} holds about {rows:.0} rows at the rate of {}, fewer than --min-rows {}: its verdict will be inconclusive",
            dataset.reference(),
            watch.min_rows
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rekindle_domain::{ColumnKind, Gate, Recipe, WatchSettings, dataset::Column};

    use super::*;

    fn present() -> Policy {
        let (model, dataset) = ("m".parse().expect("a name"), "flights".parse().expect("a name"));
        Policy::new(model, dataset, Recipe::for_target("late"))
    }

    fn dataset(rows: u64) -> DatasetVersion {
        let time = |day: i64| chrono::DateTime::from_timestamp(day * 86_400, 0).expect("in range");
        let column = |name: &str| Column {
            name: name.into(),
            data_type: "Int64".into(),
            kind: ColumnKind::Numeric,
            nullable: false,
        };
        DatasetVersion {
            name: "daily".parse().expect("a name"),
            version: 3,
            content: rekindle_domain::Digest::of(b"rows"),
            blob: rekindle_domain::Digest::of(b"file"),
            rows,
            bytes: 1,
            columns: ["late", "id"].map(column).into(),
            time_column: Some("time".into()),
            time_range: Some((time(0), time(1000))),
            parents: Vec::new(),
            description: String::new(),
            profile: Vec::new(),
            created_at: time(1000),
            schema: None,
            violations: Vec::new(),
            deleted_at: None,
        }
    }

    #[test]
    fn a_column_that_the_dataset_does_not_have_is_refused_by_its_flag() {
        assert_eq!(check_columns(&present(), &dataset(1)), Ok(()));
        let recipe = Recipe { ignore: vec!["id".into(), "no".into()], ..Recipe::for_target("lat") };
        let checks = vec!["expected_calibration_error<=1", "invariant:id<=1", "invariant:dest<=1"];
        let checks = checks.into_iter().map(|check| check.parse().expect("a check")).collect();
        let gate = Gate { slices: vec!["origin".into()], checks, ..Gate::default() };
        let slices = vec!["id = 1 AND distance > 2".parse().expect("a condition")];
        let watch = Some(WatchSettings { slices, ..WatchSettings::default() });
        let refused = check_columns(&Policy { recipe, gate, watch, ..present() }, &dataset(1)).expect_err("five");
        let fields: Vec<_> = refused.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["--target", "--ignore", "--gate-slices", "--gate-checks", "--slice"]);
        assert!(
            refused.to_string().contains("\"lat\" is not a column of daily/3: expected one of late, id"),
            "{refused}"
        );
    }

    #[test]
    fn windows_that_never_hold_enough_rows_are_warned_of() {
        let watch =
            |days: u64| WatchSettings { window: Duration::from_secs(days * 86_400), ..WatchSettings::default() };
        let policy = |days| Policy { watch: Some(watch(days)), ..present() };
        let warning = too_few_rows(&policy(91), &dataset(1000)).expect("91 of 200 rows");
        assert!(warning.contains("holds about 91 rows at the rate of daily/3, fewer than --min-rows 200"), "{warning}");
        assert_eq!(too_few_rows(&policy(91), &dataset(100_000)), None);
        assert_eq!(too_few_rows(&policy(300), &dataset(1000)), None);
        assert_eq!(too_few_rows(&present(), &dataset(1000)), None, "the settings of the monitor");
    }
}
