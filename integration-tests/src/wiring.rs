//! The databases and the object store of a platform: files, or PostgreSQL and an S3 store.

use std::path::Path;

use rekindle_testkit::{Postgres, s3::S3};
use serde_json::{Value, json};

/// The databases and the object store of a platform.
#[derive(Debug)]
pub enum Wiring {
    /// SQLite files and a folder, in the platform's data folder.
    Embedded,
    /// A PostgreSQL server and an S3 store, started for this platform.
    Servers(Box<Servers>),
}

/// The servers of one platform.
#[derive(Debug)]
pub struct Servers {
    databases: [(&'static str, String); 3],
    artifacts: Value,
    /// The object store.
    pub s3: S3,
    _postgres: Postgres,
}

impl Servers {
    /// The URL of the database of a service.
    pub fn database(&self, service: &str) -> &str {
        let found = self.databases.iter().find(|(name, _)| *name == service);
        &found.expect("a service with a database").1
    }
}

impl Wiring {
    /// Starts PostgreSQL and an S3 store.
    pub async fn servers() -> Self {
        let postgres = Postgres::start().await;
        let s3 = S3::start().await;
        let mut databases = [("registry", String::new()), ("monitor", String::new()), ("orchestrator", String::new())];
        for (_, url) in &mut databases {
            *url = postgres.fresh_database().await;
        }
        let bucket = s3.fresh_bucket();
        let artifacts = json!({
            "url": bucket.url,
            "endpoint": bucket.endpoint,
            "region": bucket.region,
            "access_key_id": bucket.access_key_id,
            "secret_access_key": bucket.secret_access_key,
            "allow_http": bucket.allow_http,
        });
        Self::Servers(Box::new(Servers { databases, artifacts, _postgres: postgres, s3 }))
    }

    /// The servers.
    ///
    /// # Panics
    /// When there are none.
    pub fn as_servers(&self) -> &Servers {
        match self {
            Self::Servers(servers) => servers,
            Self::Embedded => panic!("the platform uses files"),
        }
    }

    /// The settings, by section.
    pub fn settings(&self) -> Value {
        match self {
            Self::Embedded => json!({}),
            Self::Servers(servers) => {
                let mut settings = json!({ "artifacts": without_nulls(servers.artifacts.clone()) });
                for (service, url) in &servers.databases {
                    settings[service] = json!({ "database": { "url": url } });
                }
                settings
            }
        }
    }

    /// Writes the settings as a TOML file.
    pub fn write_settings(&self, file: &Path) {
        std::fs::write(file, to_toml(&self.settings())).expect("a settings file");
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        other => other,
    }
}

/// Adds settings to others; of a key that both have, the new value applies.
pub(crate) fn merge(settings: &mut Value, further: Value) {
    match (settings, further) {
        (Value::Object(settings), Value::Object(further)) => {
            for (key, value) in further {
                merge(settings.entry(key).or_insert(Value::Null), value);
            }
        }
        (settings, further) => *settings = further,
    }
}

/// Settings as TOML: scalars under dotted keys. Texts, numbers and booleans are spelled as in JSON.
pub(crate) fn to_toml(settings: &Value) -> String {
    fn walk(path: &str, value: &Value, out: &mut String) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, out);
                }
            }
            scalar => {
                out.push_str(&format!("{path} = {scalar}\n"));
            }
        }
    }
    let mut out = String::new();
    walk("", settings, &mut out);
    out
}
