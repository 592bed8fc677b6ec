//! Upgrades of JSON records that earlier builds wrote.

use serde_json::{Map, Value, json};

/// Upgrades a record of `version` to the latest schema. It applies to policies and to workflows, which contain one.
pub(super) fn to_latest(version: u64, record: &mut Value) {
    if version < 2 {
        let policy = if record.get("policy").is_some() { record.get_mut("policy") } else { Some(record) };
        if let Some(Value::Object(policy)) = policy {
            triggers_of_v1(policy);
        }
    }
}

/// Version 1 had one boolean per trigger.
fn triggers_of_v1(policy: &mut Map<String, Value>) {
    let flags = [("on_drift", "DRIFT"), ("on_degradation", "DEGRADATION")];
    let removed = flags.map(|(field, trigger)| policy.remove(field).map(|on| (on == json!(true), trigger)));
    if removed.iter().any(Option::is_some) {
        let triggers: Vec<&str> = removed.into_iter().flatten().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        policy.insert("triggers".to_owned(), json!(triggers));
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{Policy, Trigger};

    use super::*;

    fn policy_v1() -> Value {
        json!({"model": "m", "dataset": "d", "on_drift": true, "on_degradation": false, "cooldown": "2days",
            "recipe": {"target": "late", "architecture": {"kind": "linear"}, "max_epochs": 3}})
    }

    #[test]
    fn flags_become_triggers_in_policies_and_in_workflows() {
        let mut policy = policy_v1();
        to_latest(1, &mut policy);
        let read: Policy = serde_json::from_value(policy.clone()).expect("the latest schema");
        assert_eq!(read.triggers.into_iter().collect::<Vec<_>>(), [Trigger::Drift]);
        assert_eq!(read.recipe.model.optimizer().max_epochs, 3);
        let mut workflow = json!({"state": "QUEUED", "policy": policy_v1()});
        to_latest(1, &mut workflow);
        assert_eq!(workflow, json!({"state": "QUEUED", "policy": policy}));
    }

    #[test]
    fn other_records_and_the_latest_schema_are_left_unchanged() {
        let mut deployment = json!({"deployment": {"model": "m"}, "revision": 3});
        let before = deployment.clone();
        to_latest(1, &mut deployment);
        assert_eq!(deployment, before);
        let mut latest = json!({"triggers": []});
        to_latest(2, &mut latest);
        assert_eq!(latest, json!({"triggers": []}));
    }
}
