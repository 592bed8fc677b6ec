//! `rekindle policy`: what keeps a model true.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use chrono::TimeDelta;
use clap::Subcommand;
use prost_types::Duration as Span;
use rekindle_domain::Recipe;
use rekindle_proto::{
    json,
    monitor::Watch,
    orchestrator::{GetPolicyRequest, Policy, RolloutStrategy, SetPolicyRequest},
    time::{span_from_wire, span_to_wire},
    trainer::Gate,
};
use tonic::Code;

use super::{Global, connection::Connection, output::Fields, parse, train::RecipeArgs};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set a model's policy, or change what is named of it
    #[command(after_help = "\
Whatever is not named stays as it is, or takes its default where there was no policy yet.

Examples:
  rekindle policy set flight-delay --dataset flights --target late --on drift,degradation --window 7d
  rekindle policy set flight-delay --cooldown 14d --require-approval true
  rekindle policy set flight-delay --file policy.json")]
    Set(Box<Set>),
    /// Show a model's policy
    Show {
        /// The model
        model: String,
    },
}

/// What the policy is to say.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// The model
    model: String,
    /// The whole policy as `policy show --json` prints it; flags override its values
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What starts a workflow: drift, degradation, both, or none
    #[arg(long, value_name = "WHAT,..", value_delimiter = ',')]
    on: Option<Vec<On>>,
    /// The dataset whose rows come before the captured ones
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// The column to predict
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// The recipe as JSON
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Columns that must not become features
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Length of a window, in event time
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    window: Option<Duration>,
    /// How far behind the latest row one may come and still be counted, in event time
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    lateness: Option<Duration>,
    /// How long after a window its outcomes are waited for, in event time
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    label_wait: Option<Duration>,
    /// Rows below which a window is answered 'cannot tell'
    #[arg(long, value_name = "N")]
    min_rows: Option<u64>,
    /// Smallest population stability index that matters
    #[arg(long, value_name = "PSI", value_parser = parse::positive)]
    drift_margin: Option<f64>,
    /// Smallest relative rise of the loss that matters
    #[arg(long, value_name = "SHARE", value_parser = parse::positive)]
    degradation_margin: Option<f64>,
    /// Share of the champion's loss by which the challenger's must be lower
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    gate_margin: Option<f64>,
    /// Confidence with which it must be
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    gate_confidence: Option<f64>,
    /// Columns on whose every value the challenger must not be worse
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    slices: Vec<String>,
    /// Share of the new rows kept for the gate
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    holdout: Option<f64>,
    /// New labelled rows below which nothing is trained
    #[arg(long, value_name = "N")]
    min_new_rows: Option<u64>,
    /// Event time between two triggers
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    cooldown: Option<Duration>,
    /// Whether somebody must approve before a rollout
    #[arg(long, value_name = "BOOL")]
    require_approval: Option<bool>,
    /// How long a workflow may take
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// How long each moved replica is watched before the next one moves
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    bake: Option<Duration>,
    /// How long all replicas are watched before the version is stable
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    observe: Option<Duration>,
    /// Share of requests that may fail inside a new version
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    max_error_rate: Option<f64>,
}

/// What may start a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum On {
    Drift,
    Degradation,
    None,
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let connection = global.connect()?;
    let policy = match command {
        Command::Set(args) => set(*args, &connection).await?,
        Command::Show { model } => connection.orchestrator().get_policy(GetPolicyRequest { model }).await?.into_inner(),
    };
    global.format().message(&policy, fields);
    Ok(())
}

async fn set(args: Set, connection: &Connection) -> Result<Policy> {
    let mut client = connection.orchestrator();
    let present = match client.get_policy(GetPolicyRequest { model: args.model.clone() }).await {
        Ok(policy) => policy.into_inner(),
        Err(status) if status.code() == Code::NotFound => {
            Policy { on_drift: true, on_degradation: true, ..Policy::default() }
        }
        Err(status) => return Err(status.into()),
    };
    let expected_revision = present.revision;
    let policy = merged(args, present)?;
    let request = SetPolicyRequest { policy: Some(policy), expected_revision };
    Ok(client.set_policy(request).await?.into_inner())
}

/// The policy that was there, or the file's, with what the flags say.
fn merged(args: Set, present: Policy) -> Result<Policy> {
    let mut policy = match &args.file {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            json::from_slice(&text).with_context(|| path.display().to_string())?
        }
        None => present,
    };
    policy.model.clone_from(&args.model);
    if let Some(on) = &args.on {
        if on.contains(&On::None) && on.len() > 1 {
            bail!("--on: none stands alone");
        }
        policy.on_drift = on.contains(&On::Drift);
        policy.on_degradation = on.contains(&On::Degradation);
    }
    policy.recipe_json = recipe(&args, &policy.recipe_json)?;
    policy.watch = watch(&args, policy.watch)?;
    policy.gate = gate(&args, policy.gate);
    policy.rollout = rollout(&args, policy.rollout)?;
    replace(&mut policy.dataset, args.dataset);
    replace(&mut policy.holdout_share, args.holdout);
    replace(&mut policy.min_new_rows, args.min_new_rows);
    replace(&mut policy.require_approval, args.require_approval);
    replace_span(&mut policy.cooldown, args.cooldown)?;
    replace_span(&mut policy.deadline, args.deadline)?;
    Ok(policy)
}

