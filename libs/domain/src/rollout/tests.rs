use std::time::Duration;

use proptest::{
    prelude::{Just, prop},
    prop_assert, prop_assert_eq, prop_oneof, proptest,
    strategy::Strategy as _,
};
use uuid::Uuid;

use super::*;
use crate::{Digest, ReplicaState, ServedModel, ServedVersion, ShadowComparison};

fn version(number: u32) -> VersionRef {
    VersionRef { version: number, bundle: Digest::of(&number.to_le_bytes()) }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("in range")
}

fn name(number: usize) -> ReplicaId {
    format!("replica-{number}").parse().expect("name")
}

fn strategy() -> Strategy {
    Strategy { bake: Duration::from_secs(1), observe: Duration::from_secs(3), ..Strategy::default() }
}

fn settled(model: &str) -> Deployment {
    let first = Deployment::first(model.parse().expect("name"), version(1), "first".into(), at(0));
    first.apply(&Action::Complete, at(0))
}

/// A simulated replica: it serves whatever it is assigned, except a version that it refuses.
#[derive(Debug, Clone)]
struct Replica {
    id: ReplicaId,
    live: bool,
    refuses: Option<VersionRef>,
    served: ServedModel,
}

impl Replica {
    fn new(number: usize) -> Self {
        Self { id: name(number), live: true, refuses: None, served: ServedModel::default() }
    }

    fn carry_out(&mut self, routes: &Routes) {
        let assigned = routes.assignment(&self.id);
        if self.served.generation == assigned.generation {
            return;
        }
        self.served.generation = assigned.generation;
        if self.refuses == Some(assigned.version) {
            self.served.failure = Some("does not warm up".into());
            return;
        }
        self.served.failure = None;
        let others = routes.weighted.iter().map(|route| route.version).chain(routes.shadow);
        let others: Vec<VersionRef> = others.filter(|other| *other != assigned.version).collect();
        if others.iter().any(|other| self.refuses == Some(*other)) {
            self.served.failure = Some("does not warm up beside the stable version".into());
        }
        let loaded = [assigned.version].into_iter().chain(others).filter(|version| self.refuses != Some(*version));
        let load = |version: VersionRef| {
            let bundle = version.bundle;
            let fresh = ServedVersion { bundle, answered: 0, failed: 0, in_flight: 0, p99_micros: 0, guarded: 0 };
            (version.version, self.served.loaded(version).copied().unwrap_or(fresh))
        };
        self.served.versions = loaded.map(load).collect();
        self.served.primary = Some(assigned.version.version);
    }

    /// Counts requests of the version that it serves.
    fn count(&mut self, answered: u64, failed: u64) {
        for loaded in self.served.versions.values_mut() {
            loaded.answered += answered;
            loaded.failed += failed;
        }
    }

    fn state(&self, model: &ModelName) -> ReplicaState {
        ReplicaState {
            replica: self.id.clone(),
            incarnation: Uuid::nil(),
            address: "127.0.0.1:1".into(),
            reported_at: at(0),
            models: BTreeMap::from([(model.clone(), self.served.clone())]),
        }
    }
}

fn live(replicas: &[Replica], model: &ModelName) -> Vec<ReplicaState> {
    replicas.iter().filter(|replica| replica.live).map(|replica| replica.state(model)).collect()
}

/// Runs the planner with replicas that carry out every assignment at once, until it settles. Returns the record and the actions.
fn run(mut deployment: Deployment, replicas: &mut [Replica]) -> (Deployment, Vec<Action>) {
    let mut actions = Vec::new();
    for second in 0..500 {
        for replica in replicas.iter_mut().filter(|replica| replica.live) {
            replica.carry_out(&deployment.routes());
        }
        let action = plan(&deployment, &live(replicas, &deployment.model), at(second), &strategy());
        deployment = deployment.apply(&action, at(second));
        if action != Action::Wait {
            actions.push(action);
        }
        if deployment.movement == Movement::Settled {
            return (deployment, actions);
        }
    }
    panic!("did not settle: {deployment:?}");
}

