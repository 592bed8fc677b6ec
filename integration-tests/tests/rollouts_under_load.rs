//! Ten rolling redeploys and two that fail, under a steady load over three replicas: every request is answered once, none with an error.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rekindle_domain::Digest;
use rekindle_integration_tests::{
    Clients, Platform, Wiring,
    story::{self, MODEL},
    table::{self, Row, csv},
};
use rekindle_model::Bundle;
use rekindle_proto::{
    inference::ModelInferResponse,
    monitor::GetCaptureStatusRequest,
    registry::{
        DownloadRequest, GetModelVersionRequest, RegisterModelVersionRequest, UploadRequest,
        get_model_version_request::Which,
    },
};
use rekindle_testkit::eventually;
use tokio::task::JoinSet;

const REPLICAS: usize = 3;
const SENDERS: usize = 6;

/// What the senders saw.
#[derive(Debug, Default)]
struct Seen {
    sent: AtomicU64,
    answered: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost() {
    let platform = Platform::start(Wiring::Embedded, REPLICAS).await;
    let clients = platform.clients.clone();
    story::register(&clients, csv(&table::rows(0..48, 48)), "learn").await;
    let (_, first) = story::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    let (_, second) = story::train_with_seed(&clients, "01890000-0000-7000-8000-000000000002", 8).await;
    story::promote_and_deploy(&clients, first.version).await;
    // For its rollout alone: nothing but the calls below starts one.
    story::set_policy(&clients, |policy| {
        policy.on_drift = false;
        policy.on_degradation = false;
    })
    .await;

    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let mut senders = JoinSet::new();
    for n in 0..SENDERS {
        senders.spawn(send(clients.clone(), n, Arc::clone(&stop), Arc::clone(&seen)));
    }
    for n in 0..10 {
        let version = if n % 2 == 0 { second.version } else { first.version };
        let before = seen.answered.load(Ordering::SeqCst);
        story::deploy(&clients, version, &format!("redeploy-{n}")).await;
        story::deployed(&clients, version).await;
        assert!(seen.answered.load(Ordering::SeqCst) > before, "the load goes on during redeploy {n}");
    }
    let corrupt = corrupt_version(&clients, &platform).await;
    let reason = returns_to(&clients, corrupt, first.version, "corrupt").await;
    assert!(reason.contains("is corrupt"), "{reason}");
    let cold = version_that_does_not_warm_up(&clients, first.version).await;
    let reason = returns_to(&clients, cold, first.version, "cold").await;
    assert!(reason.contains("the first prediction is not finite"), "{reason}");

    stop.store(true, Ordering::SeqCst);
    let mut by_version = BTreeMap::<String, u64>::new();
    while let Some(counts) = senders.join_next().await {
        for (version, count) in counts.expect("no sender saw an error") {
            *by_version.entry(version).or_default() += count;
        }
    }
    let (sent, answered) = (seen.sent.load(Ordering::SeqCst), seen.answered.load(Ordering::SeqCst));
    println!("{sent} requests, {answered} answered, by version {by_version:?}");
    assert_eq!(sent, answered);
    assert_eq!(by_version.keys().collect::<Vec<_>>(), ["1", "2"], "only healthy versions ever answered");
    assert!(by_version.values().all(|&count| count > 0));
    eventually("each answer is in the log once, or declared lost", async || {
        let request = GetCaptureStatusRequest { model: MODEL.into() };
        let status = clients.monitor().get_capture_status(request).await.map_err(|s| s.to_string())?.into_inner();
        let logged = status.predictions + status.lost;
        assert!(logged <= answered, "counted twice: {status:?}");
        if logged == answered { Ok(()) } else { Err(format!("{status:?} of {answered}")) }
    })
    .await;
}

/// Sends one request after another, each to the next replica, until told to stop. Panics at the first error. Returns how many each version
/// answered.
async fn send(clients: Clients, sender: usize, stop: Arc<AtomicBool>, seen: Arc<Seen>) -> BTreeMap<String, u64> {
    let rows = table::rows(48..49, 48);
    let mut replicas: Vec<_> = (0..REPLICAS).map(|index| clients.replica(index)).collect();
    let mut by_version = BTreeMap::new();
    let mut n = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        let row: &[Row] = std::slice::from_ref(&rows[usize::try_from(n).expect("few") % rows.len()]);
        let mut request = story::request(row);
        request.id = format!("{sender}-{n}");
        let replica = (sender + usize::try_from(n).expect("few")) % REPLICAS;
        seen.sent.fetch_add(1, Ordering::SeqCst);
        let answer = replicas[replica].model_infer(request).await.expect("every request is answered").into_inner();
        check(&answer, &format!("{sender}-{n}"));
        seen.answered.fetch_add(1, Ordering::SeqCst);
        *by_version.entry(answer.model_version).or_default() += 1;
        n += 1;
    }
    by_version
}

