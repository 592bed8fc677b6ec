//! `rekindle deployments` and `rekindle traffic`: which versions get which requests, and how a shadow version compares.

mod delivery;

use anyhow::Result;
use clap::Subcommand;
use rekindle_client::{orchestrator::TrafficRequest, wire};
use rekindle_domain::{
    ModelName, ReplicaState, ShadowComparison, deployment_status::DeploymentStatus, routes::TOTAL_WEIGHT,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Global, deploy,
    output::{self, Fields, optional, when, words},
    page::Limit,
    parse,
    reason::Reason,
};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List deployments
    List,
    /// Show a deployment, its traffic, and how its shadow version compares
    Show {
        /// Model name
        model: ModelName,
    },
    /// Show how fast and how well changes reach production: the DORA metrics, and those of the retraining loop
    Metrics(delivery::Args),
}

/// Runs a subcommand.
pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    match command {
        Command::List => list(global).await,
        Command::Show { model } => show(&model, global).await,
        Command::Metrics(args) => delivery::run(args, global).await,
    }
}

async fn list(global: &Global) -> Result<()> {
    let orchestrator = global.platform()?.orchestrator();
    let deployments = Limit::NONE.fetch(async |page| orchestrator.deployments(page).await).await?;
    let header = ["model", "phase", "stable", "target", "traffic", "shadow", "changed"];
    global.format().list(&deployments, wire::deployment::to_json, &header, |deployment| {
        vec![
            deployment.model.to_string(),
            words(deployment.phase.name()),
            deployment.stable.version.to_string(),
            optional(deployment.target.map(|target| target.version)),
            traffic(deployment),
            optional(deployment.shadow.map(|shadow| shadow.version)),
            when(deployment.changed_at),
        ]
    });
    Ok(())
}

async fn show(model: &ModelName, global: &Global) -> Result<()> {
    let platform = global.platform()?;
    let deployment = platform.orchestrator().deployment(model).await?;
    let comparison = combined(&platform.replica_states().await?, &deployment);
    if global.json {
        let deployment = wire::deployment::to_json(&deployment);
        output::print_json(&json!({ "deployment": deployment, "shadow_comparison": comparison }));
        return Ok(());
    }
    output::print_fields(&deploy::fields(&deployment));
    if let Some(comparison) = comparison {
        output::emit("");
        output::print_fields(&compared(&comparison));
    }
    Ok(())
}

/// The share of each version in the requests that name none, e.g. `90 % version 1, 10 % version 2`.
pub(crate) fn traffic(deployment: &DeploymentStatus) -> String {
    let taken: u32 = deployment.weighted.iter().map(|route| route.weight).sum();
    let rest = (deployment.stable.version, TOTAL_WEIGHT.saturating_sub(taken));
    let routes =
        [rest].into_iter().chain(deployment.weighted.iter().map(|route| (route.version.version, route.weight)));
    let share = |(version, weight): (u32, u32)| format!("{} % version {version}", f64::from(weight) / 100.0);
    routes.map(share).collect::<Vec<_>>().join(", ")
}

/// The comparisons of all replicas with the deployment's shadow version, together.
fn combined(replicas: &[ReplicaState], deployment: &DeploymentStatus) -> Option<ShadowComparison> {
    let version = deployment.shadow?.version;
    let served = replicas.iter().filter_map(|replica| replica.models.get(&deployment.model)?.shadow);
    let mut sum = ShadowComparison { version, ..ShadowComparison::default() };
    for one in served.filter(|comparison| comparison.version == version) {
        let mean = |mean: f64, weight: u64, other: f64, of: u64| match weight + of {
            0 => 0.0,
            total => (mean * weight as f64 + other * of as f64) / total as f64,
        };
        sum.mean_difference = mean(sum.mean_difference, sum.rows, one.mean_difference, one.rows);
        sum.primary_micros = mean(sum.primary_micros, sum.requests, one.primary_micros, one.requests);
        sum.shadow_micros = mean(sum.shadow_micros, sum.requests, one.shadow_micros, one.requests);
        sum.max_difference = sum.max_difference.max(one.max_difference);
        sum.requests += one.requests;
        sum.rows += one.rows;
        sum.identical += one.identical;
        sum.disagreeing += one.disagreeing;
        sum.skipped += one.skipped;
        sum.failed += one.failed;
    }
    Some(sum)
}

