//! Sending: one request to a receiver, and what its answer means.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{Alert, alert::AlertState};
use rekindle_service::chain;
use reqwest::{Client, StatusCode, Url, header, redirect};
use serde_json::{Value, json};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use uuid::Uuid;

use super::{
    config::{Format, Receiver},
    public::{Private, PublicOnly, is_public},
};
use crate::Error;

/// The first wait after an attempt that failed; each next one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The longest wait that a receiver can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The configured receivers, ready to send to.
pub(crate) struct Receivers(BTreeMap<String, Sender>);

/// One receiver.
pub(crate) struct Sender {
    name: String,
    receiver: Receiver,
    client: Client,
}

/// Why a receiver has not accepted a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// In words.
    pub(super) error: String,
    /// When the receiver wants the next attempt, if it said so.
    retry_after: Option<Duration>,
    /// Whether the receiver wants no further messages.
    is_gone: bool,
}

impl Refusal {
    pub(super) fn of(error: impl Into<String>) -> Self {
        Self { error: error.into(), retry_after: None, is_gone: false }
    }
}

impl Receivers {
    /// Clients of the receivers.
    pub(crate) fn new(receivers: &BTreeMap<String, Receiver>) -> Result<Self, Error> {
        let with_client = |(name, receiver): (&String, &Receiver)| {
            let builder = Client::builder()
                .user_agent(concat!("rekindle/", env!("CARGO_PKG_VERSION")))
                .timeout(receiver.timeout)
                .redirect(redirect::Policy::none())
                // A proxy would resolve the name itself.
                .no_proxy();
            let builder =
                if receiver.allow_private { builder } else { builder.dns_resolver(std::sync::Arc::new(PublicOnly)) };
            let sender = Sender { name: name.clone(), receiver: receiver.clone(), client: builder.build()? };
            Ok::<_, Error>((name.clone(), sender))
        };
        receivers.iter().map(with_client).collect::<Result<_, _>>().map(Self)
    }

    /// A receiver by name.
    pub(crate) fn get(&self, name: &str) -> Option<&Sender> {
        self.0.get(name)
    }

    /// The names of all receivers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Those of a format.
    pub(super) fn of(&self, format: Format) -> impl Iterator<Item = &Sender> {
        self.0.values().filter(move |sender| sender.receiver.format == format)
    }
}

impl Sender {
    /// The name of the receiver.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the receiver wants an alert.
    pub(super) fn wants(&self, alert: &Alert) -> bool {
        self.receiver.wants(alert)
    }

    /// What the receiver understands.
    pub(crate) fn format(&self) -> Format {
        self.receiver.format
    }

    /// Sends a message to a webhook once, signed at `now`.
    pub(super) async fn send_webhook(&self, id: Uuid, body: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        let id = id.to_string();
        let signed =
            Webhook::new(&self.receiver.secret.0).and_then(|key| key.sign(&id, now.timestamp(), body.as_bytes()));
        let signature = signed.map_err(|error| Refusal::of(format!("cannot be signed: {error}")))?;
        let headers = [
            (HEADER_WEBHOOK_ID, id),
            (HEADER_WEBHOOK_TIMESTAMP, now.timestamp().to_string()),
            (HEADER_WEBHOOK_SIGNATURE, signature),
        ];
        self.post(self.url()?.clone(), &headers, Bytes::copy_from_slice(body.as_bytes())).await
    }

    /// Sends alerts to an Alertmanager once.
    pub(super) async fn send_alertmanager(&self, alerts: &Value) -> Result<(), Refusal> {
        let mut url = self.url()?.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/api/v2/alerts"));
        self.post(url, &[], alerts.to_string().into()).await
    }

    /// The address; the validation of the settings requires one.
    fn url(&self) -> Result<&Url, Refusal> {
        self.receiver.url.as_ref().ok_or_else(|| Refusal::of("no url is configured"))
    }

