//! Deployments and their versions.

use rekindle_domain::{
    VersionRef,
    deployment_status::{DeploymentPhase, DeploymentStatus, RolloutOutcome},
    routes::WeightedVersion,
    validation::Violations,
};
use rekindle_proto::{json, orchestrator as wire};
use serde_json::Value;

use super::{
    field::{each, enumeration, nested, nested_optional, parse, parse_all, required_time},
    time,
};

/// A deployment as a message.
pub fn to_wire(deployment: &DeploymentStatus) -> wire::Deployment {
    wire::Deployment {
        model: deployment.model.to_string(),
        generation: deployment.generation,
        phase: phase_to_wire(deployment.phase).into(),
        stable: Some(version_to_wire(deployment.stable)),
        target: deployment.target.map(version_to_wire),
        moved: deployment.moved.iter().map(ToString::to_string).collect(),
        reason: deployment.reason.clone(),
        revision: deployment.revision,
        changed_at: Some(time::to_wire(deployment.changed_at)),
        outcome: deployment.outcome.map_or(wire::RolloutOutcome::Unspecified, outcome_to_wire).into(),
        weighted: deployment.weighted.iter().map(weighted_to_wire).collect(),
        shadow: deployment.shadow.map(version_to_wire),
        canary_step: deployment.canary_step.unwrap_or_default(),
    }
}

/// The deployment in proto3 JSON.
pub fn to_json(deployment: &DeploymentStatus) -> Value {
    json::to_value(&to_wire(deployment))
}

/// The deployment that a message holds.
pub fn from_wire(given: wire::Deployment) -> Result<DeploymentStatus, Violations> {
    Ok(DeploymentStatus {
        model: parse("model", &given.model)?,
        generation: given.generation,
        phase: phase_from_wire("phase", given.phase)?,
        stable: nested("stable", given.stable, version_from_wire)?,
        target: nested_optional("target", given.target, version_from_wire)?,
        moved: parse_all("moved", &given.moved)?,
        reason: given.reason,
        revision: given.revision,
        changed_at: required_time("changed_at", given.changed_at)?,
        outcome: outcome_from_wire(given.outcome)?,
        weighted: each("weighted", given.weighted, weighted_from_wire)?,
        shadow: nested_optional("shadow", given.shadow, version_from_wire)?,
        canary_step: Some(given.canary_step).filter(|&step| step > 0),
    })
}

fn weighted_to_wire(weighted: &WeightedVersion) -> wire::WeightedVersion {
    wire::WeightedVersion { version: Some(version_to_wire(weighted.version)), weight: weighted.weight }
}

fn weighted_from_wire(given: wire::WeightedVersion) -> Result<WeightedVersion, Violations> {
    let version = nested("version", given.version, version_from_wire)?;
    Ok(WeightedVersion { version, weight: given.weight })
}

/// A version as a message.
pub fn version_to_wire(version: VersionRef) -> wire::DeployedVersion {
    wire::DeployedVersion { version: version.version, bundle_digest: version.bundle.to_string() }
}

/// The version that a message holds.
pub fn version_from_wire(given: wire::DeployedVersion) -> Result<VersionRef, Violations> {
    Ok(VersionRef { version: given.version, bundle: parse("bundle_digest", &given.bundle_digest)? })
}

/// A phase as its enumeration.
pub fn phase_to_wire(phase: DeploymentPhase) -> wire::DeploymentPhase {
    match phase {
        DeploymentPhase::Stable => wire::DeploymentPhase::Stable,
        DeploymentPhase::RollingOut => wire::DeploymentPhase::RollingOut,
        DeploymentPhase::Observing => wire::DeploymentPhase::Observing,
        DeploymentPhase::Returning => wire::DeploymentPhase::Returning,
    }
}

/// The phase that a field holds.
pub fn phase_from_wire(field: &str, given: i32) -> Result<DeploymentPhase, Violations> {
    enumeration(field, given, "DEPLOYMENT_PHASE_STABLE, _ROLLING_OUT, _OBSERVING, _RETURNING", |phase| match phase {
        wire::DeploymentPhase::Unspecified => None,
        wire::DeploymentPhase::Stable => Some(DeploymentPhase::Stable),
        wire::DeploymentPhase::RollingOut => Some(DeploymentPhase::RollingOut),
        wire::DeploymentPhase::Observing => Some(DeploymentPhase::Observing),
        wire::DeploymentPhase::Returning => Some(DeploymentPhase::Returning),
    })
}

/// The end of a rollout as its enumeration.
pub(super) fn outcome_to_wire(outcome: RolloutOutcome) -> wire::RolloutOutcome {
    match outcome {
        RolloutOutcome::Completed => wire::RolloutOutcome::Completed,
        RolloutOutcome::Returned => wire::RolloutOutcome::Returned,
        RolloutOutcome::Failed => wire::RolloutOutcome::Failed,
    }
}

/// How a rollout ended, as a field holds it.
pub(super) fn outcome_from_wire(given: i32) -> Result<Option<RolloutOutcome>, Violations> {
    let expected = "ROLLOUT_OUTCOME_COMPLETED, _RETURNED, _FAILED or unspecified";
    enumeration("outcome", given, expected, |outcome| {
        Some(match outcome {
            wire::RolloutOutcome::Unspecified => None,
            wire::RolloutOutcome::Completed => Some(RolloutOutcome::Completed),
            wire::RolloutOutcome::Returned => Some(RolloutOutcome::Returned),
            wire::RolloutOutcome::Failed => Some(RolloutOutcome::Failed),
        })
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekindle_domain::Digest;

    use super::*;

    #[test]
    fn deployments_survive() {
        let version = |version| VersionRef { version, bundle: Digest::of(&[1]) };
        let phases = [
            DeploymentPhase::Stable,
            DeploymentPhase::RollingOut,
            DeploymentPhase::Observing,
            DeploymentPhase::Returning,
        ];
        let outcomes =
            [None, Some(RolloutOutcome::Completed), Some(RolloutOutcome::Returned), Some(RolloutOutcome::Failed)];
        for (phase, outcome) in phases.into_iter().zip(outcomes) {
            let deployment = DeploymentStatus {
                model: "m".parse().expect("a name"),
                generation: 4,
                phase,
                stable: version(1),
                weighted: vec![WeightedVersion { version: version(3), weight: 100 }],
                shadow: Some(version(4)),
                target: Some(version(2)),
                canary_step: Some(2),
                moved: vec!["replica-1".parse().expect("a name")],
                reason: "rolling out".into(),
                revision: 9,
                changed_at: DateTime::UNIX_EPOCH,
                outcome,
            };
            assert_eq!(to_json(&deployment)["stable"]["version"], 1);
            assert_eq!(from_wire(to_wire(&deployment)), Ok(deployment));
        }
    }
}
