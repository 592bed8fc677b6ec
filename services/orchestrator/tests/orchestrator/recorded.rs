//! The filled database of release 0.1.0 is migrated and read, on SQLite and on PostgreSQL: policies in their former JSON, workflows in every
//! recorded state with their steps, deployments with the versions that were stable, and idempotency keys. Then records are changed, and
//! the reconcilers end the workflows that were active.

mod restored;

use std::{collections::BTreeSet, time::Duration};

use rekindle_client::{
    Error, PageRequest,
    orchestrator::{DeployRequest, WorkflowChange},
};
use rekindle_domain::{
    Gate, Policy, Recipe, Search, Task, Trigger, WatchSettings, WorkflowState,
    deployment_status::{DeploymentPhase, DeploymentStatus, RolloutOutcome},
    recipe::{Calibration, LinearRecipe, MlpRecipe, ModelRecipe, Optimizer, RowWeights},
    rollout::Strategy,
    workflow::{Decision, WorkflowStatus, WorkflowStep},
};
use tonic::Code;

use self::restored::{Restored, model, parsed, time, version, workflow_id};
use crate::world::World;

macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story(super::Restored::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story(super::Restored::on_postgres().await).await;
            })*
        }
    };
}

on_both!(
    policies_read_back,
    workflows_in_every_recorded_state_read_back,
    deployments_read_back,
    a_policy_is_set_over_its_recorded_revision,
    the_waiting_workflow_is_approved,
    the_paused_workflow_is_resumed,
    deployments_return_to_recorded_versions,
    recorded_keys_are_answered,
    reconcilers_end_the_active_workflows,
);

const LINEAR: &str = "sha256:c284b79ab6af260054adf12ec700c012dead89a8656876a00da7e14e1aad980d";
const CHAMPION: &str = "sha256:9c0b617d1d9574e890a408cb3da138cb471ebbee633c7dca347dace6c7b7da94";
const PASSED: &str = "the challenger is better: the mean loss falls by 1.8770 from 2.6181, with 90 % confidence by \
                      at least 1.6159";
const SUCCEEDED: &str = "01a21ff8-2ffe-713c-a6b2-27404d673c0a";
const TOO_FEW_ROWS: &str = "01a21ff8-3988-773b-9553-336e78b8a662";
const CANCELLED: &str = "01a21ff8-45d3-77bb-91bf-9720be24f676";
const AWAITING_APPROVAL: &str = "01a21ff8-5b6c-714a-a6a8-c901242ad9f5";
const PAUSED: &str = "01a21ff8-69e9-7026-b79a-1d98a34bac63";
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn policies_read_back(restored: Restored) {
    for (expected, revision) in [(late(), 7), (late_linear(), 1), (arrival(), 1)] {
        assert_eq!(restored.client.policy(&expected.model).await.expect("recorded"), (expected, revision));
    }
}

/// Both triggers, a network, and every field off its default.
fn late() -> Policy {
    let optimizer = Optimizer {
        max_epochs: 25,
        patience: 6,
        batch_size: 16,
        learning_rate: 0.01,
        weight_decay: 0.0005,
        averaging: 0.0,
    };
    Policy {
        model: model("late"),
        triggers: BTreeSet::from([Trigger::Drift, Trigger::Degradation]),
        dataset: parsed("flights"),
        recipe: Recipe {
            target: "late".to_owned(),
            task: None,
            ignore: vec!["arr_delay".to_owned()],
            validation_share: 0.25,
            lookback: None,
            weights: RowWeights::default(),
            calibration: Calibration::None,
            seed: 12,
            model: ModelRecipe::Mlp(MlpRecipe { hidden: vec![8, 4], dropout: 0.1, optimizer }),
        },
        external: None,
        search: Search::for_lookbacks(),
        gate: Gate {
            margin: 0.0,
            confidence: 0.9,
            min_rows: 40,
            slices: vec!["origin".to_owned()],
            checks: Vec::new(),
        },
        holdout_share: 0.4,
        rollout: Strategy {
            replica_deadline: Duration::from_secs(60),
            bake: Duration::from_millis(200),
            observe: Duration::from_millis(500),
            max_error_rate: 0.01,
            max_latency: None,
            max_guardrail_rate: None,
            canary: Vec::new(),
        },
        schedule: None,
        quiet_hours: None,
        cooldown: DAY,
        backoff_after: 2,
        max_trainings_per_day: 24,
        refit: true,
        require_approval: true,
        deadline: Duration::from_secs(1800),
        watch: Some(WatchSettings {
            window: DAY,
            window_offset: Duration::ZERO,
            lateness: Duration::from_secs(60),
            label_wait: Duration::from_secs(6 * 3600),
            min_rows: 40,
            drift_margin: 0.5,
            degradation_margin: 0.3,
            false_alarm_rate: 0.1,
            ..WatchSettings::default()
        }),
        min_new_rows: 60,
    }
}

