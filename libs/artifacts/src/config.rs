//! Where the bytes are kept.

use std::{fmt, path::Path, time::Duration};

use serde::Deserialize;

/// Address, credentials and bounds of the object store.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `file:///absolute/folder` (taken literally, no percent-encoding) or `s3://bucket/prefix`.
    pub url: String,
    /// Address of an S3-compatible server; absent for Amazon's own.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// With `secret_access_key`; both absent: the ambient identity of the machine.
    pub access_key_id: Option<String>,
    /// See `access_key_id`.
    pub secret_access_key: Option<String>,
    /// Whether an `http://` endpoint is acceptable.
    pub allow_http: bool,
    /// Largest blob or object, in bytes, written or read.
    pub max_blob_bytes: u64,
    /// Longest single request to the store. Below the deadlines of the calls that wait for it.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long after its first try a failed request may still be tried again.
    #[serde(with = "humantime_serde")]
    pub retry_timeout: Duration,
    /// Most tries after the first one.
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
    /// A store in a folder of this machine; the folder is made when opened.
    pub fn local(folder: &Path) -> Self {
        Self { url: format!("file://{}", folder.display()), ..Self::default() }
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
