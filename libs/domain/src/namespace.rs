//! Namespaces: the tenants. Names of models, datasets, experiments and replicas are unique within one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, check};

/// A namespace. A caller that does not name one uses `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(String);

impl Namespace {
    /// The name of the default namespace.
    pub const DEFAULT: &'static str = "default";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the namespace that need not be named.
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }

    /// `name` as it appears in NATS subjects, bucket keys and object keys: as it is in the default namespace, `<namespace>.<name>` in another.
    /// Since a name has no dot, the two forms cannot be confused.
    pub fn qualify(&self, name: &str) -> String {
        if self.is_default() { name.to_owned() } else { format!("{self}.{name}") }
    }

    /// The namespace and the name within it of a qualified name; the reverse of [`qualify`](Self::qualify).
    pub fn split(qualified: &str) -> Result<(Self, &str), InvalidName> {
        match qualified.split_once('.') {
            Some((namespace, name)) => Ok((namespace.parse()?, name)),
            None => Ok((Self::default(), qualified)),
        }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for Namespace {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check("namespace", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Namespace {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> String {
        namespace.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualified_names_split_into_what_they_were_made_of() {
        let tenant: Namespace = "team-a".parse().expect("a name");
        for (namespace, qualified) in [(Namespace::default(), "churn"), (tenant, "team-a.churn")] {
            assert_eq!(namespace.qualify("churn"), qualified);
            assert_eq!(Namespace::split(qualified), Ok((namespace, "churn")));
        }
        assert!(Namespace::split("Team A.churn").is_err());
    }
}