#[test]
fn a_first_version_is_assigned_to_every_replica_at_once() {
    let first = Deployment::first("m".parse().expect("name"), version(1), "first".into(), at(0));
    assert_eq!(first.routes().rollout, None);
    assert_eq!(plan(&first, &[], at(900), &strategy()), Action::Wait);
    let (done, actions) = run(first, &mut [Replica::new(0), Replica::new(1)]);
    assert_eq!((done.outcome, actions), (Outcome::Completed, vec![Action::Complete]));
}

#[test]
fn a_first_version_is_complete_only_when_every_live_replica_serves_it() {
    let first = Deployment::first("m".parse().expect("name"), version(1), "first".into(), at(0));
    let mut replicas = [Replica::new(0), Replica::new(1)];
    replicas[0].carry_out(&first.routes());
    let action = plan(&first, &live(&replicas, &first.model), at(1), &strategy());
    assert_eq!(action, Action::Observe);
    let first = first.apply(&action, at(1));
    assert_eq!(plan(&first, &live(&replicas, &first.model), at(60), &strategy()), Action::Wait);
    replicas[1].carry_out(&first.routes());
    replicas[1].served.generation = 0;
    assert_eq!(
        plan(&first, &live(&replicas, &first.model), at(60), &strategy()),
        Action::Wait,
        "an earlier generation"
    );
    replicas[1].served.generation = first.generation;
    assert_eq!(plan(&first, &live(&replicas, &first.model), at(60), &strategy()), Action::Complete);
}

#[test]
fn a_first_version_that_is_refused_or_too_slow_fails_and_says_why() {
    let first = Deployment::first("m".parse().expect("name"), version(1), "first".into(), at(0));
    let mut replicas = [Replica::new(0), Replica::new(1)];
    replicas[1].refuses = Some(version(1));
    let (failed, _) = run(first.clone(), &mut replicas);
    assert_eq!((failed.outcome, failed.stable), (Outcome::Failed, version(1)));
    assert_eq!(failed.reason, "replica replica-1: does not warm up");

    let observed = first.apply(&Action::Observe, at(500));
    let slow = [Replica::new(0).state(&first.model)];
    assert_eq!(
        plan(&observed, &slow, at(559), &strategy()),
        Action::Wait,
        "the deadline counts from the first live replica"
    );
    assert!(matches!(plan(&observed, &slow, at(560), &strategy()), Action::Fail { reason } if reason.contains("60s")));
    assert_eq!(plan(&observed, &[], at(560), &strategy()), Action::Wait, "no live replica: wait");
}

#[test]
fn after_a_failed_first_version_another_can_be_deployed_and_one_that_recovers_is_complete() {
    let first = Deployment::first("m".parse().expect("name"), version(1), "first".into(), at(0));
    let failed = first.apply(&Action::Fail { reason: "no room".into() }, at(1));
    let mut replicas = [Replica::new(0), Replica::new(1)];
    let (done, _) = run(failed.begin(version(2), "better".into(), at(2)).expect("it is over"), &mut replicas);
    assert_eq!((done.stable, done.outcome), (version(2), Outcome::Completed));

    replicas.iter_mut().for_each(|replica| replica.served.generation = 0);
    assert_eq!(plan(&failed, &live(&replicas, &failed.model), at(3), &strategy()), Action::Wait);
    let (done, actions) = run_once_settled(failed, &mut replicas);
    assert_eq!((done.outcome, actions), (Outcome::Completed, Action::Complete));
    assert!(done.reason.contains("no room"), "{}", done.reason);
}

/// One run of the planner over a settled deployment, after the replicas have carried it out.
fn run_once_settled(deployment: Deployment, replicas: &mut [Replica]) -> (Deployment, Action) {
    replicas.iter_mut().for_each(|replica| replica.carry_out(&deployment.routes()));
    let action = plan(&deployment, &live(replicas, &deployment.model), at(9), &strategy());
    (deployment.apply(&action, at(9)), action)
}

