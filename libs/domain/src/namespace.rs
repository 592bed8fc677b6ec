//! Namespaces: the tenants. Names of models, datasets, experiments and replicas are unique within one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, SEPARATOR, check};

/// A namespace. A caller that does not name one uses `default`. Names within it are [`Qualified`](crate::Qualified).
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

    /// The qualified form of `name`: `<name>` in the default namespace, `<namespace>.<name>` in another. Since a name has no dot, the two
    /// forms cannot be confused.
    pub fn qualify(&self, name: &str) -> String {
        if self.is_default() { name.to_owned() } else { format!("{self}{SEPARATOR}{name}") }
    }

    /// Whether a qualified name is within this namespace.
    pub fn contains(&self, qualified: &str) -> bool {
        qualified.split_once(SEPARATOR).map_or(Self::DEFAULT, |(namespace, _)| namespace) == self.0
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
