//! Bad input: each gets the right code and a message that names the field and the way out, and changes nothing.

use rekindle_integration_tests::{
    Clients, Platform, Wiring,
    story::{self, DATASET, MODEL},
    table::{self, csv},
};
use rekindle_proto::{
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    monitor::GetCaptureStatusRequest,
    orchestrator::{DeployRequest, GetPolicyRequest, SetPolicyRequest},
    registry::{
        FileFormat, GetAliasRequest, ListVersionsRequest, RegisterVersionRequest, SetAliasRequest, Source,
        UploadRequest,
    },
};
use tonic::{Code, Status};

/// Requires a code, and words that the message must hold.
fn expect(what: &str, status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code(), code, "{what}: {status}");
    for word in words {
        assert!(status.message().contains(word), "{what}: {:?} lacks {word:?}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_refused_with_the_field_and_the_way_out() {
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = platform.clients.clone();
    story::register(&clients, csv(&table::rows(0..24, 24)), "learn").await;
    let (_, version) = story::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    story::promote_and_deploy(&clients, version.version).await;
    story::set_policy(&clients, |_| ()).await;

    inference(&clients).await;
    datasets(&clients).await;
    revisions(&clients).await;
    names_and_versions(&clients).await;
    nothing_has_changed(&clients).await;
}

fn good() -> ModelInferRequest {
    story::request(&table::rows(0..1, 24)[..1])
}

/// The good request with its input of that name changed, together with its raw contents.
fn changed(name: &str, change: impl FnOnce(&mut InferInputTensor, &mut Vec<u8>)) -> ModelInferRequest {
    let mut request = good();
    let place = request.inputs.iter().position(|input| input.name == name).expect("an input");
    let mut raw = request.raw_input_contents[place].to_vec();
    change(&mut request.inputs[place], &mut raw);
    request.raw_input_contents[place] = raw.into();
    request
}

async fn inference(clients: &Clients) {
    let mut replica = clients.replica(0);
    replica.model_infer(good()).await.expect("the good request is answered");

    let unknown = changed("region", |input, _| input.name = "regoin".into());
    let mut missing = good();
    missing.inputs.remove(1);
    missing.raw_input_contents.remove(1);
    let dtype = changed("temperature", |input, raw| {
        input.datatype = "BYTES".into();
        *raw = [&3_u32.to_le_bytes()[..], b"hot"].concat();
    });
    let shape = changed("temperature", |input, _| input.shape = vec![1, 2]);
    let length = changed("temperature", |_, raw| raw.truncate(5));
    let nan = changed("temperature", |_, raw| *raw = f64::NAN.to_le_bytes().to_vec());
    let infinite = changed("basket", |_, raw| *raw = f64::INFINITY.to_le_bytes().to_vec());
    let model = ModelInferRequest { model_name: "nobody".into(), ..good() };
    let version = ModelInferRequest { model_version: "77".into(), ..good() };
    let cases = [
        ("unknown feature", unknown, Code::InvalidArgument, vec!["regoin"]),
        ("missing feature", missing, Code::InvalidArgument, vec!["temperature"]),
        ("wrong dtype", dtype, Code::InvalidArgument, vec!["temperature", "FP64", "BYTES"]),
        ("wrong shape", shape, Code::InvalidArgument, vec!["temperature"]),
        ("wrong length", length, Code::InvalidArgument, vec!["temperature"]),
        ("NaN where nothing was missing", nan, Code::InvalidArgument, vec!["temperature", "NaN"]),
        ("infinity", infinite, Code::InvalidArgument, vec!["basket"]),
        ("unknown model", model, Code::NotFound, vec!["nobody"]),
        ("unknown version", version, Code::NotFound, vec!["77"]),
    ];
    for (what, request, code, words) in cases {
        let status = replica.model_infer(request).await.expect_err(what);
        expect(what, &status, code, &words);
    }
    let huge = changed("region", |_, raw| *raw = vec![0; 64 << 20]);
    let status = replica.max_encoding_message_size(usize::MAX).model_infer(huge).await.expect_err("too large");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument), "{status}");
    assert!(status.message().chars().any(|c| c.is_ascii_digit()), "the limit is named: {}", status.message());
}

async fn dataset(clients: &Clients, name: &str, csv: &str, time_column: &str) -> Result<(), Status> {
    let chunk = UploadRequest { chunk: csv.as_bytes().to_vec().into() };
    let blob = clients.artifacts().upload(tokio_stream::iter([chunk])).await.expect("stored").into_inner();
    let request = RegisterVersionRequest {
        idempotency_key: format!("{name}-{}", blob.digest),
        name: name.into(),
        sources: vec![Source { digest: blob.digest, format: FileFormat::Csv.into() }],
        time_column: time_column.into(),
        ..Default::default()
    };
    clients.datasets().register_version(request).await.map(|_| ())
}