/// The default of that release, which a stored policy keeps.
fn former_gate() -> Gate {
    Gate { confidence: 0.95, ..Gate::default() }
}

/// No trigger, no watch, and regression without hidden layers.
fn late_linear() -> Policy {
    let hour = Duration::from_secs(3600);
    let optimizer = Optimizer {
        max_epochs: 12,
        patience: 3,
        batch_size: 32,
        learning_rate: 0.02,
        weight_decay: 0.001,
        averaging: 0.0,
    };
    let recipe = Recipe {
        task: Some(Task::Binary),
        ignore: vec!["arr_delay".to_owned()],
        validation_share: 0.2,
        seed: 11,
        model: ModelRecipe::Linear(LinearRecipe { optimizer }),
        ..Recipe::for_target("late")
    };
    let rollout = Strategy { bake: hour, observe: 2 * hour, ..Strategy::default() };
    Policy { rollout, gate: former_gate(), ..Policy::new(model("late-linear"), parsed("flights"), recipe) }
}

/// One of the triggers.
fn arrival() -> Policy {
    let optimizer =
        Optimizer { max_epochs: 1000, patience: 1000, batch_size: 1, averaging: 0.0, ..Optimizer::default() };
    let recipe = Recipe {
        ignore: vec!["late".to_owned()],
        seed: 14,
        model: ModelRecipe::Mlp(MlpRecipe { hidden: vec![256, 256], dropout: 0.0, optimizer }),
        ..Recipe::for_target("arr_delay")
    };
    Policy {
        triggers: BTreeSet::from([Trigger::Degradation]),
        watch: Some(WatchSettings { window: 7 * DAY, ..WatchSettings::default() }),
        min_new_rows: 50,
        gate: former_gate(),
        ..Policy::new(model("arrival"), parsed("flights"), recipe)
    }
}

async fn workflows_in_every_recorded_state_read_back(restored: Restored) {
    let all = restored.client.workflows(None, PageRequest::default()).await.expect("a list").items;
    let states: Vec<(&str, WorkflowState, bool)> =
        all.iter().map(|workflow| (workflow.model.as_str(), workflow.state, workflow.paused)).collect();
    let expected = [
        ("arrival", WorkflowState::Training, true),
        ("late", WorkflowState::AwaitingApproval, false),
        ("late", WorkflowState::Rejected, false),
        ("late", WorkflowState::Cancelled, false),
        ("late", WorkflowState::Rejected, false),
        ("late", WorkflowState::Rejected, false),
        ("late", WorkflowState::Succeeded, false),
    ];
    assert_eq!(states, expected);
    assert_eq!(restored.workflow(SUCCEEDED).await, succeeded());
    assert_eq!(restored.workflow(AWAITING_APPROVAL).await, awaiting_approval());

    let rejected = restored.workflow(TOO_FEW_ROWS).await;
    assert_eq!(rejected.reason, "49 new labelled rows, the policy asks for 10000");
    assert_eq!((rejected.to_version, rejected.dataset_version.as_str(), rejected.train_run), (None, "", None));
    assert_eq!(
        all[2].reason,
        "the challenger is worse where origin is LGA: the mean loss falls by -1.7709 from 0.7337, with 90 % confidence by at least -2.3348"
    );
    let cancelled = restored.workflow(CANCELLED).await;
    assert_eq!(cancelled.reason, "cancelled by operator: not needed");
    assert_eq!(cancelled.steps.len(), 4);
    let paused = restored.workflow(PAUSED).await;
    assert_eq!((paused.reason.as_str(), paused.ended_at), ("paused by operator: until Monday", None));
    assert_eq!(paused.train_run, Some(parsed("7c4b0645-50c8-8aea-8b66-571c64195985")));
}