fn compared(comparison: &ShadowComparison) -> Fields {
    let of_rows = |rows: u64| match comparison.rows {
        0 => rows.to_string(),
        all => format!("{rows} ({:.2} %)", 100.0 * rows as f64 / all as f64),
    };
    vec![
        ("shadow version", comparison.version.to_string()),
        ("compared requests", comparison.requests.to_string()),
        ("compared rows", comparison.rows.to_string()),
        ("equal to the bit", of_rows(comparison.identical)),
        ("another class", of_rows(comparison.disagreeing)),
        ("difference", format!("{:.3e} mean, {:.3e} max", comparison.mean_difference, comparison.max_difference)),
        ("time", format!("{:.0} us primary, {:.0} us shadow", comparison.primary_micros, comparison.shadow_micros)),
        ("not compared", format!("{} rows skipped, {} failed", comparison.skipped, comparison.failed)),
    ]
}

/// The versions that get requests beside the stable one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The stable version answers what the canaries leave. A request with the parameter routing_key, or else with an entity key, is answered by the
same version as long as the shares stay. A shadow version gets a copy of the requests that the stable version answers; its answers are
compared and never returned: `rekindle deployments show`. What is not given is removed.

Examples:
  rekindle traffic flight-delay --canary 3=10%
  rekindle traffic flight-delay --shadow 4
  rekindle traffic flight-delay")]
pub(crate) struct Traffic {
    /// Model name
    model: ModelName,
    /// A version and its share of the requests, e.g. 3=10%; repeatable
    #[arg(long, value_name = "N=SHARE", value_parser = canary)]
    canary: Vec<(u32, u32)>,
    /// The version that gets a copy of the requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    shadow: Option<u32>,
    /// Expected revision of the deployment; the command fails if it differs
    #[arg(long, value_name = "N", value_parser = parse::whole::<u64>)]
    expected_revision: Option<u64>,
    #[command(flatten)]
    reason: Reason,
}

/// Sets the traffic.
pub(crate) async fn set_traffic(args: Traffic, global: &Global) -> Result<()> {
    let orchestrator = global.platform()?.called_by(args.reason.by).orchestrator();
    let request = TrafficRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        model: args.model,
        weighted: args.canary,
        shadow: args.shadow,
        expected_revision: args.expected_revision,
        why: args.reason.why,
    };
    let deployment = orchestrator.set_traffic(&request).await?;
    global.format().one(&deployment, wire::deployment::to_json, deploy::fields);
    Ok(())
}

/// `VERSION=SHARE`, the share in percent with at most two decimals.
fn canary(text: &str) -> Result<(u32, u32), String> {
    let expected = || "expected a version and its share, e.g. 3=10%".to_owned();
    let (version, share) = text.split_once('=').ok_or_else(expected)?;
    let version: u32 = version.parse().map_err(|_| expected())?;
    Ok((version, weight(share).ok_or_else(expected)??))
}

/// A share in percent with at most two decimals, as a weight; `None` if it is no number.
pub(crate) fn weight(share: &str) -> Option<Result<u32, String>> {
    let percent: f64 = share.trim_end_matches('%').trim().parse().ok()?;
    let weight = percent * f64::from(TOTAL_WEIGHT) / 100.0;
    if !(1.0..f64::from(TOTAL_WEIGHT)).contains(&weight) || (weight - weight.round()).abs() > 1e-6 {
        return Some(Err(format!("{share} is no share of 0.01% to 99.99% with at most two decimals")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 1 to 9999")]
    Some(Ok(weight.round() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_with_at_most_two_decimals() {
        assert_eq!(canary("3=10%"), Ok((3, 1_000)));
        assert_eq!(canary("3=0.07"), Ok((3, 7)));
        assert_eq!(canary("12=99.99%"), Ok((12, 9_999)));
        for wrong in ["3", "3=", "x=10%", "3=0%", "3=100%", "3=0.001%", "3=-1", "3=NaN", "3=inf"] {
            assert!(canary(wrong).is_err(), "{wrong}");
        }
    }
}
