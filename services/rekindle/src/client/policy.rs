//! `rekindle policy`.

mod alert_rule;
mod champion;
mod column_rule;
mod dataset;
mod rollout;
mod slice;
pub(crate) mod trigger;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use humantime::format_duration;
use rekindle_client::wire;
use rekindle_domain::{
    DatasetName, Gate, ModelName, Policy, Recipe, Trigger, WatchSettings, gate_check::GateCheck, validation::Checks,
};
use serde_json::{Value, json};

use self::champion::Champion;
use super::{
    Global,
    external::{self, ExternalArgs},
    flag,
    output::Fields,
    parse,
    platform::Platform,
    search::{self, SearchArgs},
    train::RecipeArgs,
};

/// Commands for retraining policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set or change the retraining policy of a model
    #[command(after_help = "\
Settings that are not given keep their value. In the first policy of a model, dataset, target, ignored columns and recipe are those
that the champion was trained with, and other settings have their defaults.

Examples:
  rekindle policy set flight-delay --window 7d --label-wait 1d
  rekindle policy set flight-delay --cooldown 14d --require-approval true
  rekindle policy set flight-delay --column temperature=mute --why 'the sensor was replaced'
  rekindle policy set flight-delay --slice carrier --slice 'distance > 1000'
  rekindle policy set flight-delay --alert drift=2/3,critical --feed-timeout 2h
  rekindle policy set flight-delay --schedule '0 3 * * 1' --schedule-zone Europe/Berlin --quiet-hours 08:00-18:00
  rekindle policy set flight-delay --canary 0=10m,5%=1h,25%=1h --max-latency 20ms
  rekindle policy set flight-delay --file policy.json")]
    Set(Box<Set>),
    /// Show the retraining policy of a model
    Show {
        /// Model name
        model: ModelName,
    },
}

