//! Alerts, silences and receivers.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rekindle_testkit::eventually;
use serde_json::Value;

use crate::world::World;

/// A webhook that accepts everything.
pub(crate) struct Receiver {
    address: String,
    /// The requests so far, with their headers.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// Serves until the process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = Vec::new();
                let mut part = [0; 4096];
                while !is_complete(&request) {
                    match stream.read(&mut part).expect("readable") {
                        0 => break,
                        count => request.extend_from_slice(&part[..count]),
                    }
                }
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).expect("sent");
                let text = String::from_utf8_lossy(&request).into_owned();
                received.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        });
        Self { address, requests }
    }

    /// The settings that name it `ops`.
    pub(crate) fn settings(&self) -> String {
        format!(
            "[monitor.alerts.receivers.ops]\nurl = \"http://{}/hook\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
             allow_private = true\n",
            self.address
        )
    }

    fn received(&self, what: &str) -> usize {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.contains(what)).count()
    }
}

/// Whether the body is as long as the header says.
fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_none_or(|length| body.len() >= length)
}

/// `alerts`, of the window that has drifted.
pub(crate) async fn alerts(world: &World, receiver: &Receiver) {
    let alerts = world.json(&["alerts", "list", "tips", "--all"]);
    let of_kind = |kind: &str| alerts.as_array().into_iter().flatten().find(|alert| alert["kind"] == kind).cloned();
    let drift = of_kind("ALERT_KIND_DRIFT").unwrap_or_else(|| panic!("{alerts}"));
    let id = drift["id"].as_str().expect("an id");
    let list = world.text(&["alerts", "list", "--all"]);
    assert!(list.contains(id) && list.contains(" of version 1 of tips drifted"), "{list}");
    world.text(&["alerts", "list"]);

    eventually("the notification", async || match receiver.received("alert.opened") {
        0 => Err("no request".to_owned()),
        _ => Ok(()),
    })
    .await;
    let shown = eventually("the notification is recorded", async || {
        let shown = world.text(&["alerts", "show", &id[..18]]);
        if shown.contains("to ops: delivered at") { Ok(shown) } else { Err(shown) }
    })
    .await;
    for part in ["what happened:", "why:", "fare (PSI ", "what rekindle does:", "what you can do:", "severity:"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(world.json(&["alerts", "show", id])["notifications"][0]["receiver"], "ops");
    let status = world.text(&["status"]);
    assert_eq!(status.contains(&format!("`rekindle alerts show {id}`")), drift["resolved"].is_null(), "{status}");

    let acknowledged = world.json(&["alerts", "acknowledge", id, "--by", "ann", "--why", "mine"]);
    if drift["resolved"].is_null() {
        assert_eq!(
            (&acknowledged["state"], &acknowledged["acknowledged"]["by"]),
            (&"ALERT_STATE_ACKNOWLEDGED".into(), &"ann".into())
        );
    }
    world.text(&["alerts", "acknowledge", id]);
    assert!(world.error(1, &["alerts", "resolve", id]).contains("why: is missing"));
    let resolved = world.json(&["alerts", "resolve", id, "--by", "ann", "--why", "reversed for a test"]);
    assert_eq!(resolved["state"], "ALERT_STATE_RESOLVED");
    assert!(world.text(&["alerts", "resolve", id, "--why", "again"]).contains("resolved"));

    let silence = ["alerts", "silence", "tips", "--for", "2h", "--kind", "new-class", "--by", "ann", "--why", "a test"];
    let silence = world.json(&silence);
    let silence = silence["id"].as_str().expect("an id");
    assert!(world.text(&["alerts", "silence", "tips", "--for", "1h", "--why", "all"]).contains("kind:     all"));
    assert!(
        world.error(1, &["alerts", "silence", "tips", "--for", "400d", "--why", "x"]).contains("--for: is too long")
    );
    assert_eq!(world.json(&["alerts", "silences"]).as_array().map(Vec::len), Some(2));
    assert!(world.text(&["alerts", "silences", "tips"]).contains("new class"));
    assert_eq!(world.json(&["alerts", "unsilence", silence])["id"], silence);
    world.text(&["alerts", "unsilence", silence]);
    assert_eq!(world.json(&["alerts", "silences"]).as_array().map(Vec::len), Some(1));

    let tested: Value = world.json(&["alerts", "test", "ops"]);
    assert!(!tested["delivered_at"].is_null(), "{tested}");
    assert!(world.text(&["alerts", "test", "ops"]).contains("delivered at"));
    assert_eq!(receiver.received("This is a test of the receiver ops."), 2);
    assert!(world.error(4, &["alerts", "test", "pager"]).contains("monitor.alerts.receivers: ops"));
}