#[test]
fn replicas_move_one_by_one_and_the_target_becomes_stable() {
    let started = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let mut replicas: Vec<Replica> = (0..3).map(Replica::new).collect();
    let (done, actions) = run(started, &mut replicas);
    assert_eq!((done.stable, done.outcome), (version(2), Outcome::Completed));
    assert!(done.everywhere_at.is_some());
    let expected = (0..3).flat_map(|n| [Action::Move(name(n)), Action::Arrive(name(n))]);
    assert_eq!(actions, expected.chain([Action::Observe, Action::Complete]).collect::<Vec<_>>());
}

#[test]
fn a_failed_load_returns_every_replica() {
    let started = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let mut replicas: Vec<Replica> = (0..3).map(Replica::new).collect();
    replicas[1].refuses = Some(version(2));
    let (done, _) = run(started, &mut replicas);
    assert_eq!((done.stable, done.outcome), (version(1), Outcome::Returned));
    assert!(done.reason.contains("replica-1") && done.reason.contains("does not warm up"), "{}", done.reason);
    assert!(replicas.iter().all(|replica| replica.served.serving() == Some(version(1))));
}

#[test]
fn failed_requests_return_every_replica_even_during_observation() {
    let mut deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let mut replica = Replica::new(0);
    for action in [Action::Move(name(0)), Action::Arrive(name(0)), Action::Observe] {
        deployment = deployment.apply(&action, at(1));
    }
    replica.carry_out(&deployment.routes());
    replica.count(99, 1);
    let states = [replica.state(&deployment.model)];
    assert!(matches!(plan(&deployment, &states, at(2), &strategy()), Action::Return { .. }));
    let tolerant = Strategy { max_error_rate: 0.01, ..strategy() };
    assert_eq!(plan(&deployment, &states, at(2), &tolerant), Action::Wait);
}

#[test]
fn a_replica_that_misses_its_deadline_ends_the_rollout_but_one_whose_lease_expired_does_not() {
    let started = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let deployment = started.apply(&Action::Move(name(0)), at(0));
    let slow = [Replica::new(0).state(&deployment.model)];
    assert_eq!(plan(&deployment, &slow, at(59), &strategy()), Action::Wait);
    assert!(matches!(plan(&deployment, &slow, at(60), &strategy()), Action::Return { .. }));
    assert_eq!(plan(&deployment, &[], at(60), &strategy()), Action::Drop(name(0)));
    assert_eq!(plan(&started, &[], at(9999), &strategy()), Action::Wait, "no live replica: wait");
}

#[test]
fn a_failure_of_an_earlier_generation_does_not_count() {
    let deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let deployment = deployment.apply(&Action::Move(name(0)), at(0));
    let mut replica = Replica::new(0);
    (replica.served.generation, replica.served.failure) = (deployment.generation - 1, Some("old".into()));
    assert_eq!(plan(&deployment, &[replica.state(&deployment.model)], at(1), &strategy()), Action::Wait);
}

#[test]
fn an_updated_replica_that_restarts_gets_a_new_deadline() {
    let mut deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    for action in [Action::Move(name(0)), Action::Arrive(name(0))] {
        deployment = deployment.apply(&action, at(0));
    }
    let fresh = [Replica::new(0).state(&deployment.model)];
    assert_eq!(plan(&deployment, &fresh, at(500), &strategy()), Action::Rejoin(name(0)));
    let deployment = deployment.apply(&Action::Rejoin(name(0)), at(500));
    assert_eq!(plan(&deployment, &fresh, at(501), &strategy()), Action::Wait);
}

#[test]
fn the_return_does_not_wait_for_ever() {
    let started = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let returning = started.apply(&Action::Return { reason: "health".into() }, at(0));
    let stuck = [Replica::new(0).state(&returning.model)];
    assert_eq!(plan(&returning, &stuck, at(1), &strategy()), Action::Wait);
    let action = plan(&returning, &stuck, at(60), &strategy());
    assert_eq!(action, Action::Settle { stragglers: vec![name(0)] });
    assert!(
        returning.apply(&action, at(60)).reason.contains("did not report the return to the stable version: replica-0")
    );
}

