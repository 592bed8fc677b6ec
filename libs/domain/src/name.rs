//! Names that people choose: models, datasets, experiments, aliases and replicas.
//!
//! One grammar for each part, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, so that a name can stand unescaped in a NATS subject and an object key.
//!
//! Models, datasets and experiments are unique within a [`Namespace`]. Their names are qualified: `<name>` in the default namespace,
//! `<namespace>.<name>` in another. The qualified name is the key of the thing wherever it is kept: in a table, a bucket, an object key, a
//! subject, an event. It has up to 127 bytes: more than a Kubernetes label may have.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Namespace;

/// The longest part of a name, in bytes.
pub const MAX_LEN: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} name {given:?} is not valid: use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
)]
pub struct InvalidName {
    /// What the name was to name, e.g. `model`.
    pub kind: &'static str,
    /// The text as given, cut to 80 characters.
    pub given: String,
}

pub(crate) fn check(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let valid = matches!((bytes.first(), bytes.last()), (Some(&first), Some(&last)) if edge(first) && edge(last))
        && bytes.len() <= MAX_LEN
        && bytes.iter().all(|&b| edge(b) || b == b'-');
    if valid { Ok(()) } else { Err(InvalidName { kind, given: text.chars().take(80).collect() }) }
}

/// Between a namespace and a name.
pub(crate) const SEPARATOR: char = '.';

/// `<name>` or `<namespace>.<name>`. The default namespace is not written, so that a qualified name has one spelling.
fn check_qualified(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let Some((namespace, name)) = text.split_once(SEPARATOR) else { return check(kind, text) };
    if namespace == Namespace::DEFAULT {
        return Err(InvalidName { kind, given: text.chars().take(80).collect() });
    }
    check("namespace", namespace)?;
    check(kind, name)
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                $check($kind, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                $check($kind, &text)?;
                Ok(Self(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// A name that is unique within a namespace.
pub trait Qualified: FromStr<Err = InvalidName> + Sized {
    /// The same name in `namespace`, unless it says its namespace itself.
    #[must_use]
    fn or_within(self, namespace: &Namespace) -> Self;
}

/// A name that is unique within a namespace, as qualified text.
macro_rules! qualified_name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        name!($(#[$doc])* $type, $kind, check_qualified);

        impl Qualified for $type {
            fn or_within(self, namespace: &Namespace) -> Self {
                if self.0.contains(SEPARATOR) { self } else { Self(namespace.qualify(&self.0)) }
            }
        }
    };
}

qualified_name!(
    /// A registered model, and the deployment of the same name.
    ModelName,
    "model"
);
qualified_name!(
    /// A dataset; its versions are numbered from 1.
    DatasetName,
    "dataset"
);
qualified_name!(
    /// A group of runs.
    ExperimentName,
    "experiment"
);
name!(
    /// A pointer to a model version, such as `champion`.
    AliasName,
    "alias",
    check
);
name!(
    /// One inference replica.
    ReplicaId,
    "replica",
    check
);

impl AliasName {
    /// The version that serves.
    pub fn champion() -> Self {
        Self("champion".to_owned())
    }

    /// The version that a workflow is proving.
    pub fn challenger() -> Self {
        Self("challenger".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_what_the_grammar_allows() {
        for text in ["a", "0", "flight-delay", "a--b", &"x".repeat(63)] {
            assert_eq!(text.parse::<ModelName>().expect(text).as_str(), text);
        }
    }

    #[test]
    fn refuses_what_would_break_a_subject_a_key_or_a_label() {
        for text in ["", "-a", "a-", "A", "a.", ".a", "a.b.c", "default.a", "a/b", "a b", "a*", "é", &"x".repeat(64)] {
            text.parse::<ModelName>().expect_err(text);
        }
        let error = "A".parse::<ModelName>().expect_err("upper case").to_string();
        assert!(error.starts_with("model name \"A\""), "{error}");
        "a.b".parse::<AliasName>().expect_err("aliases belong to a model");
    }

    #[test]
    fn an_unqualified_name_is_in_the_namespace_of_its_reader() {
        let tenant: Namespace = "team-a".parse().expect("a namespace");
        let name = |text: &str| text.parse::<ModelName>().expect(text);
        assert_eq!(name("churn").or_within(&tenant), name("team-a.churn"));
        assert_eq!(name("churn").or_within(&Namespace::default()), name("churn"));
        assert_eq!(name("team-b.churn").or_within(&tenant), name("team-b.churn"));
    }

    proptest! {
        #[test]
        fn every_name_in_the_grammar_survives_json(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let name: DatasetName = text.parse().expect("in the grammar");
            let json = serde_json::to_string(&name).expect("a string");
            prop_assert_eq!(serde_json::from_str::<DatasetName>(&json).expect("valid"), name);
        }
    }
}
