//! Changes of the recorded data, idempotency keys, and the outbox.

use std::collections::BTreeMap;

use rekindle_client::{
    PageRequest,
    registry::{ReviewRequest, VersionRegistration},
};
use rekindle_domain::{
    alias::AliasMove,
    dataset::{DatasetRegistration, FileFormat, Source},
    model_version::{Approval, VersionStatus},
    run::{NewRun, RunReport, RunStatus},
};
use tonic::Code;

use super::{
    CHAMPION, FIRST_RUN, FLIGHTS_2, LINEAR, RUNNING, champion, first_run,
    restored::{Restored, digest, model, name, time},
    run_id, texts,
};

pub(super) async fn aliases_reviews_and_runs_change_from_their_recorded_revisions(restored: Restored) {
    let registry = &restored.registry;
    let target = AliasMove {
        model: model("late"),
        alias: name("champion"),
        version: 6,
        expected_revision: 6,
        why: "the next".to_owned(),
    };
    let stale = AliasMove { expected_revision: 5, ..target.clone() };
    let stale = registry.set_alias(&stale).await.expect_err("revision 6 is recorded");
    assert_eq!((stale.code(), stale.metadata("actual")), (Code::Aborted, "6".to_owned()));
    let moved = registry.set_alias(&target).await.expect("moved");
    assert_eq!((moved.revision, moved.version, moved.by.as_str()), (7, 6, "tester"));
    let history = registry.alias_history(&target.model, &target.alias, PageRequest::first(2)).await.expect("recorded");
    assert_eq!(history.items.iter().map(|moved| moved.revision).collect::<Vec<_>>(), [7, 6]);
    let rejected = AliasMove { version: 5, expected_revision: 7, ..target };
    let refused = registry.set_alias(&rejected).await.expect_err("the gate rejected version 5");
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::FailedPrecondition, "VERSION_REJECTED"));

    let review = ReviewRequest {
        model: model("late"),
        version: 6,
        approval: Approval::Approved,
        why: "checked".to_owned(),
        expected_revision: 1,
        evidence: BTreeMap::new(),
    };
    let reviewed = registry.review(&review).await.expect("reviewed");
    assert_eq!((reviewed.review.by.as_str(), reviewed.revision), ("tester", 2));

    let outputs = texts(&[("bundle", LINEAR)]);
    let report = RunReport::Finished { outputs: outputs.clone() };
    let ended = registry.report_run(run_id(RUNNING), report).await.expect("it was running");
    assert_eq!((ended.status, ended.outputs, ended.revision), (RunStatus::Finished, outputs, 3));
}

pub(super) async fn recorded_bundles_are_registered_again(restored: Restored) {
    let copy = |key: &str, bundle: &str| VersionRegistration {
        idempotency_key: key.to_owned(),
        model: model("copy"),
        bundle: digest(bundle),
        description: String::new(),
    };
    let linear = restored.registry.register_version(&copy("linear", LINEAR)).await.expect("every blob matches");
    assert_eq!((linear.version, linear.status, linear.run), (1, VersionStatus::Ready, Some(run_id(FIRST_RUN))));
    assert_eq!(linear.metrics["log_loss"], 0.460_257_487_435_045_7);
    let network = restored.registry.register_version(&copy("network", CHAMPION)).await.expect("every blob matches");
    assert_eq!((network.version, network.metrics), (2, champion().metrics));
}

pub(super) async fn recorded_keys_have_the_recorded_result(restored: Restored) {
    let registry = &restored.registry;
    let registration = VersionRegistration {
        idempotency_key: FIRST_RUN.to_owned(),
        model: model("late"),
        bundle: digest(LINEAR),
        description: "linear".to_owned(),
    };
    let version = registry.register_version(&registration).await.expect("the recorded version");
    assert_eq!((version.version, version.created_at), (1, time("2026-11-28T02:24:44.916722Z")));
    let other = VersionRegistration { description: "another".to_owned(), ..registration };
    let reused = [registry.register_version(&other).await.expect_err("another request")];

    let recorded = first_run();
    let new = NewRun {
        id: Some(recorded.id),
        params: recorded.params,
        tags: recorded.tags,
        code_revision: recorded.code_revision,
        dataset_digests: recorded.dataset_digests,
        seed: recorded.seed,
        ..NewRun::new(recorded.experiment)
    };
    let run = registry.create_run(&new, FIRST_RUN).await.expect("the recorded run");
    assert_eq!((run.id, run.status), (run_id(FIRST_RUN), RunStatus::Finished));

    let source = Source { digest: digest(FLIGHTS_2), format: FileFormat::Csv };
    let dataset = DatasetRegistration {
        name: name("flights"),
        sources: vec![source],
        time_column: None,
        kinds: BTreeMap::new(),
        parents: Vec::new(),
        description: String::new(),
        from: None,
        until: None,
        reading: Default::default(),
        columns: Default::default(),
        schema: None,
        accept_violations: false,
    };
    let reused_too = [
        registry.create_run(&NewRun { seed: 12, ..new }, FIRST_RUN).await.expect_err("another request"),
        registry.register_dataset(&dataset, "flights-2").await.expect_err("another request"),
    ];
    for error in reused.iter().chain(&reused_too) {
        assert_eq!((error.code(), error.reason().as_str()), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"), "{error}");
    }
}

pub(super) async fn events_in_the_outbox_are_published(restored: Restored) {
    let events = restored.published(2).await;
    let read: Vec<(String, String)> = events.iter().map(|event| (event.identity(), event.kind.ce_type())).collect();
    // A relay of the former release had claimed the first one: it keeps its identity, so that the bus drops it if it was published.
    let expected = [
        ("/rekindle/registry/101a21ff8-73e1-7018-89d1-cc12c94e1beb", "dev.rekindle.registry.model-version.reviewed.v1"),
        ("/rekindle/registry/101a21ff8-73f4-7196-9818-9070677ba9ab", "dev.rekindle.registry.alias.moved.v1"),
    ];
    assert_eq!(read, expected.map(|(identity, kind)| (identity.to_owned(), kind.to_owned())));
    assert_eq!(events[1].data["why"], "while the bus is away");
}