#[test]
fn a_rollout_starts_only_from_a_settled_or_first_deployment() {
    let started = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    assert_eq!(started.begin(version(3), "x".into(), at(0)), Err(Busy));
    let first = Deployment::first("m".parse().expect("name"), version(1), "first".into(), at(0));
    let replaced = first.begin(version(2), "better".into(), at(1)).expect("no replica serves it");
    assert_eq!(
        (replaced.stable, replaced.movement, replaced.generation),
        (version(2), Movement::First { since: None }, 2)
    );
}

/// A shadow step and two steps with a share of the requests, of five seconds each.
fn with_canary() -> Strategy {
    let step = |weight| CanaryStep { weight, duration: Duration::from_secs(5) };
    Strategy { canary: [0, 1_000, 5_000].map(step).to_vec(), ..strategy() }
}

#[test]
fn canary_steps_precede_the_first_replica() {
    let mut deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    deployment.weighted = vec![WeightedVersion { version: version(7), weight: 6_000 }];
    let mut replicas: Vec<Replica> = (0..2).map(Replica::new).collect();
    let (mut steps, mut actions) = (Vec::new(), Vec::new());
    for second in 0..100 {
        replicas.iter_mut().for_each(|replica| replica.carry_out(&deployment.routes()));
        let action = plan(&deployment, &live(&replicas, &deployment.model), at(second), &with_canary());
        deployment = deployment.apply(&action, at(second));
        let routes = deployment.routes();
        assert_eq!(routes.validate(), Ok(()));
        if let Action::Step(_) = action {
            let weights: Vec<_> = routes.weighted.iter().map(|route| (route.version.version, route.weight)).collect();
            steps.push((second, routes.shadow.map(|shadow| shadow.version), weights));
        }
        if action != Action::Wait {
            actions.push(action);
        }
    }
    let other = (7, 6_000);
    let expected = [(0, Some(2), vec![other]), (6, None, vec![other, (2, 1_000)]), (12, None, vec![other, (2, 3_999)])];
    assert_eq!(steps, expected, "the last step takes what the other version leaves");
    let begins = [0, 1_000, 5_000].into_iter().flat_map(|weight| [Action::Step(weight), Action::Run]);
    let moves = (0..2).flat_map(|n| [Action::Move(name(n)), Action::Arrive(name(n))]);
    let expected: Vec<Action> = begins.chain(moves).chain([Action::Observe, Action::Complete]).collect();
    assert_eq!(actions, expected);
    assert_eq!((deployment.stable, deployment.outcome), (version(2), Outcome::Completed));
    assert_eq!(deployment.routes().weighted, [WeightedVersion { version: version(7), weight: 6_000 }]);
}

/// A rollout whose canary step with this weight runs on one replica.
fn in_canary(weight: u32) -> (Deployment, Replica) {
    let mut deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let mut replica = Replica::new(0);
    for action in [Action::Step(weight), Action::Run] {
        deployment = deployment.apply(&action, at(0));
        replica.carry_out(&deployment.routes());
    }
    (deployment, replica)
}

