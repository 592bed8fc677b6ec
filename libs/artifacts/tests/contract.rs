//! One contract, kept by every kind of store: a folder, and a real S3-compatible server.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use rekindle_artifacts::{Artifacts, Config, Error};
use rekindle_domain::Digest;
use rekindle_testkit::s3::S3;

/// Larger than two parts of an upload, and nothing like its own repetition.
fn large() -> Bytes {
    (0..(20u32 << 20) / 4).flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect()
}

async fn keeps_the_contract(config: &Config) {
    let artifacts = Artifacts::open(config).await.expect("open");
    blobs(&artifacts).await;
    streams(&artifacts).await;
    named_objects(&artifacts).await;
    concurrent_writers_agree(&artifacts).await;
    sizes_are_bounded(config).await;
}

async fn blobs(artifacts: &Artifacts) {
    let bytes = Bytes::from_static(b"weights");
    let digest = Digest::of(&bytes);
    assert!(!artifacts.contains(&digest).await.expect("contains"));
    assert!(matches!(artifacts.get(&digest).await, Err(Error::NotFound { .. })));
    assert_eq!(artifacts.put(bytes.clone()).await.expect("put"), digest);
    assert_eq!(artifacts.put(bytes.clone()).await.expect("put again"), digest);
    assert!(artifacts.contains(&digest).await.expect("contains"));
    assert_eq!(artifacts.get(&digest).await.expect("get"), bytes);
    let empty = artifacts.put(Bytes::new()).await.expect("put nothing");
    assert_eq!(artifacts.get(&empty).await.expect("get nothing"), Bytes::new());
}

async fn streams(artifacts: &Artifacts) {
    for bytes in [Bytes::from_static(b"one small piece"), large()] {
        for _ in 0..2 {
            let mut writer = artifacts.writer().await.expect("writer");
            for piece in bytes.chunks(1_000_003) {
                writer.write(Bytes::copy_from_slice(piece)).await.expect("write");
            }
            let (digest, size) = writer.finish().await.expect("finish");
            assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
            assert_eq!(artifacts.get(&digest).await.expect("get"), bytes);
        }
    }
    let mut writer = artifacts.writer().await.expect("writer");
    writer.write(large().slice(1..)).await.expect("write");
    writer.abort().await.expect("abort");
    assert!(!artifacts.contains(&Digest::of(&large().slice(1..))).await.expect("contains"));
    let left = artifacts.sweep_staging(Utc::now() + TimeDelta::hours(1)).await.expect("sweep");
    assert_eq!(left, 0, "finished and aborted uploads leave nothing behind");
}

async fn named_objects(artifacts: &Artifacts) {
    let key = "captures/flight-delay/2013-01-01/segment.parquet";
    let digest = artifacts.put_object(key, Bytes::from_static(b"rows")).await.expect("put");
    assert_eq!(artifacts.put_object(key, Bytes::from_static(b"rows")).await.expect("same again"), digest);
    let other = artifacts.put_object(key, Bytes::from_static(b"other rows")).await;
    assert!(matches!(other, Err(Error::Exists { .. })), "{other:?}");
    assert_eq!(artifacts.get_object(key).await.expect("get"), "rows");
    assert_eq!(artifacts.get_object_verified(key, &digest).await.expect("get"), "rows");
    let wrong = artifacts.get_object_verified(key, &Digest::of(b"other rows")).await;
    assert!(matches!(wrong, Err(Error::Corrupt { .. })), "{wrong:?}");
    for key in ["../escape", "captures/../../escape", "captures//x", "blobs/sha256/00/0", "staging/x"] {
        let refused = artifacts.put_object(key, Bytes::new()).await;
        assert!(matches!(refused, Err(Error::InvalidKey { .. })), "{key}: {refused:?}");
    }
}

async fn concurrent_writers_agree(artifacts: &Artifacts) {
    let bytes = Bytes::from_static(b"the same from everyone");
    let puts = (0..8).map(|_| artifacts.put(bytes.clone()));
    for digest in futures::future::join_all(puts).await {
        assert_eq!(artifacts.get(&digest.expect("put")).await.expect("get"), bytes);
    }
    let offers = [b"a", b"b", b"c", b"d"].map(|offer| artifacts.put_object("outcomes/race", Bytes::from_static(offer)));
    let winners = futures::future::join_all(offers).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(winners, 1, "exactly one of different offers is kept");
}

async fn sizes_are_bounded(config: &Config) {
    let narrow = Artifacts::open(&Config { max_blob_bytes: 10, ..config.clone() }).await.expect("open");
    let eleven = Bytes::from_static(b"12345678901");
    let refused = narrow.put(eleven.clone()).await.expect_err("too large");
    assert!(refused.to_string().contains("artifacts.max_blob_bytes is 10"), "{refused}");
    let mut writer = narrow.writer().await.expect("writer");
    writer.write(eleven.slice(..6)).await.expect("fits");
    assert!(matches!(writer.write(eleven.slice(..6)).await, Err(Error::TooLarge { size: 12, .. })));
    let stored = Artifacts::open(config).await.expect("open").put(eleven).await.expect("fits");
    assert!(matches!(narrow.get(&stored).await, Err(Error::TooLarge { .. })), "reads are bounded too");
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("folder");
    keeps_the_contract(&Config::local(&folder.path().join("made/when/opened"))).await;
}

#[tokio::test]
async fn an_s3_store_keeps_the_contract() {
    let s3 = S3::start().await;
    keeps_the_contract(&s3.fresh_bucket()).await;
}

fn blob_file(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

#[tokio::test]
async fn a_corrupted_blob_is_detected_and_mended_by_the_next_put() {
    let folder = tempfile::tempdir().expect("folder");
    let artifacts = Artifacts::open(&Config::local(folder.path())).await.expect("open");
    let good = Bytes::from_static(b"0123456789");
    let digest = artifacts.put(good.clone()).await.expect("put");
    for bad in [&b"012345678x"[..], b"0123", b""] {
        std::fs::write(blob_file(folder.path(), &digest), bad).expect("flip");
        match artifacts.get(&digest).await {
            Err(Error::Corrupt { expected, actual, .. }) => {
                assert_eq!((expected, actual), (digest, Digest::of(bad)));
            }
            other => panic!("corruption went unnoticed: {other:?}"),
        }
        artifacts.put(good.clone()).await.expect("put mends");
        assert_eq!(artifacts.get(&digest).await.expect("mended"), good);
    }
}

#[tokio::test]
async fn addresses_that_cannot_work_are_refused_with_a_hint() {
    for (url, hint) in [("", "file:///"), ("file://relative", "absolute"), ("https://bucket", "s3://bucket/prefix")] {
        let error = Artifacts::open(&Config { url: url.to_owned(), ..Config::default() }).await.expect_err(url);
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_a_transient_error_within_the_time_given() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let config = Config {
        url: "s3://bucket".to_owned(),
        endpoint: Some(format!("http://{closed}")),
        access_key_id: Some("a".to_owned()),
        secret_access_key: Some("b".to_owned()),
        allow_http: true,
        max_retries: 1,
        ..Config::default()
    };
    let error = Artifacts::open(&config).await.expect_err("nobody listens");
    assert!(error.is_transient(), "{error:?}");
}

#[test]
fn secrets_are_not_printed() {
    let config = Config { secret_access_key: Some("hunter2".to_owned()), ..Config::default() };
    assert!(!format!("{config:?}").contains("hunter2"));
}
