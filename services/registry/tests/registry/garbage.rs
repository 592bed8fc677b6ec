//! Collections of blobs beside uploads and registrations, and checks of stored blobs.

use std::{
    collections::BTreeSet,
    fs::File,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use rekindle_domain::Digest;
use rekindle_proto::registry::{CollectGarbageRequest, CollectGarbageResponse, ScrubRequest};
use tonic::Code;

use crate::{
    on_both,
    sandbox::{Sandbox, bundle, reason},
};

on_both!(
    what_nothing_refers_to_is_deleted_after_the_grace_period,
    no_blob_is_lost_beside_uploads_and_registrations,
    a_blob_that_does_not_match_is_moved_and_can_be_uploaded_again
);

fn file(sandbox: &Sandbox, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    sandbox.folder.path().join("artifacts/blobs/sha256").join(&hex[..2]).join(hex)
}

/// As if a blob had been stored so long ago.
fn age(sandbox: &Sandbox, digest: &str, days: u64) {
    let file = File::options().write(true).open(file(sandbox, digest)).expect("it is stored");
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60)).expect("a file of ours");
}

async fn collect(sandbox: &Sandbox, dry_run: bool) -> CollectGarbageResponse {
    let request = CollectGarbageRequest { dry_run, grace: None };
    sandbox.blobs.clone().collect_garbage(request).await.expect("collected").into_inner()
}

/// The digests of the blobs in the store.
fn stored(sandbox: &Sandbox) -> BTreeSet<String> {
    let folders = std::fs::read_dir(sandbox.folder.path().join("artifacts/blobs/sha256")).expect("a folder");
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.expect("an entry").path()).expect("a folder"));
    files.map(|file| format!("sha256:{}", file.expect("an entry").file_name().to_string_lossy())).collect()
}