fn returned(action: Action) -> String {
    match action {
        Action::Return { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_canary_that_fails_is_returned_before_any_replica_is_updated() {
    let (deployment, mut replica) = in_canary(1_000);
    replica.served.versions.get_mut(&2).expect("loaded").failed = 1;
    let action = plan(&deployment, &[replica.state(&deployment.model)], at(1), &with_canary());
    let returning = deployment.apply(&action, at(1));
    assert_eq!(returned(action), "replica replica-0: 1 of 1 requests failed in version 2");
    assert!(returning.routes().weighted.is_empty());

    let (deployment, mut replica) = in_canary(0);
    replica.served.shadow = Some(ShadowComparison { version: 2, rows: 9, failed: 1, ..ShadowComparison::default() });
    let action = plan(&deployment, &[replica.state(&deployment.model)], at(1), &with_canary());
    assert_eq!(returned(action), "replica replica-0: 1 of 10 copied rows failed in shadow version 2");

    let mut refusing = Replica { refuses: Some(version(2)), ..Replica::new(0) };
    let deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    let deployment = deployment.apply(&Action::Step(1_000), at(0));
    refusing.carry_out(&deployment.routes());
    let action = plan(&deployment, &[refusing.state(&deployment.model)], at(1), &with_canary());
    assert_eq!(returned(action), "replica replica-0: does not warm up beside the stable version");

    let slow = [Replica::new(0).state(&deployment.model)];
    assert_eq!(plan(&deployment, &slow, at(600), &with_canary()), Action::Wait, "the rollout has a deadline");
}

#[test]
fn a_step_that_other_versions_leave_no_share_copies_requests() {
    let mut deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
    deployment.weighted = vec![WeightedVersion { version: version(7), weight: 9_999 }];
    let deployment = deployment.apply(&Action::Step(1_000), at(3));
    let routes = deployment.routes();
    assert_eq!((routes.validate(), routes.weighted.len(), routes.shadow), (Ok(()), 1, Some(version(2))));
    let began_at = deployment.apply(&Action::Step(2_000), at(9)).forward().and_then(Forward::began_at);
    assert_eq!(began_at, Some(at(3)));
}

#[test]
fn a_target_that_is_too_slow_is_returned_once_enough_requests_show_it() {
    let limit = Strategy { max_latency: Some(Duration::from_millis(10)), ..with_canary() };
    let (deployment, mut replica) = in_canary(1_000);
    let mut after = |answered, p99_micros| {
        let loaded = replica.served.versions.get_mut(&2).expect("loaded");
        (loaded.answered, loaded.p99_micros) = (answered, p99_micros);
        plan(&deployment, &[replica.state(&deployment.model)], at(1), &limit)
    };
    assert_eq!(after(99, 10_001), Action::Wait, "too few");
    assert_eq!(after(100, 10_000), Action::Wait, "at the limit");
    assert_eq!(
        returned(after(100, 10_001)),
        "replica replica-0: 99 % of 100 requests to version 2 took up to 10.001ms, the limit is 10ms"
    );
}

#[test]
fn a_target_whose_guardrails_act_too_often_is_returned_once_enough_requests_show_it() {
    let limit = Strategy { max_guardrail_rate: Some(0.05), ..with_canary() };
    let (deployment, mut replica) = in_canary(1_000);
    let mut after = |answered, guarded| {
        let loaded = replica.served.versions.get_mut(&2).expect("loaded");
        (loaded.answered, loaded.guarded) = (answered, guarded);
        plan(&deployment, &[replica.state(&deployment.model)], at(1), &limit)
    };
    assert_eq!(after(99, 99), Action::Wait, "too few");
    assert_eq!(after(100, 5), Action::Wait, "at the limit");
    assert_eq!(
        returned(after(100, 6)),
        "replica replica-0: guardrails clipped or flagged 6 of 100 requests to version 2, the limit is 0.05"
    );
}

/// What happens between two runs of the planner.
#[derive(Debug, Clone)]
enum Happening {
    CarryOut(usize),
    Vanish(usize),
    Come(usize),
    Refuse(usize),
    Err(usize),
    Pass(i64),
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    let replica = 0..5_usize;
    prop_oneof![
        8 => replica.clone().prop_map(Happening::CarryOut),
        1 => replica.clone().prop_map(Happening::Vanish),
        1 => replica.clone().prop_map(Happening::Come),
        1 => replica.clone().prop_map(Happening::Refuse),
        1 => replica.prop_map(Happening::Err),
        4 => (0..20_i64).prop_map(Happening::Pass),
    ]
}

fn happen(event: &Happening, replicas: &mut [Replica], routes: &Routes, second: &mut i64) {
    match *event {
        Happening::CarryOut(n) if replicas[n].live => replicas[n].carry_out(routes),
        Happening::CarryOut(_) => {}
        Happening::Vanish(n) => replicas[n] = Replica { live: false, ..Replica::new(n) },
        Happening::Come(n) => replicas[n].live = true,
        Happening::Refuse(n) => replicas[n].refuses = Some(version(2)),
        Happening::Err(n) => replicas[n].count(0, 1),
        Happening::Pass(seconds) => *second += seconds,
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(
        events in prop::collection::vec(happening(), 0..200),
        strategy in prop_oneof![Just(strategy()), Just(with_canary())],
    ) {
        let mut replicas: Vec<Replica> = (0..5).map(Replica::new).collect();
        let mut deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
        let mut second = 0;
        for event in &events {
            happen(event, &mut replicas, &deployment.routes(), &mut second);
            let states = live(&replicas, &deployment.model);
            let action = plan(&deployment, &states, at(second), &strategy);
            let before = deployment.clone();
            deployment = deployment.apply(&action, at(second));

            if let (Action::Move(next), Some(forward)) = (&action, before.forward()) {
                prop_assert!(replicas.iter().any(|replica| replica.live && replica.id == *next));
                for replica in replicas.iter().filter(|r| r.live && forward.moved.contains_key(&r.id)) {
                    prop_assert_eq!(replica.served.serving(), Some(version(2)), "{} moves with {}", next, replica.id);
                }
            }
            if matches!(deployment.movement, Movement::Returning { .. } | Movement::Settled) {
                for replica in &replicas {
                    prop_assert_eq!(deployment.routes().assignment(&replica.id).version, deployment.stable);
                }
            }
            prop_assert_eq!(deployment.routes().validate(), Ok(()));
            if deployment.forward().is_none() {
                prop_assert!(deployment.routes().weighted.is_empty() && deployment.routes().shadow.is_none());
            }
            if deployment.outcome == Outcome::Completed {
                prop_assert_eq!(deployment.stable, version(2));
            } else {
                prop_assert_eq!(deployment.stable, version(1));
            }
            prop_assert_eq!(deployment.generation > before.generation, deployment.routes() != before.routes());
        }
    }

    #[test]
    fn a_first_version_always_settles_and_complete_means_that_every_live_replica_serves_it(
        events in prop::collection::vec(happening(), 0..100),
        refused in 1..3_u32,
    ) {
        let mut replicas: Vec<Replica> = (0..5).map(Replica::new).collect();
        let name = "m".parse().expect("name");
        let mut deployment = Deployment::first(name, version(refused), "first".into(), at(0));
        let mut second = 0;
        let quiet = (0..20).map(|_| Happening::Pass(60));
        for event in events.iter().cloned().chain([Happening::Come(0)]).chain(quiet) {
            happen(&event, &mut replicas, &deployment.routes(), &mut second);
            let action = plan(&deployment, &live(&replicas, &deployment.model), at(second), &strategy());
            let before = deployment.clone();
            deployment = deployment.apply(&action, at(second));
            if action == Action::Complete {
                for replica in replicas.iter().filter(|replica| replica.live) {
                    prop_assert_eq!(replica.served.serving(), Some(deployment.stable));
                }
            }
            prop_assert_eq!(before.routes(), deployment.routes());
        }
        prop_assert_eq!(&deployment.movement, &Movement::Settled);
        prop_assert!(deployment.outcome != Outcome::UnderWay);
    }

    #[test]
    fn every_rollout_settles_once_nothing_else_happens(
        events in prop::collection::vec(happening(), 0..100),
        strategy in prop_oneof![Just(strategy()), Just(with_canary())],
    ) {
        let mut replicas: Vec<Replica> = (0..5).map(Replica::new).collect();
        let mut deployment = settled("m").begin(version(2), "why".into(), at(0)).expect("settled");
        let mut second = 0;
        for event in &events {
            happen(event, &mut replicas, &deployment.routes(), &mut second);
            let action = plan(&deployment, &live(&replicas, &deployment.model), at(second), &strategy);
            deployment = deployment.apply(&action, at(second));
        }
        replicas[0].live = true;
        for _ in 0..100 {
            for replica in replicas.iter_mut().filter(|replica| replica.live) {
                replica.carry_out(&deployment.routes());
            }
            second += 5;
            let action = plan(&deployment, &live(&replicas, &deployment.model), at(second), &strategy);
            deployment = deployment.apply(&action, at(second));
        }
        prop_assert_eq!(&deployment.movement, &Movement::Settled);
        for replica in replicas.iter_mut().filter(|replica| replica.live && replica.refuses.is_none()) {
            replica.carry_out(&deployment.routes());
            prop_assert_eq!(replica.served.serving(), Some(deployment.stable));
        }
    }
}