/// The settings of a policy.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// Model name
    model: ModelName,
    /// Policy as printed by `policy show --json`; flags override its values
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    triggers: trigger::Args,
    /// Base dataset, to which a workflow appends the captured labelled rows
    #[arg(long, value_name = "NAME")]
    dataset: Option<DatasetName>,
    /// Column to predict
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// Recipe as JSON
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Columns to exclude from the features
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    ignore: Vec<String>,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    external: ExternalArgs,
    /// Length of a monitoring window, in event time
    #[arg(long, value_name = "D", value_parser = parse::span)]
    window: Option<Duration>,
    /// Allowed lateness: how far behind the latest row a row may arrive and still be counted, in event time
    #[arg(long, value_name = "D", value_parser = parse::span)]
    lateness: Option<Duration>,
    /// Time after a window to wait for its outcomes, in event time
    #[arg(long, value_name = "D", value_parser = parse::span)]
    label_wait: Option<Duration>,
    /// Minimum number of rows of a window; with fewer, the window is inconclusive
    #[arg(long, value_name = "N", value_parser = parse::whole::<u64>)]
    min_rows: Option<u64>,
    /// Minimum population stability index that counts as drift
    #[arg(long, value_name = "PSI", value_parser = parse::number)]
    drift_margin: Option<f64>,
    /// Minimum relative increase of the loss that counts as degradation
    #[arg(long, value_name = "SHARE", value_parser = parse::number)]
    degradation_margin: Option<f64>,
    /// How a column is compared: COL=mute, so that no window is drifted because of it, COL=PSI for a margin of its own, or COL=default;
    /// repeatable
    #[arg(long = "column", value_name = "COL=RULE", value_parser = column_rule::parse)]
    columns: Vec<column_rule::Change>,
    /// Author of the rules of columns
    #[arg(
        long,
        value_name = "NAME",
        env = "USER",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    by: String,
    /// Reason for the rules of columns
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "columns")]
    why: String,
    /// Part of the rows whose quality is measured apart: a condition such as "distance > 1000", a feature, for one slice per value, or none;
    /// repeatable
    #[arg(long = "slice", value_name = "COND", value_parser = slice::parse)]
    slices: Vec<slice::Change>,
    /// When alerts of a kind open, e.g. drift=2/3,critical,resolve=2 or new-class=off; repeatable
    #[arg(long = "alert", value_name = "KIND=RULE", value_parser = alert_rule::parse)]
    alerts: Vec<alert_rule::Change>,
    /// Maximum time without a captured row before an alert opens, or none
    #[arg(long, value_name = "D", value_parser = alert_rule::span_or_none)]
    feed_timeout: Option<alert_rule::SpanOrNone>,
    /// Minimum relative decrease of the loss, from champion to challenger, that passes the gate
    #[arg(long, value_name = "SHARE", value_parser = parse::number)]
    gate_margin: Option<f64>,
    /// Confidence of the comparison of champion and challenger, above 0.5 and below 1
    #[arg(long, value_name = "SHARE", value_parser = parse::number)]
    gate_confidence: Option<f64>,
    /// Columns to slice the rows of the gate by; the challenger must not be worse on any slice
    #[arg(long, alias = "slices", value_name = "COL,..", value_delimiter = ',')]
    gate_slices: Vec<String>,
    /// Limits that the challenger keeps whatever its loss, or none, e.g. monotonic_increasing:rooms, invariant:origin<=0.02,
    /// demographic_parity_difference:gender<=0.1, equal_opportunity_difference:gender<=0.1, loss_difference:region<=0.05,
    /// expected_calibration_error<=0.05
    #[arg(long, value_name = "CHECK,..", value_delimiter = ',', value_parser = check_or_none)]
    gate_checks: Vec<CheckOrNone>,
    /// Share of the new rows, the latest ones, held out for the comparison
    #[arg(long, value_name = "SHARE", value_parser = parse::number)]
    holdout: Option<f64>,
    /// Minimum number of new labelled rows; with fewer, a workflow ends without training
    #[arg(long, value_name = "N", value_parser = parse::whole::<u64>)]
    min_new_rows: Option<u64>,
    /// Whether a challenger that passed the gate is trained again on all rows before the rollout
    #[arg(long, value_name = "BOOL")]
    refit: Option<bool>,
    /// Whether each rollout requires manual approval
    #[arg(long, value_name = "BOOL")]
    require_approval: Option<bool>,
    /// Time after which a workflow fails
    #[arg(long, value_name = "D", value_parser = parse::span)]
    deadline: Option<Duration>,
    #[command(flatten)]
    rollout: rollout::Args,
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let platform = global.platform()?;
    let set = match command {
        Command::Set(args) => set(*args, &platform).await?,
        Command::Show { model } => platform.orchestrator().policy(&model).await?,
    };
    global.format().one(&set, |(policy, revision)| wire::policy::to_json(policy, *revision), fields);
    Ok(())
}

async fn set(args: Set, platform: &Platform) -> Result<(Policy, u64)> {
    let (orchestrator, registry) = (platform.orchestrator(), platform.registry());
    let (present, revision) = match orchestrator.policy(&args.model).await {
        Ok((policy, revision)) => (Some(policy), revision),
        Err(error) if error.is_not_found() => (None, 0),
        Err(error) => return Err(error.into()),
    };
    let champion = Champion::of(&args.model, &registry).await?;
    let is_retrained_otherwise = args.names_a_training();
    let policy = args.applied_to(present, champion.as_ref())?;
    let dataset = registry.dataset(&policy.dataset, None).await.context("--dataset")?;
    dataset::check_columns(&policy, &dataset)?;
    for cases in policy.gate.checks.iter().filter_map(GateCheck::dataset) {
        registry.dataset(&cases.name, cases.version).await.context("--gate-checks")?;
    }
    let set = orchestrator.set_policy(&policy, revision).await?;
    let difference =
        champion.as_ref().filter(|_| is_retrained_otherwise).and_then(|champion| champion.difference(&set.0));
    if let Some(difference) = difference {
        eprintln!("note: {difference}");
    }
    if champion.is_none() {
        let model = &set.0.model;
        eprintln!(
            "note: {model} has no champion yet: train it with --model {model}, then promote and deploy a version"
        );
    }
    if let Some(warning) = dataset::too_few_rows(&set.0, &dataset) {
        eprintln!("warning: {warning}");
    }
    Ok(set)
}

impl Set {
    /// Whether the flags say what to train.
    fn names_a_training(&self) -> bool {
        let is_given = [self.file.is_some(), self.dataset.is_some(), self.target.is_some(), self.recipe.is_some()];
        is_given.contains(&true) || !self.ignore.is_empty()
    }

