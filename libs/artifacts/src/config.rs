//! Configuration of the object store.

use std::{fmt, path::Path, time::Duration};

use rekindle_domain::validation::{Checks, Violations};
use serde::Deserialize;

/// Address, credentials and limits of the object store.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `file:///absolute/folder` (literal, without percent-encoding) or `s3://bucket/prefix`. Empty: not set, and cannot be opened.
    pub url: String,
    /// Address of an S3-compatible server; without it, Amazon's.
    pub endpoint: Option<String>,
    /// Region of the bucket; without it, `us-east-1`.
    pub region: Option<String>,
    /// Together with `secret_access_key`; without both, the identity of the machine.
    pub access_key_id: Option<String>,
    /// Together with `access_key_id`.
    pub secret_access_key: Option<String>,
    /// Whether `endpoint` may be an `http://` address.
    pub allow_http: bool,
    /// Largest blob or object that is written or read, in bytes.
    pub max_blob_bytes: u64,
    /// Deadline of one request to the store; below the deadlines of the calls that depend on it.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long after its first attempt a failed request may be retried.
    #[serde(with = "humantime_serde")]
    pub retry_timeout: Duration,
    /// Retries of a failed request.
    pub max_retries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
            max_blob_bytes: 4 << 30,
            request_timeout: Duration::from_secs(15),
            retry_timeout: Duration::from_secs(10),
            max_retries: 4,
        }
    }
}

impl Config {
    /// A store in a local folder, which is created when the store is opened.
    pub fn local(folder: &Path) -> Self {
        Self { url: format!("file://{}", folder.display()), ..Self::default() }
    }

    /// Validates every field and reports all violations. An empty `url` is valid, but cannot be opened.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        if !self.url.is_empty() {
            checks.parsed("url", Address::parse(&self.url));
        }
        if let Some(endpoint) = &self.endpoint {
            let is_allowed = endpoint.starts_with("https://") || (self.allow_http && endpoint.starts_with("http://"));
            checks.require(
                is_allowed,
                "endpoint",
                endpoint,
                "https://host:port, or http://host:port with allow_http = true",
            );
        }
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => {
                checks.violation("secret_access_key", "is not set: expected together with access_key_id")
            }
            (None, Some(_)) => {
                checks.violation("access_key_id", "is not set: expected together with secret_access_key")
            }
            _ => {}
        }
        checks.at_least("max_blob_bytes", self.max_blob_bytes, 1);
        checks.positive("request_timeout", self.request_timeout);
        checks.finish()
    }
}

/// A parsed `url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address<'a> {
    /// An absolute folder.
    Folder(&'a str),
    /// A bucket, and a prefix without slashes at its ends.
    Bucket { bucket: &'a str, prefix: &'a str },
}

impl<'a> Address<'a> {
    /// The address, or what is expected instead.
    pub(crate) fn parse(url: &'a str) -> Result<Self, String> {
        let expected = |expected: &str| Err(format!("is {url:?}: expected {expected}"));
        match (url.strip_prefix("file://"), url.strip_prefix("s3://")) {
            (Some(folder), _) if folder.starts_with('/') => Ok(Self::Folder(folder)),
            (Some(_), _) => expected("an absolute folder such as file:///var/lib/rekindle/blobs"),
            (_, Some(path)) => match path.split_once('/').unwrap_or((path, "")) {
                ("", _) => expected("a bucket: s3://bucket/prefix"),
                (bucket, prefix) => Ok(Self::Bucket { bucket, prefix: prefix.trim_matches('/') }),
            },
            _ => expected("file:///absolute/folder or s3://bucket/prefix"),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &self.secret_access_key.as_ref().map(|_| "<secret>"))
            .finish_non_exhaustive()
    }
}
