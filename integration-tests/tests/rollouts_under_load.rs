//! Ten rolling redeploys and two rollouts that fail, under a steady load on three replicas: every request is answered once, without error.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rekindle_bundle::Bundle;
use rekindle_client::{
    inference::{Elements, InferRequest, InferResponse},
    registry::{UploadPurpose, VersionRegistration},
};
use rekindle_domain::{Digest, deployment_status::RolloutOutcome, model_version::VersionSelector};
use rekindle_integration_tests::{
    Clients, Platform, Wiring,
    scenario::{self, described},
    table::{self, Row, csv},
};
use rekindle_testkit::eventually;
use tokio::task::JoinSet;

const REPLICAS: usize = 3;
const SENDERS: usize = 6;

/// Requests of all senders.
#[derive(Debug, Default)]
struct Seen {
    sent: AtomicU64,
    answered: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost() {
    let platform = Platform::start(Wiring::Embedded, REPLICAS).await;
    let clients = platform.clients.clone();
    scenario::register(&clients, csv(&table::rows(0..48, 48)), "training rows").await;
    let (_, first) = scenario::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    let (_, second) = scenario::train_with_seed(&clients, "01890000-0000-7000-8000-000000000002", 8).await;
    scenario::promote_and_deploy(&clients, first.version).await;
    // For its rollout strategy: it starts no workflow.
    scenario::set_policy(&clients, |policy| policy.triggers.clear()).await;

    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let mut senders = JoinSet::new();
    for n in 0..SENDERS {
        senders.spawn(send(clients.clone(), n, Arc::clone(&stop), Arc::clone(&seen)));
    }
    for n in 0..10 {
        let version = if n % 2 == 0 { second.version } else { first.version };
        let before = seen.answered.load(Ordering::SeqCst);
        scenario::deploy(&clients, version, &format!("redeploy-{n}")).await;
        scenario::deployed(&clients, version).await;
        assert!(seen.answered.load(Ordering::SeqCst) > before, "requests are answered during redeploy {n}");
    }
    let corrupt = corrupt_version(&clients, &platform).await;
    let reason = returns_to(&clients, corrupt, first.version, "corrupt").await;
    assert!(reason.contains("is corrupt"), "{reason}");
    let cold = version_that_does_not_warm_up(&clients, first.version).await;
    let reason = returns_to(&clients, cold, first.version, "cold").await;
    assert!(reason.contains("the warm-up prediction is not finite"), "{reason}");

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
    eventually("each answer to be in the log once, or declared lost", async || {
        let status = clients.monitor().capture_status(&scenario::model()).await.map_err(described)?;
        let logged = status.predictions + status.lost;
        assert!(logged <= answered, "counted twice: {status:?}");
        if logged == answered { Ok(()) } else { Err(format!("{status:?} of {answered}")) }
    })
    .await;
}

/// Sends one request after another, each to the next replica, until `stop`. Panics at the first error. Returns the number of answers of
/// each version.
async fn send(clients: Clients, sender: usize, stop: Arc<AtomicBool>, seen: Arc<Seen>) -> BTreeMap<String, u64> {
    let rows = table::rows(48..49, 48);
    let replicas: Vec<_> = (0..REPLICAS).map(|index| clients.replica(index)).collect();
    let mut by_version = BTreeMap::new();
    let numbered = rows.iter().cycle().zip(replicas.iter().cycle().skip(sender % REPLICAS)).enumerate();
    for (n, (row, replica)) in numbered {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("{sender}-{n}");
        let row: &[Row] = std::slice::from_ref(row);
        let request = InferRequest { id: id.clone(), ..scenario::request(row) };
        seen.sent.fetch_add(1, Ordering::SeqCst);
        let answer = replica.infer(request).await.expect("every request is answered");
        check(&answer, &id);
        seen.answered.fetch_add(1, Ordering::SeqCst);
        *by_version.entry(answer.version).or_default() += 1;
    }
    by_version
}

fn check(answer: &InferResponse, id: &str) {
    assert_eq!(answer.id, id, "the answer is to this request");
    let output = answer.output("probability").expect("an output");
    let Elements::Fp32(probabilities) = &output.elements else { panic!("{output:?}") };
    assert!(matches!(probabilities[..], [probability] if (0.0..=1.0).contains(&probability)), "{output:?}");
}

/// Deploys a version that cannot be served, and waits until every replica serves the stable one again. Returns the reason of the deployment.
async fn returns_to(clients: &Clients, bad: u32, stable: u32, key: &str) -> String {
    scenario::deploy(clients, bad, key).await;
    let deployment = scenario::settled(clients).await;
    assert_eq!(deployment.outcome, Some(RolloutOutcome::Returned), "{}", deployment.reason);
    scenario::deployed(clients, stable).await;
    deployment.reason
}

/// A registered version of which one blob in the store is overwritten before a replica fetches it.
async fn corrupt_version(clients: &Clients, platform: &Platform) -> u32 {
    let (_, version) = scenario::train_with_seed(clients, "01890000-0000-7000-8000-000000000003", 99).await;
    let manifest = scenario::download(clients, version.bundle).await;
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

/// A registered version whose blobs are intact and whose weights are finite, but so large that predictions overflow.
async fn version_that_does_not_warm_up(clients: &Clients, like: u32) -> u32 {
    let registry = clients.registry();
    let selector = VersionSelector::Number(like);
    let version = registry.model_version(&scenario::model(), &selector).await.expect("registered");
    let fetch =
        |digest: Digest, _| async move { Ok::<Bytes, std::io::Error>(scenario::download(clients, digest).await) };
    let bundle = Bundle::load(&version.bundle, fetch).await.expect("intact");
    let mut blobs = bundle.blobs.clone();
    let weights = blobs.get_mut("weights").expect("weights");
    *weights = overflowing(weights).into();
    let bundle = Bundle::seal(bundle.manifest.clone(), blobs);
    for part in bundle.parts().expect("parts") {
        registry.upload_bytes(UploadPurpose::Blob, part).await.expect("stored");
    }
    let registration = VersionRegistration {
        idempotency_key: "cold".into(),
        model: scenario::model(),
        bundle: bundle.digest().expect("a digest"),
        description: "weights that overflow".into(),
    };
    registry.register_version(&registration).await.expect("registered").version
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