fn step(state: WorkflowState, entered_at: &str, reason: &str) -> WorkflowStep {
    WorkflowStep { state, entered_at: time(entered_at), reason: reason.to_owned() }
}

fn succeeded() -> WorkflowStatus {
    let cause = "drift in the window until 2026-01-18T00:00:00Z: dep_delay 52%, (prediction) 37%, origin 11%";
    WorkflowStatus {
        id: workflow_id(SUCCEEDED),
        model: model("late"),
        trigger: Trigger::Drift,
        cause: cause.to_owned(),
        state: WorkflowState::Succeeded,
        paused: false,
        reason: "version 3 is the champion".to_owned(),
        from_version: Some(1),
        to_version: Some(3),
        dataset_version: "flights/3".to_owned(),
        train_run: Some(parsed("06139719-50f1-8118-a04f-63fa634dc827")),
        evaluate_run: Some(parsed("355ebca9-c081-881c-942f-958a5b6cb78b")),
        refit_run: None,
        steps: vec![
            step(WorkflowState::Queued, "2026-11-28T02:24:48.641230Z", cause),
            step(WorkflowState::Assembling, "2026-11-28T02:24:48.644778Z", cause),
            step(
                WorkflowState::Training,
                "2026-11-28T02:24:48.669302Z",
                "406 new labelled rows make flights version 3",
            ),
            step(WorkflowState::Evaluating, "2026-11-28T02:24:48.767242Z", "version 3 is trained"),
            step(WorkflowState::RollingOut, "2026-11-28T02:24:48.806008Z", PASSED),
            step(WorkflowState::Observing, "2026-11-28T02:24:48.832656Z", "every replica serves version 3"),
            step(WorkflowState::Succeeded, "2026-11-28T02:24:49.362552Z", "version 3 is the champion"),
        ],
        window_closed_at: Some(time("2026-11-28T02:24:48.638400253Z")),
        queued_at: time("2026-11-28T02:24:48.641230Z"),
        serving_everywhere_at: Some(time("2026-11-28T02:24:48.830759Z")),
        ended_at: Some(time("2026-11-28T02:24:49.362552Z")),
        epoch: 12,
        evaluation: Some(parsed("sha256:f2a6a12070078ca4e4f4478fa6d6729ac166ed4e5c3b13cfc393314c3b795cec")),
    }
}

