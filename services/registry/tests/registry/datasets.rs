use std::time::Duration;

use rekindle_domain::Digest;
use rekindle_proto::registry::{
    ColumnKind, DatasetVersion, DownloadRequest, FileFormat, GetVersionRequest, ListDatasetsRequest,
    ListVersionsRequest, RegisterVersionRequest, Source, SourceColumns,
};
use rekindle_testkit::eventually;
use tonic::Code;

use crate::{
    on_both,
    sandbox::{Sandbox, blamed, key, reason, time},
};

on_both!(
    rows_are_ordered_cut_and_described,
    sources_follow_one_another,
    the_same_key_makes_one_version_and_another_key_another,
    lists_lead_through_all,
    blobs_come_back_as_they_went,
    a_raw_upload_is_removed_once_it_is_registered,
    a_refused_registration_keeps_its_upload,
    calls_with_one_key_share_an_upload,
    sources_that_are_blobs_are_kept,
    a_version_has_a_bounded_number_of_parents,
    a_stalled_download_ends,
    a_source_that_is_named_often_is_copied_once,
);

const FLIGHTS: &str = "when,distance,carrier,flight\n\
    2013-01-03 10:00:00,300,UA,12\n\
    2013-01-01 10:00:00,100,AA,11\n\
    2013-01-02 10:00:00,,UA,12\n";

/// More than the windows of a connection take.
const LARGE: usize = 32 << 20;

async fn a_stalled_download_ends(sandbox: Sandbox) {
    let digest = sandbox.upload(&vec![7; LARGE]).await;
    let impatient = sandbox.with_transfer_idle(Duration::from_millis(100)).await;
    let mut pause = Duration::from_millis(100);
    // A client that takes nothing for long enough, however slow the server.
    let (received, ended) = eventually("a download to stall", async || {
        let request = DownloadRequest { digest: digest.clone() };
        let mut download = impatient.blobs.clone().download(request).await.expect("begins").into_inner();
        tokio::time::sleep(pause).await;
        pause *= 2;
        let mut received = 0;
        loop {
            match download.message().await {
                Ok(Some(message)) => received += message.chunk.len(),
                Ok(None) => return Err("it was complete".to_owned()),
                Err(ended) => return Ok((received, ended)),
            }
        }
    })
    .await;
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended}");
    assert!(received < LARGE && ended.message().contains("registry.transfer_idle"), "{received} bytes: {ended}");
}

async fn a_source_that_is_named_often_is_copied_once(sandbox: Sandbox) {
    let mut request = sandbox.csv("often", "a\n1\n2\n").await;
    request.sources = vec![request.sources[0].clone(); 80];
    let made = sandbox.dataset(request).await;
    assert_eq!((made.rows, made.profile[0].distinct), (160, 2), "its rows count each time");
}

async fn a_version_has_a_bounded_number_of_parents(sandbox: Sandbox) {
    let parents = |count: u32| (0..count).map(|n| Digest::of(&n.to_le_bytes()).to_string()).collect::<Vec<_>>();
    let good = sandbox.csv("flights", "a\n1\n").await;
    let most = RegisterVersionRequest { idempotency_key: key(), parents: parents(6000), ..good.clone() };
    let made = sandbox.datasets.clone().register_version(most).await.expect("as many as allowed").into_inner();
    assert_eq!(made.parents.len(), 6000);
    assert_eq!(sandbox.events(1).await[0].data["parents"].as_array().map(Vec::len), Some(6000));
    let more = RegisterVersionRequest { idempotency_key: key(), parents: parents(6001), ..good };
    let refused = sandbox.datasets.clone().register_version(more).await.expect_err("one more");
    assert_eq!(blamed(&refused), "parents");
    assert!(refused.message().contains("has 6001: the limit registry.limits.parents is 6000"), "{refused}");
}

