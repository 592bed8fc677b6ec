//! Notifications of alerts reach webhooks and Alertmanagers: signed, again after failures, and not while a silence lasts.

use rekindle_client::PageRequest;
use rekindle_domain::{
    Alert,
    alert::{AlertKind, AlertState, Notification},
};
use rekindle_testkit::eventually;
use serde_json::Value;
use standardwebhooks::Webhook;

use crate::{
    alerts::{closing, day, prefix},
    fields,
    receiver::{Answer, Receiver},
    rows::{Distribution, Replica, labels},
    world::{MODEL, World, bundle, model},
};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A world whose alerts go to a receiver named `ops`.
async fn notifying(url: &str, settings: &[(&str, &str)]) -> World {
    let receiver = [
        ("alerts.every", "50ms"),
        ("alerts.receivers.ops.url", url),
        ("alerts.receivers.ops.secret", KEY),
        ("alerts.receivers.ops.timeout", "2s"),
        ("alerts.receivers.ops.allow_private", "true"),
    ];
    let settings: Vec<_> = receiver.into_iter().chain(settings.iter().copied()).collect();
    let world = World::on_sqlite_with(&settings).await;
    world.watch().await;
    world
}

/// Publishes a window that has drifted.
async fn drift(world: &World) -> Alert {
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&day(0, Distribution::Shifted), 0)).await;
    world.predictions(&replica.log(&closing(1), 0)).await;
    world.alert(AlertKind::Drift, AlertState::Open).await
}