    /// The policy of the file, else the present one, else that of the champion's training with the defaults, with the settings of the
    /// flags. Reports every violation.
    fn applied_to(self, present: Option<Policy>, champion: Option<&Champion>) -> Result<Policy> {
        let recipe = RecipeArgs::of(self.target.clone(), self.recipe.clone(), self.ignore.clone());
        let mut policy = match (&self.file, present) {
            (Some(path), _) => self.read_file(path)?,
            (None, Some(present)) => present,
            (None, None) => self.first(&recipe, champion)?,
        };
        policy.recipe = recipe.recipe(Some(policy.recipe))?;
        self.search.change(&mut policy.search)?;
        self.external.change(&mut policy.external)?;
        self.triggers.change(&mut policy)?;
        self.change_watch(&mut policy);
        self.change_gate(&mut policy.gate);
        self.rollout.change(&mut policy.rollout);
        replace(&mut policy.dataset, self.dataset);
        replace(&mut policy.holdout_share, self.holdout);
        replace(&mut policy.min_new_rows, self.min_new_rows);
        replace(&mut policy.refit, self.refit);
        replace(&mut policy.require_approval, self.require_approval);
        replace(&mut policy.deadline, self.deadline);
        policy.validate().map_err(flag::violations)?;
        Ok(policy)
    }

    /// The first policy of a model.
    fn first(&self, recipe: &RecipeArgs, champion: Option<&Champion>) -> Result<Policy> {
        let mut checks = Checks::new();
        let dataset = self.dataset.clone().or_else(|| champion?.dataset.clone());
        if dataset.is_none() {
            let problem = "is missing, and no training of a champion names it: specify the base dataset for retraining";
            checks.violation("--dataset", problem);
        }
        let base = champion.and_then(|champion| champion.recipe.clone());
        if self.target.is_none() && self.recipe.is_none() && base.is_none() {
            checks.violation(
                "--target",
                "is missing, and no training of a champion names it: specify the column to predict",
            );
        }
        checks.finish()?;
        let policy = Policy::new(self.model.clone(), dataset.context("checked above")?, recipe.recipe(base)?);
        Ok(Policy { triggers: BTreeSet::from([Trigger::Drift, Trigger::Degradation]), ..policy })
    }

    /// The policy of a file. It may omit what flags specify.
    fn read_file(&self, path: &std::path::Path) -> Result<Policy> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut json: Value =
            serde_json::from_slice(&text).with_context(|| format!("{}: invalid JSON", path.display()))?;
        if json.is_object() {
            json["model"] = json!(self.model);
            if let Some(dataset) = &self.dataset {
                json["dataset"] = json!(dataset);
            }
            if let (Some(target), Value::Object(_) | Value::Null) = (&self.target, &json["recipe"]) {
                json["recipe"]["target"] = json!(target);
            }
        }
        let read = wire::policy::from_json(json.to_string().as_bytes());
        Ok(read.with_context(|| path.display().to_string())?.0)
    }

    fn change_watch(&self, policy: &mut Policy) {
        let mut settings = policy.watch.clone().unwrap_or_default();
        replace(&mut settings.window, self.window);
        replace(&mut settings.lateness, self.lateness);
        replace(&mut settings.label_wait, self.label_wait);
        replace(&mut settings.min_rows, self.min_rows);
        replace(&mut settings.drift_margin, self.drift_margin);
        replace(&mut settings.degradation_margin, self.degradation_margin);
        self.columns.iter().for_each(|change| change.apply(&mut settings.columns, &self.by, &self.why));
        slice::apply(&self.slices, &mut settings.slices);
        self.alerts.iter().for_each(|change| change.apply(&mut settings.alerts));
        if let Some(alert_rule::SpanOrNone(timeout)) = self.feed_timeout {
            settings.feed_timeout = timeout;
        }
        if policy.watch.is_some() || settings != WatchSettings::default() {
            policy.watch = Some(settings);
        }
    }

    fn change_gate(&self, gate: &mut Gate) {
        replace(&mut gate.margin, self.gate_margin);
        replace(&mut gate.confidence, self.gate_confidence);
        if !self.gate_slices.is_empty() {
            gate.slices.clone_from(&self.gate_slices);
        }
        if !self.gate_checks.is_empty() {
            gate.checks = self.gate_checks.iter().filter_map(|check| check.0.clone()).collect();
        }
    }
}

