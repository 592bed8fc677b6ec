//! Names in tables are qualified: a column of names is a key across all namespaces.

use rekindle_domain::Namespace;
use sea_orm::{ColumnTrait, sea_query::Expr};

/// The condition that the qualified name in `column` is in `namespace`.
pub fn within(namespace: &Namespace, column: impl ColumnTrait) -> Expr {
    // A name has none of the characters that LIKE interprets.
    if namespace.is_default() { column.not_like("%.%") } else { column.like(namespace.qualify("%")) }
}
