//! One contract suite for every kind of store: a local folder and a real S3-compatible server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures::TryStreamExt as _;
use rekindle_artifacts::{Artifacts, BlobReader, Config, Error};
use rekindle_domain::Digest;
use rekindle_testkit::s3::S3;

/// Larger than two parts of an upload, without repetition.
fn large() -> Bytes {
    (0..(20u32 << 20) / 4).flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect()
}

async fn check_contract(config: &Config) {
    let artifacts = Artifacts::open(config).await.expect("open");
    blobs(&artifacts).await;
    streams(&artifacts).await;
    chunked_reads(&artifacts).await;
    staged_objects(&artifacts).await;
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

async fn read_all(mut reader: BlobReader) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.chunk().await? {
        assert!(!chunk.is_empty() && chunk.len() <= 4 << 20);
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(reader.size(), bytes.len() as u64);
    assert!(reader.chunk().await?.is_none(), "the end stays the end");
    Ok(bytes)
}

async fn chunked_reads(artifacts: &Artifacts) {
    for bytes in [Bytes::new(), Bytes::from_static(b"small"), large().slice(..8 << 20), large()] {
        let digest = artifacts.put(bytes.clone()).await.expect("put");
        let read = read_all(artifacts.reader(&digest).await.expect("reader")).await.expect("read");
        assert!(read == bytes);
        assert_eq!(artifacts.verify(&digest).await.expect("verified"), bytes.len() as u64);
    }
    let absent = artifacts.reader(&Digest::of(b"absent")).await;
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
}

async fn staged_objects(artifacts: &Artifacts) {
    for bytes in [Bytes::from_static(b"a few rows"), large().slice(3..)] {
        let digest = Digest::of(&bytes);
        for _ in 0..2 {
            let mut writer = artifacts.writer().await.expect("writer");
            writer.write(bytes.clone()).await.expect("write");
            assert_eq!(writer.finish_staged().await.expect("staged"), (digest, bytes.len() as u64));
        }
        assert!(!artifacts.contains(&digest).await.expect("contains"), "a staged object is no blob");
        let read = read_all(artifacts.staged_reader(&digest).await.expect("reader")).await.expect("read");
        assert!(read == bytes);
        artifacts.discard_staged(&digest).await.expect("discarded");
        artifacts.discard_staged(&digest).await.expect("discarded again");
        assert!(matches!(artifacts.staged_reader(&digest).await, Err(Error::NotFound { .. })));
    }
    let mut writer = artifacts.writer().await.expect("writer");
    writer.write(Bytes::from_static(b"abandoned")).await.expect("write");
    let (digest, _) = writer.finish_staged().await.expect("staged");
    assert_eq!(artifacts.sweep_staging(Utc::now() - TimeDelta::hours(1)).await.expect("sweep"), 0, "it is recent");
    assert_eq!(artifacts.sweep_staging(Utc::now() + TimeDelta::hours(1)).await.expect("sweep"), 1);
    assert!(matches!(artifacts.staged_reader(&digest).await, Err(Error::NotFound { .. })));
}

async fn named_objects(artifacts: &Artifacts) {
    let key = "captures/flight-delay/2013-01-01/segment.parquet";
    let digest = artifacts.put_object(key, Bytes::from_static(b"rows")).await.expect("put");
    assert_eq!(artifacts.put_object(key, Bytes::from_static(b"rows")).await.expect("same again"), digest);
    let other = artifacts.put_object(key, Bytes::from_static(b"other rows")).await;
    assert!(matches!(other, Err(Error::Exists { .. })), "{other:?}");
    assert_eq!(artifacts.get_object_verified(key, &digest).await.expect("get"), "rows");
    let wrong = artifacts.get_object_verified(key, &Digest::of(b"other rows")).await;
    assert!(matches!(wrong, Err(Error::Corrupt { .. })), "{wrong:?}");
    let listed = async |age: TimeDelta| {
        let listed = artifacts.objects("captures", Utc::now() - age).expect("a folder");
        listed.try_collect::<Vec<_>>().await.expect("listed")
    };
    assert_eq!(listed(TimeDelta::hours(-1)).await, [key]);
    assert_eq!(listed(TimeDelta::hours(1)).await, Vec::<String>::new(), "it is younger");
    for _ in 0..2 {
        artifacts.delete_object(key).await.expect("deleted, or deleted before");
    }
    assert!(matches!(artifacts.get_object_verified(key, &digest).await, Err(Error::NotFound { .. })));
    assert!(matches!(artifacts.delete_object("blobs/sha256/00/0").await, Err(Error::InvalidKey { .. })));
    for key in ["../escape", "captures/../../escape", "captures//x", "blobs/sha256/00/0", "staging/x"] {
        let refused = artifacts.put_object(key, Bytes::new()).await;
        assert!(matches!(refused, Err(Error::InvalidKey { .. })), "{key}: {refused:?}");
    }
}

async fn concurrent_writers_agree(artifacts: &Artifacts) {
    let bytes = Bytes::from_static(b"the same from every writer");
    let puts = (0..8).map(|_| artifacts.put(bytes.clone()));
    for digest in futures::future::join_all(puts).await {
        assert_eq!(artifacts.get(&digest.expect("put")).await.expect("get"), bytes);
    }
    let offers = [b"a", b"b", b"c", b"d"].map(|offer| artifacts.put_object("outcomes/race", Bytes::from_static(offer)));
    let winners = futures::future::join_all(offers).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(winners, 1, "exactly one of the different writes succeeds");
}

async fn sizes_are_bounded(config: &Config) {
    let narrow = Artifacts::open(&Config { max_blob_bytes: 10, ..config.clone() }).await.expect("open");
    let eleven = Bytes::from_static(b"12345678901");
    let refused = narrow.put(eleven.clone()).await.expect_err("too large");
    assert!(refused.to_string().contains("artifacts.max_blob_bytes = 10"), "{refused}");
    let mut writer = narrow.writer().await.expect("writer");
    writer.write(eleven.slice(..6)).await.expect("fits");
    assert!(matches!(writer.write(eleven.slice(..6)).await, Err(Error::TooLarge { size: 12, .. })));
    let stored = Artifacts::open(config).await.expect("open").put(eleven).await.expect("fits");
    assert!(matches!(narrow.get(&stored).await, Err(Error::TooLarge { .. })), "reads are bounded too");
}

#[tokio::test]
async fn a_local_folder_fulfils_the_contract() {
    let folder = tempfile::tempdir().expect("folder");
    check_contract(&Config::local(&folder.path().join("created/when/opened"))).await;
}

#[tokio::test]
async fn an_s3_store_fulfils_the_contract() {
    let s3 = S3::start().await;
    check_contract(&s3.fresh_bucket()).await;
}

#[tokio::test]
async fn incomplete_uploads_of_a_crashed_process_are_swept() {
    let folder = tempfile::tempdir().expect("folder");
    let artifacts = Artifacts::open(&Config::local(folder.path())).await.expect("open");
    let mut writer = artifacts.writer().await.expect("writer");
    writer.write(large()).await.expect("write");
    std::mem::forget(writer);
    let files = || std::fs::read_dir(folder.path().join("staging")).expect("a folder").count();
    assert_eq!(files(), 1, "a crash leaves the parts written");
    assert_eq!(artifacts.sweep_staging(Utc::now() - TimeDelta::hours(1)).await.expect("sweep"), 0, "they are recent");
    assert_eq!(artifacts.sweep_staging(Utc::now() + TimeDelta::hours(1)).await.expect("sweep"), 1);
    assert_eq!(files(), 0);
}

fn blob_file(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

#[tokio::test]
async fn a_corrupt_blob_is_detected_and_repaired_by_the_next_put() {
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
            other => panic!("corruption was not detected: {other:?}"),
        }
        artifacts.put(good.clone()).await.expect("put repairs");
        assert_eq!(artifacts.get(&digest).await.expect("repaired"), good);
    }
}

