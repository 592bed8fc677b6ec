//! What the replicas serve, compared with what the deployments require.

use rekindle_domain::{
    ModelName, Namespace, ReplicaState, ServedModel, VersionRef, deployment_status::DeploymentStatus,
};

/// One sentence for each model of each replica that is not as its deployment requires, and for each model that is served in `namespace`
/// without a deployment. During a rollout some are to be expected.
pub(super) fn differences(
    deployments: &[DeploymentStatus],
    replicas: &[ReplicaState],
    namespace: &Namespace,
) -> Vec<String> {
    let required =
        deployments.iter().flat_map(|deployment| replicas.iter().filter_map(|replica| of(deployment, replica)));
    let is_deployed = |model: &ModelName| deployments.iter().any(|deployment| deployment.model == *model);
    let undeployed = replicas.iter().flat_map(|replica| {
        let models = replica.models.keys().filter(|model| is_within(model, namespace) && !is_deployed(model));
        models.map(|model| format!("replica {} serves {model}, which is not deployed", replica.replica))
    });
    required.chain(undeployed).collect()
}

fn of(deployment: &DeploymentStatus, replica: &ReplicaState) -> Option<String> {
    let (model, name) = (&deployment.model, &replica.replica);
    let moved = deployment.target.filter(|_| deployment.moved.contains(name));
    let required = moved.unwrap_or(deployment.stable);
    let served = replica.models.get(model);
    let serving = served.and_then(ServedModel::serving);
    if serving != Some(required) {
        let is = serving.map_or_else(|| "no version".to_owned(), |serving| version(serving, required));
        return Some(format!("replica {name} serves {is} of {model}: expected version {}", required.version));
    }
    let (reached, expected) = (served.map_or(0, |served| served.generation), deployment.generation);
    let message = || format!("replica {name} has reached generation {reached} of {model}: expected {expected}");
    (reached != expected).then(message)
}

fn version(serving: VersionRef, required: VersionRef) -> String {
    if serving.version == required.version {
        format!("another bundle, {}, as version {}", serving.bundle, serving.version)
    } else {
        format!("version {}", serving.version)
    }
}

fn is_within(model: &ModelName, namespace: &Namespace) -> bool {
    let name = model.as_str();
    namespace.qualify(name.rsplit('.').next().unwrap_or(name)) == name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use rekindle_domain::{Digest, ServedVersion, deployment_status::DeploymentPhase};

    use super::*;

    fn version(number: u32) -> VersionRef {
        VersionRef { version: number, bundle: Digest::of(&number.to_le_bytes()) }
    }

    fn name(text: &str) -> ModelName {
        text.parse().expect("a name")
    }

    fn deployment() -> DeploymentStatus {
        DeploymentStatus {
            model: name("tips"),
            generation: 7,
            phase: DeploymentPhase::RollingOut,
            stable: version(1),
            weighted: Vec::new(),
            shadow: None,
            target: Some(version(2)),
            canary_step: None,
            moved: vec!["replica-1".parse().expect("a name")],
            reason: String::new(),
            revision: 3,
            changed_at: DateTime::UNIX_EPOCH,
            outcome: None,
        }
    }

    fn replica(id: &str, model: &str, generation: u64, serving: VersionRef) -> ReplicaState {
        let loaded =
            ServedVersion { bundle: serving.bundle, answered: 0, failed: 0, in_flight: 0, p99_micros: 0, guarded: 0 };
        let served = ServedModel {
            primary: Some(serving.version),
            generation,
            versions: BTreeMap::from([(serving.version, loaded)]),
            ..ServedModel::default()
        };
        ReplicaState {
            replica: id.parse().expect("a name"),
            incarnation: uuid::Uuid::nil(),
            address: String::new(),
            reported_at: DateTime::UNIX_EPOCH,
            models: BTreeMap::from([(name(model), served)]),
        }
    }

    fn found(replica: ReplicaState) -> Vec<String> {
        differences(&[deployment()], &[replica], &Namespace::default())
    }

    #[test]
    fn a_replica_that_serves_what_its_deployment_requires_does_not_differ() {
        assert!(found(replica("replica-1", "tips", 7, version(2))).is_empty(), "updated");
        assert!(found(replica("replica-2", "tips", 7, version(1))).is_empty(), "not updated yet");
    }

    #[test]
    fn each_difference_is_named() {
        let says = |replica, expected: &[&str]| assert_eq!(found(replica), expected);
        says(
            replica("replica-1", "tips", 7, version(1)),
            &["replica replica-1 serves version 1 of tips: expected version 2"],
        );
        let other = VersionRef { bundle: Digest::of(b"other"), ..version(1) };
        let differs = found(replica("replica-2", "tips", 7, other));
        assert!(differs[0].starts_with("replica replica-2 serves another bundle, sha256:"), "{differs:?}");
        let reached = "replica replica-2 has reached generation 9 of tips: expected 7";
        says(replica("replica-2", "tips", 9, version(1)), &[reached]);
        let missing = "replica replica-2 serves no version of tips: expected version 1";
        let ghost = "replica replica-2 serves ghost, which is not deployed";
        says(replica("replica-2", "ghost", 1, version(1)), &[missing, ghost]);
        says(replica("replica-2", "team.ghost", 1, version(1)), &[missing]);
    }
}