fn check(answer: &ModelInferResponse, id: &str) {
    assert_eq!(answer.id, id, "the answer is to this request");
    let place = answer.outputs.iter().position(|output| output.name == "probability").expect("an output");
    let bytes: [u8; 4] = answer.raw_output_contents[place][..].try_into().expect("one element");
    assert!((0.0..=1.0).contains(&f32::from_le_bytes(bytes)));
}

/// Deploys a version that cannot be served, and sees every replica back on the stable one. Returns what the deployment gives as its reason.
async fn returns_to(clients: &Clients, bad: u32, stable: u32, key: &str) -> String {
    story::deploy(clients, bad, key).await;
    let deployment = story::at_rest(clients).await;
    assert_eq!(deployment.last_outcome, "returned", "{}", deployment.reason);
    story::deployed(clients, stable).await;
    deployment.reason
}

/// A registered version of which one blob is overwritten in the store before anybody fetched it.
async fn corrupt_version(clients: &Clients, platform: &Platform) -> u32 {
    let (_, version) = story::train_with_seed(clients, "01890000-0000-7000-8000-000000000003", 99).await;
    let manifest = download(clients, &version.bundle_digest).await;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("a manifest");
    let weights: Digest = manifest["blobs"]["weights"]["digest"].as_str().expect("text").parse().expect("a digest");
    let hex = weights.hex();
    let file = platform.data_dir().join("objects/blobs/sha256").join(&hex[..2]).join(&hex);
    let mut bytes = std::fs::read(&file).expect("the blob is a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 0xff;
    std::fs::write(&file, bytes).expect("overwritten");
    version.version
}

/// A registered version whose bytes are intact and whose weights are numbers, but too large to calculate with.
async fn version_that_does_not_warm_up(clients: &Clients, like: u32) -> u32 {
    let request = GetModelVersionRequest { model: MODEL.into(), which: Some(Which::Version(like)) };
    let version = clients.models().get_model_version(request).await.expect("registered").into_inner();
    let digest: Digest = version.bundle_digest.parse().expect("a digest");
    let fetch =
        |digest: Digest| async move { Ok::<_, std::io::Error>(download(clients, &digest.to_string()).await.into()) };
    let bundle = Bundle::load(&digest, fetch).await.expect("intact");
    let mut blobs = bundle.blobs.clone();
    let weights = blobs.get_mut("weights").expect("weights");
    *weights = overflowing(weights).into();
    let bundle = Bundle::seal(bundle.manifest.clone(), blobs);
    for part in bundle.parts().expect("parts") {
        let stream = tokio_stream::iter([UploadRequest { chunk: part }]);
        clients.artifacts().upload(stream).await.expect("stored");
    }
    let request = RegisterModelVersionRequest {
        idempotency_key: "cold".into(),
        model: MODEL.into(),
        bundle_digest: bundle.digest().expect("a digest").to_string(),
        description: "weights that overflow".into(),
    };
    clients.models().register_model_version(request).await.expect("registered").into_inner().version
}

/// The safetensors (an 8-byte little-endian header length, the header, then the elements) with every element replaced by a largest
/// number. Their signs are mixed, so that the layers after the first one take infinity from infinity.
fn overflowing(weights: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(weights[..8].try_into().expect("8 bytes"));
    let data = 8 + usize::try_from(header).expect("small");
    let largest = |element: usize| if element % 5 < 2 { f32::MIN } else { f32::MAX };
    let elements = (0..(weights.len() - data) / size_of::<f32>()).flat_map(|element| largest(element).to_le_bytes());
    weights[..data].iter().copied().chain(elements).collect()
}

async fn download(clients: &Clients, digest: &str) -> Vec<u8> {
    let mut chunks =
        clients.artifacts().download(DownloadRequest { digest: digest.into() }).await.expect("stored").into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = chunks.message().await.expect("whole") {
        bytes.extend_from_slice(&message.chunk);
    }
    bytes
}