async fn what_nothing_refers_to_is_deleted_after_the_grace_period(sandbox: Sandbox) {
    let version = sandbox.version("churn", 1).await;
    let dataset = sandbox.dataset(sandbox.staged_csv("trips", "a,b\n1,2\n").await).await;
    let evaluation = sandbox.upload(b"{}").await;
    let outputs = [("evaluation".to_owned(), evaluation.clone())].into();
    let run = sandbox.run("flights", vec![]).await;
    let mut report = rekindle_proto::registry::ReportRunRequest {
        id: run.id,
        report: rekindle_proto::registry::RunReport::Running.into(),
        ..Default::default()
    };
    sandbox.runs.clone().report_run(report.clone()).await.expect("started");
    report.report = rekindle_proto::registry::RunReport::Finished.into();
    sandbox
        .runs
        .clone()
        .report_run(rekindle_proto::registry::ReportRunRequest { outputs, ..report })
        .await
        .expect("ended");
    // The sandbox has uploaded an empty source, too.
    let empty = Digest::of(b"").to_string();
    let orphans = [sandbox.upload(b"orphan").await, sandbox.upload(b"recent").await, sandbox.upload(b"again").await];
    let kept = stored(&sandbox);
    assert!([&version.bundle_digest, &dataset.blob_digest].iter().all(|digest| kept.contains(*digest)), "{kept:?}");
    kept.iter().for_each(|digest| age(&sandbox, digest, 40));
    age(&sandbox, &orphans[1], 20);
    // What is uploaded again is as new.
    sandbox.upload(b"again").await;

    let found = collect(&sandbox, true).await;
    assert_eq!((found.blobs, found.recent, found.deleted, found.deleted_bytes), (kept.len() as u64, 2, 2, 6));
    assert_eq!(stored(&sandbox), kept, "a dry run deletes nothing");
    assert_eq!(collect(&sandbox, false).await, found);
    let left: BTreeSet<_> = kept.into_iter().filter(|digest| *digest != orphans[0] && *digest != empty).collect();
    assert_eq!(stored(&sandbox), left);
    let again = collect(&sandbox, false).await;
    assert_eq!((again.blobs, again.deleted), (left.len() as u64, 0));

    let short = CollectGarbageRequest { dry_run: false, grace: Some(prost_types::Duration { seconds: 60, nanos: 0 }) };
    let refused = sandbox.blobs.clone().collect_garbage(short).await.expect_err("too short");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

/// Whoever has uploaded a bundle long ago registers it while blobs are collected: either it is registered and all of it is there, or the call
/// says what to upload again. For as many seconds as REKINDLE_GARBAGE_SECONDS says.
async fn no_blob_is_lost_beside_uploads_and_registrations(sandbox: Sandbox) {
    const WRITERS: u64 = 8;
    const BUNDLES: u64 = 6;
    /// More than a writer has bundles.
    const APART: u64 = 1 << 32;
    let seconds = std::env::var("REKINDLE_GARBAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    let ends = AtomicBool::new(false);
    let deleted = AtomicU64::new(0);
    let collector = async {
        while !ends.load(Ordering::Relaxed) {
            deleted.fetch_add(collect(&sandbox, false).await.deleted, Ordering::Relaxed);
        }
    };
    let writer = |writer: u64| {
        let sandbox = &sandbox;
        async move {
            let mut number = 0;
            while number < BUNDLES || Instant::now() < until {
                let bundle = bundle("", vec![], APART * writer + number);
                let digest = sandbox.bundle(&bundle).await;
                let orphan = sandbox.upload(format!("orphan {writer} {number}").as_bytes()).await;
                let manifest = bundle.manifest_bytes().expect("a manifest");
                let blobs = [digest].into_iter().chain(bundle.manifest.blobs.values().map(|blob| blob.digest));
                for digest in blobs.map(|digest| digest.to_string()).chain([orphan]) {
                    // Another writer may have the same part, and a collection may have taken it.
                    if let Ok(file) = File::options().write(true).open(file(sandbox, &digest)) {
                        file.set_modified(SystemTime::now() - Duration::from_secs(40 * 24 * 60 * 60)).expect("ours");
                    }
                }
                while let Err(refused) = sandbox.register("churn", &digest).await {
                    // One collection after the other keeps the database busy.
                    if refused.code() == Code::Unavailable {
                        continue;
                    }
                    let missing = ["BUNDLE_NOT_FOUND", "BUNDLE_INCOMPLETE", "BLOB_NOT_FOUND"];
                    let (reason, _) = reason(&refused, "digest");
                    assert!(missing.contains(&reason.as_str()), "{refused}");
                    sandbox.bundle(&bundle).await;
                    assert_eq!(sandbox.upload(&manifest).await, digest.to_string());
                }
                number += 1;
            }
            number
        }
    };
    let writers = async {
        let numbers = futures::future::join_all((0..WRITERS).map(writer)).await;
        ends.store(true, Ordering::Relaxed);
        numbers
    };
    let ((), numbers) = futures::join!(collector, writers);

    // Every registered bundle is whole, and nothing else is left.
    let mut referenced = BTreeSet::new();
    let seeds =
        (0..WRITERS).zip(&numbers).flat_map(|(writer, &all)| (0..all).map(move |number| APART * writer + number));
    for seed in seeds {
        let bundle = bundle("", vec![], seed);
        referenced.insert(Digest::of(&bundle.manifest_bytes().expect("a manifest")).to_string());
        referenced.extend(bundle.manifest.blobs.values().map(|blob| blob.digest.to_string()));
    }
    stored(&sandbox).iter().for_each(|digest| age(&sandbox, digest, 40));
    let deleted = deleted.into_inner() + collect(&sandbox, false).await.deleted;
    assert_eq!(stored(&sandbox), referenced);
    println!(
        "{} bundles registered by {WRITERS} writers, {deleted} blobs deleted beside them",
        numbers.iter().sum::<u64>()
    );
}

async fn a_blob_that_does_not_match_is_moved_and_can_be_uploaded_again(sandbox: Sandbox) {
    let digests: Vec<String> = futures::future::join_all((0..7_u8).map(|n| {
        let sandbox = &sandbox;
        async move { sandbox.upload(&[n; 100]).await }
    }))
    .await;
    std::fs::write(file(&sandbox, &digests[3]), [9; 100]).expect("a file of ours");
    let (mut blobs, mut corrupt, mut page_token) = (0, Vec::new(), String::new());
    loop {
        let request = ScrubRequest { page_size: 3, page_token };
        let found = sandbox.blobs.clone().scrub(request).await.expect("read").into_inner();
        blobs += found.blobs;
        corrupt.extend(found.corrupt);
        page_token = found.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((blobs, &corrupt[..]), (7, &digests[3..4]));
    assert!(!stored(&sandbox).contains(&digests[3]));
    let hex = digests[3].trim_start_matches("sha256:");
    let moved = std::fs::read_dir(sandbox.folder.path().join("artifacts/quarantine/sha256")).expect("a folder");
    let moved: Vec<PathBuf> = moved.map(|entry| entry.expect("an entry").path()).collect();
    assert!(moved.len() == 1 && moved[0].display().to_string().contains(hex), "{moved:?}");
    assert_eq!(std::fs::read(&moved[0]).expect("kept for an examination"), [9; 100]);
    assert_eq!(sandbox.upload(&[3; 100]).await, digests[3]);
    let all = sandbox.blobs.clone().scrub(ScrubRequest::default()).await.expect("read").into_inner();
    assert_eq!((all.blobs, all.corrupt), (7, vec![]));
}
