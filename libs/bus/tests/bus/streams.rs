//! Streams: their setup, their subjects, and progress in them.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream::stream::DirectGetErrorKind};
use rekindle_bus::{
    Bus, Config, Error,
    consumer::{Consumer, Puller},
    streams::{self, Progress},
    subject,
};
use rekindle_domain::ModelName;
use rekindle_testkit::{NatsServer, eventually};

use crate::world::{bus, publish, quick, sequences};

#[tokio::test(flavor = "multi_thread")]
async fn progress_passes_acknowledged_and_discarded_messages() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let spec = Consumer { in_order: true, ..quick("reader", streams::OUTCOMES) };
    let progress = async |last, done| {
        eventually("the reader's progress", async || match bus.progress(streams::OUTCOMES, "reader").await {
            Ok(is) if is == (Progress { last, done }) => Ok(is),
            other => Err(format!("{other:?}")),
        })
        .await
    };
    assert!(progress(0, 0).await.has_passed(0), "the stream is empty");
    for n in 1..=4 {
        publish(&bus, "rekindle.outcomes.m", &format!("o-{n}")).await;
    }
    assert!(!progress(4, 0).await.has_passed(1));
    let mut puller = Puller::new(bus.clone(), spec.clone());
    let taken = puller.next_batch(4, Duration::from_secs(5)).await.expect("asked");
    assert!(!progress(4, 0).await.has_passed(1), "delivered is not done");
    taken[1].ack().await.expect("acknowledged");
    taken[0].ack().await.expect("acknowledged");
    let half = progress(4, 2).await;
    assert!(half.has_passed(2) && !half.has_passed(3));
    // A consumer that continues where the other ended has the same progress; discarded messages count as well.
    let mut next = Puller::new(bus.clone(), spec);
    assert_eq!(sequences(&next.next_batch(2, Duration::from_secs(5)).await.expect("asked")), [3, 4]);
    progress(4, 2).await;
    let stream = bus.jetstream().get_stream(streams::OUTCOMES).await.expect("it exists");
    stream.purge().await.expect("purged");
    let all = progress(4, 4).await;
    assert!(all.has_passed(4) && all.has_passed(9), "what the stream never had is not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_up_twice_changes_nothing_and_leases_expire() {
    let server = NatsServer::start().await;
    let limits = streams::Limits { replica_lease: Duration::from_secs(1), ..Default::default() };
    let config = Config { limits, ..Config::at(server.url()) };
    let first = Bus::connect(&config).await.expect("the server is up");
    publish(&first, "rekindle.jobs.cpu", "job").await;
    let second = Bus::connect(&config).await.expect("again");
    let jobs = second.jetstream().get_stream(streams::JOBS).await.expect("it exists");
    assert_eq!(jobs.cached_info().state.messages, 1);
    assert!(jobs.direct_get(2).await.is_err_and(|error| error.kind() == DirectGetErrorKind::NotFound));
    let replicas = second.bucket::<String>(streams::REPLICAS).await.expect("bucket");
    let deployments = second.bucket::<String>(streams::DEPLOYMENTS).await.expect("bucket");
    replicas.put("a", &"alive".to_owned()).await.expect("put");
    deployments.put("flight-delay", &"desired".to_owned()).await.expect("put");
    eventually("the lease to expire", async || match replicas.get("a").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(deployments.get("flight-delay").await.expect("it answers").is_some());
}

/// A stream of the layout before namespaces has the subjects of the default namespace only.
#[tokio::test(flavor = "multi_thread")]
async fn streams_take_subjects_of_every_namespace() {
    let server = NatsServer::start().await;
    let client = async_nats::connect(server.url()).await.expect("the server is up");
    let former = async_nats::jetstream::stream::Config {
        name: streams::OUTCOMES.to_owned(),
        subjects: vec!["rekindle.outcomes.*".to_owned()],
        ..Default::default()
    };
    let jetstream = async_nats::jetstream::new(client);
    jetstream.create_stream(former).await.expect("created");
    jetstream.publish("rekindle.outcomes.m", "before".into()).await.expect("sent").await.expect("stored");
    let bus = bus(&server).await;
    for name in ["m", "team-a.m"] {
        let model: ModelName = name.parse().expect("a name");
        publish(&bus, &subject::outcomes(&model), name).await;
    }
    let refused = bus.publish("rekindle.outcomes.a.b.c".into(), "x", HeaderMap::new(), "x".into()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    let mut puller = Puller::new(bus, quick("reader", streams::OUTCOMES));
    let taken = puller.next_batch(3, Duration::from_secs(5)).await.expect("asked");
    let subjects: Vec<_> = taken.iter().map(|delivery| delivery.subject.as_str()).collect();
    assert_eq!(subjects, ["rekindle.outcomes.m", "rekindle.outcomes.m", "rekindle.outcomes.team-a.m"]);
}
