//! Bad input: each is refused with the right code and a message that names the field and the remedy, and changes nothing.

mod raw;

use bytes::Bytes;
use rekindle_client::{
    Error, PageRequest,
    inference::{Elements, InferRequest, Tensor},
    registry::UploadPurpose,
};
use rekindle_domain::{AliasName, Digest, Trigger, alias::AliasMove, dataset::DatasetRegistration};
use rekindle_integration_tests::{
    Clients, Platform, Wiring,
    scenario::{self, described},
    table::{self, csv},
};
use rekindle_testkit::eventually;
use tonic::{Code, Status};

/// Requires a code, and words of the message.
fn expect(what: &str, status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code(), code, "{what}: {status}");
    for word in words {
        assert!(status.message().contains(word), "{what}: {:?} lacks {word:?}", status.message());
    }
}

fn expect_error(what: &str, error: &Error, code: Code, words: &[&str]) {
    let status = error.status().unwrap_or_else(|| panic!("{what}: {error}"));
    expect(what, status, code, words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_refused_with_the_field_and_the_remedy() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = platform.clients.clone();
    scenario::register(&clients, csv(&table::rows(0..24, 24)), "training rows").await;
    let (_, version) = scenario::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::promote_and_deploy(&clients, version.version).await;
    scenario::set_policy(&clients, |_| ()).await;

    predictions(&clients).await;
    datasets(&clients).await;
    revisions(&clients).await;
    versions_and_keys(&clients).await;
    raw::malformed_messages(&clients).await;
    nothing_has_changed(&clients).await;
}

fn good() -> InferRequest {
    scenario::request(&table::rows(0..1, 24)[..1])
}

/// The good request with the input of that name changed.
fn changed(name: &str, change: impl FnOnce(&mut Tensor)) -> InferRequest {
    let mut request = good();
    change(request.inputs.iter_mut().find(|input| input.name == name).expect("an input"));
    request
}

async fn predictions(clients: &Clients) {
    let replica = clients.replica(0);
    replica.infer(good()).await.expect("the good request is answered");

    let elements = |name: &str, elements: Elements| changed(name, |input| input.elements = elements);
    let unknown = changed("region", |input| input.name = "regoin".into());
    let mut missing = good();
    missing.inputs.remove(1);
    let datatype = elements("temperature", Elements::Text(vec!["hot".into()]));
    let shape = changed("temperature", |input| input.shape = vec![1, 2]);
    let nan = elements("temperature", Elements::Fp64(vec![f64::NAN]));
    let infinite = elements("basket", Elements::Fp64(vec![f64::INFINITY]));
    let model = InferRequest { model: "nobody".into(), ..good() };
    let version = InferRequest { version: Some(77), ..good() };
    let cases = [
        ("unknown feature", unknown, Code::InvalidArgument, vec!["regoin"]),
        ("missing feature", missing, Code::InvalidArgument, vec!["temperature"]),
        ("wrong datatype", datatype, Code::InvalidArgument, vec!["temperature", "FP64", "BYTES"]),
        ("wrong shape", shape, Code::InvalidArgument, vec!["temperature"]),
        ("NaN where nothing was missing", nan, Code::InvalidArgument, vec!["temperature", "NaN"]),
        ("infinity", infinite, Code::InvalidArgument, vec!["basket"]),
        ("unknown model", model, Code::NotFound, vec!["nobody"]),
        ("unknown version", version, Code::NotFound, vec!["77"]),
    ];
    for (what, request, code, words) in cases {
        let error = replica.infer(request).await.expect_err(what);
        expect_error(what, &error, code, &words);
    }
    let huge = elements("region", Elements::Text(vec!["\0".repeat(64 << 20)]));
    let error = replica.infer(huge).await.expect_err("too large");
    let status = error.status().expect("an answer");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument), "{status}");
    assert!(status.message().chars().any(|c| c.is_ascii_digit()), "the limit is named: {}", status.message());
}

async fn register(clients: &Clients, csv: &str, time_column: Option<&str>) -> Result<(), Error> {
    let registry = clients.registry();
    let uploaded = registry.upload_bytes(UploadPurpose::DatasetSource, Bytes::copy_from_slice(csv.as_bytes())).await;
    let (digest, _) = uploaded.expect("stored");
    let registration = DatasetRegistration {
        time_column: time_column.map(str::to_owned),
        ..scenario::registration(scenario::dataset(), digest)
    };
    registry.register_dataset(&registration, format!("bad-{digest}")).await.map(|_| ())
}

async fn datasets(clients: &Clients) {
    let cases = [
        ("ragged row", "a,b\n1,2\n3\n", None, vec!["line 3"]),
        ("duplicate column", "a,a\n1,2\n", None, vec!["\"a\""]),
        ("no rows", "", None, vec!["the CSV file has", "header"]),
        ("no such time column", "a,b\n1,2\n", Some("when"), vec!["when"]),
    ];
    for (what, csv, time_column, words) in cases {
        let error = register(clients, csv, time_column).await.expect_err(what);
        expect_error(what, &error, Code::InvalidArgument, &words);
    }
    let absent = scenario::registration(scenario::dataset(), Digest::of(b"?"));
    let error = clients.registry().register_dataset(&absent, "absent blob").await.expect_err("no such blob");
    expect_error("no such blob", &error, Code::NotFound, &["sha256:"]);
}

async fn revisions(clients: &Clients) {
    let stale = AliasMove {
        model: scenario::model(),
        alias: AliasName::champion(),
        version: 1,
        expected_revision: 41,
        why: "stale".into(),
    };
    let error = clients.registry().set_alias(&stale).await.expect_err("stale");
    expect_error("stale alias", &error, Code::Aborted, &["41", "champion"]);
    let (mut policy, _) = clients.orchestrator().policy(&scenario::model()).await.expect("set");
    policy.triggers.remove(&Trigger::Drift);
    let error = clients.orchestrator().set_policy(&policy, 41).await.expect_err("stale");
    expect_error("stale policy", &error, Code::Aborted, &["41"]);
}

async fn versions_and_keys(clients: &Clients) {
    let deployment = scenario::deployment(scenario::model(), 77, "unknown version");
    let error = clients.orchestrator().deploy(&deployment).await.expect_err("no such version");
    expect_error("unknown version", &error, Code::NotFound, &["77"]);

    let other = scenario::registration(scenario::dataset(), Digest::of(b"?"));
    let error = clients.registry().register_dataset(&other, "training rows").await.expect_err("the key was used");
    expect_error("reused key", &error, Code::AlreadyExists, &["training rows"]);
}

async fn nothing_has_changed(clients: &Clients) {
    let (registry, model) = (clients.registry(), scenario::model());
    let versions = registry.dataset_versions(&scenario::dataset(), PageRequest::default()).await.expect("listed");
    assert_eq!(versions.items.len(), 1);
    let champion = registry.alias(&model, &AliasName::champion()).await.expect("set");
    assert_eq!((champion.version, champion.revision), (1, 1));
    let (policy, revision) = clients.orchestrator().policy(&model).await.expect("set");
    assert!(policy.triggers.contains(&Trigger::Drift) && revision == 1);
    scenario::deployed(clients, 1).await;
    // One good request was answered, and no other reached the log.
    eventually("the good request to be captured", async || {
        let status = clients.monitor().capture_status(&model).await.map_err(described)?;
        assert!(status.predictions <= 1, "{status:?}");
        if status.predictions == 1 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}
