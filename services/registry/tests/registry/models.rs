use rekindle_bundle::{
    Bundle, Datatype,
    manifest::{CARD, PIPELINE, PROFILE, WEIGHTS},
};
use rekindle_client::PageRequest;
use rekindle_domain::{
    Digest,
    audit::Filter,
    lineage::{Extent, LineageSubject},
};
use rekindle_proto::registry::{
    DeleteAliasRequest, DeleteModelRequest, GetLineageRequest, GetModelVersionRequest, ListModelVersionsRequest,
    ListModelsRequest, RegisterModelVersionRequest, RestoreModelRequest, SetAliasRequest, UpdateModelRequest,
    UpdateModelVersionRequest, VersionStatus,
};
use rekindle_testkit::eventually;
use tonic::Code;

use crate::{
    on_both, on_s3,
    sandbox::{Sandbox, blamed, bundle, by, key, reason, run_id},
};

on_both!(
    a_verified_bundle_becomes_a_version,
    a_bundle_that_is_not_whole_makes_nothing,
    a_bundle_that_no_replica_could_load_makes_nothing,
    lineage_walks_back_to_the_first_dataset,
    models_are_listed,
    models_and_versions_are_changed_deleted_and_restored,
    every_change_is_in_the_audit_trail,
    a_lineage_is_walked_in_both_directions,
);
on_s3!(a_verified_bundle_becomes_a_version);

async fn a_verified_bundle_becomes_a_version(sandbox: Sandbox) {
    let run = run_id();
    let digest = sandbox.bundle(&bundle(&run.to_string(), vec![], 7)).await;
    let request = RegisterModelVersionRequest {
        idempotency_key: key(),
        model: "flight-delay".into(),
        bundle_digest: digest.to_string(),
        description: "the first".into(),
    };
    let calls = (0..4).map(|_| {
        let (mut models, request) = (sandbox.models.clone(), request.clone());
        async move { models.register_model_version(request).await.expect("registered").into_inner() }
    });
    let made = futures::future::join_all(calls).await;
    assert!(made.iter().all(|version| *version == made[0]));
    assert_eq!((made[0].version, made[0].status()), (1, VersionStatus::Ready));
    assert_eq!((made[0].run_id.clone(), made[0].metrics["log_loss"]), (run.to_string(), 0.5));
    let other = RegisterModelVersionRequest { description: "another".into(), ..request };
    let refused = sandbox.models.clone().register_model_version(other).await.expect_err("the key is taken");
    assert_eq!(refused.code(), Code::AlreadyExists);
    let events = sandbox.events(1).await;
    assert_eq!(events[0].data["bundle_digest"], digest.to_string());
    assert_eq!(events[0].partition_key, "flight-delay");
}

async fn a_bundle_that_is_not_whole_makes_nothing(sandbox: Sandbox) {
    let absent = Digest::of(b"nothing");
    let refused = sandbox.register("m", &absent).await.expect_err("absent");
    assert_eq!(refused.code(), Code::NotFound, "{refused}");

    let bundle = bundle("", vec![], 1);
    let manifest = bundle.manifest_bytes().expect("a manifest");
    sandbox.upload(&manifest).await;
    let refused = sandbox.register("m", &Digest::of(&manifest)).await.expect_err("incomplete");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(reason(&refused, "blob").0, "BUNDLE_INCOMPLETE");

    let digest = sandbox.bundle(&bundle).await;
    let weights = bundle.manifest.blobs["weights"].digest.hex();
    let path = sandbox.folder.path().join("artifacts/blobs/sha256").join(&weights[..2]);
    let file = std::fs::read_dir(path).expect("the folder").next().expect("a file").expect("readable").path();
    std::fs::write(file, b"other bytes").expect("overwritten");
    let refused = sandbox.register("m", &digest).await.expect_err("corrupt");
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");

    let text: Digest = sandbox.upload(b"{}").await.parse().expect("a digest");
    assert_eq!(sandbox.register("m", &text).await.expect_err("no bundle").code(), Code::InvalidArgument);

    let request = GetModelVersionRequest { model: "m".into(), selector: None };
    assert_eq!(sandbox.models.clone().get_model_version(request).await.expect_err("none").code(), Code::NotFound);
}

/// The bundle with another blob of a role.
fn with_blob(role: &str, bytes: Vec<u8>) -> Bundle {
    let Bundle { manifest, mut blobs } = bundle("", vec![], 1);
    blobs.insert(role.to_owned(), bytes.into());
    Bundle::seal(manifest, blobs)
}

