//! Reading what a stream stores.

use async_nats::HeaderMap;
use chrono::{DateTime, Utc};
use rekindle_bus::{
    Bus,
    read::{From, Stored},
    streams,
};
use rekindle_testkit::NatsServer;

use crate::world::bus;

async fn read(bus: &Bus, subject: &str, from: From, limit: usize) -> Vec<Stored> {
    let mut found = Vec::new();
    let take = |stored| {
        found.push(stored);
        found.len() < limit
    };
    bus.read(streams::FAILURES, subject.to_owned(), from, take).await.expect("read");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_messages_of_one_subject_are_read_in_order_and_again() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    for n in 0..40_u8 {
        let subject = format!("rekindle.failures.{}", if n % 2 == 0 { "even" } else { "odd" });
        bus.publish(subject, &format!("m-{n}"), HeaderMap::new(), vec![n].into()).await.expect("published");
    }
    let beginning = From::Time(DateTime::<Utc>::UNIX_EPOCH);
    let all = read(&bus, "rekindle.failures.even", beginning, usize::MAX).await;
    assert_eq!(all.iter().map(|stored| stored.payload[0]).collect::<Vec<_>>(), (0..40).step_by(2).collect::<Vec<u8>>());
    assert_eq!(read(&bus, "rekindle.failures.even", beginning, 3).await, all[..3]);
    assert_eq!(read(&bus, "rekindle.failures.even", From::Sequence(all[3].sequence), usize::MAX).await, all[3..]);
    assert_eq!(read(&bus, "rekindle.failures.even", From::Time(Utc::now()), usize::MAX).await, []);
    assert_eq!(read(&bus, "rekindle.failures.none", beginning, usize::MAX).await, []);
    assert_eq!(read(&bus, "rekindle.failures.even", From::Sequence(u64::MAX), usize::MAX).await, []);
    assert_eq!(read(&bus, "rekindle.failures.even", From::Time(DateTime::<Utc>::MAX_UTC), usize::MAX).await, []);
}