#[tokio::test]
async fn a_corrupt_large_blob_is_detected_in_chunks_and_repaired_by_the_next_write() {
    let folder = tempfile::tempdir().expect("folder");
    let artifacts = Artifacts::open(&Config::local(folder.path())).await.expect("open");
    let digest = artifacts.put(large()).await.expect("put");
    let mut bad = large().to_vec();
    *bad.last_mut().expect("bytes") ^= 1;
    std::fs::write(blob_file(folder.path(), &digest), &bad).expect("flip");
    let mut reader = artifacts.reader(&digest).await.expect("reader");
    let mut read = 0;
    let error = loop {
        match reader.chunk().await {
            Ok(chunk) => read += chunk.expect("the last chunk is withheld").len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Corrupt { .. }) && read < bad.len(), "{error}");
    let mut writer = artifacts.writer().await.expect("writer");
    writer.write(large()).await.expect("write");
    writer.finish().await.expect("finish repairs");
    assert_eq!(artifacts.verify(&digest).await.expect("repaired"), bad.len() as u64);
}

#[tokio::test]
async fn an_invalid_url_is_refused_with_the_expected_form() {
    for (url, expected) in [("", "file:///"), ("file://relative", "absolute"), ("https://bucket", "s3://bucket/prefix")]
    {
        let error = Artifacts::open(&Config { url: url.to_owned(), ..Config::default() }).await.expect_err(url);
        assert!(error.to_string().contains("artifacts.url: is ") && error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_unreachable_store_is_a_transient_error() {
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
    let error = Artifacts::open(&config).await.expect_err("the port is closed");
    assert!(error.is_transient(), "{error:?}");
}

#[test]
fn all_violations_of_the_configuration_are_reported_at_once() {
    let config = Config {
        url: "s3:///prefix".to_owned(),
        endpoint: Some("http://store:9000".to_owned()),
        access_key_id: Some("a".to_owned()),
        max_blob_bytes: 0,
        request_timeout: Duration::ZERO,
        ..Config::default()
    };
    let violations = config.validate().expect_err("five violations");
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["url", "endpoint", "secret_access_key", "max_blob_bytes", "request_timeout"]);
    assert_eq!(
        Config { allow_http: true, ..Config { endpoint: config.endpoint, ..Config::default() } }.validate(),
        Ok(())
    );
}

#[test]
fn secrets_are_not_printed() {
    let config = Config { secret_access_key: Some("hunter2".to_owned()), ..Config::default() };
    assert!(!format!("{config:?}").contains("hunter2"));
}