    async fn post(&self, url: Url, headers: &[(&'static str, String)], body: Bytes) -> Result<(), Refusal> {
        if !self.receiver.allow_private {
            // The resolver is not asked about addresses.
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            if let Ok(address) = host.parse()
                && !is_public(address)
            {
                return Err(Refusal::of(Private(host.to_owned()).to_string()));
            }
        }
        let mut request = self.client.post(url).header(header::CONTENT_TYPE, "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // Without the URL: it may hold a token.
        let answer = request.send().await.map_err(|error| Refusal::of(chain(&error.without_url())))?;
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        accepted(answer.status(), retry_after.map(Duration::from_secs))
    }
}

fn accepted(status: StatusCode, retry_after: Option<Duration>) -> Result<(), Refusal> {
    if status.is_success() {
        return Ok(());
    }
    let error = match status {
        status if status.is_redirection() => {
            format!("HTTP {status}: redirects are not followed, set the url that it leads to")
        }
        status => format!("HTTP {status}"),
    };
    Err(Refusal { error, retry_after, is_gone: status == StatusCode::GONE })
}

/// When a notification is sent again that was refused for the `attempts`th time; `None` if it is given up. `id` spreads the attempts of
/// notifications that were created together.
pub(super) fn next_attempt(
    refusal: &Refusal,
    attempts: u32,
    id: Uuid,
    created_at: DateTime<Utc>,
    now: DateTime<Utc>,
    retry_for: Duration,
) -> Option<DateTime<Utc>> {
    if refusal.is_gone {
        return None;
    }
    let doubled = FIRST_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    // Up to a fifth longer, by the random bits of the id.
    let share = f64::from(id.as_bytes()[15]) / f64::from(u8::MAX);
    let wait = doubled.mul_f64(1.0 + 0.2 * share);
    let wait = refusal.retry_after.map_or(wait, |asked| wait.max(asked.min(LONGEST_RETRY_AFTER)));
    let next = now.checked_add_signed(TimeDelta::from_std(wait).ok()?)?;
    let last = created_at.checked_add_signed(TimeDelta::from_std(retry_for).ok()?)?;
    (next <= last).then_some(next)
}

/// The body of a message to a webhook, as Standard Webhooks has it. `alert` is the alert in proto3 JSON.
pub(super) fn webhook_body(alert: &Value, state: AlertState, now: DateTime<Utc>) -> String {
    let verb = if state == AlertState::Resolved { "resolved" } else { "opened" };
    let time = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    json!({"type": format!("alert.{verb}"), "timestamp": time, "data": {"alert": alert}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    #[test]
    fn waits_double_up_to_five_minutes_until_the_time_is_over() {
        let (refusal, id, hour) = (Refusal::of("HTTP 500"), Uuid::nil(), Duration::from_secs(3600));
        let wait = |attempts| {
            next_attempt(&refusal, attempts, id, at(0), at(100), hour).map(|next| (next - at(100)).num_seconds())
        };
        assert_eq!([1, 2, 3, 9, 10, 60].map(wait), [1, 2, 4, 256, 300, 300].map(Some));
        assert_eq!(next_attempt(&refusal, 60, id, at(0), at(3300), hour), Some(at(3600)));
        assert_eq!(next_attempt(&refusal, 60, id, at(0), at(3301), hour), None);
    }

    #[test]
    fn a_receiver_decides_about_later_attempts_and_the_end() {
        let hour = Duration::from_secs(3600);
        let refused = |status: u16, retry_after| {
            accepted(StatusCode::from_u16(status).expect("a status"), retry_after).expect_err("refused")
        };
        let next = |refusal: &Refusal| next_attempt(refusal, 1, Uuid::nil(), at(0), at(0), hour);
        assert_eq!(next(&refused(429, Some(Duration::from_secs(60)))), Some(at(60)));
        assert_eq!(next(&refused(503, Some(Duration::from_secs(1_000_000)))), Some(at(3600)));
        assert_eq!(next(&refused(410, None)), None);
        assert!(refused(302, None).error.contains("redirects are not followed"));
        assert_eq!(accepted(StatusCode::NO_CONTENT, None), Ok(()));
    }
}
