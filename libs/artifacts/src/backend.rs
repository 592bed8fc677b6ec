//! Opening a store, and content-addressed blobs.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, S3ConditionalPut, S3CopyIfNotExists},
    local::LocalFileSystem,
    path::Path,
};
use rekindle_domain::{Digest, validation::Violations};
use uuid::Uuid;

use crate::{BlobWriter, Config, Error, config::Address, object};

/// The age from which a blob that is stored again is written again.
const RENEW_AFTER: TimeDelta = TimeDelta::minutes(10);
/// How often a blob is stored if a collection of old blobs deletes it before it is synced.
pub(crate) const ATTEMPTS: usize = 3;

/// An open store. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Artifacts {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The same store if it is a local folder, where this crate must sync what it writes.
    pub(crate) folder: Option<Arc<LocalFileSystem>>,
    pub(crate) prefix: String,
    pub(crate) limit: u64,
}

/// Whether a conditional put created the object or found an existing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    Existed,
}

impl Artifacts {
    /// Opens the store and verifies that it supports conditional puts. A local folder is created; a bucket must exist.
    ///
    /// # Errors
    /// [`Error::Configuration`] for an invalid or empty address, [`Error::NoConditionalCreate`] for a store that overwrites, and the
    /// errors of the first requests.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        config.validate().map_err(invalid)?;
        let artifacts = match Address::parse(&config.url).map_err(|problem| invalid(Violations::of("url", problem)))? {
            Address::Folder(folder) => Self::open_folder(folder, config)?,
            Address::Bucket { bucket, prefix } => Self::open_bucket(bucket, prefix, config)?,
        };
        artifacts.probe(&config.url).await?;
        Ok(artifacts)
    }

    fn open_folder(folder: &str, config: &Config) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(|source| Error::Io {
            operation: "create the folder",
            path: folder.to_owned(),
            source,
        })?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| invalid(Violations::of("url", error)))?;
        let folder = Arc::new(store);
        Ok(Self { store: folder.clone(), folder: Some(folder), prefix: String::new(), limit: config.max_blob_bytes })
    }

    fn open_bucket(bucket: &str, prefix: &str, config: &Config) -> Result<Self, Error> {
        let store = s3(bucket, config).build().map_err(|error| invalid(Violations::of("url", error)))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store: Arc::new(store), folder: None, prefix, limit: config.max_blob_bytes })
    }

    /// Stores a blob and returns its digest. An existing blob is kept, unless it is corrupt: then it is repaired. One that is older than ten
    /// minutes is written again, so that a collection of old blobs does not take what was just stored.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let key = self.blob_key(&digest)?;
        self.check_size(&key, bytes.len() as u64)?;
        for _ in 1..ATTEMPTS {
            match self.put_once(&key, &digest, bytes.clone()).await {
                Err(error) if error.is_deleted_meanwhile() => {}
                stored => return stored.map(|()| digest),
            }
        }
        self.put_once(&key, &digest, bytes).await.map(|()| digest)
    }

    async fn put_once(&self, key: &Path, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        match self.create(key, bytes.clone()).await? {
            Created::New => Ok(()),
            Created::Existed => self.repair(key, digest, bytes).await,
        }
    }

    /// The bytes of a blob, hashed while they are read.
    pub async fn get(&self, digest: &Digest) -> Result<Bytes, Error> {
        self.read_verified(&self.blob_key(digest)?, digest).await
    }

    /// The bytes of a blob that has at most this many; a larger one is not read.
    ///
    /// # Errors
    /// [`Error::Unexpected`] for a larger one, and those of [`get`](Self::get).
    pub async fn get_at_most(&self, digest: &Digest, bytes: u64) -> Result<Bytes, Error> {
        let key = self.blob_key(digest)?;
        let found = self.store.head(&key).await.map_err(|source| Error::store("look up", &key, source))?;
        if found.size > bytes {
            return Err(Error::Unexpected { key: key.to_string(), size: found.size, at_most: bytes });
        }
        self.read_verified(&key, digest).await
    }

    /// Whether a blob exists; its bytes are not verified.
    pub async fn contains(&self, digest: &Digest) -> Result<bool, Error> {
        let key = self.blob_key(digest)?;
        match self.store.head(&key).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(Error::store("look up", &key, source)),
        }
    }

    /// Starts a blob of unknown size that is written in chunks.
    pub async fn writer(&self) -> Result<BlobWriter, Error> {
        BlobWriter::new(self.clone())
    }

    pub(crate) fn blob_key(&self, digest: &Digest) -> Result<Path, Error> {
        let hex = digest.hex();
        self.key(&format!("blobs/sha256/{}/{hex}", &hex[..2]))
    }

    pub(crate) fn staged_key(&self, digest: &Digest) -> Result<Path, Error> {
        self.key(&format!("{}sha256/{}", object::STAGING, digest.hex()))
    }

    pub(crate) fn staging_key(&self) -> Result<Path, Error> {
        self.key(&format!("{}{}", object::STAGING, Uuid::new_v4()))
    }

    pub(crate) fn key(&self, key: &str) -> Result<Path, Error> {
        Path::parse(format!("{}{key}", self.prefix))
            .map_err(|error| Error::InvalidKey { key: key.to_owned(), reason: error.to_string() })
    }

    pub(crate) fn check_size(&self, key: &Path, size: u64) -> Result<(), Error> {
        if size <= self.limit {
            return Ok(());
        }
        Err(Error::TooLarge { key: key.to_string(), size, limit: self.limit })
    }

    /// A put conditional on absence, durable when it returns.
    pub(crate) async fn create(&self, key: &Path, bytes: Bytes) -> Result<Created, Error> {
        let created = match self.store.put_opts(key, PutPayload::from_bytes(bytes), PutMode::Create.into()).await {
            Ok(_) => Created::New,
            Err(object_store::Error::AlreadyExists { .. }) => Created::Existed,
            Err(source) => return Err(Error::store("create", key, source)),
        };
        self.sync(key).await?;
        Ok(created)
    }

    /// Replaces a blob that does not match its digest, e.g. one truncated by a power loss before it was synced.
    async fn repair(&self, key: &Path, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        match self.read_verified(key, digest).await {
            Ok(_) if self.is_recent(key).await? => return Ok(()),
            Ok(_) => {}
            Err(Error::Corrupt { actual, .. }) => tracing::warn!(%key, %actual, "repairing a corrupt blob"),
            Err(Error::NotFound { .. } | Error::TooLarge { .. }) => tracing::warn!(%key, "repairing a damaged blob"),
            Err(error) => return Err(error),
        }
        self.store
            .put(key, PutPayload::from_bytes(bytes))
            .await
            .map_err(|source| Error::store("repair", key, source))?;
        self.sync(key).await
    }

    /// Whether an object was written within [`RENEW_AFTER`]; one that was deleted meanwhile was not.
    pub(crate) async fn is_recent(&self, key: &Path) -> Result<bool, Error> {
        match self.store.head(key).await {
            Ok(found) => Ok(Utc::now() - found.last_modified < RENEW_AFTER),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(Error::store("look up", key, source)),
        }
    }

    async fn probe(&self, url: &str) -> Result<(), Error> {
        let key = self.key(&format!("{}probe-{}", object::STAGING, Uuid::new_v4()))?;
        self.create(&key, Bytes::from_static(b"first")).await?;
        let second = self.create(&key, Bytes::from_static(b"second")).await;
        self.store.delete(&key).await.map_err(|source| Error::store("delete", &key, source))?;
        match second? {
            Created::Existed => Ok(()),
            Created::New => Err(Error::NoConditionalCreate { url: url.to_owned() }),
        }
    }
}

fn s3(bucket: &str, config: &Config) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(config.region.as_deref().unwrap_or("us-east-1"))
        .with_allow_http(config.allow_http)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_client_options(
            ClientOptions::new().with_timeout(config.request_timeout).with_allow_http(config.allow_http),
        )
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: config.max_retries,
            retry_timeout: config.retry_timeout,
        });
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    builder
}

/// Names the fields by their section of the configuration.
fn invalid(violations: Violations) -> Error {
    Error::Configuration(violations.within("artifacts"))
}