async fn datasets(clients: &Clients) {
    let cases = [
        ("ragged row", "a,b\n1,2\n3\n", "", vec!["line 3"]),
        ("duplicate column", "a,a\n1,2\n", "", vec!["\"a\""]),
        ("no rows", "", "", vec!["nothing in it", "header"]),
        ("no such time column", "a,b\n1,2\n", "when", vec!["when"]),
    ];
    for (what, csv, time, words) in cases {
        let status = dataset(clients, DATASET, csv, time).await.expect_err(what);
        expect(what, &status, Code::InvalidArgument, &words);
    }
    let status = dataset(clients, "Bad Name", "a,b\n1,2\n", "").await.expect_err("a bad name");
    expect("bad name", &status, Code::InvalidArgument, &["name", "a-z"]);
    let missing = RegisterVersionRequest {
        idempotency_key: "missing blob".into(),
        name: DATASET.into(),
        sources: vec![Source { digest: rekindle_domain::Digest::of(b"?").to_string(), format: FileFormat::Csv.into() }],
        ..Default::default()
    };
    let status = clients.datasets().register_version(missing).await.expect_err("no such blob");
    expect("no such blob", &status, Code::NotFound, &["sha256:"]);
}

async fn revisions(clients: &Clients) {
    let stale = SetAliasRequest {
        model: MODEL.into(),
        alias: "champion".into(),
        version: 1,
        expected_revision: 41,
        by: "story".into(),
        why: "stale".into(),
    };
    let status = clients.models().set_alias(stale).await.expect_err("stale");
    expect("stale alias", &status, Code::Aborted, &["41", "champion"]);
    let mut policy =
        clients.orchestrator().get_policy(GetPolicyRequest { model: MODEL.into() }).await.expect("set").into_inner();
    policy.on_drift = false;
    let request = SetPolicyRequest { policy: Some(policy), expected_revision: 41 };
    let status = clients.orchestrator().set_policy(request).await.expect_err("stale");
    expect("stale policy", &status, Code::Aborted, &["41"]);
}

async fn names_and_versions(clients: &Clients) {
    let deploy = |model: &str, version| DeployRequest {
        idempotency_key: format!("{model}-{version}"),
        model: model.into(),
        version,
        by: "story".into(),
        ..Default::default()
    };
    let status = clients.orchestrator().deploy(deploy(MODEL, 77)).await.expect_err("no such version");
    expect("unknown version", &status, Code::NotFound, &["77"]);
    let status = clients.orchestrator().deploy(deploy("no/model", 1)).await.expect_err("no name");
    expect("not a name", &status, Code::InvalidArgument, &["model"]);

    // The same name and key again, with other content.
    let reused = RegisterVersionRequest {
        idempotency_key: "learn".into(),
        name: DATASET.into(),
        description: "something else".into(),
        sources: vec![Source { digest: rekindle_domain::Digest::of(b"?").to_string(), format: FileFormat::Csv.into() }],
        ..Default::default()
    };
    let status = clients.datasets().register_version(reused).await.expect_err("the key was used");
    expect("reused key", &status, Code::AlreadyExists, &["learn"]);
}

async fn nothing_has_changed(clients: &Clients) {
    let request = ListVersionsRequest { name: DATASET.into(), ..Default::default() };
    let versions = clients.datasets().list_versions(request).await.expect("listed").into_inner().versions;
    assert_eq!(versions.len(), 1);
    let request = GetAliasRequest { model: MODEL.into(), alias: "champion".into() };
    let champion = clients.models().get_alias(request).await.expect("set").into_inner();
    assert_eq!((champion.version, champion.revision), (1, 1));
    let policy =
        clients.orchestrator().get_policy(GetPolicyRequest { model: MODEL.into() }).await.expect("set").into_inner();
    assert!(policy.on_drift);
    story::deployed(clients, 1).await;
    // One good request was answered, and nothing else reached the log.
    rekindle_testkit::eventually("the good request is captured", async || {
        let request = GetCaptureStatusRequest { model: MODEL.into() };
        let status = clients.monitor().get_capture_status(request).await.map_err(|s| s.to_string())?.into_inner();
        assert!(status.predictions <= 1, "{status:?}");
        if status.predictions == 1 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}
