//! Typed buckets against a real nats-server.

use rekindle_bus::{
    Bucket, Bus, Config,
    bucket::{Change, Entry, Present},
    streams::DEPLOYMENTS,
};
use rekindle_testkit::NatsServer;

const KEY: &str = "flight-delay";

async fn start() -> (NatsServer, Bus, Bucket<u32>) {
    let server = NatsServer::start().await;
    let bus = Bus::connect(&Config::at(server.url())).await.expect("the server is up");
    let bucket = bus.bucket(DEPLOYMENTS).await.expect("it exists");
    (server, bus, bucket)
}

/// Writes a value that follows from the present one. Returns its revision.
async fn update(bucket: &Bucket<u32>, next: impl Fn(Option<u32>) -> u32) -> u64 {
    loop {
        let present = bucket.present(KEY).await.expect("it answers");
        if let Some(revision) = bucket.replace(KEY, &present, &next(present.value)).await.expect("it answers") {
            return revision;
        }
    }
}

async fn value(bucket: &Bucket<u32>) -> Option<u32> {
    bucket.get(KEY).await.expect("it answers").map(|entry| entry.value)
}

/// Writes what is no number.
async fn put_unreadable(bus: &Bus, key: &str) {
    let raw = bus.jetstream().get_key_value(DEPLOYMENTS).await.expect("it exists");
    raw.put(key, "{".into()).await.expect("written");
}

#[tokio::test]
async fn a_value_is_read_as_it_was_written() {
    let (_server, _bus, bucket) = start().await;
    assert_eq!(value(&bucket).await, None);
    let first = bucket.put(KEY, &1).await.expect("written");
    let second = bucket.put(KEY, &2).await.expect("written");
    assert!(second > first);
    let entry = bucket.get(KEY).await.expect("it answers");
    assert_eq!(entry, Some(Entry { key: KEY.to_owned(), value: 2, revision: second }));
    bucket.delete(KEY).await.expect("deleted");
    assert_eq!(value(&bucket).await, None);
    let error = bucket.put("two words", &1).await.expect_err("no key").to_string();
    assert!(error.contains("two words") && error.contains(DEPLOYMENTS), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_updates_are_all_applied() {
    let (_server, _bus, bucket) = start().await;
    let updates: Vec<_> = (0..4)
        .map(|_| {
            let bucket = bucket.clone();
            tokio::spawn(async move { update(&bucket, |present| present.map_or(1, |n| n + 1)).await })
        })
        .collect();
    for update in updates {
        update.await.expect("no panic");
    }
    assert_eq!(value(&bucket).await, Some(4));
}

#[tokio::test]
async fn a_value_that_another_writer_has_replaced_is_not_replaced() {
    let (_server, _bus, bucket) = start().await;
    let before = bucket.present(KEY).await.expect("it answers");
    assert_eq!(before, Present { value: None, revision: 0 });
    let first = bucket.put(KEY, &1).await.expect("written");
    assert_eq!(bucket.replace(KEY, &before, &2).await.expect("it answers"), None);
    let present = bucket.present(KEY).await.expect("it answers");
    assert_eq!(present, Present { value: Some(1), revision: first });
    assert_eq!(bucket.replace(KEY, &present, &3).await.expect("it answers"), Some(first + 1));
    assert_eq!(value(&bucket).await, Some(3));
}

#[tokio::test]
async fn deleted_and_unreadable_values_can_be_replaced() {
    let (_server, bus, bucket) = start().await;
    bucket.put(KEY, &1).await.expect("written");
    bucket.delete(KEY).await.expect("deleted");
    update(&bucket, |present| present.map_or(2, |_| 0)).await;
    assert_eq!(value(&bucket).await, Some(2));
    put_unreadable(&bus, KEY).await;
    assert_eq!(value(&bucket).await, None);
    update(&bucket, |present| present.map_or(3, |_| 0)).await;
    assert_eq!(value(&bucket).await, Some(3));
}

#[tokio::test]
async fn a_watch_reports_what_is_present_and_then_the_changes() {
    let (_server, bus, bucket) = start().await;
    let mut empty = bucket.watch().await.expect("a watch");
    assert_eq!(empty.next().await.expect("a change"), Change::Complete);
    let put = |key: &str, value, revision| Change::Put(Entry { key: key.to_owned(), value, revision });
    let first = bucket.put("a", &1).await.expect("written");
    put_unreadable(&bus, "b").await;
    let mut watch = bucket.watch().await.expect("a watch");
    assert_eq!(watch.next().await.expect("a change"), put("a", 1, first));
    let unreadable = Change::Unreadable { key: "b".to_owned(), revision: first + 1 };
    assert_eq!(watch.next().await.expect("a change"), unreadable);
    assert_eq!(watch.next().await.expect("a change"), Change::Complete, "the last entry present cannot be read");
    let second = bucket.put("b", &2).await.expect("written");
    bucket.delete("a").await.expect("deleted");
    assert_eq!(watch.next().await.expect("a change"), put("b", 2, second));
    assert_eq!(watch.next().await.expect("a change"), Change::Deleted { key: "a".to_owned() });
    assert_eq!(empty.next().await.expect("a change"), put("a", 1, first));
    let unreadable = Change::Unreadable { key: "b".to_owned(), revision: first + 1 };
    assert_eq!(empty.next().await.expect("a change"), unreadable);
}