async fn rows_are_ordered_cut_and_described(sandbox: Sandbox) {
    let mut request = sandbox.csv("flights", FLIGHTS).await;
    request.time_column = "when".into();
    request.kinds.insert("flight".into(), ColumnKind::Categorical.into());
    request.until = Some(prost_types::Timestamp { seconds: 1_357_207_200, nanos: 0 }); // 2013-01-03 10:00, left out
    request.parents = vec![Digest::of(b"a segment").to_string()];
    let made = sandbox.dataset(request.clone()).await;
    assert_eq!((made.version, made.rows, made.time_column.as_str()), (1, 2, "when"));
    assert_eq!(time(made.time_min).to_rfc3339(), "2013-01-01T10:00:00+00:00");
    assert_eq!(time(made.time_max).to_rfc3339(), "2013-01-02T10:00:00+00:00");
    assert_eq!(made.parents, request.parents);
    let flight = made.columns.iter().find(|column| column.name == "flight").expect("the column");
    assert_eq!((flight.data_type.as_str(), flight.kind()), ("Utf8", ColumnKind::Categorical));
    let distance = made.profile.iter().find(|column| column.name == "distance").expect("the column");
    assert_eq!((distance.missing, distance.distinct, distance.mean), (1, 1, Some(100.0)));

    let blob = sandbox.artifacts.get(&made.blob_digest.parse().expect("a digest")).await.expect("stored");
    assert_eq!(blob.len() as u64, made.bytes);
    let table = rekindle_dataset::read_parquet(blob).expect("Parquet");
    assert_eq!(rekindle_dataset::content_digest(&table).to_string(), made.content_digest);

    let got = sandbox.datasets.clone().get_version(GetVersionRequest { name: "flights".into(), version: None }).await;
    assert_eq!(got.expect("there").into_inner(), made);
    let events = sandbox.events(1).await;
    assert_eq!(events[0].kind.ce_type(), "dev.rekindle.registry.dataset-version.registered.v1");
    assert_eq!(events[0].data["content_digest"], made.content_digest);
}

async fn sources_follow_one_another(sandbox: Sandbox) {
    let first = sandbox.dataset(sandbox.csv("first", "a,b\n1,x\n2,y\n").await).await;
    let mut both = sandbox.csv("both", "b,a,c\nz,3,9\n").await;
    let first_blob = first.blob_digest;
    both.sources.insert(0, Source { digest: first_blob.clone(), format: FileFormat::Parquet.into() });
    let common = RegisterVersionRequest {
        idempotency_key: key(),
        name: "common".into(),
        columns: SourceColumns::Common.into(),
        ..both.clone()
    };
    let names = |version: &DatasetVersion| version.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let both = sandbox.dataset(common).await;
    assert_eq!((names(&both), both.rows), (vec!["a".to_owned(), "b".to_owned()], 3));
    let mut any = sandbox.csv("any", "b,a,c\nz,3,9\n").await;
    any.sources.insert(0, Source { digest: first_blob, format: FileFormat::Parquet.into() });
    let any = sandbox.dataset(any).await;
    assert_eq!((names(&any), any.columns[2].nullable), (["a", "b", "c"].map(str::to_owned).to_vec(), true));
    let whole = sandbox.dataset(sandbox.csv("whole", "a,b\n1,x\n2,y\n3,z\n").await).await;
    assert_eq!(whole.content_digest, both.content_digest, "the digest is of the content, not of the files");
}

async fn the_same_key_makes_one_version_and_another_key_another(sandbox: Sandbox) {
    let request = sandbox.csv("flights", FLIGHTS).await;
    let calls = (0..8).map(|_| sandbox.dataset(request.clone()));
    let made = futures::future::join_all(calls).await;
    assert!(made.iter().all(|version| *version == made[0]), "{made:?}");

    let mut other = request.clone();
    other.description = "something else".into();
    let refused = sandbox.datasets.clone().register_version(other.clone()).await.expect_err("the key is taken");
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");

    other.idempotency_key = key();
    let again = sandbox.dataset(other).await;
    assert_eq!((again.version, &again.content_digest), (2, &made[0].content_digest));
    assert_eq!(sandbox.events(2).await.len(), 2);
}

