//! Memory of registering models does not grow with the number of registrations at the same time. One test, because the peak is that of the
//! process.

#[path = "../registry/sandbox.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod sandbox;

use bytes::Bytes;
use rekindle_bundle::{Bundle, manifest::WEIGHTS};

use self::sandbox::{Sandbox, blamed, bundle};

/// Bytes of the weights of a bundle.
const WEIGHTS_BYTES: usize = 24 << 20;
/// Registrations at the same time.
const AT_ONCE: usize = 25;
/// The bound on the growth of the peak: all bundles together are larger than twice this.
const GROWTH: u64 = 250 << 20;

/// The peak resident memory of this process in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("in kB") * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_wait_for_each_other() {
    let sandbox = Sandbox::on_sqlite().await;
    let Bundle { manifest, mut blobs } = bundle("", vec![], 1);
    blobs.insert(WEIGHTS.to_owned(), Bytes::from(vec![0; WEIGHTS_BYTES]));
    let digest = sandbox.bundle(&Bundle::seal(manifest, blobs)).await;
    let before = peak();
    let calls = (0..AT_ONCE).map(|number| {
        let (sandbox, digest) = (&sandbox, &digest);
        async move { sandbox.register(&format!("m{number}"), digest).await.expect_err("zeros are no weights") }
    });
    for refused in futures::future::join_all(calls).await {
        assert_eq!(blamed(&refused), "bundle_digest");
    }
    let grown = peak() - before;
    println!("the peak grew by {} MiB", grown >> 20);
    assert!(grown < GROWTH, "the peak grew by {} MiB", grown >> 20);
}