fn recipe(args: &Set, present: &str) -> Result<String> {
    let base: Option<Recipe> = match present {
        "" => None,
        json => Some(serde_json::from_str(json).context("the present policy's recipe cannot be read")?),
    };
    let flags = RecipeArgs::of(args.target.clone(), args.recipe.clone(), args.ignore.clone());
    Ok(serde_json::to_string(&flags.recipe(base)?)?)
}

fn watch(args: &Set, present: Option<Watch>) -> Result<Option<Watch>> {
    let mut watch = present.clone().unwrap_or_default();
    replace_span(&mut watch.window, args.window)?;
    replace_span(&mut watch.lateness, args.lateness)?;
    replace_span(&mut watch.label_wait, args.label_wait)?;
    replace(&mut watch.min_rows, args.min_rows);
    replace(&mut watch.drift_margin, args.drift_margin);
    replace(&mut watch.degradation_margin, args.degradation_margin);
    Ok(present.or_else(|| (watch != Watch::default()).then(Watch::default)).map(|_| watch))
}

fn gate(args: &Set, present: Option<Gate>) -> Option<Gate> {
    let mut gate = present.clone().unwrap_or_default();
    replace(&mut gate.margin, args.gate_margin);
    replace(&mut gate.confidence, args.gate_confidence);
    if !args.slices.is_empty() {
        gate.slices.clone_from(&args.slices);
    }
    present.or_else(|| (gate != Gate::default()).then(Gate::default)).map(|_| gate)
}

fn rollout(args: &Set, present: Option<RolloutStrategy>) -> Result<Option<RolloutStrategy>> {
    let mut rollout = present.unwrap_or_default();
    replace_span(&mut rollout.bake, args.bake)?;
    replace_span(&mut rollout.observe, args.observe)?;
    replace(&mut rollout.max_error_rate, args.max_error_rate);
    Ok((present.is_some() || rollout != RolloutStrategy::default()).then_some(rollout))
}

fn replace<T>(present: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *present = given;
    }
}

fn replace_span(present: &mut Option<Span>, given: Option<Duration>) -> Result<()> {
    if let Some(given) = given {
        *present = Some(span_to_wire(TimeDelta::from_std(given).context("the time is too long")?));
    }
    Ok(())
}

fn span(span: Option<Span>) -> String {
    let std = span.and_then(span_from_wire).and_then(|span| span.to_std().ok());
    std.map(|span| humantime::format_duration(span).to_string()).unwrap_or_default()
}

fn fields(policy: &Policy) -> Fields {
    let on = [("drift", policy.on_drift), ("degradation", policy.on_degradation)];
    let on: Vec<_> = on.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
    let watch = policy.watch.clone().unwrap_or_default();
    let gate = policy.gate.clone().unwrap_or_default();
    let rollout = policy.rollout.unwrap_or_default();
    vec![
        ("model", policy.model.clone()),
        ("starts on", if on.is_empty() { "nothing".into() } else { on.join(", ") }),
        ("dataset", policy.dataset.clone()),
        ("recipe", policy.recipe_json.clone()),
        ("window", span(watch.window)),
        ("lateness", span(watch.lateness)),
        ("label wait", span(watch.label_wait)),
        ("drift margin", format!("psi {}", watch.drift_margin)),
        ("degradation margin", watch.degradation_margin.to_string()),
        ("gate", format!("margin {}, confidence {}, at least {} rows", gate.margin, gate.confidence, gate.min_rows)),
        ("slices", gate.slices.join(", ")),
        ("holdout", policy.holdout_share.to_string()),
        ("minimum new rows", policy.min_new_rows.to_string()),
        ("cooldown", span(policy.cooldown)),
        ("needs approval", policy.require_approval.to_string()),
        ("deadline", span(policy.deadline)),
        ("rollout", format!("bake {}, observe {}", span(rollout.bake), span(rollout.observe))),
        ("revision", policy.revision.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn line(words: &[&str]) -> Result<Set, clap::Error> {
        Line::try_parse_from(["set", "m"].iter().chain(words)).map(|line| line.set)
    }

    #[test]
    fn what_is_not_named_stays() {
        let present = Policy {
            dataset: "flights".into(),
            recipe_json: serde_json::to_string(&Recipe::for_target("late")).expect("json"),
            watch: Some(Watch { min_rows: 7, ..Watch::default() }),
            revision: 3,
            ..Policy::default()
        };
        let args = line(&["--window", "7d", "--ignore", "id", "--on", "drift"]).expect("valid");
        let policy = merged(args, present).expect("a policy");
        let watch = policy.watch.expect("a watch");
        assert_eq!((watch.min_rows, watch.window.expect("set").seconds), (7, 7 * 86_400));
        assert_eq!((policy.dataset.as_str(), policy.on_drift, policy.on_degradation), ("flights", true, false));
        let recipe: Recipe = serde_json::from_str(&policy.recipe_json).expect("a recipe");
        assert_eq!((recipe.target.as_str(), recipe.ignore), ("late", vec!["id".to_owned()]));
        assert_eq!((policy.gate, policy.rollout), (None, None));
    }

    #[test]
    fn a_first_policy_needs_a_target() {
        let problem = merged(line(&[]).expect("valid"), Policy::default()).expect_err("no target");
        assert!(problem.to_string().contains("--target"), "{problem}");
    }

    #[test]
    fn numbers_out_of_range_are_wrong_usage() {
        for words in [["--holdout", "2"], ["--window", "soon"], ["--drift-margin", "0"], ["--on", "often"]] {
            let kind = line(&words).expect_err(words[0]).kind();
            assert!(matches!(kind, ErrorKind::ValueValidation | ErrorKind::InvalidValue), "{words:?}: {kind}");
        }
    }
}