async fn lists_lead_through_all(sandbox: Sandbox) {
    for name in ["c", "a", "b", "a", "a"] {
        sandbox.dataset(sandbox.csv(name, FLIGHTS).await).await;
    }
    let mut client = sandbox.datasets.clone();
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client.list_datasets(ListDatasetsRequest { page_size: 2, page_token }).await.expect("a page");
        let page = page.into_inner();
        seen.extend(page.datasets.into_iter().map(|dataset| (dataset.name, dataset.version)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [("a".to_owned(), 3), ("b".to_owned(), 1), ("c".to_owned(), 1)]);

    let request = ListVersionsRequest { name: "a".into(), page_size: 2, page_token: String::new() };
    let page = client.list_versions(request.clone()).await.expect("a page").into_inner();
    assert_eq!(page.versions.iter().map(|v| v.version).collect::<Vec<_>>(), [3, 2]);
    let request = ListVersionsRequest { page_token: page.next_page_token, ..request };
    let page = client.list_versions(request).await.expect("a page").into_inner();
    assert_eq!(page.versions.iter().map(|v| v.version).collect::<Vec<_>>(), [1]);
    assert_eq!(page.next_page_token, "");
}

async fn blobs_come_back_as_they_went(sandbox: Sandbox) {
    let bytes: Vec<u8> = (0..2_500_000u32).map(|n| (n % 251) as u8).collect();
    let digest = sandbox.upload(&bytes).await;
    assert_eq!(digest, Digest::of(&bytes).to_string());
    let mut chunks =
        sandbox.blobs.clone().download(DownloadRequest { digest }).await.expect("it is there").into_inner();
    let mut back = Vec::new();
    while let Some(chunk) = chunks.message().await.expect("a chunk") {
        assert!(chunk.chunk.len() <= 1 << 20);
        back.extend_from_slice(&chunk.chunk);
    }
    assert!(back == bytes);
}

async fn a_raw_upload_is_removed_once_it_is_registered(sandbox: Sandbox) {
    let request = sandbox.staged_csv("flights", FLIGHTS).await;
    let source = request.sources[0].digest.parse().expect("a digest");
    assert!(!sandbox.artifacts.contains(&source).await.expect("contains"), "a raw upload is no blob");
    sandbox.artifacts.staged_reader(&source).await.expect("staged");
    let made = sandbox.dataset(request.clone()).await;
    let removed = sandbox.artifacts.staged_reader(&source).await;
    assert!(matches!(removed, Err(rekindle_artifacts::Error::NotFound { .. })), "{removed:?}");
    let blob = made.blob_digest.parse().expect("a digest");
    assert_eq!(sandbox.artifacts.verify(&blob).await.expect("verified"), made.bytes);

    assert_eq!(sandbox.dataset(request.clone()).await, made, "a repeated call needs no upload");
    let other = RegisterVersionRequest { idempotency_key: key(), ..request };
    let refused = sandbox.datasets.clone().register_version(other).await.expect_err("the upload is gone");
    assert_eq!(reason(&refused, "digest"), ("BLOB_NOT_FOUND".to_owned(), source.to_string()));

    let parquet = sandbox.artifacts.get(&blob).await.expect("stored");
    let canonical = sandbox.stage(&parquet).await;
    let mut request = sandbox.csv("again", "").await;
    request.sources = vec![Source { digest: canonical.clone(), format: FileFormat::Parquet.into() }];
    let again = sandbox.dataset(request).await;
    assert_eq!((&again.blob_digest, &again.content_digest), (&canonical, &made.content_digest));
    assert!(sandbox.artifacts.contains(&blob).await.expect("contains"), "an upload in canonical form is not the blob");
}

async fn a_refused_registration_keeps_its_upload(sandbox: Sandbox) {
    let mut request = sandbox.staged_csv("flights", FLIGHTS).await;
    request.time_column = "carrier".into();
    let refused = sandbox.datasets.clone().register_version(request.clone()).await.expect_err("no timestamp");
    assert_eq!(blamed(&refused), "time_column");
    let corrected = RegisterVersionRequest { idempotency_key: key(), time_column: "when".into(), ..request };
    assert_eq!(sandbox.dataset(corrected).await.rows, 3);
}

async fn calls_with_one_key_share_an_upload(sandbox: Sandbox) {
    let request = sandbox.staged_csv("flights", FLIGHTS).await;
    let calls = (0..8).map(|_| sandbox.dataset(request.clone()));
    let made = futures::future::join_all(calls).await;
    assert!(made.iter().all(|version| *version == made[0]), "{made:?}");
}

async fn sources_that_are_blobs_are_kept(sandbox: Sandbox) {
    let request = sandbox.csv("flights", FLIGHTS).await;
    let source = request.sources[0].digest.parse().expect("a digest");
    sandbox.dataset(request).await;
    assert!(sandbox.artifacts.contains(&source).await.expect("contains"));
}