fn awaiting_approval() -> WorkflowStatus {
    let cause = "the relation has changed";
    let passed =
        "the challenger is better: the mean loss falls by 0.0866 from 0.7744, with 90 % confidence by at least 0.0523";
    WorkflowStatus {
        id: workflow_id(AWAITING_APPROVAL),
        model: model("late"),
        trigger: Trigger::Manual,
        cause: cause.to_owned(),
        state: WorkflowState::AwaitingApproval,
        paused: false,
        reason: passed.to_owned(),
        from_version: Some(3),
        to_version: Some(6),
        dataset_version: "flights/7".to_owned(),
        train_run: Some(parsed("67d712ec-fb2b-8ae4-a11d-b446f68dd2f7")),
        evaluate_run: Some(parsed("c8b85506-369c-8844-8ddc-613b5af7c29d")),
        refit_run: None,
        steps: vec![
            step(WorkflowState::Queued, "2026-11-28T02:24:59.756337Z", cause),
            step(WorkflowState::Assembling, "2026-11-28T02:24:59.764726Z", cause),
            step(
                WorkflowState::Training,
                "2026-11-28T02:24:59.841737Z",
                "499 new labelled rows make flights version 7",
            ),
            step(WorkflowState::Evaluating, "2026-11-28T02:25:00.021667Z", "version 6 is trained"),
            step(WorkflowState::AwaitingApproval, "2026-11-28T02:25:00.078703Z", passed),
        ],
        window_closed_at: None,
        queued_at: time("2026-11-28T02:24:59.756337Z"),
        serving_everywhere_at: None,
        ended_at: None,
        epoch: 10,
        evaluation: Some(parsed("sha256:5611e50206070ad56646a6bf619086ecab4006d107f29f4ce54f84f022b1b010")),
    }
}

async fn deployments_read_back(restored: Restored) {
    let deployments = restored.client.deployments(PageRequest::default()).await.expect("a list").items;
    let regression = "sha256:fd9e6a38509860e5e474e7a6aaa897554995b791eff0606b775a62352436dfd1";
    let arrival = DeploymentStatus {
        model: model("arrival"),
        generation: 1,
        phase: DeploymentPhase::Stable,
        stable: version(1, regression),
        weighted: Vec::new(),
        shadow: None,
        target: None,
        canary_step: None,
        moved: Vec::new(),
        reason: String::new(),
        revision: 4,
        changed_at: time("2026-11-28T02:24:47.449564Z"),
        outcome: Some(RolloutOutcome::Completed),
    };
    let late = DeploymentStatus {
        model: model("late"),
        generation: 10,
        stable: version(3, CHAMPION),
        reason: PASSED.to_owned(),
        revision: 22,
        changed_at: time("2026-11-28T02:24:49.341549Z"),
        ..arrival.clone()
    };
    let first = "sha256:cbf221a62c5251c6c7d7d286bd89a8e148d46aac693d7ca168f19c6ca3f3c09f";
    let second = "sha256:c8e47e373080bec442caf81188e14304da6f0c737514875988360cd4540d91bc";
    let observed = DeploymentStatus {
        model: model("late-linear"),
        generation: 3,
        phase: DeploymentPhase::Observing,
        stable: version(1, first),
        weighted: Vec::new(),
        shadow: None,
        target: Some(version(2, second)),
        canary_step: None,
        moved: vec![parsed("replica-1")],
        reason: "slowly".to_owned(),
        revision: 8,
        changed_at: time("2026-11-28T02:25:01.015153Z"),
        outcome: None,
    };
    assert_eq!(deployments, [arrival, late, observed]);
    assert_eq!(restored.client.deployment(&model("late")).await.expect("recorded"), deployments[1]);
}

async fn a_policy_is_set_over_its_recorded_revision(restored: Restored) {
    let next = Policy { min_new_rows: 61, triggers: BTreeSet::new(), ..late() };
    let stale = restored.client.set_policy(&next, 6).await.expect_err("revision 7 is recorded");
    assert_eq!((stale.code(), stale.metadata("actual")), (Code::Aborted, "7".to_owned()));
    assert_eq!(restored.client.set_policy(&next, 7).await.expect("set"), (next.clone(), 8));
    assert_eq!(restored.client.policy(&next.model).await.expect("set"), (next, 8));
}

async fn the_waiting_workflow_is_approved(restored: Restored) {
    let id = workflow_id(AWAITING_APPROVAL);
    let approved = restored.client.decide_workflow(id, Decision::Approve, "checked").await.expect("it waits");
    assert_eq!((approved.epoch, approved.state), (11, WorkflowState::AwaitingApproval));
    let refused = restored.client.decide_workflow(id, Decision::Decline, "no").await.expect_err("it is decided");
    assert_eq!((refused.reason().as_str(), refused.metadata("by")), ("ALREADY_DECIDED", "tester".to_owned()));
    assert_eq!(restored.workflow(AWAITING_APPROVAL).await, WorkflowStatus { epoch: 11, ..awaiting_approval() });
}

