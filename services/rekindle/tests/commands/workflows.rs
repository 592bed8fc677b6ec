//! Retraining workflows: cancelled, declined and approved.

use rekindle_testkit::eventually;
use serde_json::Value;

use crate::world::World;

/// `workflows start`, `list`, `show`, `watch`, `pause`, `resume`, `cancel`, `reject`, `approve` and `ignored`, and `deployments metrics`.
pub(crate) async fn workflows(world: &World) {
    cancelled(world).await;
    declined(world).await;
    approved(world).await;
    let listed = world.text(&["workflows", "list", "--model", "tips"]);
    assert_eq!(listed.lines().count(), 4, "a header and three workflows: {listed}");
    for state in ["cancelled", "rejected", "succeeded"] {
        assert!(listed.contains(state), "{state}: {listed}");
    }
    let status = world.text(&["status"]);
    assert!(status.contains("tips: last window drift") && status.contains("tips: last workflow"), "{status}");
    assert_eq!(world.json(&["workflows", "list", "--limit", "1"])[0]["state"], "WORKFLOW_STATE_SUCCEEDED");
    eventually("Prometheus has the delivery metrics", async || {
        match world.metric(r#"rekindle_delivery_workflows{model="tips",state="succeeded"}"#) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    ignored_and_measured(world);
}

fn ignored_and_measured(world: &World) {
    assert_eq!(world.json(&["workflows", "ignored", "tips"]), serde_json::json!([]), "every one was started by a call");
    assert!(world.text(&["workflows", "ignored", "tips"]).contains("EXPLANATION"));
    assert!(world.error(4, &["workflows", "ignored", "nothing"]).contains("nothing"));
    let metrics = world.json(&["deployments", "metrics", "tips"]);
    let count =
        |state: &str| metrics["workflows"].as_array().expect("counts").iter().any(|count| count["state"] == state);
    assert!(count("WORKFLOW_STATE_SUCCEEDED") && count("WORKFLOW_STATE_REJECTED"), "{metrics}");
    assert!(metrics["lead_time"]["count"].as_str().is_some_and(|count| count != "0"), "{metrics}");
    let text = world.text(&["deployments", "metrics"]);
    assert!(text.contains("change failure rate: ") && text.contains("lead time of retraining: "), "{text}");
    let reversed = ["deployments", "metrics", "--from", "2026-01-02", "--until", "2026-01-01"];
    assert!(world.error(1, &reversed).contains("expected a time before until"));
}

fn id(workflow: &Value) -> String {
    workflow["id"].as_str().expect("an id").to_owned()
}

/// Waits until the challenger awaits approval.
async fn awaiting_approval(world: &World, id: &str) {
    eventually("the workflow awaits approval", async || {
        let workflow = world.json(&["workflows", "show", id]);
        match workflow["state"].as_str() {
            Some("WORKFLOW_STATE_AWAITING_APPROVAL") => Ok(()),
            Some(state) if workflow["ended_at"].is_string() => panic!("it is {state}: {}", workflow["reason"]),
            state => Err(format!("{state:?}")),
        }
    })
    .await;
}

async fn cancelled(world: &World) {
    let id = id(&world.json(&["workflows", "start", "tips", "--why", "monthly", "--by", "alice"]));
    let paused = world.json(&["workflows", "pause", &id, "--why", "maintenance"]);
    assert_eq!(paused["paused"], true);
    assert!(world.text(&["workflows", "pause", &id]).contains("(paused)"), "pausing again has no effect");
    assert!(!world.text(&["workflows", "resume", &id]).contains("(paused)"));
    assert_eq!(world.json(&["workflows", "resume", &id])["paused"], false);
    awaiting_approval(world, &id).await;
    assert!(world.text(&["workflows", "cancel", &id, "--why", "superseded"]).contains(&id));
    let watched = world.run(&["workflows", "watch", &id]);
    let has_ended = watched.out.lines().last().is_some_and(|line| line.contains("cancelled"));
    assert!(watched.code == 3 && has_ended, "it did not succeed: {watched:?}");
    assert_eq!(world.json(&["workflows", "cancel", &id])["state"], "WORKFLOW_STATE_CANCELLED", "no further effect");
}

async fn declined(world: &World) {
    let started = world.text(&["workflows", "start", "tips", "--why", "weekly"]);
    let id = started.lines().next().and_then(|line| line.split_whitespace().last()).expect("an id").to_owned();
    awaiting_approval(world, &id).await;
    let reject = ["workflows", "reject", &id, "--by", "bob", "--why", "not now"];
    assert!(world.text(&reject).contains(&id));
    let last = world.last_json_line(3, &["workflows", "watch", &id]);
    assert_eq!(last["state"], "WORKFLOW_STATE_REJECTED");
    assert_eq!(last["reason"], "declined by bob: not now");
    assert_eq!(world.json(&reject)["state"], last["state"], "the same decision has no further effect");
    let other = world.error(1, &["workflows", "approve", &id, "--by", "alice"]);
    assert!(other.contains("bob has already decided: not now"), "{other}");
}

async fn approved(world: &World) {
    let id = id(&world.json(&["workflows", "start", "tips"]));
    awaiting_approval(world, &id).await;
    let short = &id[..18];
    assert!(world.text(&["workflows", "show", short]).contains("awaiting approval"));
    assert_eq!(world.json(&["workflows", "approve", short, "--by", "carol"])["id"], id.as_str());
    let watched = world.text(&["workflows", "watch", &id]);
    assert!(watched.lines().last().is_some_and(|line| line.contains("succeeded")), "{watched}");
    let shown = world.json(&["workflows", "show", &id]);
    assert!(shown["to_version"].as_u64() > Some(2) && shown["evaluation_digest"].is_string(), "{shown}");
    assert!(world.text(&["models", "show", "tips", "champion"]).contains("approved by carol"));
    assert!(world.text(&["workflows", "approve", &id, "--by", "carol"]).contains("succeeded"), "no further effect");
    let version = shown["to_version"].to_string();
    let evaluated = world.text(&["models", "evaluation", "tips", &version]);
    assert!(evaluated.contains("passed") && evaluated.contains("improvement"), "{evaluated}");
    assert_eq!(world.json(&["models", "evaluation", "tips", &version])["pass"], true);
}
