//! The section `[monitor.alerts]`.

use std::{collections::BTreeMap, fmt, time::Duration};

use humantime_serde::re::humantime::format_duration;
use rekindle_domain::{
    Alert, ModelName,
    alert::Severity,
    validation::{Checks, Violations},
};
use reqwest::Url;
use serde::{Deserialize, Deserializer, de::Error as _};
use standardwebhooks::Webhook;

/// Alerts and their receivers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time between two checks of what there is to send, and of feeds.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// How long a notification is sent again that its receiver does not accept.
    #[serde(with = "humantime_serde")]
    pub retry_for: Duration,
    /// Where alerts are sent, by name.
    pub receivers: BTreeMap<String, Receiver>,
}

/// Where alerts are sent. Every key has a default, so that an error in one is reported alone.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// What is sent.
    #[serde(default)]
    pub format: Format,
    /// The address of a webhook, or the base address of an Alertmanager. Required.
    #[serde(default, deserialize_with = "url")]
    pub url: Option<Url>,
    /// The key that messages to a webhook are signed with, as `whsec_<base64>`.
    #[serde(default)]
    pub secret: Secret,
    /// Alerts that are less severe are not sent.
    #[serde(default = "every_severity", deserialize_with = "severity")]
    pub min_severity: Severity,
    /// The models whose alerts are sent; empty: all.
    #[serde(default)]
    pub models: Vec<ModelName>,
    /// Whether the address may be a private one.
    #[serde(default)]
    pub allow_private: bool,
    /// The longest time to wait for an answer.
    #[serde(default = "timeout", with = "humantime_serde")]
    pub timeout: Duration,
}

/// What a receiver understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Standard Webhooks: one message per opening and resolution, signed, and sent again until it is accepted.
    #[default]
    Webhook,
    /// The API of Prometheus Alertmanager, version 2: all open alerts, each minute.
    Alertmanager,
}

/// A key, which no log shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the path and the user, which may hold a token.
        let host = self.url.as_ref().and_then(Url::host_str).unwrap_or("none");
        f.debug_struct("Receiver").field("format", &self.format).field("host", &host).finish_non_exhaustive()
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // The address may hold a password or a token, which no log may show.
    Url::parse(&text).map(Some).map_err(|error| D::Error::custom(format!("is no URL: {error}")))
}

fn severity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Severity, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

const fn every_severity() -> Severity {
    Severity::Info
}

const fn timeout() -> Duration {
    Duration::from_secs(15)
}

impl Config {
    /// The fewest bytes of a key, as Standard Webhooks requires.
    const LEAST_KEY_BYTES: usize = 24;

    /// Validates every field. Fields are named within the section.
    pub(crate) fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.positive("every", self.every);
        let longest = Duration::from_secs(30 * 24 * 3600);
        let span = format_duration(self.retry_for);
        checks.require(self.retry_for <= longest, "retry_for", span, "at most 30days");
        for (name, receiver) in &self.receivers {
            checks.nested(&format!("receivers.{name}"), receiver.validate());
        }
        checks.finish()
    }
}

impl Receiver {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let scheme = self.url.as_ref().map_or("missing", Url::scheme);
        checks.require(
            ["http", "https"].contains(&scheme),
            "url",
            scheme,
            "an address that begins with http:// or https://",
        );
        if self.format == Format::Webhook {
            let bytes = self.secret.0.strip_prefix("whsec_").map(|key| key.trim_end_matches('=').len() * 3 / 4);
            let is_key = Webhook::new(&self.secret.0).is_ok();
            let is_long = bytes.is_some_and(|bytes| bytes >= Config::LEAST_KEY_BYTES);
            // Not the key itself: the message is logged.
            checks.require(
                is_key && is_long,
                "secret",
                if self.secret.0.is_empty() { "empty" } else { "no such key" },
                "\"whsec_\" and at least 24 random bytes in base64, e.g. of `openssl rand -base64 32`",
            );
        }
        checks.positive("timeout", self.timeout);
        checks.finish()
    }

    /// Whether it wants an alert.
    pub(crate) fn wants(&self, alert: &Alert) -> bool {
        alert.severity >= self.min_severity && (self.models.is_empty() || self.models.contains(&alert.model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<Receiver, String> {
        let receiver: Receiver = serde_json::from_value(json).map_err(|error| error.to_string())?;
        receiver.validate().map_err(|violations| violations.to_string())?;
        Ok(receiver)
    }

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_webhook_needs_an_address_and_a_key() {
        let receiver = parse(serde_json::json!({"url": "https://example.com/hook", "secret": KEY})).expect("valid");
        assert_eq!(
            (receiver.format, receiver.min_severity, receiver.allow_private),
            (Format::Webhook, Severity::Info, false)
        );
        for (field, json) in [
            ("url", serde_json::json!({"url": "no address", "secret": KEY})),
            ("url", serde_json::json!({"url": "ftp://example.com", "secret": KEY})),
            ("url", serde_json::json!({"secret": KEY})),
            ("secret", serde_json::json!({"url": "https://example.com"})),
            ("secret", serde_json::json!({"url": "https://example.com", "secret": "password"})),
            ("secret", serde_json::json!({"url": "https://example.com", "secret": "whsec_c2hvcnQ="})),
            ("timeout", serde_json::json!({"url": "https://example.com", "secret": KEY, "timeout": "0s"})),
            ("FATAL", serde_json::json!({"url": "https://example.com", "secret": KEY, "min_severity": "fatal"})),
        ] {
            let refused = parse(json).expect_err(field);
            assert!(
                refused.to_uppercase().contains(&field.to_uppercase()) || refused.contains("no URL"),
                "{field}: {refused}"
            );
        }
    }

    #[test]
    fn neither_the_key_nor_a_refused_one_is_shown() {
        let receiver = parse(serde_json::json!({"url": "https://example.com", "secret": KEY})).expect("valid");
        assert!(!format!("{receiver:?}").contains("MfKQ"));
        let token =
            parse(serde_json::json!({"url": "https://user:pass@example.com/token", "secret": KEY})).expect("valid");
        let shown = format!("{token:?}");
        assert!(shown.contains("example.com") && !shown.contains("token") && !shown.contains("pass"), "{shown}");
        let refused = parse(serde_json::json!({"url": "https://example.com", "secret": "hunter2"})).expect_err("short");
        assert!(!refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn an_alertmanager_needs_no_key() {
        let json =
            serde_json::json!({"format": "alertmanager", "url": "http://alertmanager:9093", "min_severity": "warning"});
        let receiver = parse(json).expect("valid");
        assert_eq!((receiver.format, receiver.min_severity), (Format::Alertmanager, Severity::Warning));
    }
}