async fn a_bundle_that_no_replica_could_load_makes_nothing(sandbox: Sandbox) {
    let good = bundle("", vec![], 1);
    let mut nan = good.blobs[WEIGHTS].to_vec();
    let last = nan.len() - 4;
    nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut outputs = good.clone();
    outputs.manifest.signature.outputs.pop();
    let mut kind = good.clone();
    kind.manifest.signature.inputs[0].datatype = Datatype::Bytes;
    let cases = [
        ("weights", with_blob(WEIGHTS, b"garbage".to_vec())),
        ("has a non-finite value", with_blob(WEIGHTS, nan)),
        ("pipeline", with_blob(PIPELINE, b"{}".to_vec())),
        ("profile", with_blob(PROFILE, b"{}".to_vec())),
        ("card", with_blob(CARD, vec![0xff])),
        ("blob card has 1048577 bytes", with_blob(CARD, vec![b' '; (1 << 20) + 1])),
        ("signature.outputs", Bundle::seal(outputs.manifest, outputs.blobs)),
        ("signature does not fit the model", Bundle::seal(kind.manifest, kind.blobs)),
    ];
    for (problem, bundle) in cases {
        let digest = sandbox.bundle(&bundle).await;
        let refused = sandbox.register("m", &digest).await.expect_err(problem);
        assert_eq!(blamed(&refused), "bundle_digest", "{problem}");
        assert!(refused.message().contains(problem), "{problem}: {}", refused.message());
    }
    let huge: Digest = sandbox.upload(&vec![b' '; (4 << 20) + 1]).await.parse().expect("a digest");
    let refused = sandbox.register("m", &huge).await.expect_err("larger than a manifest");
    assert!(refused.message().contains("4194305 bytes, expected at most 4194304"), "{}", refused.message());
    assert_eq!(blamed(&refused), "bundle_digest");
    let request = GetModelVersionRequest { model: "m".into(), selector: None };
    assert_eq!(sandbox.models.clone().get_model_version(request).await.expect_err("none").code(), Code::NotFound);
}

async fn lineage_walks_back_to_the_first_dataset(sandbox: Sandbox) {
    let first = sandbox.dataset(sandbox.csv("first", "a\n1\n").await).await;
    let mut second = sandbox.csv("second", "a\n1\n2\n").await;
    second.parents = vec![first.content_digest.clone(), Digest::of(b"a segment").to_string()];
    let second = sandbox.dataset(second).await;
    let mut third = sandbox.csv("third", "a\n1\n2\n3\n").await;
    third.parents = vec![second.content_digest.clone()];
    let third = sandbox.dataset(third).await;
    sandbox.dataset(sandbox.csv("stranger", "b\n1\n").await).await;

    let run = sandbox.run("flights", vec![third.content_digest.clone()]).await;
    let bundle = bundle(&run.id, vec![third.content_digest.parse().expect("a digest")], 3);
    let digest = sandbox.bundle(&bundle).await;
    let one = sandbox.register("m", &digest).await.expect("registered");
    let two = sandbox.register("n", &digest).await.expect("registered");

    let request = GetLineageRequest { bundle_digest: digest.to_string() };
    let lineage = sandbox.models.clone().get_lineage(request).await.expect("there").into_inner();
    assert_eq!(lineage.versions, [one, two]);
    assert_eq!(lineage.run.expect("the run").id, run.id);
    assert_eq!(lineage.datasets, [third, second, first]);

    let unknown = GetLineageRequest { bundle_digest: Digest::of(b"x").to_string() };
    assert_eq!(sandbox.models.clone().get_lineage(unknown).await.expect_err("none").code(), Code::NotFound);
}

async fn models_are_listed(sandbox: Sandbox) {
    for (model, seed) in [("b", 1), ("a", 2), ("a", 3)] {
        sandbox.version(model, seed).await;
    }
    let mut client = sandbox.models.clone();
    let page = client.list_models(ListModelsRequest { page_size: 1, page_token: String::new() }).await;
    let page = page.expect("a page").into_inner();
    assert_eq!((page.models[0].name.as_str(), page.models[0].latest.as_ref().expect("one").version), ("a", 2));
    let page = client.list_models(ListModelsRequest { page_size: 1, page_token: page.next_page_token }).await;
    assert_eq!(page.expect("a page").into_inner().models[0].name, "b");
    let request = ListModelVersionsRequest { model: "a".into(), ..Default::default() };
    let versions = client.list_model_versions(request).await.expect("a page").into_inner().versions;
    assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [2, 1]);
}