async fn the_paused_workflow_is_resumed(restored: Restored) {
    let before = restored.workflow(PAUSED).await;
    let id = workflow_id(PAUSED);
    let resumed = restored.client.change_workflow(id, WorkflowChange::Resume, "Monday").await.expect("it is paused");
    let expected = WorkflowStatus { epoch: 8, paused: false, reason: "resumed by tester: Monday".to_owned(), ..before };
    assert_eq!(resumed, expected);
    let ended = restored.client.change_workflow(workflow_id(CANCELLED), WorkflowChange::Pause, "").await;
    assert_eq!(ended.expect_err("it has ended").reason(), "WORKFLOW_ENDED");
}

async fn deployments_return_to_recorded_versions(restored: Restored) {
    // Version 2 was withdrawn: version 1 is the one before version 3.
    let late = restored.client.rollback(&model("late"), "worse", "back-late").await.expect("version 1 was stable");
    assert_eq!((late.revision, late.phase, late.generation), (23, DeploymentPhase::RollingOut, 11));
    assert_eq!((late.stable, late.target), (version(3, CHAMPION), Some(version(1, LINEAR))));
    let again = restored.client.rollback(&model("late"), "worse", "back-late").await.expect("the same request");
    assert_eq!(again, late);
    let observed = restored.client.rollback(&model("late-linear"), "", "back-linear").await.expect("it is observed");
    assert_eq!((observed.revision, observed.phase), (9, DeploymentPhase::Returning));
    assert_eq!((observed.target, observed.reason.as_str()), (None, "rolled back by tester"));
}

async fn recorded_keys_are_answered(restored: Restored) {
    let (client, late) = (&restored.client, model("late"));
    let key = "01a21ff8-3987-7153-9d55-31b5397af873";
    let started = client.start_workflow(&late, "too early", key).await.expect("the recorded workflow");
    assert_eq!(started, restored.workflow(TOO_FEW_ROWS).await);
    let deploy = DeployRequest {
        idempotency_key: "01a21ff8-25ff-754a-b2d1-95928ec69d08".to_owned(),
        model: late.clone(),
        version: Some(1),
        expected_revision: None,
        why: "first deployment".to_owned(),
    };
    // Requests of release 0.1.0 named their author, so that these are others.
    let others: [Error; 3] = [
        client.start_workflow(&late, "another reason", key).await.expect_err("another request"),
        client.deploy(&deploy).await.expect_err("another request"),
        client.rollback(&late, "back", "01a21ff8-28e0-70aa-93e2-f1537719e00b").await.expect_err("another request"),
    ];
    for error in others {
        assert_eq!((error.code(), error.reason().as_str()), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"), "{error}");
    }
}

/// The lease of the former release is taken over, and its active workflows end.
async fn reconcilers_end_the_active_workflows(restored: Restored) {
    let active = [AWAITING_APPROVAL, PAUSED].map(workflow_id);
    for id in active {
        restored.client.change_workflow(id, WorkflowChange::Cancel, "upgrade").await.expect("it is active");
    }
    restored.stop();
    let Restored { database, folder, postgres: _postgres, .. } = restored;
    let world = World::start_on(folder, &database).await;
    for id in active {
        let ended = world.reaches(id, WorkflowState::Cancelled).await;
        assert_eq!(ended.reason, "cancelled by tester: upgrade");
    }
    let cancelled: Vec<String> = world.peers.state().cancelled.iter().map(ToString::to_string).collect();
    assert_eq!(cancelled, ["7c4b0645-50c8-8aea-8b66-571c64195985"]);
}
