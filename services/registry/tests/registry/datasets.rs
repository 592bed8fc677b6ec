use std::time::Duration;

use rekindle_domain::Digest;
use rekindle_proto::registry::{
    ColumnKind, ColumnRole, ColumnSchema, CompareVersionsRequest, DatasetVersion, DeleteDatasetRequest,
    DeleteModelRequest, DownloadRequest, FileFormat, GetVersionRequest, ListDatasetsRequest, ListVersionsRequest,
    PreviewVersionRequest, RegisterVersionRequest, ReportRunRequest, RestoreDatasetRequest, RunReport, Schema, Source,
    SourceColumns, UniqueKey, cell::Value,
};
use rekindle_testkit::eventually;
use tonic::Code;

use crate::{
    on_both, on_s3,
    sandbox::{Sandbox, blamed, bundle, key, reason, time},
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
    rows_that_break_rules_are_refused_by_their_number_or_recorded,
    rows_are_shown_without_sensitive_values,
    versions_are_compared,
    datasets_are_deleted_and_restored_unless_they_are_used,
);
on_s3!(
    rows_are_ordered_cut_and_described,
    blobs_come_back_as_they_went,
    a_raw_upload_is_removed_once_it_is_registered,
    rows_are_shown_without_sensitive_values,
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

/// A CSV of trips with a schema.
async fn trips(sandbox: &Sandbox, csv: &str) -> RegisterVersionRequest {
    let mut request = sandbox.csv("trips", csv).await;
    request.time_column = "at".into();
    let fare = ColumnSchema {
        name: "fare".into(),
        role: ColumnRole::Target.into(),
        unit: "USD".into(),
        min: Some(0.0),
        required: true,
        ..ColumnSchema::default()
    };
    let driver = ColumnSchema {
        name: "driver".into(),
        role: ColumnRole::EntityKey.into(),
        sensitive: true,
        ..ColumnSchema::default()
    };
    let unique = vec![UniqueKey { columns: vec!["driver".into(), "at".into()] }];
    request.schema = Some(Schema { columns: vec![fare, driver], unique, max_age: None });
    request
}

const TRIPS: &str = "at,fare,driver\n2013-01-01,5.5,ann\n2013-01-02,7,bob\n2013-01-03,9,ann\n";

async fn rows_that_break_rules_are_refused_by_their_number_or_recorded(sandbox: Sandbox) {
    let made = sandbox.dataset(trips(&sandbox, TRIPS).await).await;
    let schema = made.schema.clone().expect("declared");
    assert_eq!((schema.columns.len(), schema.columns[0].unit.as_str(), made.violations.len()), (2, "USD", 0));
    let broken = "at,fare,driver\n2013-01-01,-5,ann\n2013-01-01,,ann\n2013-01-02,7,bob\n";
    let mut request = trips(&sandbox, broken).await;
    let day = prost_types::Duration { seconds: 86_400, nanos: 0 };
    request.schema.as_mut().expect("declared").max_age = Some(day);
    let refused = sandbox.datasets.clone().register_version(request.clone()).await.expect_err("broken");
    assert_eq!(refused.code(), Code::InvalidArgument);
    use tonic_types::StatusExt as _;
    let details = refused.get_error_details();
    let violations = &details.bad_request().expect("fields").field_violations;
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected = ["schema.columns[fare].required", "schema.columns[fare].min", "schema.unique[0]", "schema.max_age"];
    assert_eq!(fields, expected);
    assert!(violations[1].description.contains("row 1 (-5)"), "{violations:?}");
    assert!(violations[2].description.contains("row 2 (as row 1)"), "{violations:?}");
    let list = ListVersionsRequest { name: "trips".into(), ..Default::default() };
    let listed = sandbox.datasets.clone().list_versions(list).await.expect("there").into_inner().versions;
    assert_eq!(listed.len(), 1, "nothing was written");

    let accepted = RegisterVersionRequest { accept_violations: true, idempotency_key: key(), ..request.clone() };
    let made = sandbox.dataset(accepted).await;
    let rules: Vec<(&str, u64)> = made.violations.iter().map(|found| (found.rule.as_str(), found.rows)).collect();
    let expected = [("columns[fare].required", 1), ("columns[fare].min", 1), ("unique[0]", 1), ("max_age", 3)];
    assert_eq!((made.version, rules), (2, expected.to_vec()));

    let mut unknown = request.clone();
    unknown.schema.as_mut().expect("declared").columns[0].name = "fair".into();
    let refused = sandbox.datasets.clone().register_version(unknown).await.expect_err("no column");
    assert_eq!(blamed(&refused), "schema");
    let mut twice = request.clone();
    let schema = twice.schema.as_mut().expect("declared");
    schema.columns.push(schema.columns[0].clone());
    let refused = sandbox.datasets.clone().register_version(twice).await.expect_err("twice");
    assert!(blamed(&refused).starts_with("schema.columns[fare]"), "{refused}");
    let untimed = RegisterVersionRequest { time_column: String::new(), ..request };
    let refused = sandbox.datasets.clone().register_version(untimed).await.expect_err("no time");
    assert_eq!(blamed(&refused), "schema.max_age");
}

async fn rows_are_shown_without_sensitive_values(sandbox: Sandbox) {
    let made = sandbox.dataset(trips(&sandbox, TRIPS).await).await;
    let driver = made.profile.iter().find(|column| column.name == "driver").expect("profiled");
    assert_eq!((driver.distinct, driver.top.len()), (2, 0));
    let preview = PreviewVersionRequest { name: "trips".into(), version: None, offset: 1, limit: 0 };
    let rows = sandbox.datasets.clone().preview_version(preview.clone()).await.expect("read").into_inner();
    assert_eq!((rows.version, rows.columns.join(",").as_str(), rows.rows.len()), (1, "at,fare,driver", 2));
    let cells: Vec<Option<Value>> = rows.rows[0].cells.iter().map(|cell| cell.value.clone()).collect();
    let second = prost_types::Timestamp { seconds: 1_357_084_800, nanos: 0 };
    assert_eq!(cells, [Some(Value::Time(second)), Some(Value::Number(7.0)), None]);
    let far = PreviewVersionRequest { offset: u64::MAX, ..preview.clone() };
    assert!(sandbox.datasets.clone().preview_version(far).await.expect("read").into_inner().rows.is_empty());
    let many = PreviewVersionRequest { limit: 1_001, ..preview };
    assert_eq!(blamed(&sandbox.datasets.clone().preview_version(many).await.expect_err("too many")), "limit");
}

async fn versions_are_compared(sandbox: Sandbox) {
    sandbox.dataset(trips(&sandbox, TRIPS).await).await;
    let compare = CompareVersionsRequest { name: "trips".into(), ..Default::default() };
    let first = sandbox.datasets.clone().compare_versions(compare.clone()).await.expect_err("the first");
    assert_eq!(first.code(), Code::NotFound);
    let more = format!("{TRIPS}2013-01-04,900,cid\n");
    sandbox.dataset(trips(&sandbox, &more).await).await;
    let compared = sandbox.datasets.clone().compare_versions(compare.clone()).await.expect("compared").into_inner();
    let (base, version) = (compared.base.expect("a base"), compared.version.expect("a version"));
    assert_eq!(((base.version, base.rows), (version.version, version.rows)), ((1, 3), (2, 4)));
    let changes: Vec<(&str, String)> =
        compared.changes.iter().map(|change| (change.column.as_str(), change.differences.join(" "))).collect();
    let expected = [("at", "distinct max mean std top"), ("fare", "distinct max mean std top"), ("driver", "distinct")];
    assert_eq!(changes, expected.map(|(column, differences)| (column, differences.to_owned())));
    let same = CompareVersionsRequest { version: Some(2), base_version: Some(2), ..compare };
    let compared = sandbox.datasets.clone().compare_versions(same).await.expect("compared").into_inner();
    assert!(compared.changes.is_empty());
}

async fn datasets_are_deleted_and_restored_unless_they_are_used(sandbox: Sandbox) {
    let first = sandbox.dataset(sandbox.csv("trips", "a,b\n1,2\n").await).await;
    let second = sandbox.dataset(sandbox.csv("trips", "a,b\n1,3\n").await).await;
    sandbox.dataset(sandbox.csv("other", "a,b\n1,4\n").await).await;
    let mut datasets = sandbox.datasets.clone();
    let delete = |version| DeleteDatasetRequest { name: "trips".into(), version, why: "obsolete".into() };

    let run = sandbox.run("flights", vec![first.content_digest.clone()]).await;
    let held = datasets.delete_dataset(delete(Some(1))).await.expect_err("in progress");
    assert_eq!((held.code(), reason(&held, "users").0.as_str()), (Code::FailedPrecondition, "DATASET_IN_USE"));
    assert!(held.message().contains(&run.id), "{held}");
    let killed = ReportRunRequest { id: run.id, report: RunReport::Killed.into(), ..Default::default() };
    sandbox.runs.clone().report_run(killed).await.expect("ended");

    let content: Digest = second.content_digest.parse().expect("a digest");
    let model = sandbox.bundle(&bundle("", vec![content], 7)).await;
    sandbox.register("churn", &model).await.expect("registered");
    for version in [Some(2), None] {
        let held = datasets.delete_dataset(delete(version)).await.expect_err("a model was made of it");
        assert!(reason(&held, "users").1.contains("model-version/churn/1"), "{held}");
    }
    let deleted = datasets.delete_dataset(delete(Some(1))).await.expect("deleted").into_inner();
    assert_eq!(deleted.versions, [1]);
    assert!(datasets.delete_dataset(delete(Some(1))).await.expect("again").into_inner().versions.is_empty());
    let list = ListVersionsRequest { name: "trips".into(), ..Default::default() };
    let listed = datasets.list_versions(list.clone()).await.expect("there").into_inner().versions;
    assert_eq!(listed.iter().map(|version| version.version).collect::<Vec<_>>(), [2]);
    let get = |version| GetVersionRequest { name: "trips".into(), version };
    assert!(datasets.get_version(get(Some(1))).await.expect("kept").into_inner().deleted_at.is_some());

    let model = DeleteModelRequest { model: "churn".into(), version: None, why: String::new() };
    sandbox.models.clone().delete_model(model).await.expect("deleted");
    assert_eq!(datasets.delete_dataset(delete(None)).await.expect("deleted").into_inner().versions, [2]);
    assert_eq!(datasets.get_version(get(None)).await.expect_err("none is left").code(), Code::NotFound);
    let names = datasets.list_datasets(ListDatasetsRequest::default()).await.expect("there").into_inner().datasets;
    assert_eq!(names.iter().map(|version| version.name.as_str()).collect::<Vec<_>>(), ["other"]);

    let restore = RestoreDatasetRequest { name: "trips".into(), version: Some(1), why: "needed".into() };
    assert_eq!(datasets.restore_dataset(restore.clone()).await.expect("restored").into_inner().versions, [1]);
    let latest = datasets.list_datasets(ListDatasetsRequest::default()).await.expect("there").into_inner().datasets;
    let latest: Vec<(&str, u32)> = latest.iter().map(|version| (version.name.as_str(), version.version)).collect();
    assert_eq!(latest, [("other", 1), ("trips", 1)]);
    let all = RestoreDatasetRequest { version: None, ..restore };
    assert_eq!(datasets.restore_dataset(all).await.expect("restored").into_inner().versions, [2]);
    // Numbers of deleted versions are not used again.
    datasets.delete_dataset(delete(Some(2))).await.expect("deleted");
    assert_eq!(sandbox.dataset(sandbox.csv("trips", "a,b\n1,5\n").await).await.version, 3);
    let unknown = DeleteDatasetRequest { name: "nothing".into(), version: None, why: String::new() };
    assert_eq!(datasets.delete_dataset(unknown).await.expect_err("unknown").code(), Code::NotFound);
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