/// The notifications of an alert once the first is delivered.
async fn delivered(world: &World, alert: &Alert) -> Vec<Notification> {
    eventually("the delivery", async || {
        let sent = world.notifications(alert).await;
        if sent.first().is_some_and(|sent| sent.delivered_at.is_some()) { Ok(sent) } else { Err(format!("{sent:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_receives_signed_messages_and_failed_ones_again_under_one_id() {
    let receiver = Receiver::start([Answer::Status(500), Answer::Hang, Answer::Status(204)]).await;
    let mut world = notifying(&receiver.url("/hook?token=t"), &[]).await;
    let alert = drift(&world).await;
    let sent = delivered(&world, &alert).await;
    assert_eq!((sent.len(), sent[0].attempts, sent[0].receiver.as_str()), (1, 3, "ops"), "{sent:?}");
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        Webhook::new(KEY).expect("a key").verify(request.body.as_bytes(), &request.headers).expect("signed");
        assert_eq!(request.headers["webhook-id"], sent[0].id.to_string());
        assert_eq!(
            (request.path.as_str(), request.headers["content-type"].as_bytes()),
            ("/hook?token=t", &b"application/json"[..])
        );
    }
    let body: Value = serde_json::from_str(&requests[2].body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["alert"]["id"]), (&"alert.opened".into(), &alert.id.to_string().into()));
    assert_eq!(body["data"]["alert"]["kind"], "ALERT_KIND_DRIFT");
    assert_eq!(body["data"]["alert"]["advice"], alert.message.advice);

    // What was delivered is not sent again by the next instance; the resolution is sent once.
    world.kill_and_restart().await;
    world.alerts_as("ann").resolve(&prefix(&alert), "known").await.expect("resolved");
    let requests = eventually("the resolution", async || {
        let requests = receiver.requests();
        if requests.len() == 4 { Ok(requests) } else { Err(format!("{} requests", requests.len())) }
    })
    .await;
    let body: Value = serde_json::from_str(&requests[3].body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["alert"]["resolved"]["by"]), (&"alert.resolved".into(), &"ann".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_gets_every_message_in_order_when_it_is_back() {
    let port = rekindle_testkit::reserve_port();
    let world = notifying(&format!("http://127.0.0.1:{port}/"), &[]).await;
    let alert = drift(&world).await;
    let refused = eventually("a refusal", async || {
        let sent = world.notifications(&alert).await;
        let refused = sent.first().filter(|sent| !sent.error.is_empty()).cloned();
        refused.ok_or_else(|| format!("{sent:?}"))
    })
    .await;
    assert!(refused.error.contains("refused") && !refused.error.contains("127.0.0.1"), "{}", refused.error);
    // The resolution waits for the opening.
    world.alerts_as("ann").resolve(&prefix(&alert), "known").await.expect("resolved");
    let receiver = Receiver::start_at(port, []).await;
    let requests = eventually("both messages", async || {
        let requests = receiver.requests();
        if requests.len() == 2 { Ok(requests) } else { Err(format!("{} requests", requests.len())) }
    })
    .await;
    let kind = |index: usize| serde_json::from_str::<Value>(&requests[index].body).expect("JSON")["type"].clone();
    assert_eq!([kind(0), kind(1)], ["alert.opened", "alert.resolved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed_and_private_addresses_not_called() {
    let target = Receiver::start([]).await;
    let receiver = Receiver::start([Answer::Redirect(target.url("/"))]).await;
    let world = notifying(
        &receiver.url("/"),
        &[
            ("alerts.receivers.private.url", &target.url("/")),
            ("alerts.receivers.private.secret", KEY),
            ("alerts.receivers.named.url", &target.url("/").replace("127.0.0.1", "localhost")),
            ("alerts.receivers.named.secret", KEY),
        ],
    )
    .await;
    let test = async |name: &str| world.alerts().test_receiver(name).await.expect("an answer");
    let redirected = test("ops").await;
    assert_eq!((redirected.delivered_at, redirected.attempts), (None, 1));
    assert!(redirected.error.contains("redirects are not followed"), "{}", redirected.error);
    for name in ["private", "named"] {
        let refused = test(name).await;
        assert!(refused.failed_at.is_some() && refused.error.contains("is a private address"), "{}", refused.error);
    }
    assert_eq!((receiver.requests().len(), target.requests().len()), (1, 0));
    assert!(test("ops").await.delivered_at.is_some(), "the receiver accepts the second test");
    let unknown = world.alerts().test_receiver("pager").await.expect_err("not configured");
    let message = unknown.status().map(|status| status.message().to_owned()).unwrap_or_default();
    assert!(unknown.is_not_found() && message.contains("named, ops, private"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_defers_the_notification_until_it_ends() {
    let receiver = Receiver::start([]).await;
    let world = notifying(&receiver.url("/"), &[]).await;
    let shifted = day(0, Distribution::Shifted);
    // A model is known once a row of it is captured.
    world.predictions(&Replica::new(bundle(), MODEL, 1).log(&shifted[..1], 0)).await;
    world.captured(1, 0).await;
    let ann = world.alerts_as("ann");
    let until = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let silence = async |key: &str| ann.silence(&model(), Some(AlertKind::Drift), until, "a test", key).await;
    let created = silence("once").await.expect("created");
    assert_eq!(silence("once").await.expect("the same"), created);
    let listed = world.alerts().silences(None, PageRequest::default()).await.expect("listed").items;
    assert_eq!((listed, created.by.as_str()), (vec![created.clone()], "ann"));
    let refused = ann.silence(&model(), None, chrono::Utc::now(), "over", "").await.expect_err("it has ended");
    assert_eq!(fields(&refused), ["until"]);

    // The degradation of the same window is not silenced: when it is delivered, the drift would have been.
    world.outcomes("day", labels(&shifted)).await;
    let mut replica = Replica::new(bundle(), MODEL, 1);
    world.predictions(&replica.log(&shifted, 0)).await;
    world.predictions(&replica.log(&closing(1), 0)).await;
    let alert = world.alert(AlertKind::Drift, AlertState::Open).await;
    let other = world.alert(AlertKind::Degradation, AlertState::Open).await;
    assert_eq!(delivered(&world, &other).await.len(), 1);
    assert_eq!((receiver.requests().len(), world.notifications(&alert).await), (1, Vec::new()));
    ann.end_silence(created.id).await.expect("ended");
    assert_eq!(delivered(&world, &alert).await.len(), 1);
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(world.alerts().silences(None, PageRequest::default()).await.expect("listed").items, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_gets_the_open_alerts_and_their_resolution() {
    let receiver = Receiver::start([Answer::Status(503)]).await;
    let world = World::on_sqlite_with(&[
        ("alerts.every", "50ms"),
        ("alerts.receivers.am.url", &receiver.url("/base/")),
        ("alerts.receivers.am.format", "alertmanager"),
        ("alerts.receivers.am.allow_private", "true"),
    ])
    .await;
    world.watch().await;
    let alert = drift(&world).await;
    let sent = async |requests: usize| {
        eventually("messages", async || {
            let found = receiver.requests();
            if found.len() >= requests { Ok(found) } else { Err(format!("{} requests", found.len())) }
        })
        .await
    };
    // The first is refused, and sent again.
    let requests = sent(2).await;
    assert!(requests.iter().all(|request| request.path == "/base/api/v2/alerts"), "{requests:?}");
    let body: Value = serde_json::from_str(&requests[1].body).expect("JSON");
    let labels = &body[0]["labels"];
    assert_eq!((&labels["alertname"], &labels["model"]), (&"RekindleDrift".into(), &MODEL.into()));
    assert_eq!(body[0]["annotations"]["alert_id"], alert.id.to_string());
    world.alerts_as("ann").resolve(&prefix(&alert), "known").await.expect("resolved");
    let requests = sent(3).await;
    let resolved: Value = serde_json::from_str(&requests[2].body).expect("JSON");
    let ends_at =
        |body: &Value| body[0]["endsAt"].as_str().and_then(|time| time.parse::<chrono::DateTime<chrono::Utc>>().ok());
    assert!(ends_at(&body) > ends_at(&resolved) && ends_at(&resolved).is_some(), "{resolved}");
}
