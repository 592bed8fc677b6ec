//! Records kept as JSON carry the version of their schema in the field `schema`, so that a build reads what earlier builds wrote.

use serde_json::Value;

use crate::validation::Violations;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableRecord {
    /// A later build wrote the record.
    #[error(
        "schema version {found} is not supported: this build reads versions 1 to {supported}; upgrade this process"
    )]
    Unsupported {
        /// The version in the record.
        found: u64,
        /// The latest version that this build reads.
        supported: u64,
    },
    /// The field `schema` is not a version.
    #[error("schema: is {found}: expected a positive integer")]
    NotAVersion {
        /// The value of the field, as JSON.
        found: String,
    },
    /// The record does not have the fields of its schema.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
    /// A field of the record is out of bounds.
    #[error(transparent)]
    Invalid(#[from] Violations),
}

/// The schema version of a record, which is 1 where the record has no field `schema`.
pub fn version_of(record: &Value) -> Result<u64, UnreadableRecord> {
    let Some(version) = record.get("schema") else { return Ok(1) };
    version
        .as_u64()
        .filter(|version| *version > 0)
        .ok_or_else(|| UnreadableRecord::NotAVersion { found: version.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_without_a_version_has_the_first() {
        assert_eq!(version_of(&json!({"model": "m"})).expect("a version"), 1);
        assert_eq!(version_of(&json!({"schema": 3})).expect("a version"), 3);
        for schema in [json!("2"), json!(0), json!(-1), json!(1.5), json!(null)] {
            let error = version_of(&json!({ "schema": schema })).expect_err("not a version");
            assert!(error.to_string().starts_with("schema: is"), "{error}");
        }
    }
}