async fn models_and_versions_are_changed_deleted_and_restored(sandbox: Sandbox) {
    sandbox.version("churn", 1).await;
    sandbox.version("churn", 2).await;
    let mut models = sandbox.models.clone();
    let request = UpdateModelRequest {
        model: "churn".into(),
        title: Some("Churn (EU)".into()),
        description: Some("who leaves".into()),
        tags: [("team".to_owned(), "risk".to_owned()), ("draft".to_owned(), "yes".to_owned())].into(),
        delete_tags: vec![],
    };
    let updated = models.update_model(request.clone()).await.expect("updated").into_inner();
    assert_eq!((updated.title.as_str(), updated.tags.len()), ("Churn (EU)", 2));
    let again =
        UpdateModelRequest { tags: [].into(), delete_tags: vec!["draft".into()], title: None, ..request.clone() };
    let updated = models.update_model(again).await.expect("updated").into_inner();
    assert_eq!(
        (updated.title.as_str(), updated.tags.len(), updated.description.as_str()),
        ("Churn (EU)", 1, "who leaves")
    );
    sandbox.version("other", 3).await;
    let taken = models.update_model(UpdateModelRequest { model: "other".into(), ..request }).await.expect_err("taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert!(taken.message().contains("Churn (EU)") && taken.message().contains("churn"), "{taken}");

    let version = UpdateModelVersionRequest {
        model: "churn".into(),
        version: 2,
        description: Some("the second".into()),
        tags: [("stage".to_owned(), "test".to_owned())].into(),
        delete_tags: vec![],
    };
    let updated = models.update_model_version(version).await.expect("updated").into_inner();
    assert_eq!(
        (updated.description.as_str(), updated.tags["stage"].as_str(), updated.revision),
        ("the second", "test", 2)
    );

    let alias = SetAliasRequest { model: "churn".into(), alias: "champion".into(), version: 2, ..Default::default() };
    models.set_alias(alias.clone()).await.expect("moved");
    let delete = |version| DeleteModelRequest { model: "churn".into(), version, why: "obsolete".into() };
    for version in [None, Some(2)] {
        let held = models.delete_model(delete(version)).await.expect_err("in use");
        assert_eq!((held.code(), reason(&held, "aliases").0.as_str()), (Code::FailedPrecondition, "MODEL_IN_USE"));
        assert!(held.message().contains("champion"), "{held}");
    }
    models.delete_model(delete(Some(1))).await.expect("deleted");
    let list = ListModelVersionsRequest { model: "churn".into(), ..Default::default() };
    let listed = models.list_model_versions(list.clone()).await.expect("there").into_inner().versions;
    assert_eq!(listed.iter().map(|version| version.version).collect::<Vec<_>>(), [2]);
    let selector = Some(rekindle_proto::registry::get_model_version_request::Selector::Version(1));
    let read = models.get_model_version(GetModelVersionRequest { model: "churn".into(), selector }).await;
    assert!(read.expect("it is kept").into_inner().deleted_at.is_some());
    let refused =
        models.set_alias(SetAliasRequest { version: 1, alias: "old".into(), ..alias }).await.expect_err("deleted");
    assert_eq!(reason(&refused, "version").0, "VERSION_DELETED");

    let alias = DeleteAliasRequest {
        model: "churn".into(),
        alias: "champion".into(),
        expected_revision: 1,
        why: String::new(),
    };
    models.delete_alias(alias).await.expect("deleted");
    models.delete_model(delete(None)).await.expect("deleted");
    let names = models.list_models(ListModelsRequest::default()).await.expect("there").into_inner().models;
    assert_eq!(names.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["other"]);
    let refused = sandbox.register("churn", &sandbox.bundle(&bundle("", vec![], 1)).await).await.expect_err("deleted");
    assert_eq!(reason(&refused, "model").0, "MODEL_DELETED");
    let alias = SetAliasRequest { model: "churn".into(), alias: "late".into(), version: 2, ..Default::default() };
    assert_eq!(reason(&models.set_alias(alias).await.expect_err("deleted"), "model").0, "MODEL_DELETED");
    for version in [Some(1), None] {
        let restore = RestoreModelRequest { model: "churn".into(), version, why: "needed".into() };
        models.restore_model(restore).await.expect("restored");
    }
    let listed = models.list_model_versions(list).await.expect("there").into_inner().versions;
    assert_eq!(listed.iter().map(|version| version.version).collect::<Vec<_>>(), [2, 1]);
    // Numbers of deleted versions are not used again.
    assert_eq!(sandbox.version("churn", 4).await.version, 3);
}

async fn every_change_is_in_the_audit_trail(sandbox: Sandbox) {
    sandbox.version("churn", 1).await;
    let mut models = sandbox.models.clone();
    let alias = SetAliasRequest {
        model: "churn".into(),
        alias: "champion".into(),
        version: 1,
        expected_revision: 0,
        why: "better".into(),
    };
    models.set_alias(by("ada", alias)).await.expect("moved");
    let trail = &sandbox.audit;
    let filter = Filter { object: "alias/churn".into(), ..Filter::default() };
    let entries = trail.entries(&filter, PageRequest::default()).await.expect("listed").items;
    let entry = &entries[0].entry;
    assert_eq!((entries.len(), entry.actor.as_str(), entry.action.as_str()), (1, "ada", "alias.moved"));
    assert_eq!(entry.reason, "better");
    assert!(entry.after.contains("\"revision\":\"1\""), "{entry:?}");
    let actions = async || {
        let filter = Filter { ascending: true, ..Filter::default() };
        let entries = trail.entries(&filter, PageRequest::default()).await.expect("listed").items;
        entries.into_iter().map(|sealed| (sealed.entry.action, sealed.seal.is_some())).collect::<Vec<_>>()
    };
    let sealed = ["model-version.registered", "alias.moved"].map(|action| (action.to_owned(), true));
    eventually("sealed entries", async || {
        let found = actions().await;
        if found == sealed { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let found = trail.verify().await.expect("verified");
    assert_eq!((found.entries, found.faults), (2, vec![]));
}

async fn a_lineage_is_walked_in_both_directions(sandbox: Sandbox) {
    let first = sandbox.dataset(sandbox.staged_csv("trips", "a,b\n1,2\n").await).await;
    let mut second = sandbox.staged_csv("trips", "a,b\n1,2\n3,4\n").await;
    second.parents = vec![first.content_digest.clone()];
    let second = sandbox.dataset(second).await;
    let run = sandbox.run("flights", vec![second.content_digest.clone()]).await;
    let other = sandbox.run("flights", vec![first.content_digest.clone()]).await;
    let digest = sandbox.bundle(&bundle(&run.id, vec![second.content_digest.parse().expect("a digest")], 7)).await;
    sandbox.register("churn", &digest).await.expect("registered");
    let imported = sandbox.bundle(&bundle("", vec![first.content_digest.parse().expect("a digest")], 8)).await;
    sandbox.register("imported", &imported).await.expect("registered");
    let alias = SetAliasRequest { model: "churn".into(), alias: "champion".into(), version: 1, ..Default::default() };
    sandbox.models.clone().set_alias(alias).await.expect("moved");

    let graph = async |subject: LineageSubject, extent: (bool, bool)| {
        let extent = Extent { sources: extent.0, results: extent.1 };
        let request = rekindle_client::wire::lineage::subject_to_wire(&subject, extent);
        let found = sandbox.models.clone().get_lineage_graph(request).await.expect("there").into_inner();
        let mut edges: Vec<_> = found.edges.into_iter().map(|edge| (edge.from, edge.to)).collect();
        edges.sort();
        let ids: std::collections::BTreeSet<_> = found.nodes.into_iter().map(|node| node.id).collect();
        let ends = edges.iter().flat_map(|(from, to)| [from, to]);
        assert!(ends.chain([&found.subject]).all(|id| ids.contains(id)), "{ids:?} {edges:?}");
        edges
    };
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let (ran, other) = (format!("run/{}", run.id), format!("run/{}", other.id));
    let code = edge(&format!("code-revision/{}", run.code_revision), &ran);
    let (one, two) = ("dataset-version/trips/1", "dataset-version/trips/2");
    let (churn, champion) = ("model-version/churn/1", "alias/churn/champion");
    let mut sources = vec![edge(one, two), edge(two, &ran), edge(&ran, churn)];
    if !run.code_revision.is_empty() {
        sources.push(code);
    }
    sources.sort();
    let version = LineageSubject::ModelVersion("churn".parse().expect("a name"), None);
    assert_eq!(graph(version.clone(), (true, false)).await, sources);
    assert_eq!(graph(version, (false, true)).await, [edge(churn, champion)]);
    let mut results = vec![
        edge(one, two),
        edge(one, &other),
        edge(one, "model-version/imported/1"),
        edge(two, &ran),
        edge(&ran, churn),
        edge(churn, champion),
    ];
    results.sort();
    let dataset = LineageSubject::DatasetVersion("trips".parse().expect("a name"), Some(1));
    assert_eq!(graph(dataset, (false, true)).await, results);
    let missing = LineageSubject::DatasetVersion("none".parse().expect("a name"), None);
    let request = rekindle_client::wire::lineage::subject_to_wire(&missing, Extent { sources: true, results: true });
    assert_eq!(sandbox.models.clone().get_lineage_graph(request).await.expect_err("missing").code(), Code::NotFound);
}