/// A check of the gate, or none.
#[derive(Debug, Clone, PartialEq)]
struct CheckOrNone(Option<GateCheck>);

fn check_or_none(text: &str) -> Result<CheckOrNone, String> {
    if text == "none" { Ok(CheckOrNone(None)) } else { text.parse().map(|check| CheckOrNone(Some(check))) }
}

fn replace<T>(present: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *present = given;
    }
}

fn fields((policy, revision): &(Policy, u64)) -> Fields {
    let Recipe { target, ignore, model, .. } = &policy.recipe;
    let Gate { margin, confidence, min_rows, slices, checks } = &policy.gate;
    let span = |span: Duration| format_duration(span).to_string();
    let recipe = match &policy.external {
        Some(external) => external::words(external),
        None => format!("{}, at most {} epochs", model.kind(), model.optimizer().max_epochs),
    };
    let mut fields = vec![
        ("model", policy.model.to_string()),
        ("triggers", trigger::words(policy)),
        ("dataset", policy.dataset.to_string()),
        ("target", target.clone()),
        ("ignored columns", ignore.join(", ")),
        ("recipe", recipe),
        ("search", if policy.external.is_some() { String::new() } else { search::words(&policy.search) }),
    ];
    if let Some(watch) = &policy.watch {
        fields.extend([
            ("window", span(watch.window)),
            ("lateness", span(watch.lateness)),
            ("label wait", span(watch.label_wait)),
            ("drift margin", format!("psi {}", watch.drift_margin)),
            ("degradation margin", watch.degradation_margin.to_string()),
            ("feed timeout", watch.feed_timeout.map(span).unwrap_or_default()),
        ]);
        let rules = watch.columns.iter();
        fields.extend(rules.map(|(name, rule)| ("column", column_rule::text(name, rule))));
        fields.extend(watch.slices.iter().map(|slice| ("slice", slice.to_string())));
        let rules = watch.alerts.0.iter();
        fields.extend(
            rules.map(|(kind, rule)| ("alert", format!("{}={}", kind.name().to_lowercase(), alert_rule::text(rule)))),
        );
    }
    fields.extend([
        ("gate", format!("margin {margin}, confidence {confidence}, at least {min_rows} rows")),
        ("slices of the gate", slices.join(", ")),
        ("checks of the gate", checks.iter().map(GateCheck::to_string).collect::<Vec<_>>().join(", ")),
        ("holdout", policy.holdout_share.to_string()),
        ("minimum new rows", policy.min_new_rows.to_string()),
        ("quiet hours", trigger::quiet_words(policy)),
        ("cooldown", trigger::cooldown_words(policy)),
        ("trainings per day", format!("at most {}", policy.max_trainings_per_day)),
        ("refit", if policy.external.is_some() { String::new() } else { policy.refit.to_string() }),
        ("approval required", policy.require_approval.to_string()),
        ("deadline", span(policy.deadline)),
        ("rollout", rollout::words(&policy.rollout)),
        ("revision", revision.to_string()),
    ]);
    fields
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use rekindle_domain::{rollout::Strategy, validation::Violations};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn line(words: &[&str]) -> Result<Set, clap::Error> {
        Line::try_parse_from(["set", "m"].iter().chain(words)).map(|line| line.set)
    }

    fn present() -> Policy {
        let (model, dataset) = ("m".parse().expect("a name"), "flights".parse().expect("a name"));
        Policy::new(model, dataset, Recipe::for_target("late"))
    }

    fn violations(words: &[&str], present: Option<Policy>) -> Vec<String> {
        let error = line(words).expect("valid").applied_to(present, None).expect_err("violations");
        let violations = error.downcast::<Violations>().expect("violations");
        violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn settings_that_are_not_given_stay() {
        let watch = Some(WatchSettings { min_rows: 7, ..WatchSettings::default() });
        let args = line(&["--window", "7d", "--ignore", "id", "--on", "drift"]).expect("valid");
        let policy = args.applied_to(Some(Policy { watch, ..present() }), None).expect("a policy");
        let watch = policy.watch.expect("settings");
        assert_eq!((watch.min_rows, watch.window), (7, Duration::from_secs(7 * 86_400)));
        assert_eq!(policy.triggers, BTreeSet::from([Trigger::Drift]));
        assert_eq!((policy.recipe.target.as_str(), policy.recipe.ignore), ("late", vec!["id".to_owned()]));
        assert_eq!((policy.gate, policy.rollout), (Gate::default(), Strategy::default()));
    }

    #[test]
    fn checks_of_the_gate_are_replaced_and_removed() {
        let applied = |words: &[&str], policy| line(words).expect("valid").applied_to(Some(policy), None).expect("one");
        let both = ["--gate-checks", "monotonic_increasing:rooms,invariant:origin<=0.02"];
        let policy = applied(&both, present());
        let checks: Vec<_> = policy.gate.checks.iter().map(GateCheck::to_string).collect();
        assert_eq!(checks, ["monotonic_increasing:rooms", "invariant:origin<=0.02"]);
        assert_eq!(applied(&["--gate-checks", "none"], policy).gate.checks, []);
        assert!(line(&["--gate-checks", "fair"]).is_err());
    }

    #[test]
    fn monitoring_settings_that_are_not_given_are_left_to_the_monitor() {
        assert_eq!(
            line(&["--cooldown", "1d"]).expect("valid").applied_to(Some(present()), None).expect("valid").watch,
            None
        );
    }

    #[test]
    fn a_first_policy_requires_a_dataset_and_a_target() {
        assert_eq!(violations(&[], None), ["--dataset", "--target"]);
        let first =
            line(&["--dataset", "d", "--target", "late"]).expect("valid").applied_to(None, None).expect("a policy");
        assert_eq!(first.triggers, BTreeSet::from([Trigger::Drift, Trigger::Degradation]));
    }

    #[test]
    fn a_first_policy_takes_what_no_flag_gives_from_the_training_of_the_champion() {
        let recipe = Recipe { ignore: vec!["id".into()], seed: 7, ..Recipe::for_target("late") };
        let dataset = Some("flights".parse().expect("a name"));
        let champion = Champion { name: "m version 1".into(), dataset, recipe: Some(recipe.clone()) };
        let first = |words: &[&str]| line(words).expect("valid").applied_to(None, Some(&champion)).expect("a policy");
        let policy = first(&["--window", "7d"]);
        assert_eq!((policy.dataset.as_str(), &policy.recipe), ("flights", &recipe));
        let policy = first(&["--dataset", "d", "--ignore", "tips"]);
        let expected = Recipe { ignore: vec!["tips".into()], ..recipe };
        assert_eq!((policy.dataset.as_str(), policy.recipe), ("d", expected));
    }

    #[test]
    fn every_violation_is_reported_by_its_flag() {
        let words = ["--gate-confidence", "0.5", "--holdout", "2", "--drift-margin", "0", "--max-error-rate", "1.5"];
        let flags = ["--gate-confidence", "--holdout", "--max-error-rate", "--drift-margin"];
        assert_eq!(violations(&words, Some(present())), flags);
        assert_eq!(violations(&["--on", "none,drift"], Some(present())), ["--on"]);
    }

    #[test]
    fn values_of_another_type_are_invalid_usage() {
        for words in [["--holdout", "all"], ["--window", "soon"], ["--on", "often"]] {
            let kind = line(&words).expect_err(words[0]).kind();
            assert!(matches!(kind, ErrorKind::ValueValidation | ErrorKind::InvalidValue), "{words:?}: {kind}");
        }
    }

    #[test]
    fn a_file_is_completed_and_overridden_by_flags() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"gate": {"margin": 0.1}, "holdout_share": 0.5}"#).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let words = ["--file", path, "--dataset", "d", "--target", "late", "--holdout", "0.2"];
        let policy = line(&words).expect("valid").applied_to(None, None).expect("a policy");
        assert_eq!((policy.model.as_str(), policy.dataset.as_str()), ("m", "d"));
        assert_eq!((policy.gate.margin, policy.holdout_share), (0.1, 0.2));
        let printed = wire::policy::to_json(&policy, 3).to_string();
        std::fs::write(file.path(), printed).expect("written");
        assert_eq!(line(&["--file", path]).expect("valid").applied_to(None, None).expect("the same"), policy);
    }
}
